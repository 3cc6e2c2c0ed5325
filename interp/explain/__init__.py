"""Where a latent fires, as a short rule in words, found without a language model.

predicates     the kinds of predicates, and the text they read;   vocabulary, places   what they know of strings
background     the rows that candidates are tried on;   beam, search   candidate rules from a sample of firings
holding        where rules hold, in any text;   counting       exact counts of each candidate on all tokens
explanations   the best rule of each latent and sense;   words   in words;   described   beside what else is known
"""

from interp.explain.counting import FitSample
from interp.explain.described import describe
from interp.explain.explanations import Explained, Explanations, explain

__all__ = ["Explained", "Explanations", "FitSample", "describe", "explain"]
