"""Codes of two dictionaries on the same text, and codes shifted against it, which are the null (Harris 2020, arXiv
2012.06862)."""

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from interp.codes.code_chunks import CodeSource
from interp.codes.sparse_codes import SparseCodes
from interp.features.feature_store import FeatureStore
from interp.features.scan_checks import check_same_inputs


class ShiftedCodes:
    """Codes that are shifted circularly along the rows that were encoded: row encoded[i] is row encoded[(i + by) mod n]
    of `codes`. Other rows, such as padding, have no codes before and after."""

    def __init__(self, codes: CodeSource, by: int):
        self.codes = codes
        self.by = by
        self._encoded = codes.present(0, len(codes)).nonzero()[:, 0]

    @classmethod
    def draw(cls, codes: CodeSource, seed: int) -> "ShiftedCodes":
        """Shift by between a quarter and three quarters of the text."""
        n = int(codes.present(0, len(codes)).sum())
        return cls(codes, int(np.random.default_rng(seed).integers(n // 4, max(3 * n // 4, 1) + 1)))

    @property
    def d_sae(self) -> int:
        return self.codes.d_sae

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: slice, /) -> SparseCodes:
        start, stop, _ = rows.indices(len(self))
        stop = max(start, stop)
        first, last = torch.searchsorted(self._encoded, torch.tensor([start, stop])).tolist()
        moved = SparseCodes.cat([self._codes_of(part) for part in self._parts(first, last)])
        counts = torch.zeros(stop - start, dtype=torch.int64)
        counts[self._encoded[first:last] - start] = moved.offsets.diff()
        return SparseCodes.from_counts(counts, moved.latents, moved.values, self.d_sae)

    def present(self, start: int, stop: int) -> Bool[Tensor, " row"]:
        return self.codes.present(start, stop)

    def _parts(self, first: int, last: int) -> list[slice]:
        """Return the encoded rows, by their numbers among all of these, whose codes the encoded rows first … last − 1
        get."""
        n = max(len(self._encoded), 1)
        first, last = first + self.by, last + self.by
        if last <= n or first >= n:
            return [slice(first % n, first % n + last - first)]
        return [slice(first, n), slice(0, last - n)]

    def _codes_of(self, part: slice) -> SparseCodes:
        """Read the codes of some encoded rows."""
        rows = self._encoded[part]
        if not len(rows):
            return self.codes[0:0]
        block = self.codes[int(rows[0]) : int(rows[-1]) + 1]
        return block.take(rows - rows[0])


def codes_of_same_text(
    ours: FeatureStore | CodeSource, theirs: FeatureStore | CodeSource
) -> tuple[CodeSource, CodeSource]:
    """Return the codes of both. Raises ValueError for scans of different tokens. For plain codes, this cannot be
    checked."""
    if isinstance(ours, FeatureStore) and isinstance(theirs, FeatureStore):
        check_same_inputs(ours, theirs, "tokens")
    our_codes, their_codes = (source.codes if isinstance(source, FeatureStore) else source for source in (ours, theirs))
    return our_codes, their_codes
