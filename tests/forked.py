"""Python code in a process of its own, forked from one that has imported the library: importing it takes seconds.

    done = run_python(CODE, folder)      # as subprocess.run([sys.executable, "-c", CODE, folder], capture_output=True)

For tests of what a process leaves when it is killed, of several processes, and of what importing some packages does:
these it can import anew. A test of what the first import of all does starts Python itself.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]
SECONDS = 240
"""The longest that a process may take."""

# It has no threads, and forks a child for each line that it reads: [code, arguments, environment, cwd, out, err, anew].
PARENT = """
import atexit, gc, importlib.machinery, json, os, signal, sys, threading, traceback, types

gc.disable()
import duckdb, pytest, sklearn.cluster, sklearn.utils.extmath, torch.distributed
import interp.activations.harvesting, interp.compare.null_dictionaries, interp.effects, interp.evaluation.baselines
import interp.evaluation.quality, interp.figures.population, interp.report.writing, interp.sae.kernels.numba_kernels
import interp.sae.training, interp.verdict.ranking, models.loading, models.tokenizing, models.training
from numba.core.registry import cpu_target

cpu_target.typing_context.refresh()  # what numba does once before it loads the first compiled loop
cpu_target.target_context.refresh()
gc.freeze()  # each search for garbage would go through all of it, and copy the pages that a child shares
gc.enable()


def forget(packages):
    for name, module in list(sys.modules.items()):
        loader = getattr(module, "__loader__", None)
        if name.split(".")[0] in packages and isinstance(loader, importlib.machinery.SourceFileLoader):
            del sys.modules[name]  # but no extension, which cannot be imported twice


def run(code, arguments, environment, cwd, out, err, anew):
    signal.alarm(%d)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, (path, flags) in enumerate([(os.devnull, os.O_RDONLY), (out, os.O_WRONLY), (err, os.O_WRONLY)]):
        os.dup2(os.open(path, flags), number)
    forget(anew)
    sys.argv = ["-c", *arguments]
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    status = 0
    try:
        exec(compile(code, "<string>", "exec"), vars(main))
    except SystemExit as asked:
        status = asked.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # Python would free all modules one by one, for two seconds


lines, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
while line := lines.readline():
    child = os.fork()
    if child == 0:
        run(*json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)
os._exit(0)
"""


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
    parent = _parent()
    assert parent.stdin is not None and parent.stdout is not None
    words = [str(word) for word in arguments]
    with tempfile.NamedTemporaryFile("r+") as out, tempfile.NamedTemporaryFile("r+") as err:
        environment = dict(os.environ if environment is None else environment)
        asked = [code, words, environment, str(cwd), out.name, err.name, list(anew)]
        print(json.dumps(asked), file=parent.stdin, flush=True)
        if not (status := parent.stdout.readline()):
            raise RuntimeError("the process that forks others has ended: its error is above")
        done = subprocess.CompletedProcess(words, int(status), _written(out), _written(err))
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def _written(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


@lru_cache
def _parent() -> subprocess.Popen[str]:
    """Return the process that forks others. It ends when this one does, which closes the pipe that it reads."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PARENT % SECONDS]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )
