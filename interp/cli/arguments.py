"""A command is a function: its parameters are the arguments, its docstring the help.

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
import inspect
import tomllib
import types
import typing
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from interp.cli.console import is_first


class Parser(argparse.ArgumentParser):
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
