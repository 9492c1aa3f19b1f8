"""Sessions that last: their files stay, their processes come when needed (docs/containers.md)."""
