"""Read codes of any producer chunk by chunk, for all passes over a token set.

In:  codes of rows in token order (row = seq · n_ctx + pos): in memory (`SparseCodes`), on disk (`CodeStore`), or
     computed on demand. Out: `CodeChunk`s, one after the other; while one is processed, a thread reads the next.

    for chunk in read_chunks(codes, n_ctx):         # whole sequences at a time
        chunk.rows, chunk.latents, chunk.values     # an entry each
        chunk.by_row, chunk.by_latent               # scipy matrices of the chunk

A latent fires where z > 0 (`interp.codes`). Chunks have the firings alone, without entries that are 0 or below.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float32, Int, Int32, Int64
from torch import Tensor

from interp.checks.errors import InterpError
from interp.codes.offsets import offsets_from_lengths
from interp.codes.sparse_codes import SparseCodes
from interp.runtime.processes import slice_of_part
from interp.runtime.progress import Progress, no_progress
from interp.runtime.threads import compute_ahead

ROWS_PER_CHUNK = 1 << 16


class CodeSource(Protocol):
    """Codes of rows seq * n_ctx + pos, in token order: `SparseCodes`, a `CodeStore` and what is made of several."""

    @property
    def d_sae(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> SparseCodes: ...

    def present(self, start: int, stop: int) -> Bool[Tensor, " row"]:
        """Mark the rows of the range that were encoded. No latent can fire on the others."""
        ...


@dataclass(frozen=True)
class CodeChunk:
    """The firings in consecutive rows."""

    start: int
    """The first row."""
    offsets: Int64[np.ndarray, " row_plus_1"]
    latents: Int32[np.ndarray, " nnz"]
    values: Float32[np.ndarray, " nnz"]
    """The activations, divided by their latent's maximum if maxima are given; 0 on rows that do not count."""
    activations: Float32[np.ndarray, " nnz"]
    d_sae: int

    @property
    def stop(self) -> int:
        """The row after the last."""
        return self.start + len(self.offsets) - 1

    @property
    def rows(self) -> Int64[np.ndarray, " nnz"]:
        """The row of each entry."""
        return np.repeat(np.arange(self.start, self.stop), np.diff(self.offsets))

    def of_latents(self, chosen: Bool[np.ndarray, " d_sae"]) -> "CodeChunk":
        """Return the firings of the chosen latents; the rows are the same."""
        return self if chosen.all() else self._where(chosen[self.latents])

    def in_rows(self, chosen: Bool[np.ndarray, " row"]) -> "CodeChunk":
        """Return the firings in the chosen rows of the chunk; the others are empty."""
        return self if chosen.all() else self._where(np.repeat(chosen, np.diff(self.offsets)))

    def _where(self, chosen: Bool[np.ndarray, " nnz"]) -> "CodeChunk":
        offsets = offsets_from_lengths(chosen)[self.offsets]
        arrays = self.latents[chosen], self.values[chosen], self.activations[chosen]
        return CodeChunk(self.start, offsets, *arrays, self.d_sae)

    @cached_property
    def by_row(self) -> scipy.sparse.csr_matrix:
        """The activations; row 0 is the row `start`."""
        arrays = (self.activations, self.latents, self.offsets)
        return scipy.sparse.csr_matrix(arrays, shape=(self.stop - self.start, self.d_sae))

    @cached_property
    def by_latent(self) -> scipy.sparse.csc_matrix:
        """The activations of each latent, rows ascending."""
        return self.by_row.tocsc()


class FiringFacts(NamedTuple):
    """The strength and the number of each latent's firings."""

    maxima: Float32[np.ndarray, " d_sae"]
    """The largest activation of each latent, 0 if it never fires."""
    n_active: Int64[np.ndarray, " d_sae"]
    """Rows on which each latent fires."""


def read_chunks(
    codes: CodeSource,
    rows_per_group: int = 1,
    *,
    rows_per_chunk: int | None = None,
    maxima: Float32[np.ndarray, " d_sae"] | None = None,
    counted: Bool[np.ndarray, " row"] | None = None,
    part: tuple[int, int] = (0, 1),
    progress: Progress = no_progress,
    note: str = "",
) -> Iterator[CodeChunk]:
    """Read the codes in token order, whole groups of rows at a time.

    maxima: the largest activation of each latent, 0 if it never fires; `values` are then in 0..1.
    counted: the rows that count, if not all.
    part: (rank, count), to read only that rank's chunks. `progress` is called with the number of rows processed, the
    number of rows to process, and `note`.
    """
    size = max(1, (rows_per_chunk or ROWS_PER_CHUNK) // rows_per_group) * rows_per_group
    scale = None
    if maxima is not None:
        scale = np.divide(1, maxima, out=np.zeros(len(maxima), np.float32), where=maxima > 0).astype(np.float32)

    def read(start: int) -> CodeChunk:
        block = codes[start : start + size].positive()
        latents = block.latents.numpy().astype(np.int32, copy=False)
        offsets = block.offsets.numpy()
        activations = block.values.float().numpy()
        values = activations if scale is None else activations * scale[latents]
        if counted is not None:
            values = values * np.repeat(counted[start : start + size], np.diff(offsets))
        return CodeChunk(start, offsets, latents, values, activations, codes.d_sae)

    starts = range(0, len(codes), size)
    starts = starts[slice_of_part(len(starts), *part)]
    n_rows = min(starts.stop, len(codes)) - starts.start
    for chunk in compute_ahead(read, starts, 1):
        yield chunk
        progress(chunk.stop - starts.start, n_rows, note)


def count_firings(codes: CodeSource) -> FiringFacts:
    """Find the maximum and count the firings of each latent, by reading the codes. A feature store has these counts
    already."""
    maxima = np.zeros(codes.d_sae, np.float32)
    n_active = np.zeros(codes.d_sae, np.int64)
    for chunk in read_chunks(codes):
        np.maximum.at(maxima, chunk.latents, chunk.activations)
        n_active += np.bincount(chunk.latents, minlength=codes.d_sae)
    return FiringFacts(maxima, n_active)


def check_codes(codes: CodeSource, tokens: Int[Tensor, "seq pos"]) -> None:
    """Check that codes belong to these tokens. Raises ValueError if they do not, or if an index is out of range; a
    store checks its own codes when it reads them."""
    if isinstance(codes, SparseCodes):
        codes.check(tokens.numel())
    elif len(codes) != tokens.numel():
        raise InterpError(f"codes have {len(codes)} rows, but there are {tokens.numel()} tokens")
