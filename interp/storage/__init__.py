"""Files that are whole or not there, folders that one process locks, checks of input, and work shared by processes and
threads."""
