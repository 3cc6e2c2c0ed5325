"""Cutoffs that tables, figures and pages share."""

ULTRA_LOW = 1e-5
"""Density below which a latent fires too rarely to be of use."""
MIN_F1 = 0.3
"""The held-out F1 below which a rule is not informative."""
