"""How far a ranking can be trusted: planted worlds whose truth is known, and every score held against that truth.

    judged = judge_held_out(list(calibration_worlds(2)))      one row a latent: truth, probability, measures, counts
    table  = scorecard(judged, {"monosemanticity": 1, "between_within_ratio": 1, "token_entropy": -1})

planted_texts     generator families of text, each with the factors that hold at its positions
planted_latents   reads of superposed factors: one factor, part of one, unions of several, random directions
truth             from latents and known factors: the share of activation mass each factor has
judged            latents whose meanings are known, judged by a calibration that never saw their family of text
scores            AUROC, rank correlation and precision of every score; calibration and senses of the verdict
"""

from interp.benchmark.judged import (
    Basis,
    calibration_worlds,
    claimed,
    family_calibrations,
    fit_to,
    judge_held_out,
    judge_latents,
    judge_world,
)
from interp.benchmark.planted_latents import World, WorldConfig, planted_world
from interp.benchmark.planted_texts import FAMILIES, Factor, FactorText
from interp.benchmark.scores import calibration_curve, matched_weights, not_scored, scorecard, verdict_quality
from interp.benchmark.truth import Truth

__all__ = [
    "Basis",
    "FAMILIES",
    "Factor",
    "FactorText",
    "Truth",
    "World",
    "WorldConfig",
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
    "planted_world",
    "scorecard",
    "verdict_quality",
]
