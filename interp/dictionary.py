"""What encodes and decodes: the one interface that SAEs and their baselines share.

    z = encode(x),   x_hat = decode(z)

A dictionary may be trained (`interp.sae`) or not (`interp.baselines`); statistics, quality, ranking and reports
take any of them.
"""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from interp.codes import SparseCodes


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
