"""The checkpoint of a training run: one safetensors file that is there whole or not at all.

It holds the weights, the optimizer's state for each parameter, and (in the header, as JSON) the step, the seconds spent
and the inputs of the run: what its end depends on, configs by value and tensors by checksum. A checkpoint or a result
of other inputs is refused with the names of those that differ.
"""

import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.whole_files import atomic


def write_checkpoint(file: Path, model: nn.Module, optimizer: torch.optim.Optimizer, facts: Mapping[str, Any]) -> None:
    tensors = {f"weight/{name}": tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        tensors |= {f"{key}/{name}": state.contiguous() for key, state in optimizer.state[parameter].items()}
    with atomic(file) as temporary:
        save_file(tensors, temporary, {"facts": json.dumps(dict(facts))})


def read_checkpoint(
    file: Path, model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Mapping[str, Any]
) -> dict[str, Any]:
    """Put weights and optimizer state back and return the facts. Raises ValueError if `facts["inputs"]` are others."""
    try:
        with safe_open(str(file), "pt") as stored:
            facts = json.loads(stored.metadata()["facts"])
            check_inputs(facts["inputs"], inputs, file)
            # Cloned into memory of torch's own alignment, on which the order of a vectorised sum may depend.
            tensors = {key: stored.get_tensor(key).clone() for key in stored.keys()}
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged ({error}): delete it to start again") from error
    model.load_state_dict({name: tensors[f"weight/{name}"] for name in model.state_dict()})
    for name, parameter in model.named_parameters():
        keys = [key for key in tensors if key.endswith(f"/{name}") and not key.startswith("weight/")]
        optimizer.state[parameter] = {key.split("/")[0]: tensors[key].to(parameter.device) for key in keys}
    return facts


def check_inputs(before: Mapping[str, Any], now: Mapping[str, Any], file: Path) -> None:
    differing = [f"{key} was {before.get(key)}, now {now[key]}" for key in now if before.get(key) != now[key]]
    if differing:
        raise ValueError(f"{file} is of another run ({'; '.join(differing)}): choose another folder or do not resume")


def checksum(tensors: Iterable[Tensor]) -> int:
    """CRC-32 of the tensors' bytes, one after the other."""
    value = 0
    for tensor in tensors:
        value = zlib.crc32(tensor.detach().cpu().contiguous().numpy().data, value)
    return value


def keep_rows(file: Path, step: int) -> None:
    """Drop the rows of a JSON-lines log that come after `step`, and a last line that was cut off."""
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    with atomic(file) as temporary:
        temporary.write_text("".join(kept))


def write_json(file: Path, content: Any) -> None:
    with atomic(file) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
