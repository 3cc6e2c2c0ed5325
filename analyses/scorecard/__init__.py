"""How far can a ranking be trusted? Planted worlds whose truth is known, and every score compared with that truth.

`python -m analyses.scorecard` measures all scores. In Python:

    judged = judge_held_out(list(calibration_worlds(2)))  # one row per latent: truth, probability, measures, counts
    table = scorecard(judged, {"monosemanticity": 1, "concentration": 1, "token_entropy": -1})
"""
