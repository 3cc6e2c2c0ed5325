"""A part of a store as a store of its own, without a forward pass: its ordinary rows, some positions, some hooks.

Rows stay in the shard that their id belongs to, so each shard of the new store is a part of one of the old, and it is
as random. Read and written shard by shard: in memory are one shard and the buffers of `activations.scatter`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.activations.outliers import check_max_norm, outliers_of
from interp.activations.scatter import ScatterWriter
from interp.activations.shards import MANIFEST, ScatterConfig, check_same
from interp.files import Progress, read_json
from interp.locks import locked

if TYPE_CHECKING:
    from interp.activations.store import ActivationStore

_ROWS_AT_ONCE = 8192


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
    row_ids = _SelectedRows(store, positions)
    config = ScatterConfig(
        widths=widths,
        dtype=store.manifest["dtype"],
        n_shards=store.n_shards,
        n_ids=store.manifest["n_ids"],
        n_ctx=store.n_ctx,
        seed=store.manifest["config"].get("seed", 0),
        origin=_origin(store, list(widths), max_norm, row_ids.left_out),
    )
    with locked(out):
        if resume and (out / MANIFEST).exists():
            check_same(read_json(out / MANIFEST, "select again").get("config", {}), config.origin, out)
            return
        with ScatterWriter(out, config, row_ids, batch_rows=_ROWS_AT_ONCE, resume=resume) as writer:
            writer.limits, writer.outliers = _limits(store, names, max_norm)
            for ids, acts, position in _blocks(store, names, writer.position):
                kept = row_ids.keep(ids)
                writer.add(ids[kept], {name: x[kept] for name, x in acts.items()}, position)
                progress(position, len(store), "rows")
            excluded = store.excluded | {"position": store.excluded.get("position", 0) + len(store) - len(row_ids)}
            writer.finish(store.tokens, excluded, store.manifest.get("model_name", ""))


class _SelectedRows:
    """The row ids of a store at some positions: `shards.RowIds`."""

    def __init__(self, store: "ActivationStore", positions: Sequence[int] | None):
        self._store, self.left_out = store, list[int]()
        self._kept: Bool[Tensor, " pos"] | None = None
        if positions is not None:
            n_ctx = store.n_ctx or 0
            if wrong := [position for position in positions if not 0 <= position < n_ctx]:
                has = f"which the store's sequences of {n_ctx} tokens do not have" if n_ctx else "but no sequences"
                raise ValueError(f"positions={list(positions)} holds {wrong[0]}, {has}")
            self._kept = torch.zeros(n_ctx, dtype=torch.bool)
            self._kept[list(positions)] = True
            self.left_out = (~self._kept).nonzero()[:, 0].tolist()
        self._n_rows = sum(map(len, self.split(0)))
        if not self._n_rows:
            raise ValueError(f"positions={positions} leaves no row of {store.path}: name more of them")

    def __len__(self) -> int:
        return self._n_rows

    def keep(self, row_ids: Int[Tensor, " row"]) -> Bool[Tensor, " row"]:
        if self._kept is None:
            return torch.ones_like(row_ids, dtype=torch.bool)
        return self._kept[row_ids % len(self._kept)]

    def split(self, _: int, /) -> Iterator[Int[Tensor, " row"]]:
        for i in range(self._store.n_shards):
            row_ids = self._store.row_ids(i)
            yield row_ids[self.keep(row_ids)]


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
