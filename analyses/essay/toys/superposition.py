"""Sparse features squeezed into fewer dimensions than there are features; many autoencoders trained at once.

    x_i = 0 with probability S, else uniform on [0, 1]        n features; density = 1 − S
    h = W x,    x̂ = ReLU(Wᵀ h + b)                            m < n dimensions; the linear twin lacks the ReLU
    loss = E Σ_i I_i (x̂_i − x_i)²                             I: importance

In a linear model the best W spans the m most important features. With the ReLU, features that rarely fire together can
share directions: negative interference is cut off, and W holds more than m of them ("superposition"). Source: Elhage et
al. 2022, Toy Models of Superposition.

`train` takes one density and one row of importances per instance and returns one autoencoder per instance, so a sweep
or a whole diagram is one call. All instances of a call see the same uniform numbers: u gives x_i = u / density where u
< density and 0 elsewhere, which has the right distribution at every density. If an interval is to judge the difference
of two instances, train them in calls with different seeds.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interp.checks.limits import CheckedFields, Positive, PositiveInt

CACHED = 2**17
"""Numbers in one block of activations: the instances of a step are worked off in blocks that stay in the cache."""


@dataclass(frozen=True, kw_only=True)
class Recipe(CheckedFields):
    """Adam whose rate rises over the first twentieth of the steps, then falls to 0 along a cosine."""

    steps: PositiveInt = 2000
    batch_size: PositiveInt = 256
    lr: Positive = 1e-2
    scale: Positive = 1.0
    """Scale of the first weights, in units of √(2 / (n + m)). If a ReLU closes for good early on, a smaller one
    helps."""

    def rate(self, step: int) -> float:
        rise = self.steps / 20
        return self.lr * min((step + 1) / rise, 0.5 + 0.5 * math.cos(math.pi * step / self.steps))


@dataclass(frozen=True)
class Autoencoders:
    """Trained instances of one shape."""

    W: Float[Tensor, "instance m n"]
    b: Float[Tensor, "instance n"]
    loss: Float[Tensor, " instance"]
    """The loss on new samples, made from the same uniform numbers for all."""


def train(
    density: Float[Tensor, " instance"],
    importance: Float[Tensor, "instance n"],
    m: int,
    *,
    relu: bool = True,
    recipe: Recipe | None = None,
    seed: int = 0,
    judged_on: int = 2**14,
) -> Autoencoders:
    """Return one autoencoder an instance; `judged_on` samples give the losses.

    Raises: ValueError when a density is not in (0, 1] or the shapes do not fit.
    """
    recipe = recipe or Recipe()
    instances, n = importance.shape
    check_density(density, instances)
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(instances, m, n, generator=generator) * recipe.scale * math.sqrt(2 / (n + m))
    b = torch.zeros(instances, n, 1)
    slope_W, slope_b = torch.empty_like(W), torch.empty_like(b)
    W.grad, b.grad = slope_W, slope_b
    optimizer = torch.optim.Adam([W, b], lr=recipe.lr, fused=True)
    for step in range(recipe.steps):
        u = torch.rand(n, recipe.batch_size, generator=generator)
        for block in blocks(instances, u.numel()):
            x = sparse_uniform(u, density[block])
            slope_W[block], slope_b[block] = gradient(W[block], b[block], x, importance[block], relu=relu)
        optimizer.param_groups[0]["lr"] = recipe.rate(step)
        optimizer.step()
    loss = losses(W, b[..., 0], density, importance, relu=relu, samples=judged_on, seed=seed)
    return Autoencoders(W.detach(), b.detach()[..., 0], loss)


def gradient(
    W: Float[Tensor, "instance m n"],
    b: Float[Tensor, "instance n 1"],
    x: Float[Tensor, "instance n sample"],
    importance: Float[Tensor, "instance n"],
    *,
    relu: bool,
) -> tuple[Tensor, Tensor]:
    """Return the gradient of the mean loss over the samples, for W and for b. W counts twice: it writes h and it reads
    h.

    With e = I (x̂ − x) where x̂ > 0, and 0 elsewhere:  ∂b = 2 Σ e,  ∂W = 2 Σ (h eᵀ + (W e) xᵀ)."""
    h = torch.bmm(W, x)
    x_hat = torch.baddbmm(b, W.mT, h)
    if relu:
        fires = x_hat > 0
        e = x_hat.sub_(x).mul_(fires)
    else:
        e = x_hat.sub_(x)
    e.mul_(importance[..., None] * (2 / x.shape[-1]))
    return torch.bmm(h, e.mT).baddbmm_(torch.bmm(W, e), x.mT), e.sum(-1, keepdim=True)


@torch.no_grad()
def losses(
    W: Float[Tensor, "instance m n"],
    b: Float[Tensor, "instance n"],
    density: Float[Tensor, " instance"],
    importance: Float[Tensor, "instance n"],
    *,
    relu: bool = True,
    samples: int = 2**14,
    seed: int = 0,
) -> Float[Tensor, " instance"]:
    """Return each instance's loss on the same fresh uniform numbers, which training with this seed has not seen."""
    generator = torch.Generator().manual_seed(seed ^ 0x5EED << 32)
    total = torch.zeros(len(W), dtype=torch.float64)
    size = min(samples, 1024)
    for _ in range(math.ceil(samples / size)):
        u = torch.rand(W.shape[2], size, generator=generator)
        for block in blocks(len(W), u.numel()):
            x = sparse_uniform(u, density[block])
            x_hat = torch.baddbmm(b[block, :, None], W[block].mT, torch.bmm(W[block], x))
            error = (x_hat.relu_() if relu else x_hat).sub_(x).square_()
            total[block] += torch.einsum("iks,ik->i", error, importance[block]).double() / size
    return (total / math.ceil(samples / size)).float()


def sparse_uniform(
    u: Float[Tensor, "n sample"], density: Float[Tensor, " instance"]
) -> Float[Tensor, "instance n sample"]:
    """Return features from numbers uniform on [0, 1): with probability `density` uniform again, else 0."""
    x = u / density[:, None, None]
    return x.masked_fill_(x >= 1, 0)


def blocks(instances: int, size: int) -> Iterator[slice]:
    """Return ranges of instances whose activations, `size` numbers each, fit in the cache together."""
    step = max(1, CACHED // size)
    for first in range(0, instances, step):
        yield slice(first, min(first + step, instances))


def check_density(density: Float[Tensor, " instance"], instances: int) -> None:
    if density.shape != (instances,):
        raise ValueError(f"density has shape {tuple(density.shape)}, but there are {instances} rows of importance")
    if not ((density > 0) & (density <= 1)).all():
        raise ValueError(f"densities must be in (0, 1], not {density.min():g} … {density.max():g}")
