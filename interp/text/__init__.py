"""Predicates: what is true at a position of a text, and how rare that is, without a language model.

kinds           all kinds of predicates, one entry each: add yours there
kind_registry   what a kind is, and the ways to register one
predicates      which predicates hold at a position, each by its number, and how rare each is

They are read from

read_text       a text with what is learnt of it, classes of tokens and topics;   positions   some rows of it
vocabulary      the strings of tokens;   spellings   what one string says;   words   pieces joined to whole words
neighbours      which tokens stand next to which, as vectors
lexer           where a token stands in its line, sentence, brackets, quotes
"""
