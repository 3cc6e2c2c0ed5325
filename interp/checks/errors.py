"""Errors that a caller may want to tell apart.

    try:
        sae = load_sae(folder)
    except interp.DamagedError:
        sae = train_sae(store, hook, config, out=folder, overwrite=True)

All are ValueErrors, with a one-line message that ends with the remedy. A ValueError of no class below is about an
argument, a configuration, or a path that names another thing than is asked for. What the system refuses is an OSError:
a file that does not exist, a disk that is full.
"""


class InterpError(ValueError):
    """The base of the errors below."""


class DamagedError(InterpError):
    """A file or folder is damaged, incomplete, was changed since it was written, or does not hold what it should."""


class InUseError(InterpError):
    """Another process is writing the file or folder."""


class OverwriteError(InterpError):
    """The output would replace other work, or lie within it."""


class TooLargeError(InterpError):
    """The work would need more memory or disk space than is free."""
