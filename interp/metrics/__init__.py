"""Known measures of a single latent, each a function of the scan's tables; no language model, no calibration."""
