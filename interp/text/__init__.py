"""Predicates: what is true at a position of a text, and how rare that is, without a language model.

vocabulary   what the strings of tokens say;   places   where a token stands in its line, sentence, brackets, quotes
neighbours   which tokens stand beside which, as vectors: classes of tokens, topics of windows
kinds        the kinds of predicates, each one entry;   surprise   which hold at a position, and how rare each is
"""
