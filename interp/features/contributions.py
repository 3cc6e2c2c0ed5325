"""How much of the variance each latent of a dictionary explains: the rise of FVU without it.

Without latent j the error e = x_hat − x of a row on which it fires becomes e − z_j W_dec[j], so that over all rows

    fvu_rise_j = Σ (z_j² ‖W_dec[j]‖² − 2 z_j ⟨e, W_dec[j]⟩) / Σ ‖x − mean‖²

It is exact, and below 0 for a latent that does harm. Two latents that stand in for one another have both a small one.
Sums of each shard are kept on disk until the scan is whole, so that one that was cut off goes on.
"""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations.moments import Moments
from interp.codes import Dictionary, SparseCodes
from interp.files import open_tensors, write_tensors
from interp.sae import Transcoder
from interp.sae.kernels import kernels


class Contributions:
    """`add` batches, `keep` them under the name of their shard; then `fvu_rise`."""

    def __init__(self, sae: Dictionary, folder: Path):
        self.sae, self.folder = sae, folder
        self.W_dec, self.b_dec = sae.W_dec.detach().float().contiguous(), sae.b_dec.detach().float()
        self.squares = self.W_dec.double().square().sum(1)
        self.reconstructs = not isinstance(sae, Transcoder) and self.W_dec.shape[1] == sae.d_in
        self._begin()

    def add(self, x: Float[Tensor, "row d_in"], codes: SparseCodes) -> None:
        if not self.moments.n and self.reconstructs:
            self.reconstructs = self._decodes_by_rows(codes[:64])
        if not self.reconstructs:
            return
        dots = kernels(codes.values).decode_backward(codes, self.W_dec, self.b_dec, x).gradient.double()
        z, latents = codes.values.double(), codes.latents.long()
        self.rises.index_add_(0, latents, z * (z * self.squares[latents] - 2 * dots))
        self.moments.add(x)

    def keep(self, name: str) -> None:
        self.folder.mkdir(exist_ok=True)
        n = torch.tensor([self.moments.n])
        kept = {"n": n, "sums": self.moments.sums, "rises": self.rises.cpu()} if self.reconstructs else {"n": 0 * n}
        write_tensors(self.folder / f"{name}.safetensors", kept)
        self._begin()

    def fvu_rise(self, n_shards: int) -> Float[Tensor, " d_sae"] | None:
        """Of all shards together; None where one is missing, or where what is written is not what is read."""
        total, rises = Moments(), torch.zeros(len(self.squares), dtype=torch.float64)
        files = sorted(self.folder.glob("*.safetensors"))
        if len(files) < n_shards:
            return None
        for file in files:
            with open_tensors(file, "scan again") as kept:
                n = int(kept.get_tensor("n"))
                if n:
                    total.n, total.sums = total.n + n, total.sums + kept.get_tensor("sums")
                    rises += kept.get_tensor("rises")
        return rises / total.spread if total.n and total.spread > 0 else None

    def _begin(self) -> None:
        self.moments, self.rises = Moments(), torch.zeros_like(self.squares)

    def _decodes_by_rows(self, codes: SparseCodes) -> bool:
        """Some dictionaries decode in ways of their own."""
        by_rows = kernels(codes.values).decode(codes, self.W_dec, self.b_dec)
        return torch.allclose(by_rows, self.sae.decode(codes).float(), rtol=1e-3, atol=1e-3)
