"""The display of results: fragments of HTML for notebooks, and the names and colours of verdicts."""
