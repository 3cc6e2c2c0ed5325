"""Addition modulo a prime, by a small network that memorises the answers first and learns the rule later.

    z(a, b) = E[a] W_a + E[b] W_b;   logits(a, b) = z² W_out        (a, b) → (a + b) mod p;   z² may be ReLU(z)
    loss = mean of −ln softmax(logits)[(a + b) mod p] over the training pairs        nats a pair
    W ← (1 − η λ) W − η Adam(∂loss/∂W)        decoupled decay λ (Loshchilov and Hutter 2017, AdamW)

Every step sees all training pairs. An instance is a (seed, λ) with its own split, start and decay; all are trained as
one batch of matrices. AdamW works entry by entry, so the instances do not interact. Sources: such networks generalise
long after they have memorised, Power et al. (2022, arXiv:2201.02177); they do it with waves, Nanda et al. (2023,
arXiv:2301.05217); the squared hidden layer, Gromov (2023, arXiv:2301.02679).

In the Fourier basis of the numbers 0..p−1, Ê_k = Σ_a E[a] e^{−2πi k a / p}, the power of frequency k = 1..(p−1)/2 is
‖Ê_k‖², as a share of the sum over all k. k = 0 is what all numbers have in common; it distinguishes none and is left
out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

NAMES = ("E", "W_a", "W_b", "W_out")


@dataclass(frozen=True, kw_only=True)
class AdditionConfig:
    p: int = 67
    """A prime."""
    d_embed: int = 64
    d_hidden: int = 96
    activation: Literal["square", "relu"] = "square"
    train_share: float = 0.4
    """Share of the p² pairs used for training."""
    lr: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.98)

    def __post_init__(self) -> None:
        if self.p < 3 or any(self.p % divisor == 0 for divisor in range(2, math.isqrt(self.p) + 1)):
            raise ValueError(f"p={self.p} must be an odd prime")
        if not 0 < self.train_share < 1:
            raise ValueError(f"train_share={self.train_share} must lie between 0 and 1")
        if self.activation not in ("square", "relu"):
            raise ValueError(f"activation={self.activation!r} must be 'square' or 'relu'")

    @property
    def n_train(self) -> int:
        return int(self.train_share * self.p**2)


class Training(NamedTuple):
    """Where a training stands: all that the next step depends on."""

    step: int
    weights: dict[str, Float[Tensor, "instance ..."]]
    means: dict[str, Float[Tensor, "instance ..."]]
    """Adam's first moments."""
    squares: dict[str, Float[Tensor, "instance ..."]]
    """Adam's second moments."""
    decay: Float[Tensor, " instance"]
    order: Int[Tensor, "instance pair"]
    """The pairs a·p + b: the first n_train are trained on, the others held out."""


class Curves(NamedTuple):
    """Measured after `steps`; losses in nats a pair."""

    steps: list[int]
    train_loss: Float[Tensor, "record instance"]
    test_loss: Float[Tensor, "record instance"]
    train_accuracy: Float[Tensor, "record instance"]
    test_accuracy: Float[Tensor, "record instance"]
    power: Float[Tensor, "record instance frequency"]


class Advanced(NamedTuple):
    training: Training
    curves: Curves


def start(config: AdditionConfig, seeds: Sequence[int], decays: Sequence[float]) -> Training:
    """Return one instance for each decay and seed, seeds innermost. A seed has the same start and split at every
    decay."""
    p, d, hidden = config.p, config.d_embed, config.d_hidden
    shapes = {"E": (p, d), "W_a": (d, hidden), "W_b": (d, hidden), "W_out": (hidden, p)}
    drawn: dict[str, list[Tensor]] = {name: [] for name in (*NAMES, "order")}
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        drawn["order"].append(torch.randperm(p * p, generator=generator))
        for name, shape in shapes.items():
            fan_in = d if name == "E" else shape[0]
            drawn[name].append(torch.randn(shape, generator=generator) / math.sqrt(fan_in))
    stacked = {name: torch.stack(each * len(decays)) for name, each in drawn.items()}
    order = stacked.pop("order")
    means, squares = ({name: torch.zeros_like(weight) for name, weight in stacked.items()} for _ in range(2))
    return Training(0, stacked, means, squares, torch.tensor(decays).repeat_interleave(len(seeds)), order)


def logits(
    weights: dict[str, Tensor], pairs: Int[Tensor, "instance pair"], config: AdditionConfig
) -> Float[Tensor, "instance pair p"]:
    """Return the logits of pairs a·p + b."""
    return hidden(weights, pairs, config) @ weights["W_out"]


def hidden(
    weights: dict[str, Tensor], pairs: Int[Tensor, "instance pair"], config: AdditionConfig
) -> Float[Tensor, "instance pair d_hidden"]:
    """Return activations of the hidden layer; E W_a and E W_b are tables that the pairs look up."""
    z = _rows(weights["E"] @ weights["W_a"], pairs // config.p) + _rows(weights["E"] @ weights["W_b"], pairs % config.p)
    return z.square() if config.activation == "square" else z.relu()


def advance(training: Training, until: int, config: AdditionConfig, record_at: Sequence[int]) -> Advanced:
    """Train up to and including step `until` and measure after each of `record_at` (0: before the first step)."""
    step, n = training.step, config.n_train
    weights = {name: weight.clone().requires_grad_() for name, weight in training.weights.items()}
    means, squares = ({name: each.clone() for name, each in moments.items()} for moments in training[2:4])
    pairs = training.order[:, :n].contiguous()
    sums = ((pairs // config.p + pairs % config.p) % config.p).flatten()
    wanted, rows, steps = set(record_at), [], []
    if step == 0 and 0 in wanted:
        steps, rows = [0], [_measure(weights, training.order, config)]
    while step < until:
        step += 1
        # Summed over the instances, so that each has the gradient of its own mean.
        loss = F.cross_entropy(logits(weights, pairs, config).flatten(0, 1), sums, reduction="sum") / n
        gradients = torch.autograd.grad(loss, list(weights.values()))
        for name, gradient in zip(weights, gradients, strict=True):
            _adamw(weights[name], gradient, means[name], squares[name], training.decay, step, config)
        if step in wanted:
            steps.append(step)
            rows.append(_measure(weights, training.order, config))
    weights = {name: weight.detach() for name, weight in weights.items()}
    reached = Training(step, weights, means, squares, training.decay, training.order)
    columns = [torch.stack(column) for column in zip(*rows, strict=True)] if rows else [torch.empty(0)] * 5
    return Advanced(reached, Curves(steps, *columns))


def fourier_power(table: Float[Tensor, "*batch p d"]) -> Float[Tensor, "*batch frequency"]:
    """Return share of each frequency 1..(p−1)/2 in the power of a table whose rows are the numbers 0..p−1."""
    power = torch.fft.rfft(table, dim=-2).abs().square().sum(-1)[..., 1:]
    return power / power.sum(-1, keepdim=True)


def n_frequencies(power: Float[Tensor, "*batch frequency"], share: float = 0.9) -> Int[Tensor, "*batch"]:
    """Return how many frequencies it takes, largest first, to hold at least `share` of the power."""
    cumulative = power.sort(-1, descending=True).values.cumsum(-1)
    return (cumulative < share).sum(-1) + 1


def keep_frequencies(
    table: Float[Tensor, "*batch p d"], kept: Bool[Tensor, "*batch frequency"]
) -> Float[Tensor, "*batch p d"]:
    """Return the table with the waves of all other frequencies taken out; what its rows have in common stays."""
    mask = F.pad(kept, (1, 0), value=True)[..., None]
    return torch.fft.irfft(torch.fft.rfft(table, dim=-2) * mask, n=table.shape[-2], dim=-2)


def largest(power: Float[Tensor, "*batch frequency"], share: float = 0.9) -> Bool[Tensor, "*batch frequency"]:
    """Return which frequencies those of `n_frequencies` are."""
    ranks = power.argsort(-1, descending=True).argsort(-1)
    return ranks < n_frequencies(power, share)[..., None]


def accuracies(
    weights: dict[str, Tensor], order: Int[Tensor, "instance pair"], config: AdditionConfig
) -> Float[Tensor, "instance 2"]:
    """Return share of right answers on the training and on the held-out pairs."""
    right = (logits(weights, order, config).argmax(-1) == (order // config.p + order % config.p) % config.p).float()
    return torch.stack([right[:, : config.n_train].mean(1), right[:, config.n_train :].mean(1)], 1)


def _rows(
    tables: Float[Tensor, "instance p d"], places: Int[Tensor, "instance pair"]
) -> Float[Tensor, "instance pair d"]:
    offsets = tables.shape[1] * torch.arange(len(tables))[:, None]
    return F.embedding(places + offsets, tables.flatten(0, 1))


@torch.no_grad()
def _adamw(
    weight: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, decay: Tensor, step: int, config: AdditionConfig
) -> None:
    """In place, as `torch.optim.AdamW` does it, with a decay for each instance."""
    b1, b2 = config.betas
    mean.lerp_(gradient, 1 - b1)
    square.mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
    denominator = (square / (1 - b2**step)).sqrt_().add_(1e-8)
    weight.mul_(1 - config.lr * decay.view(-1, 1, 1))
    weight.addcdiv_(mean, denominator, value=-config.lr / (1 - b1**step))


@torch.no_grad()
def _measure(weights: dict[str, Tensor], order: Tensor, config: AdditionConfig) -> tuple[Tensor, ...]:
    """Return losses and accuracies [instance] on the training and the held-out pairs, and the embedding's power."""
    n, p = config.n_train, config.p
    answers = (order // p + order % p) % p
    scores = logits(weights, order, config)
    losses = F.cross_entropy(scores.flatten(0, 1), answers.flatten(), reduction="none").view_as(order)
    right = (scores.argmax(-1) == answers).float()
    power = fourier_power(weights["E"])
    return losses[:, :n].mean(1), losses[:, n:].mean(1), right[:, :n].mean(1), right[:, n:].mean(1), power
