"""The verdict: from where a latent fires to the probability that it has one meaning, and the ranking by it."""
