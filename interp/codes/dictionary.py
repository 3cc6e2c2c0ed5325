"""What a dictionary is, whoever trained it, and its reconstruction of rows from their codes.

`Dictionary` is what scans, effects and pages ask for. `interp.sae` and `evaluation.baselines` implement it, and the
dictionaries of other tools may.
"""

from typing import Protocol, TypedDict

from jaxtyping import Float
from torch import Tensor

from interp.checks.errors import InterpError
from interp.codes.sparse_codes import SparseCodes


class Metadata(TypedDict, total=False):
    """The model and hooks that a dictionary belongs to, under SAELens's names if it has them. A foreign dictionary may
    have further keys."""

    hook_name: str
    """The hook that it reads."""
    hook_names: list[str]
    """The hooks that a crosscoder reads and writes, in the order of its rows."""
    hook_name_out: str
    """The hook that a transcoder writes, or the first of them."""
    hook_names_out: list[str]
    """The hooks that it writes, if they are several, in the order of its rows."""
    norm_limit: float
    """The norm above which rows are not meaningful to it."""
    model_name: str
    model_weights: str
    """The digest of the model's weights."""
    context_size: int
    prepend_bos: bool
    """Whether its text began with a BOS token; absent if its rows are not text."""
    exclude_special_tokens: list[int]
    """Token ids that were excluded from its training."""
    exclude_positions: list[int]
    """Positions that were excluded from its training."""
    seqpos_slice: list[int]
    """The first position of its training and the one after the last, if it was trained on all between. SAELens may have
    null for either, and negative ones count from the end of `context_size`."""


class Dictionary(Protocol):
    """A dictionary of any maker. `W_dec` has one row per latent: the direction that the latent writes.

    A transcoder may write rows of another width (d_out) than it reads (d_in). For all others d_out is d_in.

    Two more members are optional, and `W_enc_of` and `W_skip_of` return them: `W_enc` [d_in, d_sae], whose columns are
    the directions that the latents read, and `W_skip` [d_in, d_out], a transcoder's linear path past its latents."""

    @property
    def kind(self) -> str:
        """`sae`, `transcoder` or `crosscoder`."""

    @property
    def metadata(self) -> Metadata: ...

    @property
    def W_dec(self) -> Float[Tensor, "d_sae d_out"]: ...

    @property
    def b_dec(self) -> Float[Tensor, " d_out"]: ...

    @property
    def d_in(self) -> int: ...

    @property
    def d_sae(self) -> int: ...

    def encode(self, x: Float[Tensor, "row d_in"]) -> Float[Tensor, "row d_sae"]: ...

    def codes(self, x: Float[Tensor, "row d_in"]) -> SparseCodes: ...

    def decode(self, z: Float[Tensor, "row d_sae"] | SparseCodes) -> Float[Tensor, "row d_out"]: ...


def check_one_hook(dictionary: Dictionary) -> None:
    """Check that the dictionary reads one hook. Raises ValueError for a crosscoder."""
    if dictionary.kind == "crosscoder":
        hooks = " and ".join(dictionary.metadata.get("hook_names", ())) or "several hooks"
        raise InterpError(
            f"the crosscoder reads {hooks} side by side, and cannot be scanned, spliced in or steered at one of them: "
            "train a dictionary on each"
        )


def W_enc_of(dictionary: Dictionary) -> Float[Tensor, "d_in d_sae"] | None:
    return getattr(dictionary, "W_enc", None)


def encoder_of(hook: str, dictionary: Dictionary) -> Float[Tensor, "d_in d_sae"]:
    """Return the encoder of a dictionary. Raises ValueError if it has none."""
    W_enc = W_enc_of(dictionary)
    if W_enc is None:
        raise InterpError(f"the dictionary at {hook} has no W_enc, and what its latents read is not known")
    return W_enc


def W_skip_of(dictionary: Dictionary) -> Float[Tensor, "d_in d_out"] | None:
    return getattr(dictionary, "W_skip", None)


def reconstruction(
    dictionary: Dictionary, codes: SparseCodes, x: Float[Tensor, "row d_in"]
) -> Float[Tensor, "row d_out"]:
    """Return the reconstruction of rows x from their codes: decoded, plus the skip path of a transcoder that has
    one."""
    decoded = decode(dictionary, codes)
    W_skip = W_skip_of(dictionary)
    return decoded if W_skip is None else decoded + x.to(decoded) @ W_skip


def decode(dictionary: Dictionary, codes: SparseCodes) -> Float[Tensor, "row d_out"]:
    """Decode codes of any precision, such as those of rows in single precision by a dictionary in bfloat16."""
    return dictionary.decode(codes.with_values(codes.values.to(dictionary.W_dec.dtype)))
