"""The benchmark: how long sessions take to start and how fast bytes leave them, beside the neighbours."""
