"""Does a feature enter superposition gradually or in one step, and does theory predict where?

    python -m analyses.essay.phase_change            little more than a minute on two cores
    python -m analyses.essay.phase_change --quick    a tiny size, for the tests

Two features in one dimension, and three in two, over a grid of the last feature's relative importance and of the
density of all. Claim tested (row 9): in at least 90 % of the cells the trained model's last feature is not represented,
has its own dimension or is in superposition, as the closed form of `toys.phase_change` predicts. The restart with the
lowest loss counts. The closed form uses weight vectors of length 1; training does not.

Rate, batch and steps were chosen on short runs, by the loss they reach.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from analyses.essay import figures
from analyses.essay.toys.phase_change import STATES, state_losses, state_of_extra
from analyses.essay.toys.superposition import Recipe, train
from analyses.record import Claim, Record, interval, options

SIZES = {2: "two features in one dimension", 3: "three features in two dimensions"}
SHORT = {2: "n = 2, m = 1", 3: "n = 3, m = 2"}


@dataclass(frozen=True)
class Setting:
    cells: int = 16
    """Along each side of the grid; densities 0.01 … 1, importances 0.1 … 10."""
    restarts: int = 8
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 1000
    batch_size: int = 256
    lr: float = 0.02
    judged_on: int = 2**17
    """Samples for the choice of a restart: where features are rare, the difference lies in few of them."""


QUICK = Setting(cells=4, restarts=2, seeds=(0, 1), steps=60, batch_size=64, judged_on=2**12)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "phase_change", arguments)
    setting = QUICK if o.quick else Setting()
    record = Record(o.out, setting, svg=not o.quick)
    runs = {
        n: [
            record.piece(f"n{n}-seed-{seed}", lambda n=n, seed=seed: diagram(n, seed, setting))
            for seed in setting.seeds
        ]
        for n in SIZES
    }
    theory = {n: predicted(n, setting) for n in SIZES}
    panels = {SHORT[n]: (theory[n], runs[n][0]["state"]) for n in SIZES}
    density, importance = (each.tolist() for each in grid(setting))
    return record.finish(
        [claim(n, runs[n], theory[n], setting) for n in SIZES],
        {"phase_diagram": figures.phase_diagram(panels, density, importance, STATES)},
    )


def grid(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    return np.geomspace(0.01, 1, setting.cells), np.geomspace(0.1, 10, setting.cells)


def predicted(n: int, setting: Setting) -> np.ndarray:
    """Return the cheapest state in each cell, [importance, density]."""
    densities, importances = grid(setting)
    return np.array([[state_losses(r, p, n).argmin() for p in densities] for r in importances])


def diagram(n: int, seed: int, setting: Setting) -> dict[str, Any]:
    """Train all cells and restarts in one call; return each cell's state for the restart with the lowest loss."""
    densities, importances = (torch.from_numpy(each).float() for each in grid(setting))
    cells, restarts = setting.cells**2, setting.restarts
    density = densities.repeat(setting.cells).repeat_interleave(restarts)
    importance = torch.ones(len(density), n)
    importance[:, -1] = importances.repeat_interleave(setting.cells * restarts)
    recipe = Recipe(steps=setting.steps, batch_size=setting.batch_size, lr=setting.lr)
    trained = train(density, importance, n - 1, recipe=recipe, seed=seed, judged_on=setting.judged_on)
    states = state_of_extra(trained.W).view(cells, restarts)
    best = trained.loss.view(cells, restarts).argmin(1, keepdim=True)
    return {
        "state": states.gather(1, best).view(setting.cells, setting.cells),
        "all": states.view(setting.cells, setting.cells, restarts),
    }


def claim(n: int, runs: list[dict[str, Any]], theory: np.ndarray, setting: Setting) -> Claim:
    agreement = interval([float((run["state"] == theory).mean()) for run in runs])
    single = interval([float((run["all"] == theory[..., None]).mean()) for run in runs])
    return Claim(
        row=f"9{'ab'[n - 2]}",
        text=f"Phases of {SIZES[n]}: at least 90 % of the cells agree with the closed form.",
        holds=agreement.mean >= 0.9,
        found=f"{agreement.percent()} of {setting.cells**2} cells; of single restarts "
        f"{single.percent()}; {len(runs)} seeds.",
        numbers={"agreement": agreement, "single": single},
    )


if __name__ == "__main__":
    main()
