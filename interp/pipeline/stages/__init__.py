"""The stages of a run; each reads the results of earlier stages, and fills a folder of its own.

They run in the order of `ORDER`. If a run has several hooks, `corpus` and `model` are made once for the run.
`activations`, `sae` and `features` are made for all hooks together, as they may share passes of the model; later stages
are made for each hook, one after the other (`Stage.made_for`).

A stage is one decorated function; running, opening, printing and showing it follow from its declaration:

    @stage(
        version=1,                                         # raised when it gives other results than before
        inputs=("features",),                              # stages whose results it reads
        config={"probes": ProbesConfig},                   # its sections of run.toml, with default factories
        cost=lambda sizes: Cost(seconds=1e-6 * sizes.rows),              # its cost for `interp plan`
        opens={"probes": ("probes.parquet", pd.read_parquet)},           # run.probes
        summary="{n:,} probes, mean AUROC {auroc:.3f}",    # the line printed when it ends, of the results it returns
        panel=lambda run: Panel(note="…", table=run.probes),             # its panel on the page
    )
    def probes(run, folder, progress):
        \"\"\"One line of help, for `interp run --help`.\"\"\"
        ...                                                # fill the folder
        return {"n": n, "auroc": auroc}                    # results, kept in its manifest.json

A new stage of the library is such a function in a file of its name in this folder, with the class of its section. It
runs before the page and after the others of `ORDER`, as a user's stage does: name it there if it must run earlier. So
that type checkers and editors know them, `config.RunConfig` and `run.Run` list the sections and attributes that
the library itself reads; others need no entry. Neither this file nor the top level of a stage's file imports a heavy
library, since the command line reads the stages to print its help.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, Literal

from interp.checks.errors import InterpError
from interp.checks.limits import shortened_repr
from interp.pipeline.costs import Cost, Sizes
from interp.runtime.progress import Progress
from interp.runtime.registry import register
from interp.storage.artifacts import HOOKS
from interp.storage.files import json_roundtrip

if TYPE_CHECKING:
    import pandas as pd

    from interp.report.panels import Panel

ORDER = (
    "corpus",
    "model",
    "activations",
    "sae",
    "features",
    "neurons",
    "effects",
    "quality",
    "concepts",
    "nulls",
    "ranking",
    "names",
    "report",
)
"""The order of these stages. Others run after them, but before the last one, the page, which uses all their results."""
NEXT_LINE = "\n" + " " * 24
"""Separates the lines of a summary, which come after the stage's name and seconds."""
LINE_WIDTH = 119
"""Most characters of a printed line, so that it fits a terminal of 120 columns."""
_DONE_BEFORE = "  (done before)"
MadeFor = Literal["run", "all hooks", "each hook"]
Build = Callable[[Any, Any, Progress], Any]
"""(run, the stage's folder, progress) → results. It fills the folder; called again after an interruption, it resumes.
If the stage is made for all hooks, (runs, folders, progress) → the results of each."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    name: str
    help: str
    build: Build
    version: int = 1
    """The version of its results. Raise it by one when the same settings and inputs would give other results, or other
    files: existing runs then make this stage and those that read it again, and keep the others."""
    inputs: tuple[str, ...] = ()
    """Stages whose results it needs."""
    optional: tuple[str, ...] = ()
    """Stages whose results it uses if they exist."""
    made_for: MadeFor = "each hook"
    """What it is made for, if a run has several hooks: once for the run, which all hooks share; for all hooks in one
    call, but each in its own folder, and each counts its share of the seconds; or for one hook after the other."""
    config: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    """Sections of the configuration that it defines, each with a factory of the demo's values."""
    other_sections: tuple[str, ...] = ()
    """Sections of other stages on which its results also depend."""
    extended_by: tuple[str, ...] = ()
    """What a user can register that changes its results, by the nouns of `registry.register`."""
    outside_inputs: Callable[[Any], Mapping[str, Any]] = lambda run: {}
    """Returns further things that the results depend on, by name, such as digests of files outside the run."""
    outside_words: Mapping[str, str] = field(default_factory=dict)
    """What these things are called where one has changed; by default by their names."""
    check: Callable[[Any], None] = lambda config: None
    """Checks the configuration before any stage runs. Raises ValueError if the stage cannot run with it."""
    cost: Callable[[Sizes], Cost] = lambda sizes: Cost()
    """Its estimated cost (`interp plan`): of one hook if it is made for each, otherwise of all."""
    reduced_by: tuple[str, ...] = ()
    """Fields of the configuration, "section.field", that can be lowered to need less memory or disk."""
    opens: Mapping[str, tuple[str, Callable[[Path], Any]]] = field(default_factory=dict)
    """Attributes of a `Run`, each with its place in the stage's folder and the function that reads it."""
    summary: str | Callable[[dict[str, Any]], str]
    """A format string, or a function, of the results."""
    panel: "Callable[[Any], Panel | None]" = lambda run: None
    """Returns its panel on the page, for a run in which it is finished, or None for no panel."""

    @property
    def sections(self) -> tuple[str, ...]:
        return (*self.config, *self.other_sections)

    @property
    def makes_page(self) -> bool:
        return self.name == ORDER[-1]

    @property
    def all_inputs(self) -> tuple[str, ...]:
        """The stages whose results it reads; the page reads all."""
        if self.makes_page:
            return tuple(name for name in STAGES if name != self.name)
        return (*self.inputs, *self.optional)

    def line(self, manifest: Mapping[str, Any], hook_name: str = "", *, is_new: bool = True) -> str:
        """Return what is printed when it ends: name, seconds, the hook if there are several, summary, and that it was
        done before unless it is new, in lines of LINE_WIDTH at most."""
        at = hook_name and f"{hook_name}: "
        text = f"{self.name:12s} {manifest['wall_seconds']:7.1f} s  {at}{self.summary_of(manifest)}"
        lines = "\n".join(map(_wrap, text.split("\n")))
        if is_new:
            return lines
        has_room = len(lines.split("\n")[-1]) + len(_DONE_BEFORE) <= LINE_WIDTH
        return f"{lines}{_DONE_BEFORE if has_room else NEXT_LINE + _DONE_BEFORE.strip()}"

    def summary_of(self, manifest: Mapping[str, Any]) -> str:
        """Return its results in one line."""
        results = manifest["results"]
        if LEFT_OUT in results:
            return f"left out: {results[LEFT_OUT]}"
        return self.summary.format_map(results) if isinstance(self.summary, str) else self.summary(results)

    def check_results(self, results: Any, n_runs: int) -> None:
        """Check what `build` has returned, the results of each of `n_runs` runs. Raises InterpError unless each is a
        mapping of which the summary can be written."""
        is_of_all = isinstance(results, list | tuple) and len(results) == n_runs
        if not is_of_all or not all(isinstance(one, Mapping) for one in results):
            wanted = (
                f"a list of {n_runs} dicts, one for each hook" if self.made_for == "all hooks" else "a dict of results"
            )
            returned = results if self.made_for == "all hooks" else results[0]
            raise InterpError(f"stage {self.name} returned {shortened_repr(returned)}, not {wanted}")
        for one in results:
            try:
                self.summary_of(json_roundtrip({"results": one}))
            except Exception as error:
                raise InterpError(
                    f"the summary of stage {self.name} cannot be written from its results "
                    f"{shortened_repr(dict(one))}: {type(error).__name__}: {error}"
                ) from error


def check_config(stages: Iterable[Stage], config: Any) -> None:
    """Check a configuration before any stage runs. Raises the error of the stage whose check fails, and an InterpError
    with all of them if there are several."""
    errors: dict[str, Exception] = {}
    for each in stages:
        try:
            each.check(config)
        except (InterpError, OSError) as error:
            errors.setdefault(str(error), error)
    if errors:
        raise InterpError("; ".join(errors)) if len(errors) > 1 else next(iter(errors.values()))


def rows_by_name(table: "pd.DataFrame", column: str) -> dict[str, Any]:
    """Return a table as results of a stage: the name in this column → the rest of the row."""
    return {str(name): row for name, row in table.set_index(column).to_dict(orient="index").items()}


def _wrap(line: str) -> str:
    indent = NEXT_LINE.strip("\n")
    return fill(line, LINE_WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


LEFT_OUT = "left_out"
"""The key of the reason, in the results of a stage that does not apply to the run's model."""
NOT_FOR_TRANSCODERS = "it compares autoencoders, and this is a transcoder"
STAGES: dict[str, Stage] = {}
"""The stages by name, in the order in which they run."""
RUN_ATTRIBUTES: set[str] = set()
"""What a `Run` has without any stage. `run` fills it in, as it reads this file."""
NO_SECTIONS: set[str] = set()
"""What a `RunConfig` has beside its sections. `config` fills it in."""


def stage(**fields: Any) -> Callable[[Build], Stage]:
    """Register the function below as the stage of its name, with its docstring as help. Raises ValueError if another
    stage or an entry of a run folder has the name, if an attribute that it opens exists, if a configuration has its
    section's name for something else, or if a user's stage reads a stage that does not exist or runs later."""

    def decorate(build: Build) -> Stage:
        new = Stage(name=build.__name__, help=" ".join((build.__doc__ or "").split()), build=build, **fields)
        if new.name not in ORDER:
            _check_inputs(new)
        others = (name for other in STAGES.values() if other.name != new.name for name in other.opens)
        if taken := RUN_ATTRIBUTES.union(others).intersection(new.opens):
            raise InterpError(f"stage {new.name} opens {min(taken)!r}, which a run has already: choose another name")
        if taken := NO_SECTIONS.intersection(new.config):
            raise InterpError(
                f"stage {new.name} has a section {min(taken)!r}, which a configuration has for something else"
            )
        register(STAGES, new.name, new, "stage", lambda stage: stage.build, reserved={HOOKS})
        in_order = sorted(STAGES.items(), key=lambda item: _position(item[0]))
        STAGES.clear()
        STAGES.update(in_order)
        return new

    return decorate


def _position(name: str) -> float:
    """Return when a stage runs, as a number: a user's runs after those of the library, but before the page."""
    return ORDER.index(name) if name in ORDER else len(ORDER) - 1.5


def _check_inputs(new: Stage) -> None:
    """Check that a user's stage reads stages that run before it."""
    inputs = (*new.inputs, *new.optional)
    if unknown := [name for name in inputs if name not in (*ORDER, *STAGES)]:
        raise InterpError(f"stage {new.name} reads {', '.join(unknown)}, but no stage before it has that name")
    if ORDER[-1] in inputs:
        raise InterpError(f"stage {new.name} runs before {ORDER[-1]}, and cannot read that")
    later = [name for name in inputs if name in STAGES and STAGES[name].made_for == "each hook"]
    if new.made_for != "each hook" and later:
        raise InterpError(
            f"stage {new.name} runs for all hooks at once, before {', '.join(later)} of any hook, and cannot read that"
        )
