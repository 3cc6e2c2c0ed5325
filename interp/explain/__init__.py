"""Where a latent fires, as a short rule in words, found without a language model.

predicates     the kinds of predicates, and the text they read;   vocabulary, places   what they know of strings
background     the rows that candidates are tried on;   beam, search   candidate rules from a sample of firings
holding        where rules hold, in any text;   counting   how often on all tokens, and how strongly latents fire there
explanations   the best rule, in words;   described   of each latent and sense, beside what else is known
"""

from interp.explain.background import FitSample
from interp.explain.described import Explained, describe, explain
from interp.explain.explanations import Explanations

__all__ = ["Explained", "Explanations", "FitSample", "describe", "explain"]
