"""Measure how much of its input a dictionary preserves (`quality`), compared with simple dictionaries (`baselines`)."""
