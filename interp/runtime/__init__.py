"""How work runs on this machine: its progress, its processes and threads, and the memory that it takes; and what is the
same for any language model: its sizes, its padding, and how text is sampled from it."""
