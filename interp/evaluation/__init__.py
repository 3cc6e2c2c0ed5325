"""Measure how much a dictionary keeps of what it reads (`quality`), compared with simple dictionaries (`baselines`)."""
