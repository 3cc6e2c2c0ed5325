"""Automated interpretability: a language model of the user's explains latents, and tells from explanations where they
fire."""
