"""The objects of the Managed Agents API: their rules, and where they are kept. Knows nothing of HTTP."""
