"""The codes of a token set in two orders: in chunks of whole sequences, and by latent.

In:  a `CodeStore`, whose rows lie in token order (row = seq · n_ctx + pos), and the tokens.
Out: `Rows.feed` shows each `Chunk` in turn; `ColumnFiles`, filled by such a pass, gives all firings of a few latents at
     a time, rows ascending. So each statistic of a latent is a plain function of its rows and values, its sums run in
     token order, and no result depends on how the rows were cut into chunks.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import scipy.sparse
from numba import njit

from interp.codes import CodeStore

_BLOCK = 256


@dataclass(frozen=True)
class Columns:
    """The entries of latent `first` + j are at offsets[j]:offsets[j + 1], rows ascending."""

    first: int
    offsets: np.ndarray
    rows: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Chunk:
    """The entries of row i are at offsets[i]:offsets[i + 1]; row 0 is the row `start` of the token set."""

    start: int
    offsets: np.ndarray
    latents: np.ndarray
    values: np.ndarray
    d_sae: int

    @cached_property
    def columns(self) -> Columns:
        """The same entries, by latent."""
        entries, shape = (self.values, self.latents, self.offsets), (len(self.offsets) - 1, self.d_sae)
        by_latent = scipy.sparse.csr_matrix(entries, shape).tocsc()
        return Columns(0, by_latent.indptr.astype(np.int64), by_latent.indices, by_latent.data)


@dataclass(frozen=True)
class Rows:
    """All rows of a scan in token order."""

    codes: CodeStore
    tokens: np.ndarray
    """Int32 "seq pos"."""
    fit: np.ndarray
    """Bool "seq": the half of the sequences on which thresholds and explanations are fitted."""
    vocab_size: int
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

    @cached_property
    def present(self) -> np.ndarray:
        """Bool "row": the rows that were encoded; the others were excluded at harvest and are in no count."""
        return self.codes.present(0, len(self.codes)).numpy()

    @cached_property
    def n_present(self) -> int:
        return int(self.present.sum())

    @cached_property
    def unigrams(self) -> np.ndarray:
        """How often each token of the vocabulary occurs in the text."""
        return np.bincount(self.tokens.reshape(-1), minlength=self.vocab_size)

    def feed(self, *accumulators: Callable[[Chunk], None], advance: Callable[[int], None]) -> None:
        """Show every chunk, in order, to each accumulator; they share nothing, so they run side by side."""
        with ThreadPoolExecutor(len(accumulators)) as pool:
            for chunk in self._chunks():
                for done in [pool.submit(add, chunk) for add in accumulators]:
                    done.result()
                advance(len(chunk.offsets) - 1)

    def _chunks(self) -> Iterator[Chunk]:
        """The next chunk is read while one is counted."""
        sequences = max(1, int(self.chunk_entries / (max(self.mean_l0, 1) * self.n_ctx)))
        starts = range(0, len(self.tokens), sequences)
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._chunk, 0, sequences)
            for first in starts[1:]:
                chunk, ahead = ahead.result(), reader.submit(self._chunk, first, first + sequences)
                yield chunk
            yield ahead.result()

    def _chunk(self, first: int, last: int) -> Chunk:
        start = first * self.n_ctx
        codes = self.codes[start : last * self.n_ctx]
        return Chunk(start, codes.offsets.numpy(), codes.latents.numpy(), codes.values.numpy(), self.d_sae)


class ColumnFiles:
    """The firings of every latent, on disk: `add` each chunk, then `read` some latents."""

    def __init__(self, folder: Path, d_sae: int):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.d_sae = folder, d_sae
        self.n_active = np.zeros(d_sae, np.int64)
        self._n_chunks = 0

    def add(self, chunk: Chunk) -> None:
        columns = chunk.columns
        starts = columns.offsets + self.n_active.sum()
        arrays = {"starts": starts, "rows": columns.rows + np.int64(chunk.start), "values": columns.values}
        for name, array in arrays.items():
            with open(self.folder / name, "ab") as file:
                array.tofile(file)
        self.n_active += np.diff(columns.offsets)
        self._n_chunks += 1

    def blocks(self, max_entries: int) -> list[tuple[int, int]]:
        """Latents first .. last that are read at a time: up to 256, and up to `max_entries` entries of two or more."""
        edges, n_entries = [0], 0
        for j, n in enumerate(self.n_active.tolist()):
            if j - edges[-1] == _BLOCK or (j > edges[-1] and n_entries + n > max_entries):
                edges.append(j)
                n_entries = 0
            n_entries += n
        return list(zip(edges, [*edges[1:], self.d_sae], strict=True))

    def read(self, first: int, last: int) -> Columns:
        rows, values, latents = [], [], []
        for chunk in range(self._n_chunks):
            at = chunk * (self.d_sae + 1)
            starts = self._part("starts", np.int64, at + first, at + last + 1)
            rows.append(self._part("rows", np.int64, starts[0], starts[-1]))
            values.append(self._part("values", np.float32, starts[0], starts[-1]))
            latents.append(np.repeat(np.arange(last - first, dtype=np.uint8), np.diff(starts)))
        offsets = np.concatenate([[0], self.n_active[first:last].cumsum()])
        order = np.concatenate(latents).argsort(kind="stable")  # a radix sort, as the keys are bytes
        return Columns(first, offsets, np.concatenate(rows)[order], np.concatenate(values)[order])

    def _part(self, name: str, dtype: type, start: int, stop: int) -> np.ndarray:
        size = np.dtype(dtype).itemsize
        return np.fromfile(self.folder / name, dtype, stop - start, offset=start * size)


@njit(cache=True, nogil=True)
def insert_best(score, item, scores, items):
    """Keep an item among the best, the highest score first; of equal scores the one that came first stays first."""
    place = len(scores)
    while place > 0 and score > scores[place - 1]:
        if place < len(scores):
            scores[place], items[place] = scores[place - 1], items[place - 1]
        place -= 1
    if place < len(scores):
        scores[place], items[place] = score, item
