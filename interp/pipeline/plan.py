"""Estimate, before any work, what each stage of a run needs: bytes on disk and of memory, operations, seconds. If
something does not fit on this machine, suggest numbers in the configuration with which it would.

    plan = Plan.of(config, "runs/mine");  print(plan.text(Speed.measure()));  plan.check()

Each stage states its cost (`Stage.cost`) as a function of sizes that follow from the configuration (`costs.Sizes`). A
run is refused if the least that it must hold does not fit; its libraries take LIBRARY_BYTES more.
"""

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from interp.checks.errors import TooLargeError
from interp.checks.free_memory import free_memory
from interp.pipeline.config import RunConfig
from interp.pipeline.costs import Cost, Sizes, Speed
from interp.pipeline.run import open_runs
from interp.pipeline.run_folder import run_folders
from interp.pipeline.stages import STAGES, Stage
from interp.pipeline.stages.sae import MANY_TIMES
from interp.pipeline.states import stages_lost, state_of
from interp.storage.addresses import as_local_path
from interp.storage.folders import unfinished_folder

LIBRARY_BYTES = 1.5e9
"""The memory that Python, PyTorch, compiled kernels and buffers take; fitted to the peaks of the demo's stages."""


class Row(NamedTuple):
    stage: str
    cost: Cost
    """The costs for all hooks of the run."""


@dataclass(frozen=True)
class Plan:
    sizes: Sizes
    out: Path
    stages: tuple[Stage, ...]
    free_disk: float
    """Free bytes, including those of existing stages, finished or interrupted, which are reused or replaced."""
    free_memory: float
    replaced: Mapping[str, int] = field(default_factory=dict)
    """The bytes of existing stages that are made again, which are free only when the new ones are whole."""

    @classmethod
    def of(
        cls,
        config: RunConfig,
        out: str | Path,
        stages: Sequence[Stage] | None = None,
        *,
        outdated: Collection[Path] = (),
    ) -> "Plan":
        """Return the plan of some stages, or all, of a run in the folder `out`.
        outdated: folders of stages known to be made again, besides those of other settings or inputs.
        Raises ValueError for a model or dictionary that cannot be opened, and for a hook that the model does not
        have."""
        out = as_local_path(out)
        sizes = Sizes(config)
        planned = tuple(STAGES.values() if stages is None else stages)
        folders = run_folders(out, sizes.config)
        existing_bytes = (
            _count_bytes(path)
            for folder in folders
            for stage in planned
            for path in (folder / stage.name, unfinished_folder(folder / stage.name))
        )
        replaced = _replaced(out, sizes.config, outdated)
        bytes_replaced = {
            stage.name: sum(_count_bytes(path) for path in replaced if path.name == stage.name) for stage in planned
        }
        existing = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
        return cls(
            sizes, out, planned, shutil.disk_usage(existing).free + sum(existing_bytes), free_memory(), bytes_replaced
        )

    @cached_property
    def rows(self) -> list[Row]:
        return [Row(stage.name, self._cost(stage, self.sizes)) for stage in self.stages]

    @property
    def total(self) -> Cost:
        return sum((row.cost for row in self.rows), Cost())

    @property
    def disk_needed(self) -> float:
        """The most bytes that there are at a time: of the stages made so far, of the existing ones that they have not
        replaced yet, and of what is kept meanwhile."""
        made = accumulate(row.cost.disk for row in self.rows)
        not_replaced = [*accumulate(self.replaced.get(row.stage, 0) for row in reversed(self.rows))][::-1]
        return max(map(sum, zip(made, not_replaced, strict=True)), default=0) + self.total.scratch

    def faults(self) -> list[str]:
        """Return a line for each thing that does not fit, with settings that would."""
        lines = []
        for stage, (name, cost) in zip(self.stages, self.rows, strict=True):
            if cost.memory > self.free_memory:
                needs = f"{name} needs {_bytes(cost.memory)} of memory, but only {_bytes(self.free_memory)} are free"
                lines.append(f"{needs}{self._remedy(stage, partial(Plan._fits_memory, stage=stage))}")
        if not self._fits_disk():
            largest = max(zip(self.stages, self.rows, strict=True), key=lambda pair: pair[1].cost.disk)[0]
            needs = (
                f"the run needs {_bytes(self.disk_needed)} on the disk of {self.out}, but only "
                f"{_bytes(self.free_disk)} are free"
            )
            lines.append(f"{needs}, most of it for {largest.name}{self._remedy(largest, Plan._fits_disk)}")
        return lines

    def check(self) -> None:
        """Raise TooLargeError, in one line, if the run does not fit."""
        if faults := self.faults():
            raise TooLargeError("; ".join(faults))

    def text(self, speed: Speed) -> str:
        """Return a table with one line per stage, followed by what does not fit or suffice."""
        lines = [f"{'stage':12s} {'on disk':>10s} {'memory':>10s} {'operations':>11s} {'time':>9s}"]
        rows = [*self.rows, Row("all", self.total)]
        for name, cost in rows:
            memory = _bytes(cost.memory + LIBRARY_BYTES)
            operations = f"{cost.operations:.1e}"
            seconds = _duration(cost.seconds_on(speed))
            lines.append(f"{name:12s} {_bytes(cost.disk):>10s} {memory:>10s} {operations:>11s} {seconds:>9s}")
        if scratch := self.total.scratch:
            lines.append(f"Up to {_bytes(scratch)} more on disk meanwhile.")
        times = getattr(self.sizes.config.sae, "tokens", 0) / max(self.sizes.rows, 1)
        if times > MANY_TIMES:
            lines.append(f"The training reads each row {times:.0f} times: with more text fewer latents die.")
        lines += [
            f"{_bytes(self.free_disk)} on disk and {_bytes(self.free_memory)} of memory are free.",
            f"This machine, if nothing else runs: {speed.float32_rate / 1e9:,.0f} billion operations a second in "
            f"float32, {speed.bfloat16_rate / 1e9:,.0f} in bfloat16.",
        ]
        return "\n".join([*lines, *(f"does not fit: {fault}" for fault in self.faults())])

    def _cost(self, stage: Stage, sizes: Sizes) -> Cost:
        return stage.cost(sizes).times(len(sizes.config.harvest.hook_names) if stage.made_for == "each hook" else 1)

    def _fits_memory(self, stage: Stage) -> bool:
        return self._cost(stage, self.sizes).memory <= self.free_memory

    def _fits_disk(self) -> bool:
        return self.disk_needed <= self.free_disk

    def _remedy(self, stage: Stage, fits: Any) -> str:
        """Return the largest number of each field that makes it fit, found by halving."""
        options = []
        for path in stage.reduced_by:
            section, name = path.split(".")
            now = getattr(getattr(self.sizes.config, section), name, None)
            if now is None:
                continue
            low, high = 0, now
            while high - low > max(1, low // 100):
                middle = (low + high) // 2
                low, high = (middle, high) if self._fits_with(section, name, middle, fits) else (low, middle)
            if low:
                options.append(f"[{section}] {name} = {_round_down(low)}")
        return f": {' or '.join(options)} would fit" if options else ""

    def _fits_with(self, section: str, name: str, value: int, fits: Any) -> bool:
        config = self.sizes.config
        try:
            changed = config.replace(**{section: replace(getattr(config, section), **{name: value})})
        except ValueError:  # fewer latents than fire, say
            return False
        return fits(replace(self, sizes=self.sizes.with_config(changed)))


def _replaced(out: Path, config: RunConfig, outdated: Collection[Path]) -> set[Path]:
    """Return the folders of stages that are made again: the outdated, those of other settings or inputs, and those that
    read one of these."""
    replaced = set(outdated)
    for run in open_runs(out, config):
        states = {name: state_of(run, stage, outside=False) for name, stage in STAGES.items()}
        others = [name for name, state in states.items() if state.name == "replaced" or run.folder(name) in replaced]
        replaced |= {run.folder(name) for name in stages_lost(run, others)}
    return replaced


def _count_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _round_down(number: int) -> str:
    """Round down to two digits."""
    unit = 10 ** max(0, len(str(number)) - 2)
    return f"{number // unit * unit:_}"


def _bytes(number: float) -> str:
    unit, name = next(((size, name) for size, name in ((1e12, "TB"), (1e9, "GB")) if number >= size), (1e6, "MB"))
    return f"{number / unit:,.1f} {name}"


def _duration(seconds: float) -> str:
    for unit, name in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:,.1f} {name}"
    return f"{seconds:.1f} s"
