"""How work runs on this machine: its progress, its processes and threads, and the memory that it takes."""
