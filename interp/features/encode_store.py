"""Encode a token set piece by piece from activations, or store the codes of another producer. Only z > 0 is kept."""

import logging
from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from interp.activations import StoredRows
from interp.activations.sources import Shard
from interp.checks.errors import InterpError
from interp.codes.code_store import CodeStore
from interp.codes.dictionary import Dictionary
from interp.codes.sparse_codes import SparseCodes
from interp.codes.training_exclusions import norm_limit_on
from interp.features.variance_explained import VarianceExplained
from interp.runtime.processes import slice_of_part
from interp.runtime.threads import slices

log = logging.getLogger(__name__)

_ENCODE_BYTES = 1 << 27
_FILE_ROWS = 1 << 20
_PIECE_ROWS = 1 << 16
"""Largest number of rows per file. Shards of narrow activations have many rows, which must be divided evenly."""


class Piece(NamedTuple):
    """Rows of a shard that are encoded into one file of the code store."""

    name: str
    shard: int
    rows: slice


def pieces_of(store: StoredRows, part: tuple[int, int] = (0, 1)) -> list[Piece]:
    """Divide all rows into pieces, shard by shard.
    part: (rank, count), to return only the pieces of that rank. Pieces do not depend on the number of processes, so any
    number of processes can resume the work."""
    pieces = []
    for shard, n_rows in enumerate(store.shard_rows):
        rows = slices(n_rows, _PIECE_ROWS)
        names = [f"{shard:05d}-{number:05d}" for number in range(len(rows))] if len(rows) > 1 else [f"{shard:05d}"]
        pieces += [Piece(name, shard, piece_rows) for name, piece_rows in zip(names, rows, strict=True)]
    return pieces[slice_of_part(len(pieces), *part)]


def encode_store(
    dictionary: Dictionary,
    store: StoredRows,
    hook: str,
    codes: CodeStore,
    explained: VarianceExplained,
    *,
    advance: Callable,
    pieces: Sequence[Piece] | None = None,
) -> None:
    """Encode pieces of the store in order, each into a file. Existing files are kept. Rows above the dictionary's norm
    limit have no codes.
    pieces: by default all."""
    batch = max(64, min(8192, _ENCODE_BYTES // (4 * dictionary.d_sae)))
    device = dictionary.W_dec.device
    limit = norm_limit_on(dictionary, store, hook)
    for i, shard_pieces in groupby(pieces_of(store) if pieces is None else pieces, key=lambda piece: piece.shard):
        shard = None
        for name, _, rows in shard_pieces:
            n_rows = rows.stop - rows.start
            if codes.has_file(name):
                advance(n_rows, "encoding")
                continue
            shard = shard or store.shard(i, hook)
            piece = Shard(shard.row_ids[rows], shard.acts[rows]).within(limit)
            advance(n_rows - len(piece.row_ids), "encoding")
            parts = []
            for ids, acts in zip(piece.row_ids.split(batch), piece.acts.split(batch), strict=True):
                x = acts.to(device, torch.float32)
                encoded = dictionary.codes(x)
                explained.add(x, encoded)
                parts.append(_positive_entries(encoded, ids, codes.path))
                advance(len(ids), "encoding")
            explained.keep(name)
            codes.write_file(name, piece.row_ids, SparseCodes.cat(parts))


def write_codes(codes: SparseCodes, store: CodeStore) -> None:
    """Store codes that are in token order already."""
    for start in range(0, len(codes), _FILE_ROWS):
        name = f"{start // _FILE_ROWS:05d}"
        if store.has_file(name):
            continue
        part = codes[start : start + _FILE_ROWS]
        row_ids = torch.arange(start, start + len(part))
        store.write_file(name, row_ids, _positive_entries(part, row_ids, store.path))


def _positive_entries(codes: SparseCodes, row_ids: Int[Tensor, " row"], folder: Path) -> SparseCodes:
    """Return the entries z > 0, on the CPU, for the code store in a folder. Raises ValueError if z is not finite."""
    codes = SparseCodes(codes.offsets.cpu(), codes.latents.cpu(), codes.values.detach().float().cpu(), codes.d_sae)
    finite = codes.values.isfinite()
    if not finite.all():
        at = int((~finite).nonzero()[0])
        raise InterpError(
            f"latent {int(codes.latents[at])} is {float(codes.values[at])} at row {int(row_ids[codes.rows[at]])}: "
            "codes must be finite"
        )
    if (codes.values < 0).any():
        _warn_of_negative(folder)
    return codes.positive()


@cache
def _warn_of_negative(folder: Path) -> None:
    """Warn once for each code store, not for each batch of a foreign dictionary."""
    log.warning("negative activations do not count as firing: they are left out")
