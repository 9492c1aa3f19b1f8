"""The six package managers: one module each, all with the same functions, none with effects of its own."""
