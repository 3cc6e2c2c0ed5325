"""Does a dictionary's error fall as a power of the compute, and which concepts does it have?

    python -m analyses.claims.dictionary_scaling            some minutes on two cores
    python -m analyses.claims.dictionary_scaling --quick    a tiny size, for the tests: the numbers mean nothing

After Scaling Monosemanticity (Templeton et al. 2024), on a planted world whose concepts are known. Concept k is active
on a row with a probability ∝ 1 / k. It adds the k-th of random directions, in fewer dimensions than concepts, with a
strength between 0.5 and 1.5, and there is a little noise. TopK dictionaries are trained at several widths and numbers
of tokens.

Claims tested (row 18)
    a  the least variance unexplained at each amount of compute (latents × tokens) is a power of it: R² of the line in
       log-log over the frontier ≥ 0.95, for each seed
    b  (frequency at which half of the concepts are present) × (latents that fire) is the same for three widths within a
       factor of 3 (`feature_completeness`; present: a latent's activation has r ≥ 0.7 with the concept's)
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from analyses.claims.feature_completeness import completeness, presence
from analyses.claims.scaling_figures import completeness_curves, scaling_frontier
from analyses.record import Claim, Record, interval, options
from interp import TopKConfig, train_sweep
from interp.activations import ActivationStore
from interp.codes.sparse_codes import SparseCodes
from interp.compare.latent_universality import MIN_FIRED
from interp.features.latent_matches import joint_sums

HOOK = "activations"
_ROWS = 4096


@dataclass(frozen=True)
class Setting:
    concepts: int = 1000
    d: int = 128
    active: float = 8.0
    """Concepts on a row, the mean."""
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    tokens: tuple[int, ...] = (25_000, 50_000, 100_000, 200_000, 400_000)
    judged_widths: tuple[int, ...] = (64, 256, 1024)
    """Widths whose completeness is compared, at the most tokens."""
    judged: int = 40_000
    """Rows, held out, on which error and presence are measured."""
    k: int = 8
    seeds: tuple[int, ...] = (0, 1, 2)


QUICK = Setting(
    concepts=60, d=32, active=3.0, widths=(16, 32, 64), tokens=(4_000, 8_000, 16_000), judged_widths=(16, 32, 64),
    judged=6_000, k=3, seeds=(0, 1),
)  # fmt: skip


class World:
    """The frequencies and directions of a seed, and rows of it."""

    def __init__(self, setting: Setting, seed: int):
        generator = torch.Generator().manual_seed(seed)
        rank = torch.arange(1, setting.concepts + 1)
        self.frequency = (setting.active / (1 / rank).sum() / rank).clamp(max=0.3)
        directions = torch.randn(setting.concepts, setting.d, generator=generator)
        self.directions = torch.nn.functional.normalize(directions, dim=1)
        self._generator = generator

    def concepts(self, n_rows: int) -> torch.Tensor:
        """Return the strengths [row, concept] of new rows."""
        active = torch.rand(n_rows, len(self.frequency), generator=self._generator) < self.frequency
        return active * (0.5 + torch.rand(active.shape, generator=self._generator))

    def rows(self, z: torch.Tensor) -> torch.Tensor:
        x = z @ self.directions
        return x + 0.02 * torch.randn(x.shape, generator=self._generator)

    def batches(self, n_rows: int) -> Iterator[torch.Tensor]:
        for start in range(0, n_rows, _ROWS):
            yield self.rows(self.concepts(min(_ROWS, n_rows - start)))


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "dictionary_scaling", arguments, "runs/compare")
    setting = QUICK if o.quick else Setting()
    record = Record(o.out, setting, svg=not o.quick)
    results_of_seeds = [
        record.piece(f"seed-{seed}", partial(of_seed, seed, setting, o.out / "work" / f"{seed}"))
        for seed in setting.seeds
    ]
    grids = [
        grid_of(each, setting).assign(seed=seed) for each, seed in zip(results_of_seeds, setting.seeds, strict=True)
    ]
    grid = pd.concat(grids)
    curves = {width: [each[f"present_{width}"] for each in results_of_seeds] for width in setting.judged_widths}
    frequency = World(setting, 0).frequency.numpy()
    drawn = {
        "scaling_frontier": scaling_frontier(grid[grid["seed"] == setting.seeds[0]]),
        "completeness": completeness_curves(curves, frequency),
    }
    results = record.finish([scaling_claim(grid), completeness_claim(results_of_seeds, setting)], drawn)
    shutil.rmtree(o.out / "work", ignore_errors=True)
    return results


def of_seed(seed: int, setting: Setting, work: Path) -> dict[str, Any]:
    """Return the error of every dictionary, and which concepts the dictionaries of three widths have."""
    world = World(setting, seed)
    store = ActivationStore.from_batches(
        world.batches(max(setting.tokens)), work / "store", hook_name=HOOK, overwrite=True
    )
    z = world.concepts(setting.judged)
    x, truth = world.rows(z), SparseCodes.from_dense(z)
    results: dict[str, Any] = {"fvu": np.zeros((len(setting.widths), len(setting.tokens)))}
    for j, tokens in enumerate(setting.tokens):
        shared: dict[str, Any] = {"k": setting.k, "tokens": tokens, "batch_size": 512, "seed": seed}
        saes = train_sweep(store, HOOK, [TopKConfig(d_sae=width, **shared) for width in setting.widths])
        for i, (width, sae) in enumerate(zip(setting.widths, saes, strict=True)):
            codes = SparseCodes.cat([sae.codes(part) for part in x.split(_ROWS)])
            error = (x - sae.decode(codes)).square().sum()
            results["fvu"][i, j] = float(error / (x - x.mean(0)).square().sum())
            if tokens == max(setting.tokens) and width in setting.judged_widths:
                (sums,) = joint_sums(codes, truth, [])
                results[f"present_{width}"] = presence(truth, codes)
                results[f"alive_{width}"] = int((sums.ours.fired >= MIN_FIRED).sum())
    for width in setting.judged_widths:
        results[f"half_{width}"] = half_presence(world.frequency.numpy().astype(float), results[f"present_{width}"])
    return results


def half_presence(frequency: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return the value and its interval. They are NaN if all concepts are present, or none is."""
    if present.all() or not present.any():
        return np.full(3, np.nan)
    return np.array(completeness(frequency, present).half)


def grid_of(results: dict[str, Any], setting: Setting) -> pd.DataFrame:
    """Return a row per dictionary: width, tokens, compute, fvu, frontier (no dictionary of as little compute is
    better)."""
    rows = [
        {"width": width, "tokens": tokens, "compute": width * tokens, "fvu": float(results["fvu"][i, j])}
        for i, width in enumerate(setting.widths)
        for j, tokens in enumerate(setting.tokens)
    ]
    table = pd.DataFrame(rows).sort_values(["compute", "fvu"], ignore_index=True)
    return table.assign(frontier=table["fvu"] < table["fvu"].cummin().shift(fill_value=np.inf))


def scaling_claim(grid: pd.DataFrame) -> Claim:
    fits = [line(table[table["frontier"]]) for _, table in grid.groupby("seed")]
    r2, exponent = interval([fit[0] for fit in fits]), interval([fit[1] for fit in fits])
    points = [int(table["frontier"].sum()) for _, table in grid.groupby("seed")]
    return Claim(
        row="18a",
        text="The least variance unexplained is a power of the compute: R² in log-log ≥ 0.95 on the frontier.",
        holds=all(fit[0] >= 0.95 for fit in fits),
        found=f"R² {r2}, exponent {exponent}, {min(points)} to {max(points)} points; {len(fits)} seeds.",
        numbers={"r2": r2, "exponent": exponent, "points": points},
    )


def line(frontier: pd.DataFrame) -> tuple[float, float]:
    """Return R² and the slope of log FVU by log compute. Fewer than three points have no R²."""
    x, y = np.log(frontier["compute"]), np.log(frontier["fvu"])
    if len(x) < 3:
        return np.nan, np.nan
    return float(np.corrcoef(x, y)[0, 1] ** 2), float(np.polyfit(x, y, 1)[0])


def completeness_claim(results: Sequence[dict[str, Any]], setting: Setting) -> Claim:
    halves, alive, present, products = {}, {}, {}, {}
    for width in setting.judged_widths:
        halves[width] = [float(each[f"half_{width}"][0]) for each in results]
        alive[width] = [float(each[f"alive_{width}"]) for each in results]
        present[width] = [float(each[f"present_{width}"].mean()) for each in results]
        products[width] = float(np.exp(np.mean(np.log(np.multiply(halves[width], alive[width])))))
    ratio = max(products.values()) / min(products.values())
    sentence = "; ".join(
        f"{width} latents: half at {np.mean(halves[width]):.2g}, {np.mean(alive[width]):.0f} fire, "
        f"{np.mean(present[width]):.0%} of concepts present, product {products[width]:.2g}"
        for width in setting.judged_widths
    )
    return Claim(
        row="18b",
        text="(Frequency at half presence) × (latents that fire) is the same for three widths within a factor of 3.",
        holds=bool(ratio <= 3),
        found=f"{sentence}; the largest product is {ratio:.2f} times the smallest; {len(results)} seeds.",
        numbers={"half": halves, "alive": alive, "present": present, "products": products, "ratio": ratio},
    )


if __name__ == "__main__":
    main()
