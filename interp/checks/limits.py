"""Types with limits, which pydantic checks strictly: of the fields of a config dataclass, and of an argument.

    @dataclass(frozen=True, kw_only=True)
    class ScanConfig(CheckedFields):
        n_top: Annotated[int, between(0, 10_000)] = 20
        seed: Seed = 0

A message names the field, its value and the limit. Numbers are strict: no text, no truth values, whole ones for
integers, finite.
"""

import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from numbers import Integral, Real
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from interp.checks.errors import InterpError

STRICT = ConfigDict(strict=True, allow_inf_nan=False)


def at_least(least: float) -> Any:
    return Field(ge=least)


def between(least: int, most: int) -> Any:
    return Field(ge=least, le=most)


PositiveInt = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
FractionBelow1 = Annotated[float, Field(ge=0, lt=1)]
SEEDS = 1 << 31
"""Number of seeds: the range of generators of 32 bits."""
Seed = Annotated[int, Field(ge=0, lt=SEEDS)]

_WORDS = {
    r"^\w+ should ": "must ",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid string": "text",
    "a valid tuple": "a list",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "above",
    "less than": "below",
}
"""Words of pydantic's messages, and ours for them."""
_TYPES_OF_FILES = {int, float, bool, str, types.NoneType, tuple, Mapping, Any, ...}
"""What the types of fields are made of that a configuration file can give."""


class CheckedFields:
    """The base of a config dataclass: the values of its fields are checked when it is made, and converted as
    `check_value` does. Raises ValueError for the first that has the wrong type, is not finite, or is outside the limits
    of its field.

    Sequences and objects, which a configuration file cannot give, are left to the functions that take them."""

    def __post_init__(self) -> None:
        for name, hint in field_hints(type(self)).items():  # type: ignore[arg-type]
            if _TYPES_OF_FILES.issuperset(_parts(hint)):
                object.__setattr__(self, name, check_value(name, getattr(self, name), hint))


@cache
def field_hints(config_class: type) -> dict[str, Any]:
    """Return the types of the fields of a dataclass, with their limits."""
    hints = typing.get_type_hints(config_class, include_extras=True)  # field.type may be text: postponed annotations
    return {field.name: hints[field.name] for field in fields(config_class)}


def check_value(name: str, value: Any, hint: Any) -> Any:
    """Return the value as the type has it: lists as tuples, "none" as None, numpy's and whole numbers as Python's.
    Raises ValueError as `CheckedFields` does."""
    try:
        return _reader(hint).validate_python(_to_python(value, _parts(hint)))
    except ValidationError as error:
        raise InterpError(first_fault(error, name) + " or none" * (types.NoneType in _parts(hint))) from error


def first_fault(error: ValidationError, name: str = "") -> str:
    """Return the first fault that pydantic has found, on one line: "batch_size=0 must be at least 1".
    name: the name of the checked value; "": its place in what was checked."""
    first, *others = error.errors(include_url=False)
    name = name or ".".join(map(str, first["loc"])) or "all of it"
    if first["type"] == "missing":
        return f"{name} is missing"
    if first["type"] == "extra_forbidden":
        return f"{name} does not exist"
    at_once = [first, *(other for other in others if other["input"] is first["input"])]  # all options of a union
    demands = dict.fromkeys(_in_our_words(each["msg"]) for each in at_once)
    return f"{name}={shortened_repr(first['input'])} {' or '.join(demands)}".replace(" or must be ", " or ")


def shortened_repr(value: Any) -> str:
    """Return the value's repr, without its middle if it is long."""
    return text if len(text := repr(value)) <= 80 else f"{text[:50]}…{text[-20:]}"


def check_at_least(least: int, **numbers: int | None) -> None:
    """Check whole numbers, given by their names. Raises ValueError for the first that is below `least` or not a whole
    number; None passes."""
    for name, number in numbers.items():
        if number is not None and not is_whole_number(number):
            raise InterpError(f"{name}={shortened_repr(number)} must be a whole number")
        if number is not None and number < least:
            raise InterpError(f"{name}={number} must be at least {least}")


def is_whole_number(value: object) -> bool:
    """Return whether a value is a whole number; True and False do not count."""
    return isinstance(value, Integral) and not isinstance(value, bool)


@cache
def _reader(hint: Any) -> TypeAdapter:
    return TypeAdapter(hint, config=STRICT)


def _to_python(value: Any, types_of_value: set[Any]) -> Any:
    if isinstance(value, list):
        return tuple(_to_python(item, types_of_value) for item in value)
    if isinstance(value, str) and value == "none" and types.NoneType in types_of_value:
        return None
    if type(value).__name__ in ("bool_", "bool"):  # numpy's, which is none of Python's
        return bool(value)
    if not isinstance(value, Real):
        return value
    number = int(value) if isinstance(value, Integral) else float(value)  # numpy's numbers too
    is_whole = isinstance(number, float) and number.is_integer()
    return int(number) if is_whole and int in types_of_value and float not in types_of_value else number


@cache
def _parts(hint: Any) -> set[Any]:
    """Return the classes of which a type is made, and `Any` or `...` where it has them."""
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return set(map(type, typing.get_args(hint)))
    if origin is Annotated:
        return _parts(typing.get_args(hint)[0])
    if origin is Callable:
        return {Callable}
    parts = set().union(*map(_parts, typing.get_args(hint)))
    return parts if origin in (typing.Union, types.UnionType) else parts | {origin or hint}


def _in_our_words(message: str) -> str:
    for theirs, ours in _WORDS.items():
        message = re.sub(theirs, ours, message)
    return message
