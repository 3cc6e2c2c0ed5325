"""The options that select a model's rows and round them, for a harvest as for a stream."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from interp.checks.limits import CheckedFields, Positive, PositiveInt

Dtype = Literal["bfloat16", "float16", "float32"]


@dataclass(frozen=True, kw_only=True)
class RowConfig(CheckedFields):
    dtype: Dtype = "bfloat16"
    """Type of the stored numbers."""
    batch_size: PositiveInt = 64
    """Sequences in one forward pass."""
    exclude_positions: Sequence[int] = ()
    """Positions of a sequence that are left out, and counted."""
    max_norm: Positive | Literal["auto"] | None = "auto"
    """Rows are left out, and counted, if their norm at any hook is above this many times the median norm of a sample
    (8,192 tokens). "auto" sets a limit of 10 at the hooks where a few rows above it hold most of the variance
    (attention sinks, `activations.outliers`), and warns; None keeps all. The limits are recorded in the store
    (`norm_limits`), and everything made from the store obeys them."""


@dataclass(frozen=True, kw_only=True)
class RowOptions(RowConfig):
    exclude: Sequence[int] = ()
    """Token ids whose rows are left out, and counted."""
