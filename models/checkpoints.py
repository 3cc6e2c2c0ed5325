"""Checkpoints of a training, weights with errors that name the file, and the log of the steps.

The checkpoint of a training is one safetensors file: the weights, the optimizer's state for each parameter, and (in the
header, as JSON) the step and the seconds spent. The folder that holds it says of which training it is.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from interp.checks.errors import DamagedError
from interp.storage.files import open_tensors, read_tensors, write_atomically, write_tensors

_REMEDY = "delete it to start again"


def write_checkpoint(file: Path, model: nn.Module, optimizer: torch.optim.Optimizer, facts: Mapping[str, Any]) -> None:
    tensors = {f"weight/{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        tensors |= {f"{key}/{name}": state for key, state in optimizer.state[parameter].items()}
    write_tensors(file, tensors, {"facts": json.dumps(dict(facts))})


def read_checkpoint(file: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Restore weights and optimizer state, and return the facts."""
    with open_tensors(file, _REMEDY) as stored:
        facts = json.loads(stored.metadata()["facts"])
        if not all(isinstance(facts[name], int | float) and facts[name] >= 0 for name in ("step", "seconds")):
            raise KeyError("step and seconds")
        # Cloned into memory of torch's own alignment, on which the order of a vectorised sum may depend.
        tensors = {key: stored.get_tensor(key).clone() for key in stored.keys()}
        _check_shapes(tensors, model)
    model.load_state_dict({name: tensors[f"weight/{name}"] for name in model.state_dict()})
    for name, parameter in model.named_parameters():
        keys = [key for key in tensors if key.endswith(f"/{name}") and not key.startswith("weight/")]
        optimizer.state[parameter] = {key.split("/")[0]: tensors[key].to(parameter.device) for key in keys}
    return facts


def _check_shapes(tensors: Mapping[str, Tensor], model: nn.Module) -> None:
    """Check that every weight and its optimizer state exist. Raises KeyError for one that is missing or has another
    shape."""
    for name, weight in model.state_dict().items():
        wrong = [key for key, tensor in tensors.items() if key.endswith(f"/{name}") and key.split("/")[0] != "step"]
        wrong = [key for key in wrong if tensors[key].shape != weight.shape]
        if f"weight/{name}" not in tensors or wrong:
            raise KeyError(f"{name} of shape {tuple(weight.shape)}")


def load_weights(model: nn.Module, file: Path, remedy: str) -> None:
    """Load the weights of a file into the model. Raises DamagedError if they do not fit it or are not finite."""
    tensors = read_tensors(file, remedy)
    expected = model.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        shape, fits = (list(each[name].shape) if name in each else "missing" for each in (tensors, expected))
        if shape != fits:
            raise DamagedError(f"{name} of {file} is {shape}, by config.json it is {fits}: {remedy}")
        if not tensors[name].is_floating_point() or not bool(tensors[name].isfinite().all()):
            raise DamagedError(f"{name} of {file} holds values that are not finite numbers: {remedy}")
    model.load_state_dict(tensors)


def count_weights(file: Path, remedy: str) -> int:
    """Count the weights of a safetensors file, by its header."""
    with open_tensors(file, remedy) as stored:
        return sum(math.prod(stored.get_slice(name).get_shape()) for name in stored.keys())


def drop_rows_after(file: Path, step: int) -> None:
    """Drop the rows of a JSON-lines log that come after `step`, and a truncated last line."""
    lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
    try:
        kept = [line for line in lines if line.endswith(b"\n") and json.loads(line)["step"] <= step]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(
            f"{file} is damaged ({error!r}): delete its folder to train again from the first step"
        ) from None
    with write_atomically(file) as temporary:
        temporary.write_bytes(b"".join(kept))
