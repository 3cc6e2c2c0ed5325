"""Shares and means with intervals, seeded random numbers, directions and bits."""
