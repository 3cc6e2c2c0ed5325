"""Refuse to run stages where results would be lost that nobody asked to make again.

Results are lost if a finished or interrupted stage would be replaced (`states`): because the run has another
configuration now, or because something outside its folder has changed. The page alone is made again without asking. A
stage that was made again on purpose, by another command, is no reason to refuse: what reads it is made again too.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from interp.checks.errors import OverwriteError
from interp.pipeline.config import RunConfig
from interp.pipeline.run import Run
from interp.pipeline.stages import STAGES
from interp.pipeline.states import State, stages_lost, state_of
from interp.storage.manifests import RUN_FILE

_N_NAMED = 4
"""Settings that are named of those that differ."""
_N_ALONE = 2
"""Settings that are named of those that only one of two configurations has."""


def refuse_other_settings(run: Run) -> None:
    """Refuse a run whose results would be lost by another configuration than that of its run.toml.

    run: opened with the new configuration. Raises OverwriteError, with the differences and the stages."""
    new = run.config.to_dict()
    try:
        old = RunConfig.from_toml(run.path / RUN_FILE).to_dict()
        differences = [
            line for name in new | old for line in _section_differences(name, old.get(name, {}), new.get(name, {}))
        ]
        more = [f"{len(differences) - _N_NAMED} further settings"] if len(differences) > _N_NAMED else []
        named = "; ".join([*differences[:_N_NAMED], *more])
        reason = f"{run.path} holds a run of another configuration ({named})"
    except ValueError as error:  # its run.toml cannot be read
        differences = [""]
        reason = str(error)
    if differences:
        states = {stage.name: state_of(run, stage, outside=False) for stage in STAGES.values() if not stage.makes_page}
        changed = [name for name, state in states.items() if state.settings or state.others]
        _refuse_to_lose(reason, stages_lost(run, changed))


def refuse_other_inputs(runs: Sequence[Run], states: Mapping[Path, State]) -> None:
    """Refuse runs whose results would be lost because something that is not in run.toml differs from what they were
    made of.

    states: those of the stages that are to be made, by their folders. Raises OverwriteError, with the differences and
    the stages."""
    lost: dict[str, None] = {}
    for run in runs:
        changed = [name for name in STAGES if (state := states.get(run.folder(name))) and state.others]
        lost |= dict.fromkeys(stages_lost(run, changed))
    changes = dict.fromkeys(chain.from_iterable(state.others for state in states.values()))
    _refuse_to_lose(f"results in {runs[0].path} would be made again: {'; '.join(changes)}", list(lost))


def _section_differences(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Name the settings of a section that differ. Of those that one side alone has, such as all of another
    architecture's, the first are named and the others counted."""
    both = [key for key in sorted(old.keys() & new.keys()) if old[key] != new[key]]
    alone = [f"{name}.{key}: {value!r} here" for key, value in new.items() if key not in old]
    alone += [f"{name}.{key}: {value!r} there" for key, value in old.items() if key not in new]
    more = [f"{len(alone) - _N_ALONE} further fields of [{name}]"] if len(alone) > _N_ALONE else []
    if name == "plugins":  # their values are digests
        changed = [f"the code of {key} has changed" for key in both]
    else:
        changed = [f"{name}.{key}: {old[key]!r} there, {new[key]!r} here" for key in both]
    return [*changed, *alone[:_N_ALONE], *more]


def _refuse_to_lose(reason: str, lost: Sequence[str]) -> None:
    if lost:
        raise OverwriteError(
            f"{reason}; choose another folder with --out, or pass --redo to run the affected stages again: "
            f"{', '.join(lost)}"
        )
