"""Define the names of verdicts in tables of latents, and the groups of verdicts that are treated alike.

`verdict.verdicts` decides on verdicts, and `verdict_looks` says how they are shown.
"""

MONOSEMANTIC = "monosemantic"
POLYSEMANTIC = "polysemantic"
SINGLE_TOKEN = "single-token"
DENSE = "dense"
TOO_RARE = "too-rare"
NO_CONTEXT = "no-context"
FAINT = "faint"
DEAD = "dead"
VERDICTS = (MONOSEMANTIC, POLYSEMANTIC, SINGLE_TOKEN, DENSE, TOO_RARE, NO_CONTEXT, FAINT, DEAD)
UNRANKED = "unranked"
"""The verdict of a latent that is not in a ranking."""

BY_PROBABILITY = (MONOSEMANTIC, POLYSEMANTIC)
"""The two verdicts between which the probability of one meaning decides."""
ONE_MEANING_VERDICTS = (MONOSEMANTIC, SINGLE_TOKEN)
ONE_MEANING_ROW = "one_meaning"
"""The name of a row of `verdict_shares`, which counts the latents with a verdict of ONE_MEANING_VERDICTS."""
IDLE = (FAINT, DEAD)
"""Verdicts of latents that do nothing, or almost nothing."""
UNTESTED = (TOO_RARE, NO_CONTEXT, FAINT, DEAD)
"""Verdicts of latents that were not tested. Their scores are not measurements."""
WITHOUT_SCORES = (*UNTESTED, UNRANKED)
