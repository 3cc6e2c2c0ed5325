"""How far a ranking can be trusted: planted worlds whose truth is known, and every score held against that truth.

judged = judge_held_out(list(calibration_worlds(2)))      one row a latent: truth, probability, measures, counts
table  = scorecard(judged, {"monosemanticity": 1, "concentration": 1, "token_entropy": -1})
"""
