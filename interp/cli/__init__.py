"""The command line: `interp COMMAND`, also `python -m interp COMMAND`, with typer.

`demo` and `run` build a run folder stage by stage; the other commands do one stage each on files that you name. A
command is a function: its parameters are the arguments, its docstring is the help. It imports what it needs when it is
called, so that help is quick. Bad input ends with one line on standard error and exit code 2. Ctrl-C ends with 130 and
SIGTERM with 143, also with one line, and half-written files are removed. Under `torchrun` only the first process
prints.
"""

import atexit
import itertools
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from interp.checks.errors import InterpError
from interp.cli.comparison_commands import compare_command
from interp.cli.error_lines import is_expected, one_line, usage_line
from interp.cli.field_flags import with_field_flags
from interp.cli.graph_command import graph_command
from interp.cli.judge_command import judge_command
from interp.cli.model_commands import harvest_command, quality_command, tokenize_command
from interp.cli.option_groups import GroupedCommand, GroupedCommands
from interp.cli.page_commands import explore_command, publish_command, publish_help, report_command
from interp.cli.run_commands import demo_command, plan_command, run_command, run_help, warm_up_command
from interp.cli.sae_commands import export_command, export_help, train_sae_command, train_sae_help
from interp.cli.scan_command import scan_command
from interp.cli.table_commands import effects_command, rank_command
from interp.runtime.compiled_loops import forget_outdated_loops
from interp.runtime.memory import limit_arenas
from interp.runtime.progress_bar import no_bars_inside
from interp.runtime.torchrun import is_first, is_shared

COMMAND_GROUPS: dict[str, dict[str, Callable[..., None]]] = {
    "Whole runs": {
        "demo": demo_command,
        "run": run_command,
        "plan": plan_command,
        "warm-up": warm_up_command,
    },
    "What a run found": {
        "explore": explore_command,
        "graph": graph_command,
        "compare": compare_command,
        "judge": judge_command,
    },
    "One stage at a time": {
        "tokenize": tokenize_command,
        "harvest": harvest_command,
        "train-sae": train_sae_command,
        "quality": quality_command,
        "scan": scan_command,
        "rank": rank_command,
        "effects": effects_command,
        "report": report_command,
    },
    "For other tools": {
        "export": export_command,
        "publish": publish_command,
    },
}
"""The commands, as help groups them."""
COMMANDS = {name: command for group in COMMAND_GROUPS.values() for name, command in group.items()}
_HELP = {"run": run_help, "export": export_help, "publish": publish_help, "train-sae": train_sae_help}
"""What writes the help of a command that lists what is registered."""
_SHARED = ("harvest", "train-sae", "scan", "rank", "effects")
"""The commands whose work `torchrun` divides; with any other, each process would write the same files."""
_THAT_RESUME = ("demo", "run", "tokenize", "harvest", "train-sae", "scan", "judge")
"""The commands that go on where they were interrupted. Any other begins again."""
_THAT_WARN = (
    "torch",
    "transformers",
    "transformer_lens",
    "sae_lens",
    "huggingface_hub",
    "datasets",
    "sklearn",
    "numba",
)
"""Libraries that warn about their own internals."""
_COMPLETION = "_INTERP_COMPLETE"
"""Set by the shell when it asks for completions."""


class Terminated(KeyboardInterrupt):
    """SIGTERM as an exception, so that it cleans up as Ctrl-C does."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code. arguments: its words (default: the arguments of the process, which then
    ends with the command)."""
    if arguments is not None:
        return _exit_code(list(arguments))
    limit_arenas()
    forget_outdated_loops()
    codes = [1]  # of an error that is raised
    atexit.register(_end, codes)  # the first handler that is registered is called last
    codes[0] = _exit_code(sys.argv[1:])
    return codes[0]


def _exit_code(words: list[str]) -> int:
    """Run a command, print its error in one line if it fails, and return its exit code."""
    try:
        with _terminating(), no_bars_inside("interp"):  # the commands show their own
            _run(words)
            sys.stdout.flush()
    except typer.Exit as end:
        return end.exit_code
    except typer.TyperException as error:
        return _refused(usage_line(error))
    except BrokenPipeError:  # the reader of our output, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as error:
        terminated = isinstance(error, Terminated)
        if is_first():
            event = "terminated" if terminated else "interrupted"
            command = next(filter(COMMANDS.__contains__, words), "")
            why = "to resume" if command in _THAT_RESUME else "to start over"
            print(f"interp: {event}; run the same command again {why}", file=sys.stderr)
        return 143 if terminated else 130
    except Exception as error:  # expected errors are printed below; any other is raised again
        if "--traceback" in words or not is_expected(error):
            raise
        is_explained = isinstance(error, InterpError | OSError)  # a library's error may be a bug of interp
        hint = "" if is_explained else " (interp --traceback … shows where)"
        return _refused(one_line(error) + hint, everywhere=isinstance(error, OSError))
    return 0


def _end(codes: list[int]) -> None:
    """End the process at once, with the only code: Python would first free the modules of torch one by one."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(codes[0])


def _run(words: list[str]) -> None:
    flags = itertools.takewhile(lambda word: word != "--", words)  # the words behind it are none
    for before, word in itertools.pairwise(["interp", *flags]):
        if not word or re.fullmatch("--[^=]+=", word):  # such as an unset variable of the shell
            flag = word[:-1] or before
            kind, remedy = ("value", ", or leave the option out") if flag.startswith("-") else ("argument", "")
            raise InterpError(f"the {kind} after {flag} is empty: give one{remedy}")
    words = _import_plugins(words)
    group: Any = typer.main.get_command(_app(words))
    if _COMPLETION in os.environ:
        group.main(words, prog_name="interp", complete_var=_COMPLETION)
    with group.make_context("interp", words) as context:
        group.invoke(context)


def _import_plugins(words: list[str]) -> list[str]:
    """Run the files that --import names, anywhere before a --, and return the other words. This comes first, because
    the options of a command depend on what the files register."""
    rest, plugins = [], []
    following = iter(words)
    for word in following:
        flag, _, file = word.partition("=")
        if word == "--":
            rest += [word, *following]
        elif flag != "--import":
            rest.append(word)
        elif not (file := file or next(following, "")):
            raise InterpError("--import needs the name of a Python file")
        else:
            plugins.append(file)
    if plugins:
        from interp.pipeline.plugins import import_plugin

        if _called(rest) in ("demo", "run", "plan"):
            raise InterpError('a run records its plugins: write plugins = ["mine.py"] in its configuration')
        for file in plugins:
            import_plugin(file)
    return rest


def _called(words: Sequence[str]) -> str:
    """Return the name of the command; the options before it have no values."""
    return next((word for word in words if not word.startswith("-")), "")


def _app(words: Sequence[str]) -> typer.Typer:
    app = typer.Typer(
        cls=GroupedCommands,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    )
    app.callback(invoke_without_command=True)(_options)
    if _COMPLETION in os.environ:
        words = os.environ.get("COMP_WORDS", os.environ.get("_TYPER_COMPLETE_ARGS", "")).split()[1:]
    called = _called(words)
    if called in COMMANDS and called not in _SHARED and is_shared():
        shared = " and ".join(f"`interp {name}`" for name in _SHARED)
        raise InterpError(
            f"`interp {called}` runs in one process (only {shared} use several): start it without torchrun"
        )
    group_of = {name: title for title, group in COMMAND_GROUPS.items() for name in group}
    for name, command in COMMANDS.items():
        is_called = name == called  # the flags and lists that the library gives a command take time to import
        write_help = _HELP.get(name) if is_called and {"-h", "--help"} & set(words) else None
        help_text = write_help() if write_help else command.__doc__
        app.command(name, help=help_text, cls=GroupedCommand, rich_help_panel=group_of[name])(
            with_field_flags(command) if is_called else _listed
        )
    return app


def _listed() -> None:
    """Stand for a command that is not called."""


def _version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version

        print(f"interp {version('interp')}")
        raise typer.Exit


def _options(
    context: typer.Context,
    traceback: Annotated[bool, Option("--traceback", help="show where an error came from")] = False,
    no_verify: Annotated[bool, Option("--no-verify", help="do not check the SHA-256 sums of files")] = False,
    plugins: Annotated[
        list[Path] | None, Option("--import", metavar="<path>", help="run this Python file first: your own code")
    ] = None,
    version: Annotated[bool, Option("--version", help="print the version", is_eager=True, callback=_version)] = False,
) -> None:
    """Dictionary learning on language models: from raw text to ranked, explained features.

    Start with `interp demo --quick` and open the page it names. `interp COMMAND --help` explains a command. The options
    come before the command."""
    if context.invoked_subcommand is None:
        print(context.get_help())
    if no_verify:
        os.environ["INTERP_VERIFY"] = "0"
    if not traceback:
        _quiet_libraries()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def _refused(line: str, *, everywhere: bool = False) -> int:
    """Print a refusal. everywhere: from each process under `torchrun`, for errors that only one of them may have."""
    if everywhere or is_first():
        print(f"interp: {line}", file=sys.stderr)
    return 2


@contextmanager
def _terminating() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM, once; a second one waits until the clean-up ends."""
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


def _quiet_libraries() -> None:
    """Silence libraries that warn about their own internals: the warnings would hide our output."""
    import logging
    import warnings

    for library in _THAT_WARN:
        warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it logs each retry
