"""Encoders: a trained dictionary turns rows into latents, each row on its own.

    Encoder              latents z of centred rows x; `encode` in differentiable torch over dense latents, `codes` fast
                         and sparse
    ActivationFunction   an encoder that is one matmul and a pick:  z = dense(pre),   pre = x W_enc + b_enc

Each architecture defines its encoder next to its config: `TopK`, `Threshold`, `MatchingPursuit`. An encoder defines how
it is stored and read back, and what SAELens calls it; so does an encoder in a user's script. Attributes of an encoder
that are tensors become buffers of its dictionary (`sae.model`).
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple, Self

from jaxtyping import Float
from torch import Tensor

from interp.checks.errors import InterpError
from interp.codes.sparse_codes import SparseCodes
from interp.runtime.registry import register
from interp.sae.encode_rows import Picker, encode
from interp.sae.file_tensors import FileTensors
from interp.sae.kernels.torch_kernels import at_least_float32

_DENSE_AT_ONCE = 1 << 22


class Weights(NamedTuple):
    """The weights of a dictionary that its encoder reads; `encoder_rows` is W_enc transposed, one row per latent."""

    encoder_rows: Float[Tensor, "d_sae d_in"]
    b_enc: Float[Tensor, " d_sae"]
    W_dec: Float[Tensor, "d_sae d_out"]


class StoredEncoder(NamedTuple):
    """An encoder as it is stored in interp's own format."""

    settings: dict[str, Any]
    """Numbers, strings and truth values for `cfg.json`."""
    tensors: dict[str, Tensor]
    """Tensors other than the weights, by name."""


class SAELensForm(NamedTuple):
    """SAELens's form of a dictionary with this encoder."""

    architecture: str
    settings: dict[str, Any]
    """Values for `cfg.json`, by SAELens's names."""
    tensors: dict[str, Tensor]
    has_encoder: bool = True
    """False if SAELens writes neither `W_enc` nor `b_enc`."""


class Encoder(ABC):
    """An encoder turns rows into latents. A subclass with its own `name` is registered under it in `ENCODERS`, so that
    dictionaries with this encoder can be saved and read back."""

    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" in cls.__dict__:
            register(ENCODERS, cls.name, cls, "encoder", lambda encoder: encoder)

    @abstractmethod
    def encode(self, x: Float[Tensor, "... d_in"], weights: Weights) -> Float[Tensor, "... d_sae"]: ...

    def codes(self, x: Float[Tensor, "row d_in"], weights: Weights) -> SparseCodes:
        """Encode without gradients. By default `encode` is called on some rows at a time; subclasses may be faster."""
        rows = max(1, _DENSE_AT_ONCE // len(weights.W_dec))
        codes = SparseCodes.cat([SparseCodes.from_dense(self.encode(part, weights)) for part in x.split(rows)])
        return codes.with_values(at_least_float32(codes.values))

    @abstractmethod
    def scaled(self, scale: float) -> Self:
        """Return the encoder for pre-activations that are `scale` times smaller."""

    # On disk. `to_stored` and `from_stored` go together; without them a dictionary can be used, but not saved.

    def to_stored(self) -> StoredEncoder:
        """Return the encoder's form on disk. Raises ValueError if it has none."""
        class_name = type(self).__name__
        raise InterpError(f"the encoder {class_name} has no form on disk: give it a name, to_stored and from_stored")

    @classmethod
    def from_stored(cls, settings: dict[str, Any], parts: FileTensors, d_sae: int, source: str) -> Self:
        """Return the encoder that `to_stored` wrote; `source` is the name of the config in errors. Raises ValueError
        for damaged settings or tensors."""
        raise InterpError(f"{source}: the encoder {cls.__name__} cannot be read: define its method from_stored")

    def to_saelens(self, kind: str, *, skips: bool) -> SAELensForm | None:
        """Return SAELens's form of a dictionary of this kind (`skips`: with a linear path past the latents); None if
        SAELens has no architecture for it."""
        return None


ENCODERS: dict[str, type[Encoder]] = {}
"""All registered encoders, by name."""


class ActivationFunction(Encoder, Picker):
    """An encoder that looks at pre-activations only: `dense` defines it, `pick` finds the same entries fast."""

    by_row = True

    @abstractmethod
    def dense(self, pre: Float[Tensor, "... d_sae"]) -> Float[Tensor, "... d_sae"]: ...

    def encode(self, x: Float[Tensor, "... d_in"], weights: Weights) -> Float[Tensor, "... d_sae"]:
        return self.dense(x @ weights.encoder_rows.T + weights.b_enc)

    def codes(self, x: Float[Tensor, "row d_in"], weights: Weights) -> SparseCodes:
        return encode(x, weights.encoder_rows, weights.b_enc, self)
