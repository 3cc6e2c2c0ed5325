"""One hostile input, tried: `interp` with its words in a process of its own, which may crash, hang or ask for memory.

In: a `Case` and a finished run that it may read. Out: a row with what became of it,

    ok           exit code 0, 2, 130 or 143; at 2 one line that names the file, the option or the value
    accepted     exit code 0, where the input is wrong
    nameless     one line that names none of them;    lines: more or fewer lines than one
    traceback    an exception came out;    signal: the process died;    exit: another exit code
    memory       more than 1 GB beside what the libraries take;    slow: more than 10 seconds of a processor

Where a case does not ask for checksums they are off (`INTERP_VERIFY=0`), to see what else refuses. A process is forked
from a server that has the libraries in memory already. It may take 3 GB more than that, write files of 1 GB and run for
20 seconds of a processor, two minutes in all.
"""

import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

MAX_SECONDS, MAX_MB = 10, 1000
_KILLED_AFTER, _CPU_SECONDS, _ADDRESSES, _FILE = 120, 20, 3 << 30, 1 << 30
_LOADED = (
    "interp.cli",
    "interp.activations.harvesting",
    "interp.report",
    "interp.monosemanticity.ranking",
    "interp.evaluation.quality",
    "interp.pipeline.run_folder",
    "models.training",
    "models.corpus",
    "pyarrow.dataset",
    "duckdb",
)
_REMEDY = re.compile("again|anew|makes|delete|choose another|--redo")
_PROGRESS = re.compile(r"\w[\w ]*: [\d,]+ of ")


@dataclass(frozen=True)
class Case:
    kind: str
    what: str
    """In words, for the table."""
    words: tuple[str, ...]
    """Of the command line. {run} is a finished run, {here} the case's own folder."""
    files: Mapping[str, bytes | None] = field(default_factory=dict)
    """By their place in {here}; one under run/ stands in a run of the case's own; None: it is deleted."""
    named: tuple[str, ...] = ()
    """One of these must be in the message."""
    wrong: bool = False
    """Exit code 0 is no answer to it."""
    own_run: bool = False
    """The case gets a copy of the run that it may change, in {here}/run."""
    verify: bool = False
    """With checksums."""
    remedy: bool = False
    """The message says how to make anew what is damaged."""


def attempt(case: Case, run: Path, here: Path) -> dict[str, Any]:
    """The row of a case; `here` is made for it and removed."""
    own = case.own_run or any(name.startswith("run/") for name in case.files)
    here.mkdir(parents=True)
    if own:
        shutil.copytree(run, here / "run", copy_function=_copy)
    for name, content in case.files.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).unlink(missing_ok=True)
        if content is not None:
            (here / name).write_bytes(content)
    places = {"{run}": str(here / "run" if own else run), "{here}": str(here)}
    words = [re.sub(r"\{run\}|\{here\}", lambda found: places[found[0]], word) for word in case.words]
    code, seconds, peak = _in_a_process(words, here, case.verify)
    said = (here / "stderr").read_text(encoding="utf-8", errors="replace").splitlines()
    lines = [line for line in said if line.strip() and not _PROGRESS.match(line)]
    verdict = _verdict(case, code, seconds, peak, lines)
    shutil.rmtree(here, ignore_errors=True)
    row = {"kind": case.kind, "case": case.what, "exit": code, "seconds": round(seconds, 2), "peak_mb": round(peak)}
    return row | {"verdict": verdict, "message": (lines[-1] if lines else "")[:500]}


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """By kind, how many rows have each verdict."""
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        own = counts.setdefault(row["kind"], {})
        own[row["verdict"]] = own.get(row["verdict"], 0) + 1
    return counts


def _verdict(case: Case, code: int, seconds: float, peak: float, lines: list[str]) -> str:
    if seconds > MAX_SECONDS:
        return "slow"
    if peak > MAX_MB:
        return "memory"
    if code < 0:
        return "signal"
    if any(line.startswith("Traceback") for line in lines):
        return "traceback"
    if code not in (0, 2, 130, 143):
        return "exit"
    if code == 0:
        return "accepted" if case.wrong else "ok"
    if len(lines) != 1 or not lines[0].startswith("interp: "):
        return "lines"
    said = lines[0].lower()
    named = not case.named or any(name.lower() in said for name in case.named)
    return "ok" if named and (not case.remedy or _REMEDY.search(said)) else "nameless"


def _copy(source: str, target: str) -> None:
    """A link where the file is only ever replaced whole."""
    (shutil.copy if source.endswith(".jsonl") else os.link)(source, target)


def _in_a_process(words: list[str], here: Path, verify: bool) -> tuple[int, float, float]:
    """Exit code, seconds, and MB beside what the libraries take."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__, *_LOADED])
    process: ForkServerProcess = server.Process(target=_child, args=(words, str(here), verify))
    process.start()
    process.join(_KILLED_AFTER)
    hangs = process.is_alive()
    if hangs:
        process.kill()
        process.join()
    code = process.exitcode if process.exitcode is not None else 1
    note = here / "spent.json"
    if note.is_file():
        code, seconds, peak = json.loads(note.read_text())
        return code, seconds, peak
    return code, float(_KILLED_AFTER if hangs or code == -signal.SIGXCPU else 0), 0.0


def _child(words: list[str], here: str, verify: bool) -> None:
    for name, stream in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(f"{here}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), stream)
    sys.stdin = open(os.devnull)
    os.chdir(here)
    before = _kilobytes("VmHWM")
    limits = (resource.RLIMIT_AS, _kilobytes("VmSize") * 1024 + _ADDRESSES), (resource.RLIMIT_FSIZE, _FILE)
    for kind, limit in (*limits, (resource.RLIMIT_CPU, _CPU_SECONDS)):
        resource.setrlimit(kind, (limit, limit + 5))
    os.environ |= {"OPENAI_API_KEY": "none", "INTERP_VERIFY": str(int(verify)), "OMP_NUM_THREADS": "1"}
    from interp.cli import main

    code = 1
    try:
        code = main(words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    spent = [code, time.process_time(), (_kilobytes("VmHWM") - before) / 1e3]
    Path(here, "spent.json").write_text(json.dumps(spent))
    os._exit(code)


def _kilobytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)
