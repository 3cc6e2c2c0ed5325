"""Where a latent fires, as a short rule in words, found without a language model.

vocabulary   what strings say about tokens: scripts, shapes, affixes
state        where in the text a token stands: line, sentence, brackets, quotes, comment, …
predicates   the atoms of rules, and the text they read
background   the rows that candidates are tried on;   beam, search   candidate rules from a sample of firings
counting     exact counts of each candidate on all tokens
rules        the best rule of each latent;   senses   of each sense of a latent;   words   in words, and their length
"""

from interp.explain.rules import Explanations, explain
from interp.explain.sense_rules import PartExplanations, explain_parts

__all__ = ["Explanations", "PartExplanations", "explain", "explain_parts"]
