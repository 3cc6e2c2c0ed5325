"""Does a layer hold more features than it has dimensions, and when?

    python -m analyses.essay.superposition            about a minute on two cores
    python -m analyses.essay.superposition --quick    a tiny size, for the tests

Twenty sparse features of importance 0.7^i go through five dimensions and back, once with a ReLU at the output and once
without; the loss is the mean squared error, weighted by importance. Claims tested (row 7): the linear model keeps five
features at every sparsity; the ReLU model keeps more than five where S ≥ 0.99. In addition, five features in two
dimensions draw polygons. A feature is kept if ‖W_i‖ > ½; the restart with the lowest loss counts.

Rate, batch and steps were chosen on short runs, by the loss they reach.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from analyses.essay import figures
from analyses.essay.toys.superposition import Autoencoders, Recipe, train
from analyses.record import Claim, Interval, Record, interval, options


@dataclass(frozen=True)
class Setting:
    n: int = 20
    m: int = 5
    decay: float = 0.7
    densities: tuple[float, ...] = (1, 0.6, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
    seeds: tuple[int, ...] = (0, 1, 2)
    restarts: int = 4
    steps: int = 2000
    batch_size: int = 1024
    polygon_decay: float = 0.9
    polygon_densities: tuple[float, ...] = (1, 0.5, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.01)
    polygon_restarts: int = 16
    polygon_batch_size: int = 256


QUICK = Setting(
    densities=(1, 0.1, 0.01),
    seeds=(0, 1),
    restarts=2,
    steps=60,
    batch_size=64,
    polygon_densities=(1, 0.1, 0.01),
    polygon_restarts=4,
    polygon_batch_size=64,
)
MODELS = {"linear": False, "ReLU": True}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "superposition", arguments)
    setting = QUICK if o.quick else Setting()
    record = Record(o.out, setting, svg=not o.quick)
    runs = {
        name: [
            record.piece(f"{name}-{seed}", lambda seed=seed, relu=relu: sweep(seed, relu, setting))
            for seed in setting.seeds
        ]
        for name, relu in MODELS.items()
    }
    polygons = [
        record.piece(f"polygons-{seed}", lambda seed=seed: polygon_sweep(seed, setting)) for seed in setting.seeds
    ]
    tables = {name: kept_table(each, setting) for name, each in runs.items()}
    shown = {f"S = {1 - p:.3g}": turned(W) for p, W in zip(setting.polygon_densities, polygons[0]["W"], strict=True)}
    return record.finish(
        claims(runs, polygons, setting),
        {
            "features_kept": figures.features_kept(tables, setting.m),
            "gram_heatmaps": figures.gram_heatmaps(chosen(runs, setting)),
            "gram_slider": figures.gram_slider(
                {f"{1 - p:.3g}": (W, b) for p, W, b in zip(setting.densities, *_weights(runs["ReLU"]), strict=True)}
            ),
            "feature_polygons": figures.feature_polygons({name[4:]: W for name, W in shown.items()}),
            "polygon_multiples": figures.polygon_multiples({name: shown[name] for name in _few(list(shown))}),
        },
        {"kept": {name: table.to_dict("records") for name, table in tables.items()}},
    )


def sweep(seed: int, relu: bool, setting: Setting) -> dict[str, Any]:
    """Return the restart at each density that has the lowest loss."""
    importance = setting.decay ** torch.arange(setting.n)
    recipe = Recipe(steps=setting.steps, batch_size=setting.batch_size)
    return best_of(seed, setting.densities, importance, setting.m, setting.restarts, recipe, relu=relu)


def polygon_sweep(seed: int, setting: Setting) -> dict[str, Any]:
    importance = setting.polygon_decay ** torch.arange(5)
    recipe = Recipe(steps=setting.steps, batch_size=setting.polygon_batch_size)
    return best_of(seed, setting.polygon_densities, importance, 2, setting.polygon_restarts, recipe)


def best_of(
    seed: int,
    densities: tuple[float, ...],
    importance: torch.Tensor,
    m: int,
    restarts: int,
    recipe: Recipe,
    *,
    relu: bool = True,
) -> dict[str, Any]:
    density = torch.tensor(densities, dtype=torch.float32).repeat_interleave(restarts)
    trained: Autoencoders = train(
        density, importance.expand(len(density), -1).contiguous(), m, relu=relu, recipe=recipe, seed=seed
    )
    best = trained.loss.view(-1, restarts).argmin(1) + restarts * torch.arange(len(densities))
    return {"W": trained.W[best], "b": trained.b[best], "loss": trained.loss[best]}


def kept_features(run: dict[str, Any]) -> np.ndarray:
    """Return features kept at each density."""
    return (np.linalg.norm(run["W"], axis=1) > 0.5).sum(-1)


def kept_table(runs: list[dict[str, Any]], setting: Setting) -> pd.DataFrame:
    counts = np.array([kept_features(run) for run in runs])
    rows = [(p, *interval(counts[:, at].tolist())) for at, p in enumerate(setting.densities)]
    return pd.DataFrame(rows, columns=["density", "kept", "low", "high"])


def claims(runs: dict[str, list[dict[str, Any]]], polygons: list[dict[str, Any]], setting: Setting) -> list[Claim]:
    linear, relu = (np.array([kept_features(run) for run in runs[name]]) for name in MODELS)
    sparse = np.array(setting.densities) <= 0.01
    average = interval(relu[:, sparse].mean(1).tolist())
    at = int(np.argmin(np.abs(np.array(setting.densities) - 0.01)))
    ratio = interval(
        [float(r["loss"][at] / li["loss"][at]) for r, li in zip(runs["ReLU"], runs["linear"], strict=True)]
    )
    corners = np.array([kept_features(run) for run in polygons])
    m, n = setting.m, setting.n
    return [
        Claim(
            row="7a",
            text=f"A linear model of {n} features in {m} dimensions keeps {m} features at every sparsity.",
            holds=bool((linear == m).all()),
            found=f"Between {linear.min()} and {linear.max()} kept, {linear.size} models, {len(setting.seeds)} seeds.",
            numbers={"kept": linear.tolist()},
        ),
        Claim(
            row="7b",
            text=f"With a ReLU and squared error, a model of sparse features (S ≥ 0.99) keeps more than {m}.",
            holds=bool((relu[:, sparse] > m).all()),
            found=f"{average} kept on average, at least {relu[:, sparse].min()}; loss at S = 0.99: {_short(ratio)} "
            "of the linear model's.",
            numbers={"kept": relu.tolist(), "loss_ratio": ratio},
        ),
        Claim(
            row="7c",
            text="Five features in two dimensions: two are kept when dense, more when sparse.",
            holds=bool((corners[:, 0] == 2).all() and (corners[:, -1] > 2).all()),
            found=f"Kept from S = 0 to {1 - setting.polygon_densities[-1]:.2f}: "
            + ", ".join(f"{each:.3g}" for each in corners.mean(0))
            + " (mean over seeds).",
            numbers={"kept": corners.tolist()},
        ),
    ]


def chosen(runs: dict[str, list[dict[str, Any]]], setting: Setting) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the linear model and some sparsities of the ReLU model."""
    sparse = len(setting.densities) - 1
    panels = {"linear": (runs["linear"][0]["W"][sparse], runs["linear"][0]["b"][sparse])}
    for at in _few(range(len(setting.densities)), 4):
        panels[f"S = {1 - setting.densities[at]:.3g}"] = (runs["ReLU"][0]["W"][at], runs["ReLU"][0]["b"][at])
    return panels


def turned(W: np.ndarray) -> np.ndarray:
    """Rotate and mirror a model so that the longest of the first features points to the right, and the next is above
    it. Models that differ only by this then look the same."""
    angle = np.arctan2(W[1, 0], W[0, 0])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    W = turn @ W
    return W * np.array([[1], [1 if W[1, 1] >= 0 else -1]])


def _weights(runs: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    return runs[0]["W"], runs[0]["b"]


def _few(items: Any, number: int = 5) -> list:
    """Return some of the items, evenly spread, with both ends."""
    items = list(items)
    return [items[at] for at in sorted(set(np.linspace(0, len(items) - 1, number).round().astype(int).tolist()))]


def _short(value: Interval) -> str:
    return f"{value.mean:.2f} ({value.low:.2f} to {value.high:.2f})"


if __name__ == "__main__":
    main()
