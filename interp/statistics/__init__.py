"""Shares and means with intervals, seeded random numbers, and directions."""
