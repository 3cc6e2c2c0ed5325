"""Measures how much a dictionary keeps of what it reads (`quality`), beside simple dictionaries (`baselines`)."""
