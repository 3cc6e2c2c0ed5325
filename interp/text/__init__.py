"""Predicates: properties of a position in a text, with their rarity, without a language model.

    kinds           all kinds of predicates, one entry each: add yours there
    predicates      the predicates that hold at a position, by number, and how rare each is

These modules read them:

    analysed_text   a text with classes of tokens and topics learnt from it;   positions   some of its rows
    rules           rules in words, as data;   short_rules   the same in short, for displays
    vocabulary      the strings of tokens;   spellings   properties of one string
    words           pieces of words joined to whole ones
    related_words   common English words, each with those that are related to it in meaning
    neighbours      vectors of tokens, from the tokens next to them
    lexer           the position of a token in its line, sentence, brackets, quotes;   places   names of positions
"""
