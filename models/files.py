"""Writes files whole or not at all, and reads JSON, tensors and checkpoints with errors that name the file.

Files are written beside their place and renamed, so that a kill leaves the old one, by Python's own write: a full disk
is an OSError, and the mode is that of the umask. The readers raise ValueError or FileNotFoundError with the file and
its `remedy`, in words.

The checkpoint of a training is one safetensors file: the weights, the optimizer's state for each parameter, and (in the
header, as JSON) the step, the seconds spent and the inputs of the run: what its end depends on, configs by value and
tensors by checksum. A checkpoint or a result of other inputs is refused with the names of those that differ.
"""

import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

_AGAIN = "delete it to start again"


@contextmanager
def atomic(file: str | Path) -> Iterator[Path]:
    """A path to write to that becomes `file` when the block ends; after an error `file` stays as it was."""
    file = Path(file)
    temporary = file.with_name(f"{file.name}.tmp")
    temporary.unlink(missing_ok=True)  # what a kill left, or a link that would be written through
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
    try:
        yield temporary
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(file: str | Path, text: str) -> None:
    with atomic(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(file: str | Path, content: Any) -> None:
    write_text(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_tensors(file: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """A safetensors file; `metadata` is text in its header."""
    data = save({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, dict(metadata or {}) or None)
    with atomic(file) as temporary:
        temporary.write_bytes(data)


def read_json(file: str | Path, remedy: str) -> dict[str, Any]:
    """An object with named values."""
    file = _existing(file, remedy)
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not valid JSON ({error}): {remedy}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}, not an object with named values: {remedy}")
    return content


@contextmanager
def open_tensors(file: str | Path, remedy: str) -> Iterator[Any]:
    """A safetensors file, open. What the block misses in it, a tensor or a fact, is an error of the file too."""
    file = _existing(file, remedy)
    try:
        with safe_open(str(file), "pt") as opened:
            yield opened
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged ({error}): {remedy}") from None
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} does not hold what it should ({error!r}): {remedy}") from None


def _existing(file: str | Path, remedy: str) -> Path:
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"{file} {'is a folder' if file.is_dir() else 'does not exist'}: {remedy}")
    return file


def write_checkpoint(file: Path, model: nn.Module, optimizer: torch.optim.Optimizer, facts: Mapping[str, Any]) -> None:
    tensors = {f"weight/{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        tensors |= {f"{key}/{name}": state for key, state in optimizer.state[parameter].items()}
    write_tensors(file, tensors, {"facts": json.dumps(dict(facts))})


def read_checkpoint(
    file: Path, model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Mapping[str, Any]
) -> dict[str, Any]:
    """Put weights and optimizer state back and return the facts. Raises ValueError if `facts["inputs"]` are others."""
    with open_tensors(file, _AGAIN) as stored:
        facts = json.loads(stored.metadata()["facts"])
        check_inputs(facts["inputs"], inputs, file)
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
    """Check that every weight, and what the optimizer keeps of it, is there. Raises KeyError for one that is missing or
    of another shape."""
    for name, weight in model.state_dict().items():
        wrong = [key for key, tensor in tensors.items() if key.endswith(f"/{name}") and key.split("/")[0] != "step"]
        wrong = [key for key in wrong if tensors[key].shape != weight.shape]
        if f"weight/{name}" not in tensors or wrong:
            raise KeyError(f"{name} of shape {tuple(weight.shape)}")


def check_inputs(before: Any, now: Mapping[str, Any], file: Path) -> None:
    if not isinstance(before, Mapping):
        raise ValueError(f"{file} does not say which run it is of (inputs={before!r}): {_AGAIN}")
    differing = [f"{key} was {before.get(key)}, now {now[key]}" for key in now if before.get(key) != now[key]]
    if differing:
        raise ValueError(f"{file} is of another run ({'; '.join(differing)}): choose another folder or do not resume")


def load_weights(model: nn.Module, file: Path, remedy: str) -> None:
    """Put the weights of a file into the model. Raises ValueError where they do not fit it or are not finite."""
    with open_tensors(file, remedy) as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}
    expected = model.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        shape, fits = (list(each[name].shape) if name in each else "missing" for each in (tensors, expected))
        if shape != fits:
            raise ValueError(f"{name} of {file} is {shape}, by config.json it is {fits}: {remedy}")
        if not tensors[name].is_floating_point() or not bool(tensors[name].isfinite().all()):
            raise ValueError(f"{name} of {file} holds values that are no finite numbers: {remedy}")
    model.load_state_dict(tensors)


def count_weights(file: Path, remedy: str) -> int:
    """By the file's header."""
    with open_tensors(file, remedy) as stored:
        return sum(math.prod(stored.get_slice(name).get_shape()) for name in stored.keys())


def checksum(tensors: Iterable[Tensor]) -> int:
    """CRC-32 of the tensors' bytes, one after the other."""
    value = 0
    for tensor in tensors:
        value = zlib.crc32(tensor.detach().cpu().contiguous().numpy().data, value)
    return value


def keep_rows(file: Path, step: int) -> None:
    """Drop the rows of a JSON-lines log that come after `step`, and a last line that was cut off."""
    lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
    try:
        kept = [line for line in lines if line.endswith(b"\n") and json.loads(line)["step"] <= step]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is damaged ({error!r}): train again from the start (resume=False)") from None
    with atomic(file) as temporary:
        temporary.write_bytes(b"".join(kept))
