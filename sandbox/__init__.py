"""Sessions: namespaces, overlays, running commands, collecting outputs; environments; the two commands."""
