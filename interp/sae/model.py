"""A sparse autoencoder.

    pre = (x − b_dec) W_enc + b_enc,    z = rule(pre),    x_hat = z W_dec + b_dec

`encode`, `decode` and the call are differentiable torch operations over dense latents; `codes` is the fast way to the
same latents, as `SparseCodes`, without gradients.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.codes import SparseCodes
from interp.sae.kernels import kernels
from interp.sae.selection import Rule, SAEConfig, encode


class SAE(nn.Module):
    """`config`: how it was trained, None for a dictionary from elsewhere; `metadata`: where it belongs (hook_name, …).

    The parameters ask for no gradient; gradients with respect to x or z flow all the same.
    """

    def __init__(
        self,
        *,
        W_enc: Float[Tensor, "d_in d_sae"],
        W_dec: Float[Tensor, "d_sae d_in"],
        b_enc: Float[Tensor, " d_sae"],
        b_dec: Float[Tensor, " d_in"],
        rule: Rule,
        config: SAEConfig | None = None,
        metadata: dict[str, Any] | None = None,
    ):
        super().__init__()
        rows = W_enc.T.contiguous()  # one contiguous row a latent, as the kernels read it
        self.W_enc, self.W_dec = _frozen(rows.T), _frozen(W_dec)
        self.b_enc, self.b_dec = _frozen(b_enc), _frozen(b_dec)
        self.rule, self.config, self.metadata = rule, config, dict(metadata or {})

    @property
    def d_in(self) -> int:
        return self.W_dec.shape[1]

    @property
    def d_sae(self) -> int:
        return self.W_dec.shape[0]

    def encode(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_sae"]:
        self._check_width(x)
        return self.rule.dense((x.to(self.b_dec) - self.b_dec) @ self.W_enc + self.b_enc)

    @torch.no_grad()
    def codes(self, x: Float[Tensor, "row d_in"]) -> SparseCodes:
        self._check_width(x)
        return encode(x.to(self.b_dec) - self.b_dec, self.W_enc.T, self.b_enc, self.rule.pick)

    def decode(self, z: Float[Tensor, "... d_sae"] | SparseCodes) -> Float[Tensor, "... d_in"]:
        if not isinstance(z, SparseCodes):
            return z @ self.W_dec + self.b_dec
        with torch.no_grad():
            return kernels(self.W_dec).decode(z, self.W_dec, self.b_dec)

    def forward(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_in"]:
        return self.decode(self.encode(x))

    def save(self, path: str | Path, format: str = "saelens") -> None:
        """Write `sae_weights.safetensors` and `cfg.json` into `path`, as `sae_lens.SAE.load_from_disk` reads them."""
        from interp.sae.saelens import save_saelens

        if format != "saelens":
            raise ValueError(f"format={format!r} is not known; 'saelens' is")
        save_saelens(self, Path(path))

    def _check_width(self, x: Tensor) -> None:
        if x.shape[-1] != self.d_in:
            raise ValueError(f"the rows are {x.shape[-1]} wide, the SAE reads rows of width d_in={self.d_in}")


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach(), requires_grad=False)
