"""Read a user's values as the fields of a config dataclass: pydantic checks the types, the dataclass itself the rest.

Numbers are strict (no text, no truth values, whole ones for integers, finite), TOML's lists stand for
tuples and "none" for None. A mistake is a ValueError of one line: the field, the value, and what it must be or the
nearest known name.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from numbers import Integral, Real
from typing import Any

from pydantic import TypeAdapter, ValidationError

from interp.checks.json_values import STRICT


def read_fields(config_class: type, values: Mapping[str, Any], whose: str = "") -> dict[str, Any]:
    """Convert values to the types of the fields of the dataclass `config_class`.
    whose: how a message names the dataclass.

    Raises ValueError for a field that does not exist, with the nearest that do, and for a value of another type.
    """
    readers = _readers(config_class)
    check_names(values, list(readers), f"{whose} field".strip())
    return {name: _read(name, value, *readers[name]) for name, value in values.items()}


def check_given(config_class: type, values: Iterable[str], whose: str) -> None:
    """Raise ValueError where fields of the dataclass `config_class` that have no default are not among the values."""
    needed = [field.name for field in dataclasses.fields(config_class) if is_needed(field)]
    if missing := [name for name in needed if name not in values]:
        raise ValueError(f"{whose} needs {' and '.join(missing)}")


def check_names(names: Iterable[Any], known: list[str], noun: str) -> None:
    """Raise ValueError for the first name that is not known, with the nearest that are.
    noun: the word for the named thing, such as "field"."""
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(str(name), known, n=3, cutoff=0.4)
            remedy = f"did you mean {', '.join(nearest)}?" if nearest else f"there are {', '.join(known)}"
            raise ValueError(f"{noun} {shortened_repr(name)} does not exist; {remedy}")


def field_types(config_class: type) -> dict[str, Any]:
    hints = typing.get_type_hints(config_class)
    return {field.name: hints[field.name] for field in dataclasses.fields(config_class)}


@cache
def _readers(config_class: type) -> dict[str, tuple[Any, TypeAdapter]]:
    """Return the type and the validator of each field. Cached, because a run reads its configuration often."""
    return {name: (hint, TypeAdapter(hint, config=STRICT)) for name, hint in field_types(config_class).items()}


def is_needed(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def type_name(hint: Any) -> str:
    """Return the type as help names it: int, float or "none", list of float, …"""
    origin = typing.get_origin(hint)
    parts = typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(type_name, parts))
    if origin is typing.Literal:
        return " or ".join(f'"{part}"' for part in parts)
    if origin in (tuple, Sequence):
        return f"list of {type_name(parts[0])}"
    return '"none"' if hint is types.NoneType else getattr(hint, "__name__", str(hint))


def to_toml_value(value: Any) -> Any:
    """Return the value as TOML writes it."""
    if isinstance(value, Mapping):
        return {name: to_toml_value(item) for name, item in value.items()}
    return [to_toml_value(item) for item in value] if isinstance(value, tuple) else "none" if value is None else value


def shortened_repr(value: Any) -> str:
    """Return the value's repr, without its middle if it is long."""
    return text if len(text := repr(value)) <= 80 else f"{text[:50]}…{text[-20:]}"


def _read(name: str, value: Any, hint: Any, reader: TypeAdapter) -> Any:
    try:
        return reader.validate_python(_to_python(value, hint))
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"]
        none = ' or "none"' if types.NoneType in typing.get_args(hint) else ""
        is_demand = message.startswith("Input should ")
        must = f" must {message.removeprefix('Input should ')}{none}" if is_demand else f": {message}"
        raise ValueError(f"{name} = {shortened_repr(first['input'])}{must}") from error


def _to_python(value: Any, hint: Any) -> Any:
    leaves = _leaves(hint)
    if isinstance(value, list):
        return tuple(_to_python(item, hint) for item in value)
    if value == "none" and types.NoneType in leaves:
        return None
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    number = int(value) if isinstance(value, Integral) else float(value)  # numpy's numbers too
    whole = isinstance(number, float) and number.is_integer()
    return int(number) if whole and int in leaves and float not in leaves else number


def _leaves(hint: Any) -> set[Any]:
    return {hint}.union(*map(_leaves, typing.get_args(hint)))
