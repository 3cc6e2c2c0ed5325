"""A registry by name for everything that a user may add: measures, stages, architectures, figures, …"""

import sys
from collections.abc import Callable, Collection, Iterable
from functools import partial
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TypeVar

from interp.checks.errors import InterpError

Entry = TypeVar("Entry")


def register(
    entries: dict[str, Entry],
    name: str,
    entry: Entry,
    noun: str,
    code: Callable[[Entry], Any],
    reserved: Collection[str] = (),
) -> None:
    """Put an entry under its name, which can be taken only once.

    noun: the word for an entry in the error message.
    code: returns the function or class of an entry. One that is defined again in the same file, such as by a notebook
    cell that runs twice, replaces itself.
    reserved: names that mean something else where entries are named.
    Raises ValueError if the name is taken or reserved.
    """
    if name in reserved:
        raise InterpError(f"{noun} cannot be called {name!r}, which means something else: choose another name")
    if name in entries and _defined_at(code(entries[name])) != _defined_at(code(entry)):
        raise InterpError(f"{noun} {name!r} is already registered: choose another name")
    entries[name] = entry


def import_files(package: str, folders: Iterable[str]) -> None:
    """Import every file of a package (its `__name__` and `__path__`), so that what it defines is registered."""
    for file in iter_modules(folders):
        import_module(f"{package}.{file.name}")


def _defined_at(code: Any) -> tuple[str, str]:
    """Return the file of a function or class, or its module if it has no file, and its name in it: for a partial
    function, of the whole function; for another object that can be called, of its class."""
    while isinstance(code, partial):
        code = code.func
    if not hasattr(code, "__qualname__"):
        code = type(code)
    return getattr(sys.modules.get(code.__module__), "__file__", None) or code.__module__, code.__qualname__
