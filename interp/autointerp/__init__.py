"""Automated interpretability: a language model of the user's choice explains latents, and predicts where they fire from
their explanations."""
