"""Encode a token set piece by piece from activations, or store the codes of another producer. Only z > 0 is kept.

The same pass measures how much of the variance each latent explains. Without latent j, the error e = x_hat − x of a row
on which it fires becomes e − z_j W_dec[j]. So over all rows FVU rises by

    fvu_rise_j = Σ (z_j² ‖W_dec[j]‖² − 2 z_j ⟨e, W_dec[j]⟩) / Σ ‖x − mean‖²

This is exact. It is negative for a harmful latent. If two latents can replace one another, both have a small rise. The
sums of each piece of a shard are kept on disk until the scan is complete, so that an interrupted scan resumes.
"""

import logging
from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.activations import StoredRows
from interp.activations.row_statistics import Moments
from interp.activations.sources import Shard
from interp.checks.errors import InterpError
from interp.codes.code_store import CodeStore
from interp.codes.dictionary import Dictionary, decode
from interp.codes.sparse_codes import SparseCodes
from interp.codes.untrained_rows import norm_limit_on
from interp.runtime.processes import part_of
from interp.runtime.threads import slices
from interp.sae.kernels.dispatch import kernels
from interp.storage.files import open_tensors, write_tensors

log = logging.getLogger(__name__)

_ENCODE_BYTES = 1 << 27
_FILE_ROWS = 1 << 20
_HALF_TOLERANCE = 0.02
"""The share of its norm by which rounding to half precision may change a reconstruction."""
_PIECE_ROWS = 1 << 16
"""Largest number of rows per file. Shards of narrow activations have many rows, which must be divided evenly."""


class VarianceExplained:
    """The sums of `fvu_rise`: `add` each batch, and `keep` the sums of a piece under its name."""

    def __init__(self, dictionary: Dictionary, folder: Path):
        self.dictionary = dictionary
        self.folder = folder
        self.W_dec = dictionary.W_dec.detach().float().contiguous()
        self.b_dec = dictionary.b_dec.detach().float()
        self.squares = self.W_dec.double().square().sum(1)
        self.reconstructs = dictionary.kind != "transcoder" and self.W_dec.shape[1] == dictionary.d_in
        self._begin()

    def add(self, x: Float[Tensor, "row d_in"], codes: SparseCodes) -> None:
        if not self.moments.n and self.reconstructs:
            self.reconstructs = self._decodes_by_rows(codes[:64])
        if not self.reconstructs:
            return
        dots = kernels(codes.values).decode_backward(codes, self.W_dec, self.b_dec, x).gradient.double()
        z = codes.values.double()
        latents = codes.latents.long()
        self.rises.index_add_(0, latents, z * (z * self.squares[latents] - 2 * dots))
        self.moments.add(x)

    def keep(self, name: str) -> None:
        self.folder.mkdir(exist_ok=True)
        n = torch.tensor([self.moments.n])
        kept = {"n": n, "sums": self.moments.sums, "rises": self.rises.cpu()} if self.reconstructs else {"n": 0 * n}
        write_tensors(self.folder / f"{name}.safetensors", kept)
        self._begin()

    def fvu_rise(self, n_pieces: int) -> Float[Tensor, " d_sae"] | None:
        """Return the rise of FVU over all pieces, or None if a piece is missing, or if the dictionary writes another
        hook than it reads."""
        total = Moments()
        rises = torch.zeros(len(self.squares), dtype=torch.float64)
        files = sorted(self.folder.glob("*.safetensors"))
        if len(files) < n_pieces:
            return None
        for file in files:
            with open_tensors(file, "scan again") as kept:
                n = int(kept.get_tensor("n"))
                if n:
                    total.n += n
                    total.sums = total.sums + kept.get_tensor("sums")
                    rises += kept.get_tensor("rises")
        return rises / total.total_squares if total.n and total.total_squares > 0 else None

    def _begin(self) -> None:
        self.moments = Moments()
        self.rises = torch.zeros_like(self.squares)

    def _decodes_by_rows(self, codes: SparseCodes) -> bool:
        """Return whether the dictionary decodes with the rows of W_dec. Some dictionaries have another kind of
        decoder."""
        recons = kernels(codes.values).decode(codes, self.W_dec, self.b_dec)
        decoded = decode(self.dictionary, codes)
        if decoded.dtype.itemsize < 4:  # half precision
            return float((recons - decoded).norm()) <= _HALF_TOLERANCE * float(recons.norm())
        return torch.allclose(recons, decoded.float(), rtol=1e-3, atol=1e-3)


class Piece(NamedTuple):
    """Rows of a shard that are encoded into one file of the code store."""

    name: str
    shard: int
    rows: slice


def pieces_of(store: StoredRows, part: tuple[int, int] = (0, 1)) -> list[Piece]:
    """Divide all rows into pieces, shard by shard.
    part: (rank, count), to return only the pieces of that rank. Pieces do not depend on the number of processes, so any
    number of processes can resume the work."""
    pieces = []
    for shard, n_rows in enumerate(store.shard_rows):
        rows = slices(n_rows, _PIECE_ROWS)
        names = [f"{shard:05d}-{number:05d}" for number in range(len(rows))] if len(rows) > 1 else [f"{shard:05d}"]
        pieces += [Piece(name, shard, piece_rows) for name, piece_rows in zip(names, rows, strict=True)]
    return pieces[part_of(len(pieces), *part)]


def encode_store(
    dictionary: Dictionary,
    store: StoredRows,
    hook: str,
    codes: CodeStore,
    explained: VarianceExplained,
    advance: Callable,
    pieces: Sequence[Piece] | None = None,
) -> None:
    """Encode pieces of the store in order, each into a file. Existing files are kept. Rows above the dictionary's norm
    limit have no codes.
    pieces: by default all."""
    batch = max(64, min(8192, _ENCODE_BYTES // (4 * dictionary.d_sae)))
    device = dictionary.W_dec.device
    limit = norm_limit_on(dictionary, store, hook)
    for i, shard_pieces in groupby(pieces_of(store) if pieces is None else pieces, key=lambda piece: piece.shard):
        shard = None
        for name, _, rows in shard_pieces:
            n_rows = rows.stop - rows.start
            if codes.has_file(name):
                advance(n_rows, "encoding")
                continue
            shard = shard or store.shard(i, hook)
            piece = Shard(shard.row_ids[rows], shard.acts[rows]).within(limit)
            advance(n_rows - len(piece.row_ids), "encoding")
            parts = []
            for ids, acts in zip(piece.row_ids.split(batch), piece.acts.split(batch), strict=True):
                x = acts.to(device, torch.float32)
                encoded = dictionary.codes(x)
                explained.add(x, encoded)
                parts.append(_positive_entries(encoded, ids, codes.path))
                advance(len(ids), "encoding")
            explained.keep(name)
            codes.write_file(name, piece.row_ids, SparseCodes.cat(parts))


def write_codes(codes: SparseCodes, store: CodeStore) -> None:
    """Store codes that are in token order already."""
    for start in range(0, len(codes), _FILE_ROWS):
        name = f"{start // _FILE_ROWS:05d}"
        if store.has_file(name):
            continue
        part = codes[start : start + _FILE_ROWS]
        row_ids = torch.arange(start, start + len(part))
        store.write_file(name, row_ids, _positive_entries(part, row_ids, store.path))


def _positive_entries(codes: SparseCodes, row_ids: Int[Tensor, " row"], folder: Path) -> SparseCodes:
    """Return the entries z > 0, on the CPU, for the code store in a folder. Raises ValueError if z is not finite."""
    codes = SparseCodes(codes.offsets.cpu(), codes.latents.cpu(), codes.values.detach().float().cpu(), codes.d_sae)
    finite = codes.values.isfinite()
    if not finite.all():
        at = int((~finite).nonzero()[0])
        raise InterpError(
            f"latent {int(codes.latents[at])} is {float(codes.values[at])} at row {int(row_ids[codes.rows[at]])}: "
            "codes must be finite"
        )
    if (codes.values < 0).any():
        _warn_of_negative(folder)
    return codes.positive()


@cache
def _warn_of_negative(folder: Path) -> None:
    """Warn once for each code store, not for each batch of a foreign dictionary."""
    log.warning("negative activations do not count as firing: they are left out")


def as_codes(
    codes: SparseCodes | scipy.sparse.csr_matrix | Tensor | np.ndarray, n_rows: int, W_dec: Tensor | None
) -> SparseCodes:
    """Return codes with one row per token, in which each row has a latent at most once. Raises ValueError if the shapes
    do not fit."""
    if isinstance(codes, Tensor | np.ndarray):
        codes = torch.as_tensor(codes).detach().to("cpu", torch.float32)
        if codes.ndim != 2:
            raise InterpError(f"codes of shape {tuple(codes.shape)} must be [row, d_sae]")
        if codes.layout == torch.strided:
            codes = SparseCodes.from_dense(codes)
        else:
            coo = codes.to_sparse_coo().coalesce()
            codes = scipy.sparse.csr_matrix((coo.values().numpy(), coo.indices().numpy()), shape=tuple(coo.shape))
    if not isinstance(codes, SparseCodes):
        codes = scipy.sparse.csr_matrix(codes, copy=True)
        codes.sum_duplicates()
        codes = SparseCodes.from_scipy(codes)
    if codes.d_sae < 1:
        raise InterpError(f"codes have d_sae={codes.d_sae} latents: at least one is needed")
    if W_dec is not None and len(W_dec) != codes.d_sae:
        raise InterpError(f"W_dec has {len(W_dec)} rows, but the codes have {codes.d_sae} latents")
    codes.check(n_rows)
    return codes
