"""Runs that are disturbed: killed at any moment, or two at once in one folder. What is there at the end?

    kill     `interp run` is killed (SIGKILL) again and again at moments drawn from the seed, until it comes to its end
    pair     two `interp run` of one folder, the second a moment after the first: one ends, one exits with 2 in two
             seconds and says who holds the folder

Each must leave, byte for byte, what an undisturbed run leaves; wall times and what follows from them apart.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

_TIMES = ("wall_seconds", "seconds", "tokens_per_second", "fingerprint", "sha256", "bytes", "peak_megabytes")
_MAX_KILLS = 40


def kill(rng: Random, whole: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """Rows for ever: one a run that was killed until it ended. `whole` is the undisturbed one, with its run.toml."""
    expected = contents(whole)
    longest = 1.5 * sum(json.loads(file.read_text())["wall_seconds"] for file in whole.glob("*/manifest.json")) + 5
    while True:
        killed, code, begin = 0, -signal.SIGKILL, time.monotonic()
        while code == -signal.SIGKILL:
            process = _start(whole, folder)
            try:
                code = process.wait(rng.uniform(1, longest) if killed < _MAX_KILLS else None)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
                killed += 1
        yield _row("kill", f"killed {killed} times", code, begin, process, expected, folder)


def pair(rng: Random, whole: Path, folder: Path) -> Iterator[dict[str, Any]]:
    expected = contents(whole)
    while True:
        begin = time.monotonic()
        first = _start(whole, folder)
        wait = rng.uniform(0, 12)
        time.sleep(wait)
        second, started = _start(whole, folder), time.monotonic()
        codes = [second.wait()]
        took = time.monotonic() - started
        codes.append(first.wait())
        row = _row("pair", f"{wait:.1f} s apart, refused in {took:.1f} s", max(codes), begin, second, expected, folder)
        if sorted(codes) == [0, 2] and row["verdict"] == "ok":
            row["verdict"] = "ok" if "is in use by process" in row["message"] or codes[0] == 0 else "nameless"
        elif codes == [0, 0]:
            row["case"] += ", after the first had ended"
        yield row


def contents(folder: Path) -> dict[str, bytes]:
    """Each file of a run; of JSON what is no time; of manifests their results; without the page, which says times."""
    found = {}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if not file.is_file() or name.startswith("report/page/"):
            continue
        data = file.read_bytes()
        if file.suffix in (".json", ".jsonl"):
            lines = data.splitlines() if file.suffix == ".jsonl" else [data]
            data = b"\n".join(json.dumps(_timeless(json.loads(line)), sort_keys=True).encode() for line in lines)
        found[name] = data
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(inner) for name, inner in value.items() if name not in _TIMES}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def _start(whole: Path, folder: Path) -> subprocess.Popen:
    words = [sys.executable, "-m", "interp", "run", str(whole / "run.toml"), "--out", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _row(
    kind: str, what: str, code: int, begin: float, process: subprocess.Popen, expected: dict[str, bytes], folder: Path
) -> dict[str, Any]:
    said = (process.stderr.read() if process.stderr else "").strip().splitlines()
    there = contents(folder)
    unlike = sorted(name for name in {*expected, *there} if expected.get(name) != there.get(name))
    shutil.rmtree(folder)
    verdict = "accepted" if unlike else "ok" if code in (0, 2) else "signal" if code < 0 else "exit"
    message = f"differs: {', '.join(unlike[:5])}" if unlike else said[-1] if said else ""
    row = {"kind": kind, "case": what, "exit": code, "seconds": round(time.monotonic() - begin, 2), "peak_mb": 0}
    return row | {"verdict": verdict, "message": message[:500]}
