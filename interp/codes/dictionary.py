"""What a dictionary is, whoever trained it: its hooks, what it was trained on, and which of its latents are faint.

`Dictionary` is what scans, effects and pages ask for. `interp.sae` and `evaluation.baselines` implement it, and the
dictionaries of other tools may.

A count of dead latents misses the latents that fire but have almost no effect:

    strength of latent j   the largest z_j · ‖W_dec[j]‖ over all rows
    faint                  it fires, and its strength is below a quarter of the median over the latents that fire

Dead and faint latents together are idle. Limits: if most latents that fire are weak, the median is low, and
too few count as faint.
"""

from typing import Any, Protocol, TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interp.activations.sources import ActivationSource
from interp.checks.errors import InterpError
from interp.codes.sparse_codes import SparseCodes

FAINT_SHARE = 0.25
"""A latent is faint below this share of the median strength."""


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


def untrained_positions(dictionary: Dictionary, n_ctx: int) -> list[int]:
    """Return the positions below n_ctx that were excluded from the dictionary's training, by its metadata."""
    metadata = dictionary.metadata
    excluded = set(metadata.get("exclude_positions") or ())
    if bounds := metadata.get("seqpos_slice"):
        length = metadata.get("context_size") or n_ctx
        kept = range(length)[slice(*bounds)]
        excluded |= set(range(length)) - set(kept)
    return sorted(position for position in excluded if 0 <= position < n_ctx)


def untrained_tokens(dictionary: Dictionary) -> list[int]:
    """Return the token ids that were excluded from the dictionary's training, by its metadata."""
    excluded: Any = dictionary.metadata.get("exclude_special_tokens")
    return sorted(excluded) if isinstance(excluded, list | tuple) else []


def has_trained_token(
    tokens: Int[Tensor, "seq pos"], module: nn.Module, dictionary: Dictionary
) -> Bool[Tensor, "seq pos"]:
    """Mark the tokens that are neither special tokens of the model nor left out of the dictionary's training."""
    ids = {*getattr(module, "special_ids", ()), *untrained_tokens(dictionary)}
    return ~torch.isin(tokens, torch.tensor(sorted(ids), dtype=torch.long, device=tokens.device))


def is_included(tokens: Int[Tensor, "seq pos"], module: nn.Module, dictionary: Dictionary) -> Bool[Tensor, "seq pos"]:
    """Mark the tokens that were included in the dictionary's training. Special tokens of the model, and tokens and
    positions that training left out, are not."""
    included = has_trained_token(tokens, module, dictionary)
    included[:, untrained_positions(dictionary, tokens.shape[1])] = False
    return included


def norm_limit(dictionary: Dictionary) -> float | None:
    """Return the norm above which rows are not meaningful to a dictionary (`metadata["norm_limit"]`); None if it has no
    limit.

    Raises ValueError for a limit that is not a number above 0."""
    limit: Any = dictionary.metadata.get("norm_limit")
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0:
        raise InterpError(f"the dictionary's metadata has norm_limit={limit!r}: it must be a number above 0, or absent")
    return float(limit)


def norm_limit_on(dictionary: Dictionary, store: ActivationSource, hook: str) -> float | None:
    """Return the norm limit of a dictionary if the store may hold rows above it, else None."""
    limit = norm_limit(dictionary)
    return None if limit is None or limit >= store.norm_limits.get(store.name_of(hook), float("inf")) else limit


def is_faint(maxima: Any, norms: Any = None) -> Bool[Tensor, " d_sae"]:
    """Mark the faint latents.

    maxima: each latent's strongest firing, 0 or NaN if it never fires.
    norms: the norm of each decoder row, or None if all are 1."""
    strength = latent_strengths(maxima, norms)
    fires = latent_strengths(maxima) > 0  # one whose decoder row is zero fires too
    return fires & (strength < FAINT_SHARE * strength[fires].median()) if fires.any() else fires


def latent_strengths(maxima: Any, norms: Any = None) -> Float[Tensor, " d_sae"]:
    """Return the strength of each latent, 0 if it never fires."""
    maxima = _tensor(maxima).nan_to_num(0.0)
    return maxima if norms is None else maxima * _tensor(norms).to(maxima)


def _tensor(values: Any) -> Tensor:
    return values if isinstance(values, Tensor) else torch.tensor(np.asarray(values))
