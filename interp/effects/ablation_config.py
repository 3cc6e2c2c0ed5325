"""The options of ablations that a configuration and a command have too."""

from dataclasses import dataclass

from interp.checks.limits import CheckedFields, Positive, PositiveInt, Seed


@dataclass(frozen=True, kw_only=True)
class AblationConfig(CheckedFields):
    sequences: PositiveInt = 64
    """Most sequences per latent. They are drawn from those where it fires, it is ablated at all its firings, and each
    costs a pass downstream of the hook."""
    minutes: Positive | None = None
    """Time limit on two processor cores, of all parts together. If ablation would take longer, each latent is ablated
    in fewer sequences, down to 16, and then fewer latents are, drawn at random (`plan_ablations`)."""
    seed: Seed = 0
    """Seed of what is drawn."""
