"""The command line: `interp COMMAND`, also `python -m interp COMMAND`.

`demo` and `run` build a run folder stage by stage; the other commands do one stage each on files that you name.
Bad input ends with one line on standard error and exit code 2; Ctrl-C ends with 130 and SIGTERM with 143, one line too,
and what was half written is removed. Under `torchrun` the first process speaks.
"""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from interp.cli.comparison_commands import compare_command
from interp.cli.console import Parser, add_command, command_name, is_expected, is_first, one_line
from interp.cli.feature_commands import rank_command, report_command, scan_command
from interp.cli.judge_command import judge_command
from interp.cli.model_commands import harvest_command, nulls_command, quality_command, tokenize_command
from interp.cli.run_commands import (
    add_stages,
    demo_command,
    explore_command,
    publish_command,
    run_command,
    warm_up_command,
)
from interp.cli.sae_commands import add_fields, export_command, train_sae_command
from interp.storage.folders import check_free

COMMANDS: dict[Callable[..., None], Callable | None] = {
    demo_command: None,
    run_command: add_stages,
    tokenize_command: None,
    harvest_command: None,
    train_sae_command: add_fields,
    quality_command: None,
    scan_command: None,
    rank_command: None,
    nulls_command: None,
    report_command: None,
    explore_command: None,
    compare_command: None,
    judge_command: None,
    export_command: None,
    publish_command: None,
    warm_up_command: None,
}
"""Each with what else adds to its help and arguments."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, as an exception: what a Ctrl-C cleans up is cleaned up."""


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _terminating():
            _check_out_is_free(words)
            parser = _parser(words)
            options = parser.parse_args(words)
            if options.command is None:
                parser.print_help()
                return 0
            if options.no_verify:
                os.environ["INTERP_VERIFY"] = "0"
            _quiet_libraries()
            options.command(options)
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as error:
        terminated = isinstance(error, Terminated)
        if is_first():
            what = "terminated" if terminated else "interrupted"
            print(f"interp: {what}; run the same command again to go on", file=sys.stderr)
        return 143 if terminated else 130
    except Exception as error:
        if "--traceback" in words or not is_expected(error):
            raise
        if is_first() or isinstance(error, OSError):
            print(f"interp: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _check_out_is_free(words: Sequence[str]) -> None:
    """Before the libraries that tell a command's arguments are loaded, which takes seconds."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--out", default="")
    try:
        out = parser.parse_known_args(words)[0].out
    except argparse.ArgumentError:  # the command's own parser says it better
        return
    if out and is_first():
        check_free(out)


@contextmanager
def _terminating() -> Iterator[None]:
    """SIGTERM raises `Terminated`, once; a second one waits for the cleaning up to end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser(words: Sequence[str]) -> Parser:
    """Only the command that is called gets its arguments: heavy libraries know some of them."""
    parser = Parser(
        prog="interp",
        description="Dictionary learning on language models: from raw text to ranked, explained features.",
        epilog="Start with `interp demo --quick` and open the page it names. `interp COMMAND --help` explains each.",
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    parser.add_argument("--no-verify", action="store_true", help="take files without comparing their SHA-256 sums")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    called = next((word for word in words if not word.startswith("-")), None)
    for command, extend in COMMANDS.items():
        own = add_command(commands, command, whole=command_name(command) == called)
        if extend is not None and command_name(command) == called:
            extend(own)
    return parser


def _quiet_libraries() -> None:
    """Libraries that warn about their own internals would bury our lines; --traceback brings nothing back of them."""
    import logging
    import warnings

    warnings.filterwarnings("ignore")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of each try
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
