"""Texts that the essay's models learn from, each made by a seeded generator that knows what it wrote."""
