"""Read a user's values as the fields of a config dataclass, and name the fields and their types as help does.

A mistake is a ValueError of one line: the field, the value, and what it must be (`limits`) or the nearest known name.
"""

import ast
import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import pairwise
from typing import Any

from interp.checks.errors import InterpError, did_you_mean
from interp.checks.limits import check_value, field_hints, shortened_repr


def read_fields(config_class: type, values: Mapping[str, Any], whose: str = "") -> dict[str, Any]:
    """Convert values to the types of the fields of the dataclass `config_class`.
    whose: how a message names the dataclass.

    Raises ValueError for a field that does not exist, with the nearest that do, and for a value of another type.
    """
    hints = field_hints(config_class)
    check_names(values, list(hints), f"{whose} field".strip())
    return {name: check_value(name, value, hints[name]) for name, value in values.items()}


def check_needed_fields(config_class: type, values: Iterable[str], whose: str) -> None:
    """Raise ValueError where fields of the dataclass `config_class` that have no default are not among the values."""
    needed = [field.name for field in dataclasses.fields(config_class) if is_needed(field)]
    if missing := [name for name in needed if name not in values]:
        raise InterpError(f"{whose} needs {' and '.join(missing)}")


def check_names(names: Iterable[Any], known: list[str], noun: str) -> None:
    """Raise ValueError for the first name that is not known, with the nearest that are.
    noun: the word for the named thing, such as "field"."""
    for name in names:
        if name not in known:
            raise InterpError(f"{noun} {shortened_repr(name)} does not exist; {did_you_mean(name, known)}")


def field_types(config_class: type) -> dict[str, Any]:
    """Return the types of the fields, without their limits."""
    hints = typing.get_type_hints(config_class)
    return {field.name: hints[field.name] for field in dataclasses.fields(config_class)}


def values_of(config_class: type, config: Any) -> dict[str, Any]:
    """Return the values of the fields that a config inherits from the dataclass `config_class`."""
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config_class)}


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


def field_docs(config_class: type) -> dict[str, str]:
    """Return the docstring of each field of a dataclass, inherited fields included, on one line; none of a class whose
    source is not in a file."""
    docs: dict[str, str] = {}
    for base in filter(dataclasses.is_dataclass, reversed(config_class.__mro__)):
        docs |= _docs_in(base.__module__).get(base.__name__, {})
    return {field.name: docs[field.name] for field in dataclasses.fields(config_class) if field.name in docs}


@cache
def _docs_in(module: str) -> dict[str, dict[str, str]]:
    """Return the docstrings of the fields of each class of a module."""
    docs: dict[str, dict[str, str]] = {}
    with suppress(OSError, TypeError):  # the second for a session's own classes
        tree = ast.parse(inspect.getsource(sys.modules[module]))
        for node in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            docs_of_class = docs.setdefault(node.name, {})
            for field, doc in pairwise(node.body):
                match field, doc:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                        docs_of_class[name] = " ".join(text.split())
    return docs
