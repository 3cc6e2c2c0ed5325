"""Shares and means with intervals, and seeded random numbers."""
