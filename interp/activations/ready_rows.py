"""Stores that need no forward pass: of rows that were made elsewhere, and of a part of another store.

Batches [batch, d] go through a temporary file, as how many rows go to each shard must be known before one is written.
A part of a store is read and written shard by shard. Its rows stay in the shard that their id belongs to, so each shard
of the new store is a part of one of the old, and as random. In memory are one shard and the buffers of `scatter`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.activations.filling import ScatterConfig, check_dtype, check_max_norm, check_same, naming_full_disk
from interp.activations.row_statistics import outliers_of
from interp.activations.scatter import ScatterWriter
from interp.activations.shards import DTYPES, MANIFEST, clear
from interp.storage.files import Progress, read_json
from interp.storage.folders import locked

if TYPE_CHECKING:
    from interp.activations.store import ActivationStore

_ROWS_AT_ONCE = 8192

Batches = Iterable[Float[Tensor, "batch d"]] | Float[Tensor, "row d"]


def scatter_batches(
    batches: Batches, out: Path, hook_name: str, dtype: str, rows_per_shard: int | None, seed: int
) -> None:
    """See `ActivationStore.from_batches`."""
    check_dtype(dtype)
    out.mkdir(parents=True, exist_ok=True)
    clear(out)
    spool = out / "rows.tmp"
    try:
        with naming_full_disk(out):
            n_rows, d = _spool(batches, spool, DTYPES[dtype])
        origin = {"source": "batches", "hook_names": [hook_name], "seed": seed}
        config = ScatterConfig(
            widths={hook_name: d}, dtype=dtype, rows_per_shard=rows_per_shard, n_ids=n_rows, seed=seed, origin=origin
        )
        blocks = [(start, min(start + _ROWS_AT_ONCE, n_rows)) for start in range(0, n_rows, _ROWS_AT_ONCE)]
        shard_rows = config.shard_rows((torch.arange(*block) for block in blocks), config.n_shards(n_rows))
        with ScatterWriter(out, config, shard_rows, batch_rows=_ROWS_AT_ONCE) as writer, open(spool, "rb") as rows:
            for start, stop in blocks:
                raw = np.fromfile(rows, np.uint8, (stop - start) * d * DTYPES[dtype].itemsize)
                acts = torch.from_numpy(raw).view(DTYPES[dtype]).view(-1, d)
                writer.add(torch.arange(start, stop), {hook_name: acts}, stop)
            writer.finish()
    finally:
        spool.unlink(missing_ok=True)


def _spool(batches: Batches, file: Path, dtype: torch.dtype) -> tuple[int, int]:
    """Write the rows of all batches behind one another; their number and width."""
    n_rows, d = 0, None
    with open(file, "wb") as stream:
        for batch in [batches] if isinstance(batches, Tensor) else batches:
            if batch.ndim != 2:
                raise ValueError(f"batch {tuple(batch.shape)} must have two dimensions, [batch, d]")
            if d not in (None, batch.shape[1]):
                raise ValueError(f"a batch is {batch.shape[1]} wide, those before it {d}")
            n_rows, d = n_rows + len(batch), batch.shape[1]
            for rows in batch.detach().split(_ROWS_AT_ONCE):
                stream.write(rows.to("cpu", dtype).contiguous().view(torch.uint8).numpy().data)
    if not n_rows or not d:
        raise ValueError("batches hold no rows: there is nothing to store")
    return n_rows, d


def select_rows(
    store: "ActivationStore",
    out: Path,
    max_norm: float | str | None,
    positions: Sequence[int] | None,
    hook_names: Sequence[str] | None,
    resume: bool,
    progress: Progress,
) -> None:
    """See `ActivationStore.select`."""
    check_max_norm(max_norm)
    if out.resolve() == store.path.resolve():
        raise ValueError(f"{out} is the store that is selected from: choose another folder")
    names = store.hook_names if hook_names is None else tuple(dict.fromkeys(hook_names))
    widths = {name: store.d(name) for name in names}
    kept = _kept_positions(store, positions)
    config = ScatterConfig(
        widths=widths,
        dtype=store.manifest["dtype"],
        n_ids=store.manifest["n_ids"],
        n_ctx=store.n_ctx,
        seed=store.manifest["config"].get("seed", 0),
        origin=_origin(store, list(widths), max_norm, (~kept).nonzero()[:, 0].tolist()),
    )
    row_ids = (ids[kept[ids % len(kept)]] for ids in map(store.row_ids, range(store.n_shards)))
    shard_rows = config.shard_rows(row_ids, store.n_shards)
    if not sum(shard_rows):
        raise ValueError(f"positions={positions} leaves no row of {store.path}: name more of them")
    with locked(out):
        if resume and (out / MANIFEST).exists():
            check_same(read_json(out / MANIFEST, "select again").get("config", {}), config.origin, out)
            return
        with ScatterWriter(out, config, shard_rows, batch_rows=_ROWS_AT_ONCE, resume=resume) as writer:
            writer.limits, writer.outliers = _limits(store, names, max_norm)
            for ids, acts, position in _blocks(store, names, writer.position):
                own = kept[ids % len(kept)]
                writer.add(ids[own], {name: x[own] for name, x in acts.items()}, position)
                progress(position, len(store), "rows")
            excluded = store.excluded | {"position": store.excluded.get("position", 0) + len(store) - sum(shard_rows)}
            writer.finish(store.tokens, excluded, store.manifest.get("model_name", ""))


def _kept_positions(store: "ActivationStore", positions: Sequence[int] | None) -> Bool[Tensor, " pos"]:
    """Whether rows are kept, by their id modulo its length."""
    n_ctx = store.n_ctx or 0
    if positions is None:
        return torch.ones(max(1, n_ctx), dtype=torch.bool)
    if wrong := [position for position in positions if not 0 <= position < n_ctx]:
        has = f"which the store's sequences of {n_ctx} tokens do not have" if n_ctx else "but no sequences"
        raise ValueError(f"positions={list(positions)} holds {wrong[0]}, {has}")
    kept = torch.zeros(n_ctx, dtype=torch.bool)
    kept[list(positions)] = True
    return kept


def _origin(
    store: "ActivationStore", hook_names: list[str], max_norm: float | str | None, left_out: list[int]
) -> Mapping[str, Any]:
    """What the harvest of these rows would say, and what they were selected from."""
    config = store.manifest["config"]
    positions = sorted({*config.get("exclude_positions", ()), *left_out})
    return {
        **config,
        "hook_names": hook_names,
        **({} if max_norm is None else {"max_norm": max_norm}),
        **({"exclude_positions": positions} if positions else {}),
        "selected_from": store.fingerprint,
    }


def _limits(
    store: "ActivationStore", hook_names: Sequence[str], max_norm: float | str | None
) -> tuple[dict[str, float] | None, dict[str, Any] | None]:
    """The limits that the rows were under already, or lower ones; and what was found."""
    before = {name: limit for name, limit in store.norm_limits.items() if name in hook_names}
    if max_norm is None:
        return (None if store.keeps_outliers else before), store.manifest.get("outliers")
    found = {name: outliers_of(store, name, max_norm) for name in hook_names}
    for name, each in found.items():
        if max_norm != "auto" or each.found:
            before[name] = min(each.limit, before.get(name, each.limit))
    return before, {name: each.told for name, each in found.items()}


def _blocks(
    store: "ActivationStore", hook_names: Sequence[str], position: int
) -> Iterator[tuple[Int[Tensor, " row"], dict[str, Tensor], int]]:
    """Row ids and activations of all rows after the first `position`, and how many rows that makes."""
    first = 0
    for i, n_rows in enumerate(store.shard_rows):
        if first + n_rows > position:
            shards = {name: store.shard(i, name) for name in hook_names}
            ids = store.row_ids(i)
            for start in range(max(0, position - first), n_rows, _ROWS_AT_ONCE):
                block = slice(start, start + _ROWS_AT_ONCE)
                acts = {name: shard.acts[block] for name, shard in shards.items()}
                yield ids[block], acts, first + min(block.stop, n_rows)
        first += n_rows
