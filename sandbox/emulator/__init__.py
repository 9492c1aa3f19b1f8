"""The Managed Agents API over HTTP. Routes hold no logic: they call `sandbox.managed`."""
