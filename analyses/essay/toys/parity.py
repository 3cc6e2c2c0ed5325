"""Parity of a few bits among many: what an L1 penalty does to a network that could also memorise.

    x ∈ {−1, 1}^n,   y = x_1 x_2 … x_k;   the other n − k bits are distractors
    f(x) = v · ReLU(W x + b) + c
    loss = mean of ln(1 + e^{−y f(x)}) + λ (‖W‖₁ + ‖v‖₁)        nats an example, on a fixed training set

Adam trains on all examples, at a rate that is constant for the first half and then falls linearly to zero. The
subgradient of |w| at a weight that tends to zero flips its sign at every step, so the weight ends as close to zero as
the last rate is small. An instance is a (seed, λ) with its own examples; all are trained as one batch of matrices.
After the first experiment of «Do Machine Learning Models Memorize or Generalize?» (Pearce et al. 2023).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from interp.checks.limits import CheckedFields, PositiveInt


@dataclass(frozen=True, kw_only=True)
class ParityConfig(CheckedFields):
    n_bits: int = 30
    n_relevant: int = 3
    """k: the first bits."""
    d_hidden: PositiveInt = 32
    n_train: PositiveInt = 1000
    n_test: PositiveInt = 4000
    lr: float = 3e-3
    betas: tuple[float, float] = (0.9, 0.99)
    steps: PositiveInt = 4000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.n_relevant < self.n_bits:
            raise ValueError(f"n_relevant={self.n_relevant} must be in 1..n_bits − 1={self.n_bits - 1}")

    def lr_at(self, step: int) -> float:
        """Return the learning rate of update `step` = 0..steps − 1."""
        return self.lr * min(1.0, 2 * (1 - step / self.steps))


class ParityRun(NamedTuple):
    """What was measured after `steps`, and the first layer before and after."""

    steps: list[int]
    train_accuracy: Float[Tensor, "record instance"]
    test_accuracy: Float[Tensor, "record instance"]
    distractor_share: Float[Tensor, "record instance"]
    W_before: Float[Tensor, "instance d_hidden n_bits"]
    W_after: Float[Tensor, "instance d_hidden n_bits"]


def train_parity(
    config: ParityConfig, seeds: Sequence[int], penalties: Sequence[float], record_every: int
) -> ParityRun:
    """Train one instance for each penalty λ and seed, seeds innermost; a seed's start and examples are the same at
    every λ. Measured before the first step, after every `record_every` and after the last."""
    x, weights = _start(config, seeds, len(penalties))
    y = x[..., : config.n_relevant].prod(-1)
    penalty = torch.tensor(penalties).repeat_interleave(len(seeds))
    optimizer = torch.optim.Adam(weights.values(), lr=config.lr, betas=config.betas)
    before, n = weights["W"].detach().clone(), config.n_train
    steps, rows = [0], [_measure(weights, x, y, config)]
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.lr_at(step)
        losses = F.softplus(-y[:, :n] * outputs(weights, x[:, :n])).mean(1)
        mass = weights["W"].abs().sum((1, 2)) + weights["v"].abs().sum(1)
        optimizer.zero_grad()
        (losses + penalty * mass).sum().backward()
        optimizer.step()
        if (step + 1) % record_every == 0 or step + 1 == config.steps:
            steps.append(step + 1)
            rows.append(_measure(weights, x, y, config))
    train, test, share = (torch.stack(column) for column in zip(*rows, strict=True))
    return ParityRun(steps, train, test, share, before, weights["W"].detach())


def outputs(
    weights: dict[str, Tensor], x: Float[Tensor, "instance example n_bits"]
) -> Float[Tensor, "instance example"]:
    """Return f(x), whose sign is the answer."""
    hidden = torch.baddbmm(weights["b"], x, weights["W"].transpose(1, 2)).relu()
    return (hidden @ weights["v"][..., None])[..., 0] + weights["c"]


def distractor_share(W: Float[Tensor, "*batch d_hidden n_bits"], n_relevant: int) -> Float[Tensor, "*batch"]:
    """Return Σ|W| on the bits that do not matter, as a share of Σ|W|."""
    mass = W.abs().sum(-2)
    return mass[..., n_relevant:].sum(-1) / mass.sum(-1)


def _start(config: ParityConfig, seeds: Sequence[int], copies: int) -> tuple[Tensor, dict[str, Tensor]]:
    n_bits, width, count = config.n_bits, config.d_hidden, len(seeds) * copies
    drawn: list[list[Tensor]] = [[], [], []]
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        shape = (config.n_train + config.n_test, n_bits)
        drawn[0].append(torch.randint(0, 2, shape, generator=generator) * 2.0 - 1)
        drawn[1].append(torch.randn(width, n_bits, generator=generator) / math.sqrt(n_bits))
        drawn[2].append(torch.randn(width, generator=generator) / math.sqrt(width))
    x, W, v = (torch.stack(each * copies) for each in drawn)
    weights = {"W": W, "v": v, "b": torch.zeros(count, 1, width), "c": torch.zeros(count, 1)}
    return x, {name: weight.requires_grad_() for name, weight in weights.items()}


@torch.no_grad()
def _measure(weights: dict[str, Tensor], x: Tensor, y: Tensor, config: ParityConfig) -> tuple[Tensor, Tensor, Tensor]:
    right, n = (outputs(weights, x) * y > 0).float(), config.n_train
    return right[:, :n].mean(1), right[:, n:].mean(1), distractor_share(weights["W"], config.n_relevant)
