"""The codes of a token set, cut at sequence ends and laid out by row and by latent.

A chunk holds z for rows start .. start + len. By row (CSR), entries offsets[i]:offsets[i + 1] of `latents`, `values`.
By latent (CSC), entries column_offsets[j]:column_offsets[j + 1] of `rows`, `column_values`, rows ascending:
so a loop over one latent reads memory in order, and its sums run in token order however large the chunks are.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit

from interp.codes import CodeStore


@dataclass(frozen=True)
class Chunk:
    start: int
    """Row id (seq * n_ctx + pos) of the first row."""
    n_ctx: int
    present: np.ndarray
    """Bool "row": the rows that were encoded; the others were excluded at harvest and are in no count."""
    tokens: np.ndarray
    fit: np.ndarray
    """Bool "row": the half of the sequences on which thresholds and explanations are fitted."""
    offsets: np.ndarray
    latents: np.ndarray
    values: np.ndarray
    column_offsets: np.ndarray
    entries: np.ndarray
    """Where the entry stands in `latents` and `values`, for the order by latent."""
    rows: np.ndarray
    column_values: np.ndarray

    @property
    def d_sae(self) -> int:
        return len(self.column_offsets) - 1


@dataclass(frozen=True)
class Rows:
    """All rows of a scan in token order, read chunk by chunk."""

    codes: CodeStore
    tokens: np.ndarray
    """Int32 "seq pos"."""
    fit: np.ndarray
    """Bool "seq"."""
    chunk_entries: int

    @property
    def n_ctx(self) -> int:
        return self.tokens.shape[1]

    @property
    def d_sae(self) -> int:
        return self.codes.d_sae

    @property
    def mean_l0(self) -> float:
        return self.codes.nnz / max(len(self.codes), 1)

    def chunks(self) -> Iterator[Chunk]:
        sequences = max(1, int(self.chunk_entries / (max(self.mean_l0, 1) * self.n_ctx)))
        for first in range(0, len(self.tokens), sequences):
            yield self._chunk(first, min(first + sequences, len(self.tokens)))

    def _chunk(self, first: int, last: int) -> Chunk:
        start, stop = first * self.n_ctx, last * self.n_ctx
        codes = self.codes[start:stop]
        offsets, latents, values = (t.numpy() for t in (codes.offsets, codes.latents, codes.values))
        column_offsets, entries = group_by(latents, self.d_sae)
        return Chunk(
            start=start,
            n_ctx=self.n_ctx,
            present=self.codes.present(start, stop).numpy(),
            tokens=self.tokens[first:last].reshape(-1),
            fit=np.repeat(self.fit[first:last], self.n_ctx),
            offsets=offsets,
            latents=latents,
            values=values,
            column_offsets=column_offsets,
            entries=entries,
            rows=row_of_entries(offsets, entries),
            column_values=values[entries],
        )


@njit(cache=True)
def group_by(keys, n_keys):
    """A stable counting sort: the positions of key j are order[offsets[j]:offsets[j + 1]]. Keys below 0 drop out."""
    offsets = np.zeros(n_keys + 1, np.int64)
    for key in keys:
        if key >= 0:
            offsets[key + 1] += 1
    for j in range(n_keys):
        offsets[j + 1] += offsets[j]
    order = np.empty(offsets[n_keys], np.int32)
    ends = offsets[:-1].copy()
    for i in range(len(keys)):
        key = keys[i]
        if key >= 0:
            order[ends[key]] = i
            ends[key] += 1
    return offsets, order


@njit(cache=True)
def row_of_entries(offsets, entries):
    row_of = np.empty(len(entries), np.int32)
    for row in range(len(offsets) - 1):
        row_of[offsets[row] : offsets[row + 1]] = row
    return row_of[entries]
