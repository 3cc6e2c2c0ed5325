"""Do neurons go from one meaning to several as features grow sparser?

    python -m analyses.essay.polysemantic_neurons            about seven minutes on two busy cores
    python -m analyses.essay.polysemantic_neurons --quick    a tiny size, for the tests

Hidden ReLU neurons copy 10 sparse features through 5 neurons, or compute |x| of 100 with 40. Claim tested (row 10), for
both tasks: the share of polysemantic neurons rises with sparsity; the interval of the difference between the sparsest
and the densest setting lies above 0. The restart with the lowest loss counts.

A network is monosemantic by construction if each neuron (in |x|: each pair) serves one of the most important features
and the output's bias is the mean of the others. Its loss is Σ I_i (p/3 − p²/4) over the features left out. Trained
networks are compared with it: if their loss is higher, their polysemantic neurons are not a gain, and training fell
short.

Rate, batch, steps and the scale of the first weights were chosen on short runs, by the loss they reach.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from analyses.essay import figures
from analyses.essay.toys.hidden_neurons import Task, polysemantic, train_networks
from analyses.essay.toys.superposition import Recipe
from analyses.record import Claim, Record, interval, options

TASKS: dict[Task, str] = {"copy": "copying, 10 features by 5 neurons", "absolute": "|x|, 100 features by 40 neurons"}


@dataclass(frozen=True)
class Sizes:
    n: int
    m: int
    decay: float
    """Factor of the importances from one feature to the next."""
    densities: tuple[float, ...]
    restarts: int
    steps: int
    lr: float
    batch_size: int = 256
    firings: float = 0.0
    """Batches grow with sparsity until each feature is on so often in one."""
    lr_power: float = 0.0
    """The rate is lr · density^power."""
    scale: float = 1.0

    def recipe(self, density: float) -> Recipe:
        batch_size = max(self.batch_size, round(self.firings / density))
        lr = self.lr * density**self.lr_power
        return Recipe(steps=self.steps, batch_size=batch_size, lr=lr, scale=self.scale)


ABSOLUTE = Sizes(
    n=100, m=40, decay=0.8, densities=(1, 0.3, 0.1, 0.03), restarts=6, steps=3000, lr=0.06, batch_size=64, firings=25,
    lr_power=0.5, scale=0.1,
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    seeds: tuple[int, ...] = (0, 1, 2)
    copy: Sizes = Sizes(10, 5, 0.75, (1, 0.5, 0.3, 0.1, 0.05, 0.02, 0.01), restarts=64, steps=1500, lr=0.03)
    absolute: Sizes = ABSOLUTE


QUICK = Setting(
    seeds=(0, 1),
    copy=Sizes(6, 3, 0.75, (1, 0.3, 0.05), restarts=4, steps=100, lr=0.03, batch_size=32),
    absolute=Sizes(8, 4, 0.8, (1, 0.05), restarts=2, steps=100, lr=0.06, batch_size=32, scale=0.1),
)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "polysemantic_neurons", arguments)
    setting = QUICK if o.quick else Setting()
    record = Record(o.out, setting, svg=not o.quick)
    runs = {
        task: [
            record.piece(f"{task}-{seed}", lambda task=task, seed=seed: sweep(task, seed, setting))
            for seed in setting.seeds
        ]
        for task in TASKS
    }
    tables = {name: table(runs[task], getattr(setting, task)) for task, name in TASKS.items()}
    ratios = pd.concat([ratio_table(task, runs[task], setting) for task in TASKS])
    weights = runs["copy"][0]["W_in"]
    few = sorted(set(np.linspace(0, len(weights) - 1, 4).round().astype(int).tolist()))
    return record.finish(
        [claim(task, runs[task], getattr(setting, task)) for task in TASKS] + [gain_claim(ratios, setting)],
        {
            "polysemantic_shares": figures.polysemantic_shares(tables),
            "neuron_weights": figures.neuron_weights(
                {f"S = {1 - setting.copy.densities[k]:.3g}": weights[k] for k in few}
            ),
            "loss_ratios": figures.loss_ratios(ratios),
        },
        {"shares": {name: each.to_dict("records") for name, each in tables.items()}},
    )


def sweep(task: Task, seed: int, setting: Setting) -> dict[str, Any]:
    """Return the best restart at each density."""
    s: Sizes = getattr(setting, task)
    importance = (s.decay ** torch.arange(s.n)).expand(s.restarts, -1).contiguous()
    rows = []
    for density in s.densities:
        trained = train_networks(
            torch.full((s.restarts,), float(density)), importance, s.m, task, recipe=s.recipe(density), seed=seed
        )
        several, alive = polysemantic(trained.W_in)
        share, best = several.sum(-1) / alive.sum(-1).clamp(min=1), trained.loss.argmin()
        rows.append((trained.W_in[best], share[best], trained.loss[best], share.mean()))
    return {
        key: torch.stack(list(column)).numpy()
        for key, column in zip(("W_in", "share", "loss", "single"), zip(*rows, strict=True), strict=True)
    }


def monosemantic_loss(task: Task, s: Sizes) -> np.ndarray:
    """Return the loss of the network built by hand, at each density."""
    n_stored = s.m if task == "copy" else s.m // 2
    p = np.array(s.densities)
    return (p / 3 - p**2 / 4) * (s.decay ** np.arange(n_stored, s.n)).sum()


def table(runs: list[dict[str, Any]], s: Sizes) -> pd.DataFrame:
    rows = [(p, *interval([float(run["share"][at]) for run in runs])) for at, p in enumerate(s.densities)]
    return pd.DataFrame(rows, columns=["density", "share", "low", "high"])


def ratio_table(task: Task, runs: list[dict[str, Any]], setting: Setting) -> pd.DataFrame:
    """Return loss of the trained networks over that of the one built by hand."""
    s: Sizes = getattr(setting, task)
    each = np.array([run["loss"] / monosemantic_loss(task, s) for run in runs])
    rows = [(TASKS[task], p, *interval(each[:, at].tolist())) for at, p in enumerate(s.densities)]
    return pd.DataFrame(rows, columns=["task", "density", "ratio", "low", "high"])


def claim(task: Task, runs: list[dict[str, Any]], s: Sizes) -> Claim:
    rise = interval([float(run["share"][-1] - run["share"][0]) for run in runs])
    means = np.mean([run["share"] for run in runs], axis=0)
    return Claim(
        row="10a" if task == "copy" else "10b",
        text=f"{TASKS[task][0].upper()}{TASKS[task][1:]}: the share of polysemantic neurons rises with sparsity.",
        holds=rise.low > 0,
        found=f"Rise {rise}; shares from S = 0 to {1 - s.densities[-1]:.2f}: "
        + ", ".join(f"{each:.2f}" for each in means)
        + ".",
        numbers={"rise": rise, "shares": [run["share"].tolist() for run in runs]},
    )


def gain_claim(ratios: pd.DataFrame, setting: Setting) -> Claim:
    """Judge whether it pays to be polysemantic: at the sparsest setting, the loss must be below that of the network
    built by hand."""
    sparsest = {task: ratios[ratios.task == name].iloc[-1] for task, name in TASKS.items()}
    sizes: dict[Task, Sizes] = {"copy": setting.copy, "absolute": setting.absolute}
    parts = [
        f"{'copying' if task == 'copy' else '|x|'} {row.ratio:.2f} ({row.low:.2f} to {row.high:.2f}) times"
        f" at S = {1 - sizes[task].densities[-1]:.2f}"
        for task, row in sparsest.items()
    ]
    return Claim(
        row="10c",
        text="At the sparsest setting, polysemantic networks lose less than a monosemantic one built by hand.",
        holds=all(row.high < 1 for row in sparsest.values()),
        found="; ".join(parts) + " the monosemantic loss.",
        numbers={"ratios": ratios.to_dict("records")},
    )


if __name__ == "__main__":
    main()
