"""The codes of a token set, cut at sequence ends and laid out by row and by latent.

A loop over one latent's column reads memory in order, and its sums run in token order however large the chunks are.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numba import njit

from interp.codes import CodeStore


@dataclass(frozen=True)
class Columns:
    """The entries of a chunk by latent: those of latent j are at offsets[j]:offsets[j + 1], rows ascending."""

    offsets: np.ndarray
    rows: np.ndarray
    values: np.ndarray
    entries: np.ndarray
    """Where the entry stands in the order by row."""


@dataclass(frozen=True)
class Chunk:
    """The entries of row i are at offsets[i]:offsets[i + 1]."""

    start: int
    """Row id (seq * n_ctx + pos) of the first row."""
    n_ctx: int
    d_sae: int
    present: np.ndarray
    """Bool "row": the rows that were encoded; the others were excluded at harvest and are in no count."""
    tokens: np.ndarray
    fit: np.ndarray
    """Bool "row": the half of the sequences on which thresholds and explanations are fitted."""
    offsets: np.ndarray
    latents: np.ndarray
    values: np.ndarray

    @cached_property
    def columns(self) -> Columns:
        return Columns(*transpose(self.offsets, self.latents, self.values, self.d_sae))


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

    def token_counts(self, vocab_size: int) -> np.ndarray:
        return np.bincount(self.tokens.reshape(-1), minlength=vocab_size)

    def feed(self, *accumulators: Callable[[Chunk], None], advance: Callable[[int], None]) -> None:
        """Show every chunk, in order, to each accumulator; they share nothing, so they run side by side."""
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for chunk in self._chunks():
                for done in [pool.submit(add, chunk) for add in accumulators]:
                    done.result()
                advance(len(chunk.tokens))

    def _chunks(self) -> Iterator[Chunk]:
        """Whole sequences; the next chunk is read while one is counted."""
        sequences = max(1, int(self.chunk_entries / (max(self.mean_l0, 1) * self.n_ctx)))
        starts = range(0, len(self.tokens), sequences)
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._chunk, 0, sequences)
            for first in starts[1:]:
                chunk, ahead = ahead.result(), reader.submit(self._chunk, first, first + sequences)
                yield chunk
            yield ahead.result()

    def _chunk(self, first: int, last: int) -> Chunk:
        last = min(last, len(self.tokens))
        start, stop = first * self.n_ctx, last * self.n_ctx
        codes = self.codes[start:stop]
        return Chunk(
            start=start,
            n_ctx=self.n_ctx,
            d_sae=self.d_sae,
            present=self.codes.present(start, stop).numpy(),
            tokens=self.tokens[first:last].reshape(-1),
            fit=np.repeat(self.fit[first:last], self.n_ctx),
            offsets=codes.offsets.numpy(),
            latents=codes.latents.numpy(),
            values=codes.values.numpy(),
        )


@njit(cache=True, nogil=True)
def transpose(offsets, latents, values, d_sae):
    """From the order by row to the order by latent: the fields of `Columns`."""
    column_offsets = np.zeros(d_sae + 1, np.int64)
    for latent in latents:
        column_offsets[latent + 1] += 1
    for j in range(d_sae):
        column_offsets[j + 1] += column_offsets[j]
    ends = column_offsets.copy()
    rows, entries = np.empty(len(latents), np.int32), np.empty(len(latents), np.int32)
    column_values = np.empty(len(latents), np.float32)
    for row in range(len(offsets) - 1):
        for e in range(offsets[row], offsets[row + 1]):
            at = ends[latents[e]]
            rows[at], column_values[at], entries[at] = row, values[e], e
            ends[latents[e]] += 1
    return column_offsets, rows, column_values, entries


@njit(cache=True, nogil=True)
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
