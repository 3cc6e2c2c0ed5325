"""Sparse latents: which latents fire on which row, and how strongly.

`SparseCodes` holds entries of z [row, d_sae] by row (the CSR layout); entries that are not stored are 0:

    row i has   latents[offsets[i]:offsets[i + 1]]   at   values[offsets[i]:offsets[i + 1]]

A latent fires where z > 0 (`interp.codes`).

Everything downstream of an encoder's pick works on `SparseCodes`, so no dense [row, d_sae] tensor is needed.
`code_store` keeps the codes of a whole token set on disk.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.checks.errors import InterpError
from interp.codes.offsets import offsets_from_lengths


@dataclass(frozen=True)
class SparseCodes:
    """Codes of `len(self)` rows over `d_sae` latents. A row has an entry for each latent at most, in any order."""

    offsets: Int[Tensor, " row_plus_1"]
    latents: Int[Tensor, " nnz"]
    values: Float[Tensor, " nnz"]
    d_sae: int

    @classmethod
    def of(cls, codes: "SparseCodes | scipy.sparse.csr_matrix | Tensor | np.ndarray") -> "SparseCodes":
        """Return codes of any form [row, d_sae]: dense or sparse, of numpy, scipy or torch. Each row has a latent at
        most once. Raises ValueError for another number of dimensions."""
        if isinstance(codes, Tensor | np.ndarray):
            codes = torch.as_tensor(codes).detach().to("cpu", torch.float32)
            if codes.ndim != 2:
                raise InterpError(f"codes of shape {tuple(codes.shape)} must be [row, d_sae]")
            if codes.layout == torch.strided:
                return cls.from_dense(codes)
            coo = codes.to_sparse_coo().coalesce()
            codes = scipy.sparse.csr_matrix((coo.values().numpy(), coo.indices().numpy()), shape=tuple(coo.shape))
        if isinstance(codes, SparseCodes):
            return codes
        matrix = scipy.sparse.csr_matrix(codes, copy=True)
        matrix.sum_duplicates()
        return cls.from_scipy(matrix)

    @classmethod
    def from_dense(cls, z: Float[Tensor, "row d_sae"]) -> "SparseCodes":
        """Keep the entries that are not 0."""
        stored = z != 0
        return cls.from_counts(stored.sum(1), stored.nonzero()[:, 1].int(), z[stored], z.shape[1])

    @classmethod
    def from_topk(cls, latents: Int[Tensor, "row k"], values: Float[Tensor, "row k"], d_sae: int) -> "SparseCodes":
        """Make codes with k picks on each row. Picks with value 0 stay stored, as scipy keeps explicit zeros."""
        rows, k = latents.shape
        offsets = torch.arange(0, rows * k + 1, k, device=latents.device)
        return cls(offsets, latents.reshape(-1).int(), values.reshape(-1), d_sae)

    @classmethod
    def from_counts(
        cls, counts: Int[Tensor, " row"], latents: Int[Tensor, " nnz"], values: Float[Tensor, " nnz"], d_sae: int
    ) -> "SparseCodes":
        """Make codes from the entries of all rows, row by row, and the number of entries of each row."""
        return cls(offsets_from_lengths(counts), latents, values, d_sae)

    @classmethod
    def from_scipy(cls, matrix: scipy.sparse.sparray | scipy.sparse.spmatrix) -> "SparseCodes":
        csr = scipy.sparse.csr_matrix(matrix)
        return cls(
            torch.from_numpy(csr.indptr.astype(np.int64)),
            torch.from_numpy(csr.indices.astype(np.int32)),
            torch.from_numpy(csr.data.astype(np.float32)),
            csr.shape[1],
        )

    @classmethod
    def cat(cls, parts: Sequence["SparseCodes"]) -> "SparseCodes":
        """Concatenate the rows of all parts."""
        counts = torch.cat([p.offsets.diff() for p in parts])
        latents = torch.cat([p.latents for p in parts])
        values = torch.cat([p.values for p in parts])
        return cls.from_counts(counts, latents, values, parts[0].d_sae)

    def with_values(self, values: Float[Tensor, " nnz"]) -> "SparseCodes":
        """Return codes with the same entries and other values."""
        return SparseCodes(self.offsets, self.latents, values, self.d_sae)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.d_sae

    @property
    def nnz(self) -> int:
        return len(self.latents)

    @property
    def rows(self) -> Int[Tensor, " nnz"]:
        """The row of each stored entry."""
        rows = torch.arange(len(self), device=self.offsets.device)
        return rows.repeat_interleave(self.offsets.diff(), output_size=self.nnz)

    @property
    def fires(self) -> Bool[Tensor, " nnz"]:
        """Mask of the stored entries that are firings, z > 0."""
        return self.values > 0

    def positive(self) -> "SparseCodes":
        """Return the firings alone, without the entries that are 0 or below."""
        fires = self.fires
        if fires.all():
            return self
        offsets = offsets_from_lengths(fires)[self.offsets]
        return SparseCodes(offsets, self.latents[fires], self.values[fires], self.d_sae)

    def maxima(self) -> Float[Tensor, " d_sae"]:
        """Return the largest value of each latent, 0 if it does not fire."""
        zeros = self.values.new_zeros(self.d_sae)
        return zeros.scatter_reduce_(0, self.latents.long(), self.values.detach(), "amax")

    def __getitem__(self, rows: slice) -> "SparseCodes":
        if not isinstance(rows, slice):
            raise TypeError(f"SparseCodes takes slices of rows, got {rows!r}: `take` returns given rows")
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise IndexError(f"SparseCodes takes slices of step 1, got step {step}")
        stop = max(start, stop)
        offsets = self.offsets[start : stop + 1]
        entries = slice(int(offsets[0]), int(offsets[-1]))
        return SparseCodes(offsets - offsets[0], self.latents[entries], self.values[entries], self.d_sae)

    def present(self, start: int, stop: int) -> Bool[Tensor, " row"]:
        """Mark the rows of the range that were encoded: all of them."""
        return torch.ones(stop - start, dtype=torch.bool)

    def take(self, rows: Int[Tensor, " taken"]) -> "SparseCodes":
        """Return the given rows, in that order."""
        counts = self.offsets.diff()[rows]
        offsets = offsets_from_lengths(counts)
        shift = torch.repeat_interleave(self.offsets[:-1][rows] - offsets[:-1], counts)
        entries = shift + torch.arange(len(shift), device=shift.device)
        return SparseCodes(offsets, self.latents[entries], self.values[entries], self.d_sae)

    def check(self, n_rows: int) -> None:
        """Check the codes, which compiled loops follow unchecked. Raises ValueError if there are not `n_rows` rows, if
        offsets or latents are out of range, if a value is not finite, or if a latent fires twice on a row."""
        if len(self) != n_rows:
            raise InterpError(f"codes have {len(self)} rows, but there are {n_rows} tokens")
        arrays = (self.offsets.cpu().numpy(), self.latents.cpu().numpy(), self.values.detach().float().cpu().numpy())
        if fault := entry_fault(*arrays, self.d_sae):
            raise InterpError(f"codes of {len(self)} rows over d_sae={self.d_sae} latents cannot be read: {fault}")
        firings = self.positive()
        entries = firings.rows * self.d_sae + firings.latents
        if not bool((entries.diff() > 0).all()):  # most codes are in order
            entries = entries.sort().values
        if len(again := entries[1:][entries.diff() == 0]):
            row, latent = divmod(int(again[0]), self.d_sae)
            raise InterpError(
                f"latent {latent} has several firings at row {row}: add them up, as sum_duplicates of SciPy does"
            )

    def dense(self) -> Float[Tensor, "row d_sae"]:
        z = torch.zeros(self.shape, dtype=self.values.dtype, device=self.values.device)
        return z.index_put_((self.rows, self.latents.long()), self.values, accumulate=True)

    def scipy(self) -> scipy.sparse.csr_matrix:
        arrays = (self.values.cpu().numpy(), self.latents.cpu().numpy(), self.offsets.cpu().numpy())
        return scipy.sparse.csr_matrix(arrays, shape=self.shape)


def entry_fault(offsets: np.ndarray, latents: np.ndarray, values: np.ndarray, d_sae: int) -> str | None:
    """Return the fault of codes in memory, in a few words; None if they are valid."""
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(latents) or (offsets[1:] < offsets[:-1]).any():
        return f"its offsets do not ascend from 0 to {len(latents)}"
    if len(values) != len(latents):
        return f"it has {len(latents)} latents and {len(values)} values"
    if len(latents) and not 0 <= latents.min() <= latents.max() < d_sae:
        return f"a latent is not in 0..{d_sae - 1}"
    if len(values) and not (np.isfinite(values.min()) and np.isfinite(values.max())):  # NaN passes through both
        at = np.flatnonzero(~np.isfinite(values))[0]
        row = np.searchsorted(offsets, at, side="right") - 1
        return f"latent {latents[at]} is {values[at]} at row {row}"
    return None
