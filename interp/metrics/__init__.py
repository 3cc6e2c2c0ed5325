"""Known measures of a single latent, each a function of a scan, and their nulls; no language model, no calibration.

measures     the measures, one function each;   tokens, twins   what some of them count
null_scale   z and band beside a null;          nulls           the same measures on shifted codes and random directions
concepts     which latent detects each labelled concept best
"""
