"""Make the synthetic worlds of `bench_recovery` and of the scorecard's world C once, and read them from disk
afterwards.

In: a `World`, with its sizes and parameters. Out: `truth`, which has the generator with its feature directions, rows of
activations in a store, held-out firings of the true features, and the k for dictionaries.

A world is x = Σ_j a_j d_j + bias, with many more unit directions d_j than dimensions and few a_j > 0 at once
(`sae_lens.synthetic`). The worlds follow the recipe of SynthSAEBench-16k (Chanin 2026, arXiv 2602.14687) at other
sizes: Zipf firing probabilities, trees of features in which a child fires only with its parent and at most one child
fires, firing correlated at low rank, magnitudes from 5 to 4. The benchmark itself is one of them (its second version,
SAELens's docs/synth_sae_bench.md): a child is as strong as its parent is for a parent, the bias has norm 0.5, and the
seed is 42. Its numbers are drawn on the CPU. The file that SAELens publishes may come from a GPU, which draws other
numbers from the same distribution.
"""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations import ActivationStore

HOOK = "world"
WORLD_SEED, K_SHARE = 7919, 0.75
BENCHMARK = "SynthSAEBench-16k v2"
HELD_OUT, GENERATED = 20_000, 4096
"""Number of rows to measure on, and largest number of rows made at a time."""
CACHED = 2**22
"""Number of firings of all features that are drawn at a time. More would not fit in the processor's caches."""


@dataclass(frozen=True, kw_only=True)
class World:
    n_features: int
    d: int
    width: int
    samples: int
    trees: int
    """Number of trees of 85 features each. All other features belong to no tree."""
    most: float
    """Firing probability of the most frequent feature. The smallest is 5e-4, and between them it falls as rank^-0.5."""
    correlation: tuple[int, float]
    """Rank and scale of the correlation of firings."""
    passes: int = 1
    """Number of times that the rows are read. With many features, making rows takes longer than learning from them."""
    scale_children: bool = False
    """Whether a child's activation is multiplied by its parent's, as a share of the parent's mean."""
    bias: float = 1.0
    """The norm of the bias."""
    seed: int = WORLD_SEED
    k: int | None = None
    """Number of latents that a dictionary may use on a row. None means K_SHARE of the true L0."""

    @property
    def tokens(self) -> int:
        """Number of rows that are read."""
        return self.samples * self.passes

    @property
    def folder(self) -> str:
        """The folder of its runs, which has its name."""
        return f"{self.width}-{self.samples}" + (f"x{self.passes}" if self.passes > 1 else "")


WORLDS = {
    "1024 in 96": World(n_features=1024, d=96, width=512, samples=1_000_000, trees=8, most=0.4, correlation=(25, 0.1)),
    "correlated": World(n_features=1024, d=96, width=512, samples=1_000_000, trees=0, most=0.1, correlation=(8, 0.3)),
    "4096 in 256": World(
        n_features=4096, d=256, width=1024, samples=500_000, trees=32, most=0.4, correlation=(25, 0.1)
    ),
    BENCHMARK: World(
        n_features=16384,
        d=768,
        width=4096,
        samples=500_000,
        trees=128,
        most=0.4,
        correlation=(25, 0.1),
        scale_children=True,
        bias=0.5,
        seed=42,
        k=25,
    ),
}
QUICK = {"tiny": World(n_features=96, d=24, width=48, samples=6_000, trees=1, most=0.2, correlation=(4, 0.1))}


class Truth(NamedTuple):
    """A world for training and for measuring. It replaces SAELens's generator, so that all contenders get the same
    rows."""

    model: Any
    store: ActivationStore
    held_out: Float[Tensor, "row feature"]
    k: int

    def sampler(self) -> "Replay":
        return Replay(iter(self.held_out.split(GENERATED)))


class Replay(NamedTuple):
    batches: Iterator[Float[Tensor, "row feature"]]

    def sample(self, n: int) -> Float[Tensor, "row feature"]:
        return next(self.batches)


@lru_cache(maxsize=1)
def truth(folder: Path, name: str, world: World) -> Truth:
    """Return the truth of a world. The first call makes it, and later calls read it from `folder`."""
    from sae_lens.synthetic import SyntheticModel

    rows = rows_folder(folder, name, world)
    if not (rows / "model").exists():
        with quiet(0):
            model = synthetic_model(synthetic(world))
            samples, options = sampled(model, world), {"hook_name": HOOK, "dtype": "float32", "overwrite": True}
            ActivationStore.from_batches(samples, rows / "store", **options)
            model.save(rows / "model")
    model = SyntheticModel.load_from_disk(rows / "model")
    with quiet(1):
        held_out = torch.cat([model.activation_generator.sample(n) for n in sizes(HELD_OUT, world)])
    k = world.k or max(1, round(K_SHARE * float((held_out > 0).sum()) / HELD_OUT))
    return Truth(model, ActivationStore.open(rows / "store"), held_out, k)


def rows_folder(folder: Path, name: str, world: World) -> Path:
    """Return the folder of the rows. Points of a curve that read the same rows share them; their name follows the
    world's."""
    return folder / "worlds" / f"{name.partition(', ')[0].replace(' ', '_')}-{world.samples}"


def sampled(model: Any, world: World) -> Iterator[Float[Tensor, "row d"]]:
    with torch.no_grad():
        for size in sizes(world.samples, world):
            yield model.feature_dict(model.activation_generator.sample(size).to_sparse())


def sizes(n: int, world: World) -> list[int]:
    at_once = min(GENERATED, CACHED // world.n_features)
    return [min(at_once, n - start) for start in range(0, n, at_once)]


def synthetic_model(config: Any) -> Any:
    from sae_lens.synthetic import FeatureDictionary, SyntheticModel

    directions = FeatureDictionary(
        config.num_features,
        config.hidden_dim,
        bias=config.bias,
        seed=config.seed,
        initializer=partial(orthogonalise, config=config.orthogonalization),
    )
    return SyntheticModel(config, feature_dict=directions)


@torch.no_grad()
def orthogonalise(directions: Any, config: Any) -> None:
    """Minimize Σ_{i≠j} (d_i · d_j)² + n Σ_i (‖d_i‖² − 1)² by gradient descent, as SAELens does. The gradient comes from
    d × d products, 4 (D Dᵀ D + (n (‖d_i‖² − 1) − ‖d_i‖²) d_i), in place of n × n products, which is 50 times as fast
    for 4,096 directions in 256 dimensions."""
    D, n = directions.feature_vectors, directions.num_features
    descent = torch.optim.Adam([D], lr=config.lr)
    for _ in range(config.num_steps):
        squares = D.square().sum(1, keepdim=True)
        D.grad = 4 * (D @ (D.T @ D) + (n * (squares - 1) - squares) * D)
        descent.step()
    D.div_(D.norm(dim=1, keepdim=True))
    D.grad = None


def synthetic(world: World) -> Any:
    from sae_lens import synthetic as s

    trees = s.HierarchyConfig(
        total_root_nodes=max(1, world.trees),
        branching_factor=4,
        max_depth=3,
        mutually_exclusive_portion=1.0,
        compensate_probabilities=True,
        scale_children_by_parent=world.scale_children,
    )
    rank, scale = world.correlation
    return s.SyntheticModelConfig(
        num_features=world.n_features,
        hidden_dim=world.d,
        firing_probability=s.ZipfianFiringProbabilityConfig(exponent=0.5, max_prob=world.most, min_prob=5e-4),
        hierarchy=trees if world.trees else None,
        orthogonalization=s.OrthogonalizationConfig(num_steps=100, lr=3e-4),
        correlation=s.LowRankCorrelationConfig(rank=rank, correlation_scale=scale),
        mean_firing_magnitudes=s.LinearMagnitudeConfig(5.0, 4.0),
        std_firing_magnitudes=s.FoldedNormalMagnitudeConfig(0.5, 0.5),
        bias=world.bias,
        seed=world.seed,
    )


@contextlib.contextmanager
def quiet(seed: int) -> Iterator[None]:
    """Keep SAELens from changing the global generator and from showing progress bars."""
    with torch.random.fork_rng(devices=[]), contextlib.redirect_stderr(io.StringIO()):
        torch.manual_seed(seed)
        yield
