"""Known measures of a single latent, each a function of a scan, and their nulls; no language model, no calibration."""
