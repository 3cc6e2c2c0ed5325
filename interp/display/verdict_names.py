"""The names of verdicts in tables of latents, and what follows from each.

How a verdict comes about is in `verdict.ranking`, how it is shown in `verdict_looks`.
"""

MONOSEMANTIC = "monosemantic"
POLYSEMANTIC = "polysemantic"
SINGLE_TOKEN = "single-token"
DENSE = "dense"
TOO_RARE = "too_rare"
NO_CONTEXT = "no_context"
FAINT = "faint"
DEAD = "dead"
VERDICTS = (MONOSEMANTIC, POLYSEMANTIC, SINGLE_TOKEN, DENSE, TOO_RARE, NO_CONTEXT, FAINT, DEAD)
UNRANKED = "unranked"
"""The verdict of a latent that is not in a ranking."""

BY_PROBABILITY = (MONOSEMANTIC, POLYSEMANTIC)
"""Verdicts that the probability of one meaning decides between."""
OF_ONE_MEANING = (MONOSEMANTIC, SINGLE_TOKEN)
ONE_MEANING = "one_meaning"
"""A row of `verdict_shares`: the latents of one meaning, whether of one token or of many."""
IDLE = (FAINT, DEAD)
"""Verdicts on latents that do nothing, or next to nothing."""
UNTESTED = (TOO_RARE, NO_CONTEXT, FAINT, DEAD)
"""Verdicts of latents that were not tested: their scores are not measurements."""
WITHOUT_SCORES = (*UNTESTED, UNRANKED)

ULTRA_LOW = 1e-5
"""Density below which a latent fires too rarely to be of use."""
MIN_F1 = 0.3
"""Held-out F1 below which a rule is not informative."""
