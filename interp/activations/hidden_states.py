"""Import hidden states that an inference engine wrote, one file per prompt, into a store, without a forward pass.

In:  files as vLLM's `extract_hidden_states` leaves them (its ExampleHiddenStatesConnector): safetensors with
     `hidden_states` [token, layer, d] and `token_ids` [token]. vLLM is not needed to read them.
Out: a store with one hook per layer; a prompt is one sequence, or several if it is longer than `n_ctx`.

vLLM's layer i is the residual stream that enters block i, and its layer n_layers what leaves the last block, before
the final norm. The files do not say which layers they hold, so the caller names their hooks.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from interp.activations.shard_writer import ShardWriter, StoreConfig, check_dtype
from interp.activations.store_writer import StoreWriter
from interp.checks.arguments import check_token_ids
from interp.checks.errors import DamagedError, InterpError
from interp.checks.limits import check_at_least
from interp.runtime.progress import Progress
from interp.storage.addresses import as_local_path
from interp.storage.files import digest, digest_file, open_tensors
from interp.storage.folders import atomic_folder, recover_finished

_REMEDY = "extract its prompt again"


def import_hidden_states(
    files: str | Path | Sequence[str | Path],
    hook_names: Sequence[str],
    out: str | Path,
    *,
    n_ctx: int | None,
    dtype: str,
    model_name: str,
    overwrite: bool,
    progress: Progress,
) -> None:
    """See `ActivationStore.from_hidden_states`."""
    check_dtype(dtype)
    check_at_least(1, n_ctx=n_ctx)
    if len({*hook_names}) < len(hook_names):
        raise InterpError(f"hook_names={list(hook_names)} names a hook twice: each layer needs a name of its own")
    paths = _paths(files)
    prompts = list[Tensor]()
    d = 0
    for path in paths:
        token_ids, width = _read_header(path, len(hook_names))
        if d not in (0, width):
            raise InterpError(f"{path} holds states of width {width}, {paths[0]} of width {d}: name files of one model")
        prompts.append(token_ids)
        d = width
    n_ctx = n_ctx or max(map(len, prompts))
    sequences = [sequence for prompt in prompts for sequence in prompt.split(n_ctx)]
    tokens = torch.zeros((len(sequences), n_ctx), dtype=torch.int32)
    for row, sequence in zip(tokens, sequences, strict=True):
        row[: len(sequence)] = sequence
    check_token_ids(tokens, None)
    made_of: dict[str, Any] = {
        "kind": "activations",
        "source": "hidden states",
        "hook_names": list(hook_names),
        "dtype": dtype,
        "tokens": digest(tokens),
        "n_ctx": n_ctx,
        "files": [digest_file(path) for path in paths],
    }
    if not overwrite and recover_finished(out, made_of):
        return
    with atomic_folder(out, made_of, resumes=True, overwrite=overwrite) as new:
        n_rows = sum(map(len, prompts))
        config = StoreConfig(
            widths=dict.fromkeys(hook_names, d),
            dtype=dtype,
            n_ids=tokens.numel(),
            n_ctx=n_ctx,
            made_of=made_of,
        )
        row_ids = list(_row_ids(prompts, n_ctx))
        shard_rows = config.shard_rows(iter(row_ids), config.n_shards(n_rows))
        with StoreWriter(ShardWriter(new, config, shard_rows), batch_rows=max(map(len, prompts))) as writer:
            for number in range(writer.position, len(paths)):
                with open_tensors(paths[number], _REMEDY) as stored:
                    acts = stored.get_tensor("hidden_states")
                acts_of_hooks = {name: acts[:, layer] for layer, name in enumerate(hook_names)}
                writer.add(row_ids[number], acts_of_hooks, number + 1)
                progress(number + 1, len(paths), "prompts")
            writer.finish(tokens, {"position": tokens.numel() - n_rows}, model_name)


def _paths(files: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the files named, or those of a folder, sorted."""
    if isinstance(files, str | Path):
        folder = as_local_path(files)
        if not folder.is_dir():
            raise InterpError(
                f"{files} is not a folder: name one with a .safetensors file a prompt, or a list of files"
            )
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise InterpError(
                f"{folder} holds no .safetensors file: name another (unpack files that end in .zst first)"
            )
    paths = list(map(as_local_path, files))
    if missing := [path for path in paths if not path.is_file()]:
        raise InterpError(f"{missing[0]} does not exist: name the files that the engine wrote")
    if not paths:
        raise InterpError("files names none: name those that the engine wrote")
    return paths


def _read_header(path: Path, n_layers: int) -> tuple[Int[Tensor, " token"], int]:
    """Return the ids of a prompt's tokens, and the width of its states. Raises ValueError if they do not match."""
    with open_tensors(path, _REMEDY) as stored:
        if not {"token_ids", "hidden_states"} <= set(stored.keys()):
            raise DamagedError(f"{path} holds {', '.join(stored.keys())}, not hidden_states and token_ids: {_REMEDY}")
        tokens = stored.get_tensor("token_ids")
        states = stored.get_slice("hidden_states")
        shape = tuple(states.get_shape())
        dtype = states.get_dtype()
    if tokens.ndim != 1 or tokens.is_floating_point() or not len(tokens):
        raise DamagedError(f"{path} has token_ids {tuple(tokens.shape)}, not the ids [token] of a prompt: {_REMEDY}")
    if len(shape) != 3 or dtype not in ("BF16", "F16", "F32") or shape[0] != len(tokens):
        raise DamagedError(f"{path} has hidden_states {shape}, not floats [{len(tokens)}, layer, d]: {_REMEDY}")
    if shape[1] != n_layers:
        raise InterpError(f"{path} holds {shape[1]} layers, hook_names names {n_layers}: name one for each, in order")
    return tokens, shape[2]


def _row_ids(prompts: Sequence[Tensor], n_ctx: int) -> Iterator[Int[Tensor, " token"]]:
    """Yield the ids of each prompt's rows, which are consecutive: a prompt fills all its sequences except the last."""
    first = 0
    for prompt in prompts:
        yield first * n_ctx + torch.arange(len(prompt))
        first += math.ceil(len(prompt) / n_ctx)
