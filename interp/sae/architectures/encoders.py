"""How a trained dictionary turns rows into latents, each row on its own.

    Encoder      latents z of centred rows x; `encode` in differentiable torch over dense latents, `codes` the fast way
    Activation   an encoder that is one matmul and a pick:  z = dense(pre),   pre = x W_enc + b_enc

Each architecture has its encoder beside its config: `TopK`, `Threshold`, `MatchingPursuit`.
"""

from abc import abstractmethod
from typing import NamedTuple, Protocol

from jaxtyping import Float
from torch import Tensor

from interp.codes.sparse_codes import SparseCodes
from interp.sae.encoding import Picker, encode


class Weights(NamedTuple):
    """The weights of a dictionary that its encoder reads; `encoder_rows` is W_enc transposed, one row a latent."""

    encoder_rows: Float[Tensor, "d_sae d_in"]
    b_enc: Float[Tensor, " d_sae"]
    W_dec: Float[Tensor, "d_sae d_out"]


class Encoder(Protocol):
    def encode(self, x: Float[Tensor, "... d_in"], weights: Weights) -> Float[Tensor, "... d_sae"]: ...

    def codes(self, x: Float[Tensor, "row d_in"], weights: Weights) -> SparseCodes: ...

    def scaled(self, scale: float) -> "Encoder":
        """The encoder for pre-activations that are `scale` times smaller."""


class Activation(Picker):
    """An encoder that looks at pre-activations only: `dense` states it, `pick` finds the same entries fast."""

    by_row = True

    @abstractmethod
    def dense(self, pre: Float[Tensor, "... d_sae"]) -> Float[Tensor, "... d_sae"]: ...

    @abstractmethod
    def scaled(self, scale: float) -> "Activation": ...

    def encode(self, x: Float[Tensor, "... d_in"], weights: Weights) -> Float[Tensor, "... d_sae"]:
        return self.dense(x @ weights.encoder_rows.T + weights.b_enc)

    def codes(self, x: Float[Tensor, "row d_in"], weights: Weights) -> SparseCodes:
        return encode(x, weights.encoder_rows, weights.b_enc, self)
