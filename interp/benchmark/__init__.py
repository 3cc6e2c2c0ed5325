"""How far a ranking can be trusted: planted worlds whose truth is known, and every score held against that truth.

    judged = judge_held_out(list(calibration_worlds(2)))      one row a latent: truth, probability, measures, counts
    table  = scorecard(judged, {"monosemanticity": 1, "between_within_ratio": 1, "token_entropy": -1})

planted_texts     generator families of text, each with the factors that hold at its positions
planted_latents   reads of superposed factors: one factor, part of one, unions of several, random directions
truth             from latents and known factors: the share of activation mass each factor has
judged            latents whose meanings are known, judged by a calibration that never saw their family of text
scores            AUROC, rank correlation and precision of every score; calibration and senses of the verdict
"""
