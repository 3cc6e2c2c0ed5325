"""The files of a dictionary whose latents are divided among processes; they are those that one process would write.

    write_shards       writes a safetensors file of whole tensors; each process has the part of its own latents
    read_shard         reads that part of a file, whatever the number of processes that wrote it
    whole_dictionary   the content of a trained dictionary's files, with W_enc and W_dec still in parts

Process i of n has the latents from i · d_sae / n. The first process writes; it receives parts a piece at a time, so no
process ever holds a whole matrix.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from interp.checks.errors import InterpError
from interp.runtime.processes import Processes, slice_of_part
from interp.runtime.threads import slices
from interp.sae.architectures.sae_config import ARCHITECTURES, SAEConfig
from interp.sae.file_tensors import FileTensors
from interp.sae.formats.stored_dictionary import StoredDictionary
from interp.sae.weights import REPLICATED_WEIGHTS
from interp.storage.files import StreamedTensor, in_file_order

_BYTES_AT_ONCE = 1 << 24
"""Bytes of a piece that goes from process to process."""


def check_shards(config: SAEConfig, shards: int) -> None:
    """Check that the latents can be sharded over this many processes. Raises ValueError if not."""
    if shards > 1 and not config.shardable:
        able = ", ".join(architecture.__name__ for architecture in ARCHITECTURES.values() if architecture.shardable)
        raise InterpError(f"{type(config).__name__} cannot divide its latents among processes; {able} can")
    if config.d_sae % shards:
        raise InterpError(f"d_sae={config.d_sae} must be a multiple of shards={shards}")


def write_shards(
    write: Callable[[Mapping[str, Any]], object], tensors: Mapping[str, Tensor], shards: Processes
) -> None:
    """Let the first process `write` the whole tensors of these parts; all processes call this."""
    parts = {name: _gather(tensor, _axis(name), shards) for name, tensor in tensors.items()}
    if shards.is_first:
        write(parts)
        return
    for tensor in in_file_order(parts).values():
        for _ in tensor if isinstance(tensor, StreamedTensor) else ():
            pass


def read_shard(file: Any, rank: int, count: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of an open safetensors file by name, of each the part that the latents of a process have."""
    for name in sorted(file.keys()):
        axis = _axis(name)
        if axis is None or count == 1:
            yield name, file.get_tensor(name)
            continue
        stored = file.get_slice(name)
        shard_rows = slice_of_part(stored.get_shape()[axis], rank, count)
        yield name, stored[shard_rows] if axis == 0 else stored[:, shard_rows]


def whole_dictionary(part: StoredDictionary, shards: Processes) -> StoredDictionary:
    """Return the dictionary of all latents; W_enc and W_dec are given only by their shapes."""
    encoder = part.encoder.to_stored()
    d_sae = len(part.W_dec) * shards.count
    vectors = FileTensors(
        {name: shards.all_gather(tensor, same_length=True) for name, tensor in encoder.tensors.items()}, "the encoder"
    )
    return replace(
        part,
        W_enc=part.W_enc.new_empty(len(part.W_enc), d_sae, device="meta"),
        W_dec=part.W_dec.new_empty(d_sae, part.W_dec.shape[1], device="meta"),
        b_enc=shards.all_gather(part.b_enc, same_length=True),
        encoder=type(part.encoder).from_stored(encoder.settings, vectors, d_sae, "the encoder"),
    )


def _axis(name: str) -> int | None:
    """Return the axis of the latents of a tensor of a checkpoint or dictionary, or None if all have all of it."""
    group, _, name = name.rpartition(".")
    if name in REPLICATED_WEIGHTS or group == "resample":
        return None
    return 1 if name in ("W_enc", "strongest") else 0


def _gather(part: Tensor, axis: int | None, shards: Processes) -> Tensor | StreamedTensor:
    if axis is None or shards.count == 1:
        return part
    shape = [*part.shape]
    shape[axis] *= shards.count
    rows = slices(len(part), max(1, _BYTES_AT_ONCE * len(part) // max(1, part.nbytes * (shards.count if axis else 1))))

    def gathered_rows() -> Iterator[Tensor]:  # each process has a part of every row
        for at in rows:
            yield (
                shards.all_gather(part[at], same_length=True)
                .unflatten(0, (shards.count, -1))
                .transpose(0, 1)
                .flatten(1)
            )

    def sent_shards() -> Iterator[Tensor]:
        for rank in range(shards.count):
            for at in rows:
                yield shards.broadcast(part[at] if rank == shards.rank else torch.empty_like(part[at]), rank)

    return StreamedTensor(part.dtype, tuple(shape), gathered_rows if axis else sent_shards)
