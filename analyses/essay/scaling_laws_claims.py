"""Predict the largest size from the sizes below it, and judge the claims on it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyses.essay.scaling_laws_fits import ScalingLaw, bootstrap_scaling_law, fit_scaling_law
from analyses.record import Claim, interval

RIVALS = ("exponential", "stretched")
BAR = 0.03


@dataclass(frozen=True)
class Laws:
    """What the sizes below the largest say about the largest."""

    x: np.ndarray
    """[size], rising."""
    loss: np.ndarray
    """[size, seed]."""
    fits: Mapping[str, ScalingLaw]
    """The fit of each shape, to all sizes except the largest."""
    exponent: tuple[float, float]
    floor: tuple[float, float]
    """95 % intervals of the power law fitted to all sizes."""
    whole: ScalingLaw
    """The power law fitted to all sizes."""

    @classmethod
    def of(cls, runs: pd.DataFrame, column: str, bootstrap: int) -> "Laws":
        table = runs.pivot(index=column, columns="seed", values="loss").sort_index()
        x, loss = table.index.to_numpy(float), table.to_numpy()
        every, losses = np.repeat(x[:-1], loss.shape[1]), loss[:-1].ravel()
        fits = {shape: fit_scaling_law(every, losses, shape) for shape in ("power law", *RIVALS)}
        whole = fit_scaling_law(np.repeat(x, loss.shape[1]), loss.ravel())
        exponent, floor = bootstrap_scaling_law(x, loss, n=bootstrap)
        return cls(x, loss, fits, exponent, floor, whole)

    @property
    def held_out(self) -> float:
        """The loss at the largest size, mean of the seeds."""
        return float(self.loss[-1].mean())

    def error(self, shape: str) -> float:
        """Return the predicted minus the measured loss at the largest size, in nats."""
        return float(self.fits[shape](self.x[-1])) - self.held_out

    def relative(self, shape: str) -> float:
        return abs(self.error(shape)) / self.held_out

    def share(self, shape: str, floor: float) -> float:
        """Return the error as a share of what is above the floor."""
        return abs(self.error(shape)) / (self.held_out - floor)

    @property
    def no_gain(self) -> float:
        """Relative error of expecting the loss of the second largest."""
        return abs(float(self.loss[-2].mean()) - self.held_out) / self.held_out


def claims(laws: Mapping[str, Laws], floor: float) -> list[Claim]:
    return [
        _predicted("21a", laws["parameters"], floor, "A power law in parameters, fitted to all smaller models"),
        _beats_exponentials("21b", laws["parameters"], "parameters"),
        _predicted("21c", laws["data"], floor, "A power law in tokens, fitted to all smaller amounts"),
        _beats_exponentials("21d", laws["data"], "tokens"),
        _exponents(laws),
        _levels_off(laws["parameters"], floor),
    ]


def _predicted(row: str, law: Laws, floor: float, subject: str) -> Claim:
    error, share = law.relative("power law"), law.share("power law", floor)
    measured = interval(law.loss[-1].tolist())
    ci = f"{measured.mean:.3f} ({measured.low:.3f} to {measured.high:.3f})"
    return Claim(
        row=row,
        text=f"{subject}, predicts the largest one's loss within 3 %.",
        holds=error <= BAR,
        found=f"{law.fits['power law'](law.x[-1]):.3f} predicted, {ci} measured: {error:.1%} off, {share:.0%} of "
        f"the part above the floor; expecting no gain: {law.no_gain:.1%}.",
        numbers={"error": error, "share": share, "no_gain": law.no_gain, "loss": measured, "sizes": len(law.x)},
    )


def _beats_exponentials(row: str, law: Laws, name: str) -> Claim:
    power, rivals = law.fits["power law"], [law.fits[shape] for shape in RIVALS]
    errors = {shape: law.relative(shape) for shape in ("power law", *RIVALS)}
    gaps = [rival.aic - power.aic for rival in rivals]
    best = all(errors["power law"] < errors[shape] for shape in RIVALS) and min(gaps) > 0
    return Claim(
        row=row,
        text=f"In {name}, a power law is closer to the held-out loss than exponentials in size and its root, with as "
        "many constants, and fits the rest better.",
        holds=best,
        found=f"off by {errors['power law']:.1%}, against {errors['exponential']:.1%} and {errors['stretched']:.1%}; "
        f"AIC of those minus its own: {gaps[0]:.0f} and {gaps[1]:.0f}.",
        numbers={"errors": errors, "aic_gaps": gaps},
    )


def _exponents(laws: Mapping[str, Laws]) -> Claim:
    words = [
        f"{law.whole.rate:.2f} ({law.exponent[0]:.2f} to {law.exponent[1]:.2f}) in {name}"
        for name, law in (("parameters", laws["parameters"]), ("tokens", laws["data"]))
    ]
    span = laws["parameters"].x
    return Claim(
        row="21e",
        text=f"The exponents, over a factor of {span[-1] / span[0]:.0f} in weights outside the embeddings.",
        holds=None,
        found=f"{words[0]}, {words[1]}.",
        numbers={name: {"exponent": law.whole.rate, "interval": law.exponent} for name, law in laws.items()},
    )


def _levels_off(law: Laws, floor: float) -> Claim:
    return Claim(
        row="21f",
        text="Where the law in parameters levels off, next to the source's own loss; the gap is due to limited text.",
        holds=None,
        found=f"{law.whole.floor:.3f} ({law.floor[0]:.3f} to {law.floor[1]:.3f}) fitted, {floor:.3f} known.",
        numbers={"fitted": law.whole.floor, "interval": law.floor, "floor": floor},
    )
