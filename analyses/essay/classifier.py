"""How does a classifier's picture of the plane change while it learns?

    python -m analyses.essay.classifier            about 10 seconds
    python -m analyses.essay.classifier --quick    a few seconds

Eight networks of 2-10-10-1 units are trained. Each has its own 300 points of two interleaved arms and passes over them
100 times, all points at once (`toys.classifier`). Decision regions are kept on a fixed grid after 0, 5, 10, 25, 50 and
100 iterations, and after every second one for the figure with a slider; both show the first seed.

Claims (row 1):
    1a  held-out accuracy after 100 iterations is at least 0.95, by the lower end of its 95 % interval over the seeds
    1b  the training loss falls from each of the six iterations to the next, in every seed
    1c  the boundary (p = ½ inside the grid, by marching squares) is longer after 100 iterations than after 0: the
        interval of the growth lies above zero

The arms' ¾ turn and the learning rate 0.03 were chosen on runs of three seeds, with turns of ½, ¾ and 1 and rates of
0.03 and 0.1, so that the change is visible; all of these passed 0.95 after 100 iterations.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from analyses.essay import figures
from analyses.essay.toys.classifier import ClassifierConfig, grid_axis, train_classifiers, two_arms
from analyses.record import Claim, Record, interval, options

SHOWN = (0, 5, 10, 25, 50, 100)


@dataclass(frozen=True)
class Setting:
    seeds: tuple[int, ...] = tuple(range(8))
    iterations: tuple[int, ...] = tuple(sorted({*SHOWN, *range(0, 101, 2)}))
    n_grid: int = 61
    n_held_out: int = 4000

    @property
    def config(self) -> ClassifierConfig:
        return ClassifierConfig(n_grid=self.n_grid, n_held_out=self.n_held_out)


QUICK = Setting(seeds=(0, 1, 2), iterations=SHOWN, n_grid=21, n_held_out=400)


def train(setting: Setting) -> dict[str, Any]:
    """Return losses, accuracies and boundary lengths of all seeds; regions and points of the first."""
    run = train_classifiers(list(setting.iterations), list(setting.seeds), setting.config)
    points = two_arms(setting.config.n_points, setting.config, torch.Generator().manual_seed(setting.seeds[0]))
    recorded = {"loss": run.loss, "accuracy": run.accuracy, "boundary": run.boundary}
    return {**recorded, "regions": run.regions[:, 0].contiguous(), "x": points.x, "arm": points.arm}


def claims(run: dict[str, Any], setting: Setting) -> list[Claim]:
    rows = [setting.iterations.index(iteration) for iteration in SHOWN]
    loss, accuracy, length = (run[name][rows] for name in ("loss", "accuracy", "boundary"))  # [iteration, seed]
    end, growth = interval(accuracy[-1].tolist()), interval((length[-1] - length[0]).tolist())
    means = [f"{mean:.3f}" for mean in loss.mean(1)]
    seeds = len(setting.seeds)
    return [
        Claim(
            row="1a",
            text="After 100 iterations the classifier puts at least 95 % of points it never saw on the right side.",
            holds=end.low >= 0.95,
            found=f"Held-out accuracy {end} over {seeds} seeds; before training {accuracy[0].mean():.2f}.",
            numbers={"accuracy": end, "accuracy by iteration": accuracy.mean(1)},
        ),
        Claim(
            row="1b",
            text="The training loss falls from each of the six iterations shown to the next, in every seed.",
            holds=bool((loss[1:] < loss[:-1]).all()),
            found=f"Mean loss in nats after {', '.join(map(str, SHOWN))} iterations: {', '.join(means)}.",
            numbers={"loss": loss},
        ),
        Claim(
            row="1c",
            text="The boundary between the two regions is longer after 100 iterations than before training.",
            holds=growth.low > 0,
            found=f"Longer by {growth} arm radii, {length[0].mean():.2f} before; shortest, "
            f"{length.mean(1).min():.2f}, after {SHOWN[length.mean(1).argmin()]} iterations.",
            numbers={"growth": growth, "length": length},
        ),
    ]


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "classifier", arguments)
    setting = QUICK if o.quick else Setting()
    record = Record(o.out, setting, svg=not o.quick)
    run = record.piece("networks", lambda: train(setting))
    curves = pd.DataFrame(
        {"iteration": setting.iterations, "loss": run["loss"][:, 0], "accuracy": run["accuracy"][:, 0]}
    )
    rows = [setting.iterations.index(iteration) for iteration in SHOWN]
    dragged = curves["iteration"] % 2 == 0
    titles = [f"iteration {it} (accuracy {curves['accuracy'][row]:.2f})" for it, row in zip(SHOWN, rows, strict=True)]
    axis = grid_axis(setting.config).numpy()
    made = {
        "decision_regions": figures.decision_regions(run["regions"][rows], axis, run["x"], run["arm"], titles),
        "decision_slider": figures.decision_slider(
            run["regions"][dragged], axis, run["x"], run["arm"], curves[dragged]
        ),
    }
    return record.finish(claims(run, setting), made, {"parameters": setting.config.n_parameters})


if __name__ == "__main__":
    main()
