"""Read and write the fitted weights of a logistic regression as JSON, and turn its logits into probabilities.

The package has two such files: `calibration.json` (`calibration`) and `learnt.json` (`learnt`).
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from interp.checks.errors import DamagedError, InterpError
from interp.storage.files import digest_json, read_json, write_text

PROBABILITY_BOUNDS = 1e-3, 1 - 1e-3
"""Bounds on every probability: some hundred firings cannot make anything more certain."""


def read_fit(path: str | Path | None, shipped: str, key: str, names: tuple[str, ...], remedy: str) -> dict[str, Any]:
    """Read a file of `write_fit`.
    path: by default the file `shipped` of the package.

    Raises DamagedError for a file that is no JSON object or lacks the entry `key`, and ValueError if the entry does not
    list the current predictors.
    """
    if path is None:
        content = json.loads((files("interp.verdict") / shipped).read_text())
    else:
        content = read_json(path, remedy)
    if key not in content:
        raise DamagedError(f"{path or shipped} has no entry {key!r}, so it is no fit: {remedy}")
    if content[key] != list(names):
        raise InterpError(f"{path or shipped} was fitted to {content[key]}, not to {list(names)}: {remedy}")
    return content


def digest_fits() -> str:
    """Return the SHA-256 of the fits that ship with the package."""
    return digest_json([(files("interp.verdict") / name).read_text() for name in ("calibration.json", "learnt.json")])


def write_fit(path: str | Path, content: Mapping[str, Any], decimals: int) -> None:
    """Write a fit, with arrays and floats rounded to `decimals`."""
    plain = {
        name: np.round(value, decimals).tolist() if isinstance(value, np.ndarray | float) else value
        for name, value in content.items()
    }
    lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in plain.items())
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def logistic(logit: np.ndarray) -> np.ndarray:
    """Return the probability of a logit, within PROBABILITY_BOUNDS."""
    return np.clip(1 / (1 + np.exp(-logit)), *PROBABILITY_BOUNDS)
