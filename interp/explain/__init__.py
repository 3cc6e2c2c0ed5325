"""Where a latent fires, as a short rule in words, found without a language model.

predicates  the atoms (token sets, scripts and shapes of tokens, what stands before) and their words
search      candidate rules from a sample of each latent's firings
explain     the exact score of each candidate on all tokens; the best rule of each latent
"""

from interp.explain.rules import Explanations, explain

__all__ = ["Explanations", "explain"]
