"""Errors as the command line shows them: one line each, with the remedy."""

import errno
import sys
from difflib import get_close_matches
from typing import Any

_LIBRARIES = (
    ("safetensors", "SafetensorError"),
    ("pyarrow", "ArrowException"),
    ("duckdb", "Error"),
    ("sqlite3", "Error"),
)
"""Errors of libraries about a file that they read or write, other than ValueErrors."""
_DISK_FULL = (f"os error {errno.ENOSPC}", "No space left on device", "database or disk is full")
_NO_MEMORY = ("not enough memory", "can't allocate memory", "Allocation failed", "out of memory")
_WITHOUT_COMMAND = {
    "feature": "`interp explore RUN` shows them all, and `Run(RUN).feature(LATENT)` one in Python",
    "figures": "`python -m analyses.make_figures RUN` draws them, in a checkout",
    "nulls": "`interp run` makes them, also for a dictionary that its configuration loads",
    "steer": "`interp explore RUN` steers with features, as `interp.effects.steer` does in Python",
}
"""Where to find what one may look for among the commands."""
_LONGEST = 2000
"""Most characters of an error: a library may quote a whole damaged file."""


def is_expected(error: BaseException) -> bool:
    """Return whether an error is about the input, the disk or the memory; other errors are bugs of interp, and keep
    their traceback."""
    loaded = [(sys.modules[name], error_class) for name, error_class in _LIBRARIES if name in sys.modules]
    expected = (ValueError, OSError, MemoryError, *(getattr(module, error_class) for module, error_class in loaded))
    return isinstance(error, expected) or _is_out_of_memory(error)


def one_line(error: BaseException) -> str:
    """Write an error on one line, with the remedy if the disk or the memory is full."""
    if isinstance(error, OSError) and error.errno and error.filename and error.errno != errno.ENOSPC:
        return f"{printable(str(error.filename))}: {error.strerror}"
    message = printable(str(error)) or type(error).__name__
    if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or any(words in message for words in _DISK_FULL):
        file = f" ({printable(str(error.filename))})" if isinstance(error, OSError) and error.filename else ""
        return f"the disk is full{file}: free some space and run the same command again"
    if _is_out_of_memory(error):
        return f"there is not enough memory ({message}): lower the batch size, or the number of latents or tokens"
    return message


def printable(text: str) -> str:
    """Return the text on one line, its control characters escaped: a name from a file must not control the terminal."""
    line = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in " ".join(text.split()))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} … {line[-_LONGEST // 2 :]}"


def usage_line(error: Any) -> str:
    """Describe typer's error in the words of a command, with the nearest option and where to read more."""
    message = printable(error.format_message()).removesuffix(".")
    if getattr(error, "possibilities", None):
        message = printable(error.message)
        if near := _near(error):
            message += f". Did you mean {', '.join(map(printable, near))}?"
    elif hasattr(error.__cause__, "errors"):  # pydantic's message has the expected value, but not the given one
        value = error.__cause__.errors()[0]["input"]
        message = message.replace("Invalid value for", f"Invalid value {value!r} for").replace("Value error, ", "")
    for name, instead in _WITHOUT_COMMAND.items():
        if message == f"No such command {name!r}":
            message += f": {instead}"
    context = getattr(error, "ctx", None)
    return f"{message} (see {context.command_path if context else 'interp'} --help)"


def _near(error: Any) -> list[str]:
    """Return the names that typer finds near a misspelt one. Of options, those that are near without their dashes,
    which make any two short ones alike, such as --top and --out."""
    names = list(getattr(error, "possibilities", None) or ())
    given = getattr(error, "option_name", "").lstrip("-")
    return [name for name in names if not given or get_close_matches(given, [name.lstrip("-")])]


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    )
