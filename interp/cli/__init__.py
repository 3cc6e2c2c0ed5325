"""The command line: `interp COMMAND`, also `python -m interp COMMAND`.

`demo` and `run` build a run folder stage by stage; the other commands do one stage each on files that you name.
Bad input ends with one line on standard error and exit code 2. Under `torchrun` the first process speaks.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from interp.cli.console import is_first
from interp.cli.dictionaries import add_export, add_train_sae
from interp.cli.features import add_rank, add_report, add_scan
from interp.cli.judging import add_judge
from interp.cli.parsing import Parser, one_line
from interp.cli.runs import add_demo, add_harvest, add_run, add_train_model, add_warm_up
from interp.cli.trust import add_scorecard


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    _quiet_libraries()
    try:
        options.command(options)
    except (ValueError, OSError) as error:
        if options.traceback:
            raise
        if is_first() or isinstance(error, OSError):
            print(f"interp: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interp: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="interp",
        description="Dictionary learning on language models: from raw text to ranked, explained features.",
        epilog="Start with `interp demo --quick` and open the page it names. `interp COMMAND --help` explains each.",
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    parser.set_defaults(command=None)
    for add in (add_demo, add_run, add_train_model, add_harvest, add_train_sae, add_scan, add_rank, add_report):
        add(commands)
    add_judge(commands)
    add_scorecard(commands)
    add_export(commands)
    add_warm_up(commands)
    return parser


def _quiet_libraries() -> None:
    """Libraries that warn about their own internals would bury our lines; --traceback brings nothing back of them."""
    import logging
    import warnings

    warnings.filterwarnings("ignore")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of each try
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
