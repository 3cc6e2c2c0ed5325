"""Keep the results of an analysis: claims with their verdicts, figures, and pieces of work that need not be repeated.

    OUT/pieces/NAME.safetensors      one finished piece of the work: arrays, and JSON in the header
    OUT/FIGURE.html, .svg, .json     each figure: to open, to print, to put into a page
    OUT/results.json                 last: claims, numbers, setting, versions, seconds of work

    record = Record(out, setting)
    runs = [record.piece(f"seed-{seed}", lambda: train(seed)) for seed in setting.seeds]   # read back if it exists
    record.finish([Claim(row="7a", text=…, holds=…, found=…, numbers=…)], {"loss": figure})

A piece with another setting is computed again; one that was made before the script was
changed is kept, and named. After a
kill at any point, the same command resumes after the last finished piece.
"""

import argparse
import inspect
import json
import logging
import math
import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
import scipy.stats
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from analyses.bench.peers import versions
from interp import Run
from interp.figures.saving import write_images
from interp.figures.theme import without_slider
from interp.storage.files import digest_file, write_atomically, write_json, write_text

log = logging.getLogger(__name__)
HOLDS = {True: "holds", False: "does not hold", None: "measured"}


class Interval(NamedTuple):
    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3g} ({self.low:.3g} to {self.high:.3g})"

    def percent(self) -> str:
        """Write a share in percent, with its interval cut at 0 and 1."""
        return f"{self.mean:.1%} ({max(self.low, 0):.1%} to {min(self.high, 1):.1%})"


def interval(values: Sequence[float]) -> Interval:
    """Return the mean of one value per seed, with its 95 % interval by Student's t. A single value has no finite
    interval."""
    mean, n = statistics.fmean(values), len(values)
    if n < 2:
        return Interval(mean, -math.inf, math.inf)
    half = float(scipy.stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1)) / math.sqrt(n)  # NaN if a value is
    return Interval(mean, mean - half, mean + half)


@dataclass(frozen=True, kw_only=True)
class Claim:
    row: str
    """The number of the claim, such as "7" or "7b"."""
    text: str
    """The claim, and the threshold by which it is judged, in one sentence."""
    holds: bool | None
    """Whether the claim holds. None if it is only measured, without a threshold."""
    found: str
    """The result in words, with the numbers that decide. Intervals are 95 % intervals."""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """The numbers of `found` for programs: name → number, list over the seeds, or `Interval`."""


class Record:
    """The folder of one analysis."""

    def __init__(self, out: str | Path, setting: Any, *, svg: bool = True):
        """setting: a dataclass that can be written as JSON. It has everything on which the pieces depend."""
        self.out, self.setting, self.svg = Path(out), json.loads(json.dumps(asdict(setting))), svg
        self.script = Path(inspect.getfile(type(setting)))  # where an analysis has its setting
        self.seconds, self._start = 0.0, time.monotonic()
        (self.out / "pieces").mkdir(parents=True, exist_ok=True)

    def piece(self, name: str, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Return the result of `make`, or read it from its file if that exists. Arrays are numpy arrays, and everything
        else is as JSON returns it."""
        file = self.out / "pieces" / f"{name}.safetensors"
        if (kept := self._read(file)) is None:
            begin = time.monotonic()
            piece = make()
            self._write(file, piece, time.monotonic() - begin)
            self.say(f"{name} in {time.monotonic() - begin:.0f} s")
            kept = self._read(file)
            assert kept is not None
        self.seconds += kept.pop("seconds")
        return kept

    def finish(
        self, claims: Sequence[Claim], figures: Mapping[str, go.Figure], values: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Write and print all results. SVG files are written if Chrome is installed.
        values: further numbers that a page shows."""
        for name, figure in figures.items():
            figure.write_html(self.out / f"{name}.html", include_plotlyjs="directory")
            write_text(self.out / f"{name}.json", str(figure.to_json()))
        if self.svg:
            write_svgs(self.out, figures)
        results = {
            "claims": [json_value(asdict(claim)) for claim in claims],
            "values": json_value(dict(values or {})),
            "figures": list(figures),
            "setting": self.setting,
            "versions": versions(),
            "seconds": round(self.seconds, 1),
        }
        write_json(self.out / "results.json", results)
        for claim in claims:
            print(f"{HOLDS[claim.holds]:14s} {claim.row:>4s}  {claim.text}\n{'':21s}{claim.found}")
        return results

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._start:6.0f} s  {text}", flush=True)

    def _read(self, file: Path) -> dict[str, Any] | None:
        if not file.exists():
            return None
        try:
            with safe_open(str(file), "np") as stored:
                facts = json.loads(stored.metadata()["facts"])
                if facts.pop("setting") != self.setting:
                    return None
                if facts.get("script") not in (None, digest_file(self.script)):
                    log.warning("%s was made before %s was changed: delete it to make it again", file, self.script.name)
                return {**facts["values"], **{key: stored.get_tensor(key) for key in stored.keys()}, **facts["time"]}
        except SafetensorError as error:
            raise ValueError(f"{file} is damaged ({error}): delete it, and it is made again") from error

    def _write(self, file: Path, piece: Mapping[str, Any], seconds: float) -> None:
        piece = {
            key: value.numpy(force=True) if isinstance(value, torch.Tensor) else value for key, value in piece.items()
        }
        arrays = {key: np.ascontiguousarray(value) for key, value in piece.items() if isinstance(value, np.ndarray)}
        values = {key: value for key, value in piece.items() if key not in arrays}
        facts = {"setting": self.setting, "values": json_value(values), "time": {"seconds": seconds}}
        facts["script"] = digest_file(self.script)
        with write_atomically(file) as temporary:
            save_file(arrays, temporary, {"facts": json.dumps(facts)})


def options(
    doc: str, name: str, arguments: Sequence[str] | None, runs: str = "runs/essay", **fields: type
) -> argparse.Namespace:
    """Parse the options that every analysis takes: `quick`, `out` (by default the folder `name` in `runs`) and
    `threads`.
    fields: further options, by their types."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny size, for the tests: its numbers mean nothing")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    for option, kind in fields.items():
        parser.add_argument(f"--{option}", type=kind)
    parsed = parse_with_out(parser, arguments, Path(runs) / name)
    torch.set_num_threads(parsed.threads)
    return parsed


def parse_with_out(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, default: Path
) -> argparse.Namespace:
    """Parse the arguments, with `--out` among them. Without it, a quick run goes to a folder of its own, so that it
    replaces nothing that took longer.
    default: the folder of all other runs, in runs/."""
    apart = Path("runs/analyses-quick", *default.parts[1:])
    parser.add_argument("--out", type=Path, help=f"default {default}, with --quick {apart}")
    parsed = parser.parse_args(arguments)
    parsed.out = parsed.out or (apart if parsed.quick else default)
    return parsed


def check_run(
    parser: argparse.ArgumentParser, flag: str, path: Path, stages: Sequence[str], labels: Collection[str] = ()
) -> None:
    """Exit with one line on standard error and code 2, unless `path` is a run folder in which these stages are finished
    and whose text has these labels."""
    try:
        run = Run(path)
        missing = [stage for stage in stages if run.manifest(stage) is None]
        if run.config and missing:  # this reads the configuration, and refuses a bad one first
            raise ValueError(f"{path} has no {' and '.join(missing)} yet: `interp run` or `interp demo` makes them")
        for stage in stages:
            run.results(stage)  # refuses a stage that was left out
        if without := sorted(set(labels) - set(run.train_tokens.label_names)):
            raise ValueError(f"the text of {path} has no label {', '.join(without)}: take a run of the mixture")
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {flag}: {' '.join(str(error).split())}\n")


def write_svgs(out: Path, figures: Mapping[str, go.Figure]) -> None:
    """Write an SVG for each figure. Without Chrome or Chromium on the machine, none is written, and the log says so."""
    try:
        write_images({out / f"{name}.svg": without_slider(figure) for name, figure in figures.items()})
    except RuntimeError:
        log.warning("no SVG of the figures: install Chrome or Chromium and run the same command again")


def json_value(value: Any) -> Any:
    """Convert a value for JSON: numpy's numbers to Python's, intervals to lists, and numbers that are not finite to
    None."""
    if isinstance(value, Mapping):
        return {str(key): json_value(each) for key, each in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [json_value(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
