"""How results show themselves: fragments of HTML for notebooks, and the names and colours of verdicts."""
