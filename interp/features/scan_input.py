"""Define the inputs of a scan: the codes of a token set by row, and the same firings by latent.

In:  a `CodeStore`, whose rows lie in token order (row = seq · n_ctx + pos), and the tokens.
Out: `ScanInput.feed` passes on each chunk in turn; `FiringFiles`, filled by such a pass, gives all firings of a few
     latents at a time, rows ascending. So each statistic of a latent is a plain function of its rows and values, its
     sums run in token order, and no result depends on how the rows were cut into chunks.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool
from numba import njit
from torch import Tensor

from interp.codes.code_chunks import CodeChunk, read_chunks
from interp.codes.code_store import CodeStore
from interp.codes.offsets import offsets_from_lengths
from interp.features.scan_config import ScanConfig
from interp.runtime.processes import Processes
from interp.statistics.estimates import count_ids

CHUNK_ENTRIES = 1 << 22
"""Firings read at a time, in whole sequences. Each takes about 100 bytes. A larger number makes a scan no faster."""


N_AFTER = 1
"""Number of tokens after the firing token that are counted. The next token shows whether a latent's promoted tokens
follow."""


class FiringsByLatent(NamedTuple):
    """Firings sorted by latent. The entries of latent `first` + j are at offsets[j]:offsets[j + 1], with ascending
    rows."""

    first: int
    offsets: np.ndarray
    rows: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class ScanInput:
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
        """Number of rows that were encoded. The other rows were excluded at harvest and are not counted."""
        return self.codes.n_present

    @cached_property
    def unigrams(self) -> np.ndarray:
        """The number of times that each token of the vocabulary occurs in the text, at rows that were encoded and at
        those counted beside them (`token_counts`). Padding, on which nothing can fire, is left out."""
        encoded = self.codes.present(0, self.tokens.size).numpy().reshape(self.tokens.shape)
        within = encoded.copy()
        for distance in range(1, self.config.n_before + 1):
            within[:, :-distance] |= encoded[:, distance:]
        for distance in range(1, N_AFTER + 1):
            within[:, distance:] |= encoded[:, :-distance]
        return count_ids(self.tokens[within], self.vocab_size)

    def feed(
        self,
        *accumulators: Callable[[CodeChunk], None],
        advance: Callable[[int], None],
        part: tuple[int, int] = (0, 1),
    ) -> None:
        """Pass every chunk, or the chunks of a part, to each accumulator in order. Accumulators share nothing, so they
        run concurrently."""
        rows_per_chunk = int(CHUNK_ENTRIES / max(self.mean_l0, 1))
        with ThreadPoolExecutor(len(accumulators)) as pool:
            for chunk in read_chunks(self.codes, self.n_ctx, rows_per_chunk=rows_per_chunk, part=part):
                for done in [pool.submit(add, chunk) for add in accumulators]:
                    done.result()
                advance(chunk.stop - chunk.start)


def fit_half(n_seq: int) -> Bool[Tensor, " seq"]:
    """Mark the sequences of the fit half, which are every other block of up to 32 sequences."""
    return (torch.arange(n_seq) // max(1, min(32, n_seq // 8))) % 2 == 0


class FiringFiles:
    """Keep the firings of every latent on disk: `add` each chunk, `join` the chunks of other processes, then `read`
    some latents."""

    def __init__(self, folder: Path, d_sae: int):
        folder.mkdir(parents=True, exist_ok=True)
        self.d_sae = d_sae
        self.n_active = np.zeros(d_sae, np.int64)
        self._folder = folder
        self._n_chunks = 0
        self._chunks: list[tuple[Path, int]] = []

    def add(self, chunk: CodeChunk) -> None:
        firings = chunk.by_latent
        starts = np.add(firings.indptr, self.n_active.sum(), dtype=np.int64)
        rows = np.add(firings.indices, chunk.start, dtype=np.int64)
        for name, array in {"starts": starts, "rows": rows, "values": firings.data}.items():
            with open(self._folder / name, "ab") as file:
                array.tofile(file)
        self.n_active += np.diff(firings.indptr)
        self._n_chunks += 1

    def join(self, world: Processes) -> None:
        """Add the chunks of all processes, in the order of the ranks."""
        parts = world.all_gather_values((self._folder, self._n_chunks))
        self._chunks = [(folder, chunk) for folder, n_chunks in parts for chunk in range(n_chunks)]
        world.sum_(torch.from_numpy(self.n_active))

    def read(self, first: int, last: int) -> FiringsByLatent:
        offsets = offsets_from_lengths(self.n_active[first:last])
        rows, values, latents = (np.empty(offsets[-1], dtype) for dtype in (np.int64, np.float32, np.uint8))
        start = 0
        for folder, chunk in self._chunks:
            at = chunk * (self.d_sae + 1)
            starts = _read(folder / "starts", np.int64, at + first, at + last + 1)
            part = slice(start, start := start + int(starts[-1] - starts[0]))
            rows[part] = _read(folder / "rows", np.int64, starts[0], starts[-1])
            values[part] = _read(folder / "values", np.float32, starts[0], starts[-1])
            latents[part] = np.repeat(np.arange(last - first, dtype=np.uint8), np.diff(starts))
        if last - first == 1:  # the firings of a single latent are in order already
            return FiringsByLatent(first, offsets, rows, values)
        order = latents.argsort(kind="stable")  # a radix sort, as the keys are bytes
        return FiringsByLatent(first, offsets, rows[order], values[order])


def _read(file: Path, dtype: type, start: int, stop: int) -> np.ndarray:
    return np.fromfile(file, dtype, stop - start, offset=start * np.dtype(dtype).itemsize)


def latent_blocks(n_active: np.ndarray, max_latents: int, max_entries: int) -> list[tuple[int, int]]:
    """Split the latents into blocks (first, last) to read at a time. A block has up to `max_entries` firings, or a
    single latent."""
    edges = [0]
    n_entries = 0
    for j, n in enumerate(n_active.tolist()):
        if j - edges[-1] == max_latents or (j > edges[-1] and n_entries + n > max_entries):
            edges.append(j)
            n_entries = 0
        n_entries += n
    return list(zip(edges, [*edges[1:], len(n_active)], strict=True))


@njit(cache=True, nogil=True)
def insert_best(score, item, scores, items):
    """Insert an item among the best items, which are sorted by descending score. Of items with equal scores, the
    earlier stays first."""
    slot = len(scores)
    while slot > 0 and score > scores[slot - 1]:
        if slot < len(scores):
            scores[slot], items[slot] = scores[slot - 1], items[slot - 1]
        slot -= 1
    if slot < len(scores):
        scores[slot], items[slot] = score, item
