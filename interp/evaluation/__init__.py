"""How much a dictionary keeps of what it reads (`quality`), and the dictionaries it is held against (`baselines`)."""
