"""How far a step goes: Adam over all parameters, its rate, the scale of the gradient, a running mean of the weights.

The rate rises linearly, stays at its peak, and falls to zero, linearly or as a cosine. The gradient g of the loss is

    log_loss   g / loss, the gradient of ln loss: Adam's memory of squares, a thousand steps long, is then not filled by
               the first steps, whose gradients are a hundred times larger
    clip       multiplied by min(1, clip / ‖g‖), the norm taken over all parameters

and with `ema` what is saved is mean / (1 − decayⁿ), where mean ← decay · mean + (1 − decay) · weights after each step.
"""

import math

import torch
from torch import Tensor

from interp.sae.architectures.sae_config import SAEConfig
from interp.sae.encoding import Workspace
from interp.sae.gradients import RowGradient
from interp.sae.kernels import AdamStep, kernels


class Optimizer:
    """Updates `weights` in place; its state is `means`, `squares` and, with `ema`, `averages`."""

    def __init__(self, config: SAEConfig, weights: dict[str, Tensor]):
        self.config, self.weights = config, weights
        self.means = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
        self.squares = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
        self._ema, self._memory = config.ema or 0.0, Workspace()
        self.averages = {name: torch.zeros_like(t) for name, t in weights.items()} if config.ema else {}

    def step(self, gradients: dict[str, RowGradient], loss: float, step: int) -> None:
        """`step` counts from 0; `loss` is that of the whole batch."""
        scale = 1 / loss if self.config.log_loss and loss > 0 else 1.0
        if self.config.clip is not None:
            norms = [float(torch.linalg.vector_norm(self.tensor(gradients, name))) for name in self.weights]
            norm = scale * math.sqrt(sum(norm**2 for norm in norms))
            scale *= min(1.0, self.config.clip / norm) if norm > 0 else 1.0
        adam = AdamStep(learning_rate(self.config, step), step + 1, scale)
        for name in self.weights:
            if name != "W_dec" or self.config.train_decoder:
                self._update(name, gradients, adam)
        for name, average in self.averages.items():
            average.lerp_(self.weights[name], 1 - self._ema)

    def tensor(self, gradients: dict[str, RowGradient], name: str) -> Tensor:
        """The gradient of one parameter, added up in memory that the next step uses again."""
        return gradients[name].tensor(self._memory, name)

    def _update(self, name: str, gradients: dict[str, RowGradient], adam: AdamStep) -> None:
        weight, unit_norm = self.weights[name], name == "W_dec" and self.config.unit_norm
        moments, latent_sum = (self.means[name], self.squares[name]), gradients[name].lone_sum
        if latent_sum is not None:
            kernels(weight).sum_by_latent_adam_(latent_sum, weight, *moments, adam, unit_norm)
            return
        tensors = (weight, self.tensor(gradients, name), *moments)
        as_rows = [tensor if tensor.ndim == 2 else tensor[None] for tensor in tensors]
        kernels(weight).adam_(as_rows[0], as_rows[1], as_rows[2], as_rows[3], adam, unit_norm)

    def averaged(self, steps: int) -> dict[str, Tensor]:
        """The weights to save: their running mean after `steps` steps, or as they are."""
        if not self.averages or steps == 0:
            return self.weights
        share = 1 - self._ema**steps
        return {name: average / share for name, average in self.averages.items()}

    def state(self) -> dict[str, Tensor]:
        parts = {"mean": self.means, "square": self.squares, "average": self.averages}
        return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


def learning_rate(config: SAEConfig, step: int) -> float:
    rise = max(1, min(1000, round(config.warmup * config.steps)))
    fall = max(1, round(config.decay * config.steps))
    left = min(1.0, (config.steps - step) / fall) if config.decay else 1.0
    if config.decay_shape == "cosine":
        left = (1 - math.cos(math.pi * left)) / 2
    return config.peak_lr * min(1.0, (step + 1) / rise, left)
