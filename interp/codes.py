"""Sparse latents: which latents fire on which row, and how strongly.

`SparseCodes` holds the non-zero entries of z [row, d_sae] by row (the CSR layout):

    row i fires   latents[offsets[i]:offsets[i + 1]]   at   values[offsets[i]:offsets[i + 1]]

Everything after an encoder's pick works on it, so nothing dense of size [row, d_sae] is needed.
`CodeStore` keeps the codes of a whole token set on disk as runs, each sorted by row id; a slice of it
gathers the rows of all runs in token order, so memory is bounded by the slice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.code_runs import META, REMEDY, CodeRun, entry_fault, read_meta
from interp.files import write_json, write_tensors


@dataclass(frozen=True)
class SparseCodes:
    """Codes of `len(self)` rows over `d_sae` latents. Within a row the order of the latents is free."""

    offsets: Int[Tensor, " row_plus_1"]
    latents: Int[Tensor, " nnz"]
    values: Float[Tensor, " nnz"]
    d_sae: int

    @classmethod
    def from_dense(cls, z: Float[Tensor, "row d_sae"]) -> "SparseCodes":
        active = z != 0
        return cls.from_counts(active.sum(1), active.nonzero()[:, 1].int(), z[active], z.shape[1])

    @classmethod
    def from_topk(cls, latents: Int[Tensor, "row k"], values: Float[Tensor, "row k"], d_sae: int) -> "SparseCodes":
        """The same number of picks on each row. Picks with value 0 stay stored, as scipy keeps explicit zeros."""
        rows, k = latents.shape
        offsets = torch.arange(0, rows * k + 1, k, device=latents.device)
        return cls(offsets, latents.reshape(-1).int(), values.reshape(-1), d_sae)

    @classmethod
    def from_counts(
        cls, counts: Int[Tensor, " row"], latents: Int[Tensor, " nnz"], values: Float[Tensor, " nnz"], d_sae: int
    ) -> "SparseCodes":
        """Entries of all rows, one row after the other, with the number of each row's."""
        return cls(offsets_of(counts), latents, values, d_sae)

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
        """Rows of all parts, one after the other."""
        counts = torch.cat([p.offsets.diff() for p in parts])
        latents, values = torch.cat([p.latents for p in parts]), torch.cat([p.values for p in parts])
        return cls.from_counts(counts, latents, values, parts[0].d_sae)

    def with_values(self, values: Float[Tensor, " nnz"]) -> "SparseCodes":
        """The same entries at other values."""
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

    def __getitem__(self, rows: slice) -> "SparseCodes":
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise IndexError(f"SparseCodes takes slices of step 1, got step {step}")
        stop = max(start, stop)
        offsets = self.offsets[start : stop + 1]
        entries = slice(int(offsets[0]), int(offsets[-1]))
        return SparseCodes(offsets - offsets[0], self.latents[entries], self.values[entries], self.d_sae)

    def take(self, rows: Int[Tensor, " taken"]) -> "SparseCodes":
        """The given rows, in that order."""
        counts = self.offsets.diff()[rows]
        offsets = offsets_of(counts)
        first = torch.repeat_interleave(self.offsets[:-1][rows] - offsets[:-1], counts)
        entries = first + torch.arange(len(first), device=first.device)
        return SparseCodes(offsets, self.latents[entries], self.values[entries], self.d_sae)

    def check(self, n_rows: int) -> None:
        """Raises ValueError where there are not `n_rows` rows, where offsets or latents point outside, or where a value
        is not finite: compiled loops follow them unchecked."""
        if len(self) != n_rows:
            raise ValueError(f"codes have {len(self)} rows, but there are {n_rows} tokens")
        arrays = (self.offsets.cpu().numpy(), self.latents.cpu().numpy(), self.values.detach().float().cpu().numpy())
        if fault := entry_fault(*arrays, self.d_sae):
            raise ValueError(f"codes of {len(self)} rows over d_sae={self.d_sae} latents cannot be read: {fault}")

    def dense(self) -> Float[Tensor, "row d_sae"]:
        z = torch.zeros(self.shape, dtype=self.values.dtype, device=self.values.device)
        return z.index_put_((self.rows, self.latents.long()), self.values, accumulate=True)

    def scipy(self) -> scipy.sparse.csr_matrix:
        arrays = (self.values.cpu().numpy(), self.latents.cpu().numpy(), self.offsets.cpu().numpy())
        return scipy.sparse.csr_matrix(arrays, shape=self.shape)


@runtime_checkable
class Dictionary(Protocol):
    """`W_dec` has one row a latent: the direction that the latent writes. Latents fire where z != 0."""

    @property
    def W_dec(self) -> Float[Tensor, "d_sae d_in"]: ...

    @property
    def b_dec(self) -> Float[Tensor, " d_in"]: ...

    @property
    def d_in(self) -> int: ...

    @property
    def d_sae(self) -> int: ...

    def encode(self, x: Float[Tensor, "row d_in"]) -> Float[Tensor, "row d_sae"]: ...

    def codes(self, x: Float[Tensor, "row d_in"]) -> SparseCodes: ...

    def decode(self, z: Float[Tensor, "row d_sae"] | SparseCodes) -> Float[Tensor, "row d_in"]: ...


class CodeStore:
    """Codes of `n_rows` rows on disk: `codes.json` and one `run-*.safetensors` for each `write_run`.

    `codes.json` lists the runs when they are all there (`finish`). Raises ValueError that names the file where one of
    them is missing or another, and where codes point outside: at once, or as they are read.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.n_rows, self.d_sae, listed = read_meta(self.path / META)
        names = [file.stem.removeprefix("run-") for file in self.path.glob("run-*.safetensors")]
        self._runs = [self._run(name) for name in sorted(names if listed is None else listed)]
        for run, sizes in zip(self._runs, sorted((listed or {}).items()), strict=False):
            if [run.n_rows, run.nnz] != sizes[1]:
                raise run.damaged(f"it has {run.n_rows} rows and {run.nnz} firings, {META} says {sizes[1]}")
        if sum(run.n_rows for run in self._runs) > self.n_rows:
            raise ValueError(f"{self.path / META} is damaged: its runs have more than {self.n_rows} rows: {REMEDY}")

    @classmethod
    def create(cls, path: str | Path, *, n_rows: int, d_sae: int) -> "CodeStore":
        """Open a store to write to; runs that are there already stay (a resumed scan goes on behind them)."""
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / META, {"n_rows": n_rows, "d_sae": d_sae})
        return cls(path)

    def has_run(self, name: str) -> bool:
        return (self.path / f"run-{name}.safetensors").exists()

    def write_run(self, name: str, row_ids: Int[Tensor, " row"], codes: SparseCodes) -> None:
        """Store the codes of the rows `row_ids` (each row id in one run only), sorted by row id."""
        order = row_ids.argsort()
        codes = codes.take(order)
        tensors = {
            "row_ids": row_ids[order].long(),
            "offsets": codes.offsets,
            "latents": codes.latents.to(torch.uint16 if self.d_sae <= 1 << 16 else torch.int32),
            "values": codes.values.float(),
        }
        write_tensors(self.path / f"run-{name}.safetensors", tensors)
        self._runs.append(self._run(name))

    def finish(self) -> None:
        """Say in `codes.json` which runs there are, when none is to come: a store that lacks one is not read."""
        runs = {run.file.stem.removeprefix("run-"): [run.n_rows, run.nnz] for run in self._runs}
        meta = {"n_rows": self.n_rows, "d_sae": self.d_sae, "runs": dict(sorted(runs.items()))}
        write_json(self.path / META, meta, indent=None)

    def __len__(self) -> int:
        return self.n_rows

    @property
    def nnz(self) -> int:
        return sum(run.nnz for run in self._runs)

    @property
    def n_present(self) -> int:
        """Rows that were encoded."""
        return sum(run.n_rows for run in self._runs)

    def present(self, start: int, stop: int) -> Bool[Tensor, " row"]:
        """Which rows of the range were encoded at all; the others were excluded at harvest."""
        mask = torch.zeros(stop - start, dtype=torch.bool)
        for run in self._runs:
            _, row_ids = run.row_ids(start, stop)
            mask[torch.from_numpy(row_ids - start)] = True
        return mask

    def __getitem__(self, rows: slice) -> SparseCodes:
        """Codes of a range of rows in token order; rows that were excluded are empty."""
        start, stop, step = rows.indices(self.n_rows)
        if step != 1:
            raise IndexError(f"CodeStore takes slices of step 1, got step {step}")
        length = max(stop - start, 0)
        found = [run.read(start, start + length) for run in self._runs]
        counts, is_there = np.zeros(length, np.int64), np.zeros(length, bool)
        for run, own in zip(self._runs, found, strict=True):
            places = own.row_ids - start
            if is_there[places].any():
                raise run.damaged("it has a row that another run has too")
            is_there[places], counts[places] = True, np.diff(own.offsets)
        ends = np.concatenate([[0], counts.cumsum()])
        latents, values = np.empty(ends[-1], np.int32), np.empty(ends[-1], np.float32)
        for own in found:
            first = ends[own.row_ids - start] - own.offsets[:-1]
            places = np.repeat(first, np.diff(own.offsets)) + np.arange(len(own.latents))
            latents[places], values[places] = own.latents, own.values
        return self._codes(ends, latents, values)

    def _codes(self, *arrays: np.ndarray) -> SparseCodes:
        offsets, latents, values = map(torch.from_numpy, arrays)
        return SparseCodes(offsets, latents, values, self.d_sae)

    def _run(self, name: str) -> CodeRun:
        file = self.path / f"run-{name}.safetensors"
        if not file.is_file():
            raise ValueError(f"{file} is missing, but {META} lists it: {REMEDY}")
        return CodeRun(file, n_rows=self.n_rows, d_sae=self.d_sae)


def offsets_of(counts: Int[Tensor, " row"]) -> Int[Tensor, " row_plus_1"]:
    """Where each row begins, and the last ends."""
    offsets = torch.zeros(len(counts) + 1, dtype=torch.int64, device=counts.device)
    torch.cumsum(counts, 0, out=offsets[1:])
    return offsets
