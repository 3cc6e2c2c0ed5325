"""Exact counts of (latent, item) pairs in bounded memory, for more pairs than memory holds.

Pairs come in as sorted tables of int64: key = latent * n_items + item, then counts. They are merged into a buffer;
a full buffer is written out as a run, and `blocks` merges the runs again for a few latents at a time. All counts are
integers, so the result does not depend on when the buffer was full.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numba import njit

_READ_ROWS = 1 << 21


class PairCounts:
    """Holds at most `buffer_rows` pairs in memory (8 bytes times 1 + `n_counts` each) and the rest in `folder`."""

    def __init__(self, folder: Path, *, n_latents: int, n_items: int, n_counts: int, buffer_rows: int):
        self.folder, self.n_latents, self.n_items, self.buffer_rows = folder, n_latents, n_items, buffer_rows
        self.buffer = np.empty((0, 1 + n_counts), np.int64)
        self._files: list[Path] = []

    def add(self, pairs: np.ndarray) -> None:
        """Int64 "pair 1+count", keys ascending and each once."""
        self.buffer = merge(self.buffer, pairs)
        if len(self.buffer) > self.buffer_rows:
            self._spill()

    def _spill(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._files.append(self.folder / f"run-{len(self._files):05d}.npy")
        np.save(self._files[-1], self.buffer)
        self.buffer = self.buffer[:0].copy()

    def blocks(self, n_more: int = 0) -> Iterator[tuple[int, int, np.ndarray]]:
        """All pairs, merged, as (first latent, last latent + 1, pairs). `n_more`: how many the caller will add."""
        runs = [np.load(file, mmap_mode="r") for file in self._files] + [self.buffer]
        n_blocks = 1 + (sum(map(len, runs)) + n_more) // _READ_ROWS
        limits = np.unique(np.linspace(0, self.n_latents, n_blocks + 1).astype(np.int64)).tolist()
        for first, last in zip(limits[:-1], limits[1:], strict=True):
            block = self.buffer[:0]
            for run in runs:
                low, high = np.searchsorted(run[:, 0], [first * self.n_items, last * self.n_items])
                block = merge(block, np.ascontiguousarray(run[low:high]))
            yield first, last, block


@njit(cache=True, nogil=True)
def merge(a, b):
    """Rows of two tables with ascending keys in column 0; the counts of equal keys are added."""
    both, i, j = 0, 0, 0
    while i < len(a) and j < len(b):
        if a[i, 0] == b[j, 0]:
            both += 1
            i, j = i + 1, j + 1
        elif a[i, 0] < b[j, 0]:
            i += 1
        else:
            j += 1
    merged = np.empty((len(a) + len(b) - both, a.shape[1]), np.int64)
    i, j = 0, 0
    for at in range(len(merged)):
        from_a = j == len(b) or (i < len(a) and a[i, 0] <= b[j, 0])
        from_b = i == len(a) or (j < len(b) and b[j, 0] <= a[i, 0])
        merged[at, 0] = a[i, 0] if from_a else b[j, 0]
        for c in range(1, a.shape[1]):
            merged[at, c] = (a[i, c] if from_a else 0) + (b[j, c] if from_b else 0)
        i, j = i + from_a, j + from_b
    return merged


@njit(cache=True, nogil=True)
def strongest_of_each(latents, scores, items, n_latents, k):
    """Positions [latent, k] of the largest scores of each latent, -1 behind them; ties to the smaller item."""
    best = np.full((n_latents, k), -1, np.int64)
    for at in range(len(latents)):
        row = best[latents[at]]
        place = k
        while place > 0:
            other = row[place - 1]
            better = other < 0 or scores[at] > scores[other]
            if not (better or (scores[at] == scores[other] and items[at] < items[other])):
                break
            if place < k:
                row[place] = other
            place -= 1
        if place < k:
            row[place] = at
    return best
