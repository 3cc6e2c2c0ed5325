"""What the fields of a config may hold: a limit stands beside the type, as `Annotated[int, AT_LEAST_1]`."""

import math
from collections.abc import Callable
from dataclasses import fields
from numbers import Integral, Real
from typing import Annotated, Any, NamedTuple, get_args


class Limit(NamedTuple):
    """Of a field's values, as an annotation of its type."""

    name: str
    holds: Callable[[Any], bool]


AT_LEAST_1 = Limit("be at least 1", lambda value: value >= 1)
ABOVE_0 = Limit("be above 0", lambda value: value > 0)
NOT_NEGATIVE = Limit("not be negative", lambda value: value >= 0)
Count = Annotated[int, AT_LEAST_1]
Positive = Annotated[float, ABOVE_0]
NonNegative = Annotated[float, NOT_NEGATIVE]
INSIDE = Limit("be fractions of the run between 0 and 1", lambda value: all(0 < at < 1 for at in value))
Fraction = Annotated[float, Limit("be a fraction of the steps in 0..1", lambda value: 0 <= value <= 1)]


def check_fields(config: Any) -> None:
    """Raises ValueError for the first number that is of a wrong kind, not finite or beyond the limit of its field."""
    names = {int: "whole number", float: "number"}
    for field in fields(config):
        value, limits = getattr(config, field.name), getattr(field.type, "__metadata__", ())
        hint = get_args(field.type)[0] if limits else field.type
        kind = next((kind for kind in names if hint in (kind, kind | None)), None)
        if value is None and hint != kind:
            continue
        if kind is not None:
            if isinstance(value, bool) or not isinstance(value, Integral if kind is int else Real):
                raise ValueError(f"{field.name}={value!r} must be a {names[kind]}")
            if not math.isfinite(value):
                raise ValueError(f"{field.name}={value} must be finite")
        for limit in limits:
            if not limit.holds(value):
                raise ValueError(f"{field.name}={value} must {limit.name}")
