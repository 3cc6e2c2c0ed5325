"""Errors that a caller may want to tell apart.

    try:
        sae = load_sae(folder)
    except interp.DamagedError:
        sae = train_sae(store, hook, config, out=folder, overwrite=True)

Whatever interp refuses is an `InterpError`, with a one-line message that ends with the remedy. It is a ValueError; one
of no class derived from it is about an argument, a configuration, or a path that names another thing than is asked for.
A ValueError that is no InterpError comes from a library, and may be a bug of interp. What the system refuses is an
OSError: a file that does not exist, a disk that is full.
"""

import difflib
from collections.abc import Iterable

_NAMES_LISTED = 50
"""Most names that a message lists."""


class InterpError(ValueError):
    """The work is refused, for a reason that the caller can mend."""


class DamagedError(InterpError):
    """A file or folder is damaged, incomplete, was changed since it was written, or does not hold what it should."""


class InUseError(InterpError):
    """Another process is writing the file or folder."""


class OverwriteError(InterpError):
    """The output would replace other work, or lie within it."""


class TooLargeError(InterpError):
    """The work would need more memory or disk space than is free."""


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return the remedy for a name that is not known: those that are most similar to it, or else the known ones."""
    names = list(known)
    if nearest := difflib.get_close_matches(str(name), names, n=3, cutoff=0.65):
        return f"did you mean {', '.join(nearest)}?"
    return f"there are {', '.join(names[:_NAMES_LISTED])}{', …' * (len(names) > _NAMES_LISTED)}"
