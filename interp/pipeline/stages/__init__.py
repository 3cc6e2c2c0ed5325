"""The stages of a run; each reads what those before it left, and fills a folder of its own.

corpus → model → activations → sae → features, neurons → effects, quality, concepts, nulls, ranking, words, (wider)
→ report

A stage is one decorated function, from which the running, opening and printing of it follows:

    @stage(
        inputs=("features",),                              # stages whose results it reads
        own={"probes": ProbesConfig},                      # its sections of run.toml, each with what makes its default
        summary="{n:,} probes, mean AUROC {auroc:.3f}",    # the line printed when it ends, of the results it returns
        opens={"probes": ("probes.parquet", "pandas:read_parquet")},     # run.probes
    )
    def probes(run, folder, progress):
        \"\"\"One line of help, for `interp run --help`.\"\"\"
        ...                                                # fill the folder
        return {"n": n, "auroc": auroc}                    # results, kept in its manifest.json

The stages run in the order in which they are defined. Nothing here, and nothing at the head of a stage's file, imports
a heavy library: the command line reads the stages to print its help.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from interp.storage.files import Progress

Build = Callable[[Any, Path, Progress], dict[str, Any]]
"""(run, its own folder, progress) → results. It fills the folder; called again after a cut, it goes on."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    name: str
    help: str
    build: Build
    inputs: tuple[str, ...] = ()
    """Stages whose results it needs."""
    optional: tuple[str, ...] = ()
    """Stages whose results it takes where they are there."""
    own: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    """Sections of the configuration that come with it, each with what makes the demo's."""
    shared: tuple[str, ...] = ()
    """Sections that come with other stages, on which its results depend too."""
    outside: Callable[[Any], Mapping[str, Any]] = lambda config: {}
    """Digests of what it reads from outside the run folder."""
    check: Callable[[Any], None] = lambda config: None
    """Raises ValueError for a configuration that it cannot run; asked of all that may run, first."""
    wanted: Callable[[Any], bool] = lambda config: True
    """Whether a run of this configuration has it at all."""
    opens: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Attributes of a `Run`, each with its place in the stage's folder and the function that reads it, as
    module:function."""
    summary: str | Callable[[dict[str, Any]], str]
    """A format string, or a function, of the results."""

    @property
    def sections(self) -> tuple[str, ...]:
        return (*self.own, *self.shared)

    @property
    def reads(self) -> tuple[str, ...]:
        return (*self.inputs, *self.optional)

    def line(self, manifest: Mapping[str, Any]) -> str:
        """What is printed when it ends: name, seconds, summary."""
        return f"{self.name:12s} {manifest['wall_seconds']:7.1f} s  {self.said(manifest)}"

    def said(self, manifest: Mapping[str, Any]) -> str:
        """The summary. Of results that an earlier version left, without what is said today, their own words."""
        results = manifest["results"]
        try:
            return self.summary.format_map(results) if isinstance(self.summary, str) else self.summary(results)
        except KeyError:
            return ", ".join(f"{name} {value}" for name, value in results.items())


STAGES: dict[str, Stage] = {}
"""By name, in order."""


def stage(**given: Any) -> Callable[[Build], Stage]:
    """Make a stage of the function below, of its name and with its docstring as help. Raises ValueError where a stage
    that it reads comes after it."""

    def register(build: Build) -> Stage:
        made = Stage(name=build.__name__, help=" ".join((build.__doc__ or "").split()), build=build, **given)
        if unknown := [name for name in made.reads if name not in STAGES]:
            raise ValueError(f"stage {made.name} reads {', '.join(unknown)}, of which no stage before it has the name")
        STAGES[made.name] = made
        return made

    return register


def stages_of(config: Any) -> list[Stage]:
    return [stage for stage in STAGES.values() if stage.wanted(config)]


def section(kind: str, **demo: Any) -> Callable[[], Any]:
    """What makes a config of the class that `kind` names, as module:class, with the values of the demo."""
    return lambda: resolve_name(kind)(**demo)
