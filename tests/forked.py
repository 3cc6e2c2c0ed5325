"""Python code in a process of its own, forked from one that has imported the library: importing it takes seconds.

    done = run_python(CODE, folder)      # as subprocess.run([sys.executable, "-c", CODE, folder], capture_output=True)

For tests of what a process leaves when it is killed, of several processes, and of what importing some packages does:
these it can import anew. A test of what the first import of all does starts Python itself.
"""

import atexit
import gc
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
import types
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, NamedTuple, NoReturn

ROOT = Path(__file__).parents[1]
SECONDS = 240
"""The longest that a process may take."""

FIRST = """
import duckdb, sklearn.cluster, sklearn.utils.extmath, torch, torch.distributed
import interp.activations.harvesting, interp.compare.null_dictionaries, interp.effects, interp.evaluation.baselines
import interp.evaluation.quality, interp.figures.population, interp.report.writing, interp.sae.kernels.numba_kernels
import interp.sae.training, interp.verdict.ranking, models.loading, models.tokenizing, models.training
from numba.core.registry import cpu_target

cpu_target.typing_context.refresh()  # what numba does once before it loads the first compiled loop
cpu_target.target_context.refresh()
torch.set_num_threads(1)
"""
"""What is done once for all processes."""


class Parent(NamedTuple):
    """A process that forks a child for each line that it reads, and answers with the child's status."""

    requests: IO[str]
    answers: IO[str]


_parents: list[Parent] = []


def start_parent() -> None:
    """Fork the process that forks others. To be called when the tests' files are imported, before any test: no test has
    changed anything then, or begun a thread. It ends when this process does, which closes the pipe that it reads."""
    reading, requests = os.pipe()
    answers, writing = os.pipe()
    if os.fork() == 0:
        os.close(requests)
        os.close(answers)
        try:
            _fork_for_each_line(os.fdopen(reading), os.fdopen(writing, "w"))
        finally:
            os._exit(1)  # it never goes on as pytest
    os.close(reading)
    os.close(writing)
    _parents[:] = [Parent(os.fdopen(requests, "w"), os.fdopen(answers))]


def _fork_for_each_line(lines: IO[str], answers: IO[str]) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    os.fsync = lambda fd: None  # as in the tests' own processes
    is_first = True
    while line := lines.readline():
        if is_first:
            gc.disable()
            exec(FIRST, {})
            gc.freeze()  # each search for garbage would go through all of it, and copy the pages that a child shares
            gc.enable()
            is_first = False
        child = os.fork()
        if child == 0:
            try:
                _run(*json.loads(line))
            finally:
                os._exit(1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)


def _run(
    code: str,
    arguments: list[str],
    environment: dict[str, str],
    cwd: str,
    out: str,
    err: str,
    anew: list[str],
) -> NoReturn:
    signal.alarm(SECONDS)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, (path, flags) in enumerate([(os.devnull, os.O_RDONLY), (out, os.O_WRONLY), (err, os.O_WRONLY)]):
        os.dup2(os.open(path, flags), number)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # not those of pytest
    logging.root.handlers.clear()
    _forget(anew)
    sys.argv = ["-c", *arguments]
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    status: int | str = 0
    try:
        exec(compile(code, "<string>", "exec"), vars(main))
    except SystemExit as asked:
        status = asked.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(status))  # Python would free all modules one by one, for two seconds


def _forget(packages: Collection[str]) -> None:
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in packages and (getattr(module, "__file__", None) or "").endswith(".py"):
            del sys.modules[name]  # but no extension, which cannot be imported twice


def run_python(
    code: str,
    *arguments: object,
    environment: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    check: bool = False,
    anew: Collection[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run `code` with these words in `sys.argv`, and return its exit status and what it wrote.

    check: the status must be 0.
    anew: packages of which it has imported nothing yet.
    """
    [parent] = _parents
    words = [str(word) for word in arguments]
    with tempfile.NamedTemporaryFile("r+") as out, tempfile.NamedTemporaryFile("r+") as err:
        environment = dict(os.environ if environment is None else environment)
        asked = [code, words, environment, str(cwd), out.name, err.name, list(anew)]
        print(json.dumps(asked), file=parent.requests, flush=True)
        if not (status := parent.answers.readline()):
            raise RuntimeError("the process that forks others has ended: its error is above")
        done = subprocess.CompletedProcess(words, int(status), _written(out), _written(err))
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def _written(file: IO[str]) -> str:
    file.seek(0)
    return file.read()
