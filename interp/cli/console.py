"""The command line as a person meets it: commands with their arguments, progress, and errors in one line.

Under `torchrun` the first process speaks. A command is a function: its parameters are the arguments, its docstring the
help.

def scan_command(
    store: Annotated[Path, "as harvest writes it"],   # positional
    *,
    out: Path,                                        # --out, needed
    hook: Annotated[str | None, "which"] = None,      # --hook; a list is given several times, a tuple at once
) -> None:
    \"\"\"the line of `interp --help`

    The description of `interp scan --help`.\"\"\"
"""

import argparse
import difflib
import errno
import inspect
import os
import shutil
import sys
import time
import tomllib
import types
import typing
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

_LIBRARIES = (("safetensors", "SafetensorError"), ("pyarrow", "ArrowException"), ("duckdb", "Error"))
"""Errors that are no ValueError; where a file is read they are one, and here is what slipped through."""
_LONGEST = 2000
_FULL = (f"os error {errno.ENOSPC}", "No space left on device")
_NO_MEMORY = ("not enough memory", "can't allocate memory", "Allocation failed")


def is_first() -> bool:
    """Whether this is the only process, or of those that `torchrun` started the first."""
    return "MASTER_ADDR" not in os.environ or os.environ.get("RANK", "0") == "0"


def is_expected(error: BaseException) -> bool:
    """Whether it speaks of the input, the disk or the memory; other errors are ours, and show where they came from."""
    loaded = [(sys.modules[name], kind) for name, kind in _LIBRARIES if name in sys.modules]
    kinds = (ValueError, OSError, MemoryError, RecursionError, *(getattr(module, kind) for module, kind in loaded))
    return isinstance(error, kinds) or _lacks_memory(error)


def one_line(error: BaseException) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    said = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in said)
    said = said if len(said) <= _LONGEST else f"{said[: _LONGEST // 2]} … {said[-_LONGEST // 2 :]}"
    if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or any(words in said for words in _FULL):
        place = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
        return f"the disk is full{place}: free some space and run the same command again"
    if _lacks_memory(error):
        return f"there is not enough memory ({said}): lower the batch size, the latents or the tokens"
    if isinstance(error, RecursionError):
        return f"the input is nested too deeply ({said}): write it flat"
    return said


def _lacks_memory(error: BaseException) -> bool:
    said = str(error)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in said for w in _NO_MEMORY))


class Bar:
    """Progress of one long step: a bar on a terminal, a line every ten seconds elsewhere."""

    def __init__(self, name: str):
        self.name, self._printed, self._terminal = name, time.monotonic(), sys.stderr.isatty()
        self._total, self._before, self._began = -1, 0, 0.0

    def __call__(self, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if total != self._total or done < self._before:
            self._total, self._before, self._began = total, done, now
        if not is_first() or now - self._printed < (0.1 if self._terminal else 10):
            return
        self._printed, fresh = now, done - self._before
        left = f" {_clock_time((now - self._began) / fresh * (total - done))} left" if fresh else ""
        line = f"{self.name}: {done:,} of {total:,}{left} {note}"
        if self._terminal:
            line = f"{'█' * round(20 * done / max(total, 1)):░<20s} {line}"[: shutil.get_terminal_size().columns - 1]
        print(f"\r{line}\x1b[K" if self._terminal else f"{line}\n", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._terminal and is_first():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _clock_time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"


class Parser(argparse.ArgumentParser):
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The parser of a command says itself what it does not know, beside the options that it has."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            nearest = difflib.get_close_matches(unknown[0].partition("=")[0], list(self._option_string_actions), n=3)
            meant = f"; did you mean {', '.join(nearest)}?" if nearest else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
        return options, unknown

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"interp: {message} (see {self.prog} --help)\n" if is_first() else None)


def command_name(command: Callable) -> str:
    return command.__name__.removesuffix("_command").replace("_", "-")


def add_command(commands: Any, command: Callable, *, whole: bool) -> argparse.ArgumentParser:
    """whole: with its description and arguments, and `command` in the options, to be called with them."""
    help, _, description = inspect.cleandoc(command.__doc__ or "").partition("\n\n")
    parser = commands.add_parser(command_name(command), help=help, formatter_class=argparse.RawTextHelpFormatter)
    if whole:
        parser.description = description
        hints = typing.get_type_hints(command, include_extras=True)
        parameters = inspect.signature(command).parameters
        for parameter in parameters.values():
            _add_argument(parser, parameter, hints[parameter.name])
        parser.set_defaults(command=lambda options: command(**{name: getattr(options, name) for name in parameters}))
    return parser


def toml_value(text: str) -> Any:
    """`text` as TOML reads it, and words without quotes as a string: 32, 1e-3, true, [0.5, 0.5], cosine.

    Raises ValueError for what begins like a list, a table or a quoted string and is none.
    """
    text = text.strip()
    try:
        return _parsed(f"{'0' if text.startswith('.') else ''}{text}")
    except tomllib.TOMLDecodeError:
        if text.startswith(("[", "{", '"', "'")):
            raise ValueError(f'{text} is no TOML value: write it like [1, 2], {{key = 1}} or "text"') from None
        return text


def toml_values(text: str) -> list[Any]:
    """Several, with commas between: 16,32 or [0.5, 0.5],[0.25, 0.75] or linear,cosine."""
    try:
        return _parsed(f"[{text}]")
    except tomllib.TOMLDecodeError:
        return [toml_value(each) for each in text.split(",")]


def assignment(text: str) -> tuple[str, str]:
    """FIELD=VALUE in two; dashes in the field's name are underscores."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ValueError(f"{text!r} must be FIELD=VALUE")
    return name.strip().replace("-", "_"), value


def _parsed(text: str) -> Any:
    """Raises TOMLDecodeError, and ValueError for what is TOML but no value that can be held."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        raise
    except (ValueError, RecursionError) as error:  # thousands of digits, or of brackets
        raise ValueError(f"{text[:60]}{'…' * (len(text) > 60)} is no value ({error}): write a shorter one") from None


def _not_empty(kind: Callable[[str], Any], text: str) -> Any:
    if not text:
        raise argparse.ArgumentTypeError("'' is empty: give a value, or leave it out")
    return kind(text)


def _add_argument(parser: argparse.ArgumentParser, parameter: inspect.Parameter, hint: Any) -> None:
    said, default = "", parameter.default
    if typing.get_origin(hint) is typing.Annotated:
        hint, said = typing.get_args(hint)
    if isinstance(default, int | float | str) and not isinstance(default, bool):
        said += f" (default {default})"
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = typing.get_args(hint)[0]
    shape = typing.get_origin(hint)
    element = typing.get_args(hint)[0] if shape in (list, tuple) else hint
    given: dict[str, Any] = {"help": said.strip().replace("%", "%%")}
    if hint is bool:
        given["action"] = "store_true"
    elif typing.get_origin(element) is typing.Literal:
        given["choices"] = typing.get_args(element)
    else:
        needs_a_name = element is Path or (element is str and parameter.kind is not parameter.KEYWORD_ONLY)
        given["type"] = partial(_not_empty, element) if needs_a_name else element
    if shape is list:
        given["action"] = "append"
    if parameter.kind is not parameter.KEYWORD_ONLY:
        parser.add_argument(parameter.name, nargs="+" if shape is tuple else None, **given)
        return
    if shape is tuple:
        given["nargs"] = "*"
    needed = default is parameter.empty
    flag = f"--{parameter.name.replace('_', '-')}"
    parser.add_argument(flag, required=needed, default=None if needed else default, **given)
