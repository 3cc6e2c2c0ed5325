"""Checks of input, each of which raises a one-line ValueError with the value and the remedy. The checks are made:

a file of ours       its JSON against a TypedDict, by `validated` (strictly, by pydantic); its bytes against the
                     checksums in its manifest (`storage.manifests.verify`, `activations.shards`)
a foreign file       tensors and fields as they are read (`sae.file_tensors`)
a user's settings    types and names of fields where text becomes a config dataclass (`runtime.config_fields`); ranges
                     in the dataclass itself, in `__post_init__`, so that they hold in Python too
arguments            at the start of the public function that takes them: `check_at_least`, `check_seed`,
                     `check_latents`, `check_token_ids`, `check_finite`, and memory before it is
                     allocated (`runtime.memory.check_memory`)
inputs that belong together      `features.scan_checks`, `activations.harvesting.check_harvested`
paths of a command   before libraries that take seconds are imported (`cli.paths`)

    class Meta(TypedDict):                             # from typing_extensions
        d_sae: AtLeastOne
    validated(Meta, read_json(file, "scan again"), file, "scan again")     # ValueError: file, entry, value, remedy

Nothing here imports torch before it is used.
"""

from collections.abc import Iterable
from functools import cache
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

STRICT = ConfigDict(strict=True, allow_inf_nan=False)
AtLeastOne = Annotated[int, Field(ge=1, le=1 << 60)]
AtLeastZero = Annotated[int, Field(ge=0, le=1 << 60)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[^/\\]+$", max_length=255)]
"""Name of a file in the same folder; it cannot lead out of the folder."""
MAX_ID = (1 << 22) - 1
"""Sixteen times the largest vocabulary of a language model in 2025 (262,144); larger ids are refused if the vocabulary
is unknown."""


def validated(kind: Any, content: Any, file: str | Path, remedy: str) -> Any:
    """Return `content` unchanged. Raises ValueError for the first entry that is missing or of the wrong type."""
    try:
        _adapter(kind).validate_python(content, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        entry = ".".join(map(str, first["loc"])) or "all of it"
        fault = first["msg"]
        value = "" if first["type"] == "missing" else f" = {str(first['input'])[:50]!r}"
        raise ValueError(f"{file} is damaged, {entry}{value}: {fault}; {remedy}") from None
    return content


def check_at_least(least: int, **numbers: float | None) -> None:
    """Check numbers, given by their names. Raises ValueError for the first below `least` or NaN; None passes."""
    for name, number in numbers.items():
        if number is not None and not number >= least:
            raise ValueError(f"{name}={number} must be at least {least}")


def check_seed(seed: int) -> None:
    """Check a seed. Raises ValueError if it is not a whole number from 0 to 2³¹ − 1, the range of generators of 32
    bits."""
    if not is_whole_number(seed) or not 0 <= seed < 1 << 31:
        raise ValueError(f"seed={seed!r} must be a whole number in 0..{(1 << 31) - 1}")


def check_latents(latents: Iterable[int], d_sae: int) -> list[int]:
    """Check latent ids of a dictionary, and return each once, in the given order. Raises ValueError if there are none,
    or if one is not a whole number in 0..d_sae − 1."""
    chosen = list(latents)
    for latent in chosen:
        if not is_whole_number(latent) or not 0 <= latent < d_sae:
            raise ValueError(f"latent {latent!r} must be a whole number in 0..{d_sae - 1}, the dictionary's latents")
    if not chosen:
        raise ValueError("latents is empty: name at least one")
    return list(dict.fromkeys(map(int, chosen)))


def is_whole_number(value: object) -> bool:
    """Return whether a value is a whole number; True and False do not count."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_finite(**tensors: "Tensor | None") -> None:
    """Check that all numbers are finite. Raises ValueError for the first tensor with NaN or infinity; None passes."""
    for name, tensor in tensors.items():
        if tensor is not None and not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} {tuple(tensor.shape)} contains NaN or infinity: fix the weights before loading")


def check_token_ids(tokens: "Int[Tensor, 'seq pos']", n_vocab: int | None = None) -> int:
    """Check token ids, and return the largest. Raises ValueError if they are not integers [seq, pos] from 0 on, or if
    one is outside the vocabulary (without one: above `MAX_ID`)."""
    from torch import Tensor

    if not isinstance(tokens, Tensor) or tokens.is_floating_point() or tokens.is_complex() or tokens.element_size() < 1:
        raise ValueError(f"tokens of type {getattr(tokens, 'dtype', type(tokens).__name__)} must be an integer tensor")
    if tokens.ndim != 2 or tokens.numel() == 0:
        raise ValueError(f"tokens have shape {tuple(tokens.shape)}: it must be (seq, pos), with at least one token")
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0:
        raise ValueError(f"token id {low} occurs: ids start at 0")
    if n_vocab is None and high > MAX_ID:
        raise ValueError(
            f"token id {high} occurs, which is larger than any vocabulary: pass vocab, or number the tokens up to "
            f"{MAX_ID}"
        )
    if n_vocab is not None and high >= n_vocab:
        raise ValueError(f"vocab has {n_vocab} strings, but token id {high} occurs: give the model's own tokens")
    return high


def is_constant(ids: "Int[Tensor, ' id']") -> bool:
    """Return whether `ids` is not empty and all ids are the same."""
    return len(ids) > 0 and bool((ids == ids[0]).all())


@cache
def _adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(kind)
