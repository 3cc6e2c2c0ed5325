"""Two interleaved arms, and small networks that learn to separate them: one network per seed, all trained at once.

    arm c ∈ {0, 1}:   point = ρ (cos φ, sin φ) + ε,   φ = 2π · turns · ρ + π c,   ρ² ~ U(0, 1),   ε ~ N(0, noise² I)
    h_1 = tanh(x W_1 + b_1);   h_2 = tanh(h_1 W_2 + b_2);   p = σ(h_2 W_3 + b_3)
    loss = mean of −c ln p − (1 − c) ln(1 − p)        nats a point

An iteration is one pass over the training points: one step of Adam on all of them. W_2 is 10 × 10. Recorded are the
loss on the training points, the accuracy on held-out points, p on a fixed grid, and the length of the boundary p = ½
inside that grid.
"""

import math
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from interp.checks.limits import CheckedFields, PositiveInt, at_least

HALF_WIDTH = 1.3  # of the square that the grid covers; the arms end at radius 1


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(CheckedFields):
    n_points: PositiveInt = 300
    n_held_out: PositiveInt = 4000
    turns: float = 0.75
    """Turns of an arm around the origin."""
    noise: float = 0.04
    width: PositiveInt = 10
    """Units of each of the two hidden layers."""
    lr: float = 0.03
    n_grid: Annotated[int, at_least(2)] = 81
    """Places a side of the grid."""

    @property
    def n_parameters(self) -> int:
        return 3 * self.width + (self.width + 1) * self.width + self.width + 1


class Points(NamedTuple):
    x: Float[Tensor, "point 2"]
    arm: Int[Tensor, " point"]


class ClassifierRun(NamedTuple):
    """What was recorded at `iterations`, for each seed."""

    iterations: list[int]
    loss: Float[Tensor, "iteration seed"]
    accuracy: Float[Tensor, "iteration seed"]
    """Share of the held-out points on the right side of p = ½."""
    boundary: Float[Tensor, "iteration seed"]
    """Length of p = ½ inside the grid, in units of the arms' radius."""
    regions: Float[Tensor, "iteration seed y x"]
    """p on the grid; its axes are `grid_axis`."""


def two_arms(n: int, config: ClassifierConfig, generator: torch.Generator) -> Points:
    """Return points of the two arms in turn; ρ² is uniform, so an arm is as dense at its end as at the origin."""
    radius = torch.rand(n, generator=generator).sqrt()
    arm = torch.arange(n) % 2
    angle = 2 * math.pi * config.turns * radius + math.pi * arm
    x = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    return Points(x + config.noise * torch.randn(n, 2, generator=generator), arm)


def train_classifiers(iterations: list[int], seeds: list[int], config: ClassifierConfig) -> ClassifierRun:
    """Train one network a seed, each on points of its own, and record them after each of `iterations`, which rise."""
    if not iterations or iterations != sorted(set(iterations)) or iterations[0] < 0:
        raise ValueError(f"iterations={iterations} must rise from 0 or more")
    train, held_out, weights = _start(seeds, config)
    optimizer = torch.optim.Adam(weights, lr=config.lr)
    grid = grid_points(config).expand(len(seeds), -1, -1)
    rows = []
    for iteration in range(iterations[-1] + 1):
        losses = F.binary_cross_entropy_with_logits(_logits(weights, train.x), train.arm.float(), reduction="none")
        losses = losses.mean(1)  # [seed]
        if iteration in iterations:
            rows.append((losses.detach(), *_measure(weights, held_out, grid, config)))
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
    return ClassifierRun(list(iterations), *(torch.stack(column) for column in zip(*rows, strict=True)))


def grid_axis(config: ClassifierConfig) -> Float[Tensor, " place"]:
    return torch.linspace(-HALF_WIDTH, HALF_WIDTH, config.n_grid)


def grid_points(config: ClassifierConfig) -> Float[Tensor, "place 2"]:
    """Return (x, y) of the grid's places, row by row from the lowest y."""
    y, x = torch.meshgrid(grid_axis(config), grid_axis(config), indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1)


def boundary_length(values: Float[Tensor, "y x"], spacing: float, level: float = 0.5) -> float:
    """Return the length of the contour `values` = level by marching squares (Lorensen and Cline 1987, in the plane).

    Each cell's sides are crossed where linear interpolation puts the level; a cell with two crossings holds one
    segment. With four, the value at its centre says which two corners the segments cut off.
    """
    height = values.double() - level
    corners = torch.stack([height[:-1, :-1], height[:-1, 1:], height[1:, 1:], height[1:, :-1]], -1).flatten(0, 1)
    following = corners.roll(-1, 1)
    crossed = (corners > 0) != (following > 0)  # [cell, side]: lower, right, upper, left
    share = torch.where(crossed, corners / (corners - following), 0.0)
    starts = torch.tensor([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=torch.double)
    places = starts + share[..., None] * (starts.roll(-1, 0) - starts)  # [cell, side, 2]
    two = crossed.sum(1) == 2
    pairs = places[two][crossed[two]].view(-1, 2, 2)
    total = (pairs[:, 0] - pairs[:, 1]).norm(dim=1).sum()
    saddle = crossed.all(1)
    around = (corners[saddle].mean(1) > 0) == (corners[saddle][:, 0] > 0)  # corners 1 and 3 are cut off, else 0 and 2
    lengths = (places[saddle] - places[saddle].roll(-1, 1)).norm(dim=2)  # side s to side s + 1, around corner s + 1
    total = total + torch.where(around, lengths[:, 0] + lengths[:, 2], lengths[:, 1] + lengths[:, 3]).sum()
    return float(total) * spacing


def _start(seeds: list[int], config: ClassifierConfig) -> tuple[Points, Points, list[Tensor]]:
    """Return the points to train on, the points held out, and W_1, b_1, …, b_3, with the seeds along the first axis."""
    sizes = [2, config.width, config.width, 1]
    train, held_out, weights = [], [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        train.append(two_arms(config.n_points, config, generator))
        held_out.append(two_arms(config.n_held_out, config, generator))
        matrices = [torch.randn(n, m, generator=generator) / n**0.5 for n, m in zip(sizes, sizes[1:], strict=False)]
        weights.append([part for matrix in matrices for part in (matrix, torch.zeros(1, matrix.shape[1]))])
    stacked = [torch.stack(parts).requires_grad_() for parts in zip(*weights, strict=True)]
    return _stacked(train), _stacked(held_out), stacked


def _stacked(points: list[Points]) -> Points:
    return Points(torch.stack([each.x for each in points]), torch.stack([each.arm for each in points]))


def _logits(weights: list[Tensor], x: Float[Tensor, "seed point 2"]) -> Float[Tensor, "seed point"]:
    W_1, b_1, W_2, b_2, W_3, b_3 = weights
    h = torch.tanh(torch.baddbmm(b_1, x, W_1))
    h = torch.tanh(torch.baddbmm(b_2, h, W_2))
    return torch.baddbmm(b_3, h, W_3)[..., 0]


@torch.no_grad()
def _measure(
    weights: list[Tensor], held_out: Points, grid: Float[Tensor, "seed place 2"], config: ClassifierConfig
) -> tuple[Tensor, Tensor, Tensor]:
    accuracy = ((_logits(weights, held_out.x) > 0) == held_out.arm.bool()).float().mean(1)
    regions = _logits(weights, grid).sigmoid().unflatten(1, (config.n_grid, config.n_grid))
    spacing = 2 * HALF_WIDTH / (config.n_grid - 1)
    return accuracy, torch.tensor([boundary_length(region, spacing) for region in regions]), regions
