"""Optional: a language model of the user's explains latents, and explanations are scored by detection and fuzzing."""
