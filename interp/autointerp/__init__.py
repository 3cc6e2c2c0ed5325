"""Automated interpretability: a language model of the user's choice explains latents, and predicts from explanations
where they fire."""
