"""Files that are whole or not there, folders that one process holds, checks of input, and who shares the work."""
