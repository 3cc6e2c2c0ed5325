"""Limits of numbers, of an argument or of a field. A config dataclass states them in the types of its fields:

    @dataclass(frozen=True, kw_only=True)
    class ScanConfig(CheckedFields):
        n_top: Annotated[int, between(0, 10_000)] = 20
        seed: Seed = 0

A message names the field, its value and the limit.
"""

import math
from collections.abc import Callable
from dataclasses import fields
from numbers import Integral, Real
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints


class Limit(NamedTuple):
    """A condition on a value, as an annotation of its type."""

    demand: str
    """What the value must do, as the message says it: "be above 0"."""
    holds: Callable[[Any], bool]


def at_least(least: float) -> Limit:
    return Limit(f"be at least {least}", lambda value: value >= least)


def between(least: int, most: int) -> Limit:
    return Limit(f"be in {least}..{most}", lambda value: least <= value <= most)


AT_LEAST_1 = at_least(1)
ABOVE_0 = Limit("be above 0", lambda value: value > 0)
PositiveInt = Annotated[int, AT_LEAST_1]
Positive = Annotated[float, ABOVE_0]
NonNegative = Annotated[float, at_least(0)]
Fraction = Annotated[float, between(0, 1)]
FractionBelow1 = Annotated[float, Limit("be in [0, 1)", lambda value: 0 <= value < 1)]
Seed = Annotated[int, between(0, (1 << 31) - 1)]
"""The range of generators of 32 bits."""


class CheckedFields:
    """The base of a config dataclass: the values of its fields are checked when it is made. Raises ValueError for the
    first that has the wrong type, is not finite, or is outside the limits of its field.

    Types are checked of numbers and of `Literal`, or None where the type has it."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self), include_extras=True)  # field.type may be text: postponed annotations
        for field in fields(self):  # type: ignore[arg-type]
            check_value(field.name, getattr(self, field.name), hints[field.name])


def check_value(name: str, value: Any, hint: Any) -> None:
    """Check a value by the type of a field. Raises ValueError as `CheckedFields` does."""
    plain_type, *limits = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    options = (
        [option for option in get_args(plain_type) if option is not NoneType]
        if NoneType in get_args(plain_type)
        else [plain_type]
    )
    if value is None and options != [plain_type]:
        return
    if options == [int] and not is_whole_number(value):
        raise ValueError(f"{name}={value!r} must be a whole number")
    if options == [float] and (not isinstance(value, Real) or isinstance(value, bool)):
        raise ValueError(f"{name}={value!r} must be a number")
    if options == [float] and not math.isfinite(value):
        raise ValueError(f"{name}={value} must be finite")
    if get_origin(plain_type) is Literal and value not in get_args(plain_type):
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(str, get_args(plain_type)))}")
    for limit in limits:
        if not limit.holds(value):
            raise ValueError(f"{name}={value} must {limit.demand}")


def check_seed(seed: int) -> None:
    """Check a seed. Raises ValueError if it is not a whole number from 0 to 2³¹ − 1."""
    check_value("seed", seed, Seed)


def check_at_least(least: int, **numbers: float | None) -> None:
    """Check numbers, given by their names. Raises ValueError for the first below `least` or NaN; None passes."""
    for name, number in numbers.items():
        if number is not None and not number >= least:
            raise ValueError(f"{name}={number} must be at least {least}")


def is_whole_number(value: object) -> bool:
    """Return whether a value is a whole number; True and False do not count."""
    return isinstance(value, Integral) and not isinstance(value, bool)
