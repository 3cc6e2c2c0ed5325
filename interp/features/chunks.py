"""The codes of a token set in two orders: in chunks of whole sequences, and by latent.

In:  a `CodeStore`, whose rows lie in token order (row = seq · n_ctx + pos), and the tokens.
Out: `Rows.feed` shows each `Chunk` in turn; `ColumnFiles`, filled by such a pass, gives all firings of a few latents at
     a time, rows ascending. So each statistic of a latent is a plain function of its rows and values, its sums run in
     token order, and no result depends on how the rows were cut into chunks.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from numba import njit

from interp.code_runs import REMEDY
from interp.codes import CodeStore
from interp.features.scan_config import ScanConfig, fit_half


class Columns(NamedTuple):
    """The entries of latent `first` + j are at offsets[j]:offsets[j + 1], rows ascending."""

    first: int
    offsets: np.ndarray
    rows: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Chunk:
    """The codes of some rows; the first of them is the row `start` of the token set."""

    start: int
    by_row: scipy.sparse.csr_matrix

    @cached_property
    def by_latent(self) -> scipy.sparse.csc_matrix:
        return self.by_row.tocsc()


@dataclass(frozen=True)
class Rows:
    """All rows of a scan in token order."""

    codes: CodeStore
    tokens: np.ndarray
    """Int32 "seq pos"."""
    vocab_size: int
    config: ScanConfig

    @property
    def n_ctx(self) -> int:
        return self.tokens.shape[1]

    @property
    def mean_l0(self) -> float:
        return self.codes.nnz / max(len(self.codes), 1)

    @cached_property
    def fit(self) -> np.ndarray:
        """Bool "seq": the half of the sequences on which thresholds and explanations are fitted."""
        return fit_half(len(self.tokens)).numpy()

    @property
    def n_present(self) -> int:
        """Rows that were encoded; the others were excluded at harvest and are in no count."""
        return self.codes.n_present

    @cached_property
    def unigrams(self) -> np.ndarray:
        """How often each token of the vocabulary occurs in the text."""
        return np.bincount(self.tokens.reshape(-1), minlength=self.vocab_size)

    def feed(self, *accumulators: Callable[[Chunk], None], advance: Callable[[int], None]) -> None:
        """Show every chunk, in order, to each accumulator; they share nothing, so they run side by side."""
        size = self.n_ctx * max(1, int(self.config.chunk_entries / (max(self.mean_l0, 1) * self.n_ctx)))
        chunks = in_threads(self._chunk, [slice(start, start + size) for start in range(0, self.tokens.size, size)], 1)
        with ThreadPoolExecutor(len(accumulators)) as pool:
            for chunk in chunks:
                for done in [pool.submit(add, chunk) for add in accumulators]:
                    done.result()
                advance(chunk.by_row.shape[0])

    def _chunk(self, rows: slice) -> Chunk:
        chunk = Chunk(rows.start, self.codes[rows].scipy())
        if chunk.by_row.nnz and not chunk.by_row.data.min() > 0:
            raise ValueError(f"{self.codes.path} is damaged: it has a firing that is not above 0: {REMEDY}")
        return chunk


def in_threads(work: Callable[[Any], Any], items: Iterable[Any], n_threads: int) -> Iterator[Any]:
    """work(item) of each item, in order; as many are made ahead as there are threads."""
    with ThreadPoolExecutor(n_threads) as pool:
        waiting = (pool.submit(work, item) for item in items)
        ahead = deque(islice(waiting, n_threads))
        while ahead:
            made = ahead.popleft().result()
            ahead.extend(islice(waiting, 1))
            yield made


class ColumnFiles:
    """The firings of every latent, on disk: `add` each chunk, then `read` some latents."""

    def __init__(self, folder: Path, d_sae: int):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.d_sae = folder, d_sae
        self.n_active = np.zeros(d_sae, np.int64)
        self._n_chunks = 0

    def add(self, chunk: Chunk) -> None:
        firings = chunk.by_latent
        starts = np.add(firings.indptr, self.n_active.sum(), dtype=np.int64)
        rows = np.add(firings.indices, chunk.start, dtype=np.int64)
        for name, array in {"starts": starts, "rows": rows, "values": firings.data}.items():
            with open(self.folder / name, "ab") as file:
                array.tofile(file)
        self.n_active += np.diff(firings.indptr)
        self._n_chunks += 1

    def blocks(self, max_latents: int, max_entries: int) -> list[tuple[int, int]]:
        """Latents first .. last that are read at a time, of up to `max_entries` entries where they are two or more."""
        edges, n_entries = [0], 0
        for j, n in enumerate(self.n_active.tolist()):
            if j - edges[-1] == max_latents or (j > edges[-1] and n_entries + n > max_entries):
                edges.append(j)
                n_entries = 0
            n_entries += n
        return list(zip(edges, [*edges[1:], self.d_sae], strict=True))

    def read(self, first: int, last: int) -> Columns:
        offsets = np.concatenate([[0], self.n_active[first:last].cumsum()])
        rows, values, latents = (np.empty(offsets[-1], dtype) for dtype in (np.int64, np.float32, np.uint8))
        start = 0
        for chunk in range(self._n_chunks):
            at = chunk * (self.d_sae + 1)
            starts = self._part("starts", np.int64, at + first, at + last + 1)
            own = slice(start, start := start + int(starts[-1] - starts[0]))
            rows[own] = self._part("rows", np.int64, starts[0], starts[-1])
            values[own] = self._part("values", np.float32, starts[0], starts[-1])
            latents[own] = np.repeat(np.arange(last - first, dtype=np.uint8), np.diff(starts))
        if last - first == 1:  # one latent, of however many firings: they are in order
            return Columns(first, offsets, rows, values)
        order = latents.argsort(kind="stable")  # a radix sort, as the keys are bytes
        return Columns(first, offsets, rows[order], values[order])

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
