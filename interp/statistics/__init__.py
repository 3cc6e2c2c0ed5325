"""Shares and means with their intervals, and numbers drawn from a seed."""
