"""How much of the variance each latent explains, summed in the pass that encodes the rows.

Without latent j, the error e = x_hat − x of a row on which it fires becomes e − z_j W_dec[j]. So over all rows FVU
rises by

    fvu_rise_j = Σ (z_j² ‖W_dec[j]‖² − 2 z_j ⟨e, W_dec[j]⟩) / Σ ‖x − mean‖²

This is exact. It is negative for a harmful latent. If two latents can replace one another, both have a small rise. The
sums of each piece of a shard are kept on disk until the scan is complete, so that an interrupted scan resumes.
"""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations.row_statistics import Moments
from interp.codes.dictionary import Dictionary, decode
from interp.codes.sparse_codes import SparseCodes
from interp.sae.kernels.dispatch import kernels
from interp.storage.files import open_tensors, write_tensors

_HALF_TOLERANCE = 0.02
"""The share of its norm by which rounding to half precision may change a reconstruction."""


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
        tensors = {"n": n, "sums": self.moments.sums, "rises": self.rises.cpu()} if self.reconstructs else {"n": 0 * n}
        write_tensors(self.folder / f"{name}.safetensors", tensors)
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
            with open_tensors(file, "scan again") as piece:
                n = int(piece.get_tensor("n"))
                if n:
                    total.n += n
                    total.sums = total.sums + piece.get_tensor("sums")
                    rises += piece.get_tensor("rises")
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
