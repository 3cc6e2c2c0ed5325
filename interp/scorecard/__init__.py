"""How far a ranking can be trusted: every score of every latent held against the truth.

    judged = judge_held_out(list(calibration_worlds(2)))      one row a latent: truth, probability, measures, counts
    table  = scorecard(judged, {"monosemanticity": 1, "kinship": 1, "token_entropy": -1})

judging   latents whose meanings are known, judged by a calibration that never saw their family of text
scores    AUROC, rank correlation and precision of every score; calibration and senses of the verdict
"""

from interp.scorecard.judging import (
    Basis,
    calibration_worlds,
    claimed,
    family_calibrations,
    fit_to,
    judge_held_out,
    judge_latents,
    judge_world,
)
from interp.scorecard.scores import calibration_curve, matched_weights, not_scored, scorecard, verdict_quality

__all__ = [
    "Basis",
    "calibration_curve",
    "calibration_worlds",
    "claimed",
    "family_calibrations",
    "fit_to",
    "judge_held_out",
    "judge_latents",
    "judge_world",
    "matched_weights",
    "not_scored",
    "scorecard",
    "verdict_quality",
]
