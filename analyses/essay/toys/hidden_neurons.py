"""Networks with a hidden layer of ReLU neurons, where the basis is privileged: how many features does a neuron serve?

    h = ReLU(W_in x),    ŷ = ReLU(W_out h + b)
    "copy":      x_i sparse, uniform on [0, 1];   y = x;     W_out = W_inᵀ
    "absolute":  x_i sparse, uniform on [−1, 1];  y = |x|;   W_out free
    loss = E Σ_i I_i (ŷ_i − y_i)²

A neuron is polysemantic when the second largest of its input weights is at least half as large as the largest.
Source: Elhage et al. 2022, Toy Models of Superposition, "Superposition in a privileged basis" and "Computing in
superposition". As in `toys.superposition`, one call trains many instances on the same uniform numbers.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analyses.essay.toys.superposition import Recipe, blocks, check_density, sparse_uniform

Task = Literal["copy", "absolute"]


@dataclass(frozen=True)
class Networks:
    W_in: Float[Tensor, "instance m n"]
    W_out: Float[Tensor, "instance n m"]
    b: Float[Tensor, "instance n"]
    loss: Float[Tensor, " instance"]
    """The loss on new samples, made from the same uniform numbers for all."""


def train_networks(
    density: Float[Tensor, " instance"],
    importance: Float[Tensor, "instance n"],
    m: int,
    task: Task,
    *,
    recipe: Recipe | None = None,
    seed: int = 0,
    judged_on: int = 2**13,
) -> Networks:
    """Return one network an instance; `judged_on` samples give the losses."""
    recipe = recipe or Recipe()
    instances, n = importance.shape
    check_density(density, instances)
    generator = torch.Generator().manual_seed(seed)
    spread = recipe.scale * math.sqrt(2 / (n + m))
    W_in, W_out = (torch.randn(instances, *shape, generator=generator) * spread for shape in ((m, n), (n, m)))
    b = torch.zeros(instances, n, 1)
    weights = [W_in, b] if task == "copy" else [W_in, b, W_out]
    slopes = [torch.empty_like(weight) for weight in weights]
    for weight, slope in zip(weights, slopes, strict=True):
        weight.grad = slope
    optimizer = torch.optim.Adam(weights, lr=recipe.lr, fused=True)
    for step in range(recipe.steps):
        u = torch.rand(n, recipe.batch_size, generator=generator)
        for block in blocks(instances, u.numel()):
            x, y = sample(u, density[block], task)
            read = W_in[block].mT if task == "copy" else W_out[block]
            into, out, bias = gradient(W_in[block], read, b[block], x, y, importance[block])
            each = (into + out.mT, bias) if task == "copy" else (into, bias, out)
            for slope, part in zip(slopes, each, strict=True):
                slope[block] = part
        optimizer.param_groups[0]["lr"] = recipe.rate(step)
        optimizer.step()
    W_out = W_in.mT.contiguous() if task == "copy" else W_out
    loss = network_losses(W_in, W_out, b[..., 0], density, importance, task, samples=judged_on, seed=seed)
    return Networks(W_in.detach(), W_out.detach(), b.detach()[..., 0], loss)


def gradient(
    W_in: Float[Tensor, "instance m n"],
    W_out: Float[Tensor, "instance n m"],
    b: Float[Tensor, "instance n 1"],
    x: Float[Tensor, "instance n sample"],
    y: Float[Tensor, "instance n sample"],
    importance: Float[Tensor, "instance n"],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient of the mean loss over the samples, for W_in, W_out and b as if they were free."""
    h = torch.bmm(W_in, x).relu_()
    y_hat = torch.baddbmm(b, W_out, h)
    fires = y_hat > 0
    e = y_hat.sub_(y).mul_(fires).mul_(importance[..., None] * (2 / x.shape[-1]))
    back = torch.bmm(W_out.mT, e).mul_(h > 0)
    return torch.bmm(back, x.mT), torch.bmm(e, h.mT), e.sum(-1, keepdim=True)


@torch.no_grad()
def network_losses(
    W_in: Float[Tensor, "instance m n"],
    W_out: Float[Tensor, "instance n m"],
    b: Float[Tensor, "instance n"],
    density: Float[Tensor, " instance"],
    importance: Float[Tensor, "instance n"],
    task: Task,
    *,
    samples: int = 2**13,
    seed: int = 0,
) -> Float[Tensor, " instance"]:
    """Return each instance's loss on the same fresh uniform numbers, which training with this seed has not seen."""
    generator = torch.Generator().manual_seed(seed ^ 0x5EED << 32)
    u = torch.rand(W_in.shape[2], samples, generator=generator)
    loss = torch.empty(len(W_in))
    for block in blocks(len(W_in), u.numel()):
        x, y = sample(u, density[block], task)
        y_hat = torch.baddbmm(b[block, :, None], W_out[block], torch.bmm(W_in[block], x).relu_()).relu_()
        loss[block] = torch.einsum("iks,ik->i", y_hat.sub_(y).square_(), importance[block]) / samples
    return loss


def sample(u: Float[Tensor, "n sample"], density: Float[Tensor, " instance"], task: Task) -> tuple[Tensor, Tensor]:
    """Return inputs and targets, each [instance, n, sample]."""
    x = sparse_uniform(u, density)
    if task == "copy":
        return x, x
    # Zero stays zero: a feature is off exactly where its uniform number was masked.
    x = torch.where(x > 0, 2 * x - 1, 0)
    return x, x.abs()


def polysemantic(
    W_in: Float[Tensor, "*batch m n"], *, ratio: float = 0.5, min_weight: float = 0.1
) -> tuple[Bool[Tensor, "*batch m"], Bool[Tensor, "*batch m"]]:
    """Return which neurons serve several features, and which serve any: the largest weight is at least `min_weight`."""
    largest = W_in.abs().topk(2, dim=-1).values
    alive = largest[..., 0] >= min_weight
    return (largest[..., 1] >= ratio * largest[..., 0]) & alive, alive
