"""Files that are complete or absent, folders that one process locks, and checks of input."""
