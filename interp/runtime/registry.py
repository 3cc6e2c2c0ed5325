"""A registry by name for everything that a user may add: measures, stages, architectures, figures, …"""

import inspect
import sys
from collections.abc import Callable, Collection, Iterable
from functools import partial
from importlib import import_module
from pkgutil import iter_modules
from types import FrameType
from typing import Any, TypeVar

from interp.checks.errors import InterpError

Entry = TypeVar("Entry")


registered_in: dict[tuple[str, str], tuple[str, ...]] = {}
"""The files that registered an entry, by its noun and name, as `_running_files` tells them."""


def register(
    entries: dict[str, Entry],
    name: str,
    entry: Entry,
    noun: str,
    code: Callable[[Entry], Any],
    reserved: Collection[str] = (),
) -> None:
    """Put an entry under its name, which can be taken only once.

    noun: the word for an entry, in the error message and in `registered_in`.
    code: returns the function or class of an entry. One that is registered again by the same file, such as by a
    notebook cell that runs twice, replaces itself.
    reserved: names that mean something else where entries are named.
    Raises ValueError if the name is taken or reserved.
    """
    if name in reserved:
        raise InterpError(f"the {noun} cannot be called {name!r}, which means something else: choose another name")
    files = _running_files()
    if name in entries:
        file_before = registered_in.get((noun, name), ("",))[0]
        if (file_before, _name_of(code(entries[name]))) != (files[0], _name_of(code(entry))):
            raise InterpError(f"the {noun} {name!r} is already registered: choose another name")
    entries[name] = entry
    registered_in[noun, name] = files


def import_files(package: str, folders: Iterable[str]) -> None:
    """Import every file of a package (its `__name__` and `__path__`), so that what it defines is registered."""
    for file in iter_modules(folders):
        import_module(f"{package}.{file.name}")


def _running_files() -> tuple[str, ...]:
    """Return the files whose top level is running, the innermost first; the name of a module that has none, such as a
    notebook. Those that import a file of this library are not named: what it registers is not theirs."""
    modules = []
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        is_function = frame.f_code.co_flags & inspect.CO_OPTIMIZED
        if not is_function or frame.f_back is None:  # a thread begins with a function
            modules.append(frame.f_globals)
        frame = frame.f_back
    files = tuple(str(module.get("__file__") or module.get("__name__")) for module in modules)
    is_of_library = str(modules[0].get("__name__")).partition(".")[0] in ("interp", "models")
    return files[:1] if is_of_library else files


def _name_of(code: Any) -> str:
    """Return the qualified name of a function or class: for a partial function, of the whole function; for another
    object that can be called, of its class."""
    while isinstance(code, partial):
        code = code.func
    return code.__qualname__ if hasattr(code, "__qualname__") else type(code).__qualname__
