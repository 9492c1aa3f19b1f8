"""The two commands. Nothing here decides: each option becomes a value, and the packages do the work."""
