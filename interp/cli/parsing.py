"""What the commands share: their parsers, the one line of an error, the hook of a store."""

import argparse
import errno
from collections.abc import Callable
from typing import Any, NoReturn

from interp.cli.console import is_first


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"interp: {message} (see {self.prog} --help)\n" if is_first() else None)


def command(commands: Any, name: str, run: Callable, help: str, description: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=help, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(command=run)
    return parser


def only_hook(store: Any, hook: str | None) -> str:
    if hook is None and len(store.hook_names) > 1:
        raise ValueError(f"the store holds {', '.join(store.hook_names)}: say which with --hook")
    return hook or store.hook_names[0]


def one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        place = f" ({error.filename})" if error.filename else ""
        return f"the disk is full{place}: free some space and run the same command again"
    return " ".join(str(error).split()) or type(error).__name__
