"""One neuron that is on or off between n mutually exclusive features and a read-out: for which features should it fire?

    the input is feature i with probability p_i;  the neuron is 1 for the features in a set A, else 0
    cross-entropy: prediction softmax(u h + c);   MSE: prediction u h + c, against the one-hot input

The read-out has two outputs to choose, one for the neuron on and one for it off, so its best choice is the distribution
of the features in each half. With P the probability that the neuron fires, the best losses are

    cross-entropy   H(p) − H₂(P)                             nats; H₂: entropy of a coin
    MSE             1 − Σ_{i ∈ A} p_i² / P − Σ_{i ∉ A} p_i² / (1 − P)

So cross-entropy always prefers a neuron that fires half of the time, whatever it fires for. Under MSE and a uniform p
the neuron saves 1 / n for each half that is not empty: (n − 2) / n in all, however the features are divided. Source:
Bricken et al. 2023, Towards Monosemanticity, "Superposition and polysemanticity" (cross-entropy favours polysemantic
neurons even without superposition).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

Loss = Literal["cross-entropy", "MSE"]


@dataclass(frozen=True)
class Neurons:
    """Neurons trained from different starts."""

    first: Bool[Tensor, "restart n"]
    """The features for which each neuron fired before training."""
    fires: Bool[Tensor, "restart n"]
    loss: Float[Tensor, " restart"]
    """Reached, in nats or squared error."""


def assignments(n: int) -> Bool[np.ndarray, "assignment n"]:
    """Return all 2^n sets of features for which a neuron can fire."""
    return (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(bool)


def best_loss(
    p: Float[np.ndarray, " n"], fires: Bool[np.ndarray, "assignment n"], loss: Loss
) -> Float[np.ndarray, " assignment"]:
    """Return what the best read-out reaches after a neuron that fires for these features."""
    halves = np.stack([fires, ~fires])
    mass = halves @ p
    if loss == "cross-entropy":
        with np.errstate(divide="ignore", invalid="ignore"):
            return -np.nansum(halves * p * np.log(p / mass[..., None]), axis=(0, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 - np.nansum(halves @ p**2 / mass, axis=0)


def smaller_half(fires: Bool[np.ndarray, "assignment n"]) -> np.ndarray:
    """Return the size of the smaller half of the features. On and off can be swapped at no cost, so it names a neuron:
    0 is a neuron without information, 1 is monosemantic (it separates one feature from all others), and more is
    polysemantic."""
    n_firing = fires.sum(-1)
    return np.minimum(n_firing, fires.shape[-1] - n_firing)


def train_binary(
    p: Float[Tensor, " n"], loss: Loss, *, restarts: int, steps: int = 1500, lr: float = 0.05, seed: int = 0
) -> Neurons:
    """Train with Adam on the exact expected loss. In the backward pass, the threshold counts as a sigmoid
    (straight-through).

    Under cross-entropy the sigmoid's slope never vanishes and some neurons keep flickering about their threshold, so in
    the last third of the steps they rest as they are and the read-out alone goes on."""
    generator = torch.Generator().manual_seed(seed)
    w, u, c = (torch.randn(restarts, len(p), generator=generator).requires_grad_() for _ in range(3))
    first = (w > 0).clone()
    optimizer = torch.optim.Adam([{"params": [w]}, {"params": [u, c]}], lr=lr, fused=True)
    for step in range(steps):
        soft = w.sigmoid()
        h = (w > 0).float() + soft - soft.detach()
        reached = expected_loss(p, h, u, c, loss)
        optimizer.zero_grad()
        reached.sum().backward()
        optimizer.param_groups[0]["lr"] = lr * max(0.0, 1 - 1.5 * step / steps)
        optimizer.step()
    with torch.no_grad():
        reached = expected_loss(p, (w > 0).float(), u, c, loss)
    return Neurons(first, (w > 0).detach(), reached)


def train_real(
    p: Float[Tensor, " n"], *, restarts: int, steps: int = 4000, lr: float = 0.05, seed: int = 0
) -> Float[Tensor, "step restart"]:
    """Return the cross-entropy after each step if the neuron is a ReLU unit, h_i = ReLU(w_i), instead of a switch."""
    generator = torch.Generator().manual_seed(seed)
    w, u, c = (torch.randn(restarts, len(p), generator=generator) for _ in range(3))
    w.add_(2)
    optimizer = torch.optim.Adam([each.requires_grad_() for each in (w, u, c)], lr=lr, fused=True)
    curve = torch.empty(steps, restarts)
    for step in range(steps):
        reached = expected_loss(p, w.relu(), u, c, "cross-entropy")
        curve[step] = reached.detach()
        optimizer.zero_grad()
        reached.sum().backward()
        optimizer.step()
    return curve


def expected_loss(
    p: Float[Tensor, " n"],
    h: Float[Tensor, "restart n"],
    u: Float[Tensor, "restart n"],
    c: Float[Tensor, "restart n"],
    loss: Loss,
) -> Float[Tensor, " restart"]:
    """Return the expected loss over the n inputs.
    h: the neuron's value for each input.
    u, c: the read-out."""
    out = h[:, :, None] * u[:, None, :] + c[:, None, :]
    if loss == "cross-entropy":
        return -(torch.log_softmax(out, dim=-1).diagonal(dim1=1, dim2=2) * p).sum(-1)
    return ((out - torch.eye(len(p))).square().sum(-1) * p).sum(-1)


def parabola_loss(p: Float[Tensor, " n"], sharpness: float) -> float:
    """Return the cross-entropy of a real-valued neuron built by hand: feature i gives h = i, and the read-out of
    feature j is the tangent of the parabola s h² at h = j, which lies above all other tangents there. It falls to 0 as
    `sharpness` s grows."""
    h = torch.arange(len(p), dtype=torch.float64)[None]
    return float(expected_loss(p.double(), h, 2 * sharpness * h, -sharpness * h.square(), "cross-entropy"))
