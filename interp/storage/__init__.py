"""Files that are whole or not there, folders that one process locks, and checks of what comes in."""
