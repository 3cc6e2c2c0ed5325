"""A registry by name of what a user may add: one way for measures, stages, architectures, figures, …"""

from collections.abc import Callable
from typing import Any, TypeVar

Entry = TypeVar("Entry")


def register(
    known: dict[str, Entry], name: str, entry: Entry, noun: str, code: Callable[[Entry], Any] | None = None
) -> None:
    """Put an entry under its name, which can be taken only once.

    noun: what the error calls an entry. code: gives the function or class that an entry is made of; one that is
    defined again, as by a cell of a notebook that is run twice, then takes its own place.
    Raises ValueError where the name is taken.
    """
    if name in known:
        is_same = code is not None and code(known[name]).__qualname__ == code(entry).__qualname__
        if not is_same:
            raise ValueError(f"{noun} {name!r} is registered already: choose another name")
    known[name] = entry
