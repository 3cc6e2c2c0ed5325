"""What a run has of a stage: missing, interrupted, current or replaced, and why."""

import dataclasses
import json
import shutil

import pytest

from interp.pipeline.execution import run_stages
from interp.pipeline.plan import Plan
from interp.pipeline.run import Run
from interp.pipeline.stages import STAGES
from interp.pipeline.states import State, stages_lost, state_of
from interp.storage.folders import unfinished_folder
from tests.tiny import FEW, contents


@pytest.fixture
def copied(few_run, tmp_path):
    return Run(shutil.copytree(few_run.path, tmp_path / "run"))


def interrupt(run: Run, name: str, fingerprint: str) -> None:
    """Leave a stage as a process would that was killed while it made it."""
    shutil.rmtree(run.folder(name))
    work = unfinished_folder(run.folder(name))
    (work / "new").mkdir(parents=True)
    (work / "new/half").write_text("half")
    made_of = {"stage": name, "fingerprint": fingerprint}
    (work / "begun.json").write_text(json.dumps({"made_of": made_of, "resumes": True}))


def states(run: Run, **options) -> dict[str, State]:
    return {name: state_of(run, stage, **options) for name, stage in STAGES.items()}


def test_stages_of_a_finished_run_are_current(copied):
    assert {state.name for state in states(copied).values()} == {"current"}
    shutil.rmtree(copied.folder("activations"))
    now = states(copied)
    assert {name for name, state in now.items() if state.name != "current"} == {"activations"}
    assert now["activations"] == State("missing")


def test_each_thing_that_a_stage_is_made_of_is_told_where_it_differs(copied, monkeypatch):
    changed = Run(copied.path, FEW.replace(sae=dataclasses.replace(FEW.sae, seed=7)))
    assert state_of(changed, STAGES["sae"]) == State("replaced", settings=("sae",))
    assert state_of(changed, STAGES["features"]) == State("current"), "of its own it is what it was"
    run_stages(changed.config, copied.path, redo=True, until="sae")
    assert state_of(copied, STAGES["features"]) == State("replaced", inputs=("sae",))
    monkeypatch.setitem(STAGES, "neurons", dataclasses.replace(STAGES["neurons"], version=99))
    monkeypatch.setattr("interp.verdict.fit_files.digest_fits", lambda: "others")
    now = states(copied)
    assert now["neurons"].others == ("another version of interp made neurons, with other results than this one",)
    assert now["ranking"].others == ("ranking was made of other fits of the calibration",)
    assert not any(state.others for state in states(copied, outside=False).values())


def test_an_interrupted_stage_is_replaced_if_it_was_begun_otherwise(copied):
    interrupt(copied, "concepts", copied.manifest("concepts")["fingerprint"])
    assert state_of(copied, STAGES["concepts"]) == State("interrupted")
    note = unfinished_folder(copied.folder("concepts")) / "begun.json"
    begun = json.loads(note.read_text())
    begun["made_of"]["fingerprint"] = "another"
    note.write_text(json.dumps(begun))
    expected = State("replaced", others=("concepts was begun with other inputs",))
    assert state_of(copied, STAGES["concepts"], outside=False) == expected


def test_what_reads_a_lost_stage_is_lost_too_through_one_that_is_missing(copied):
    shutil.rmtree(copied.folder("features"))
    assert stages_lost(copied, ["sae"]) == [
        "sae",
        "effects",
        "quality",
        "concepts",
        "nulls",
        "ranking",
        "names",
        "report",
    ]
    assert stages_lost(copied, ["features"]) == ["effects", "concepts", "nulls", "ranking", "names", "report"]
    assert stages_lost(copied, []) == []


def test_results_of_activations_that_were_deleted_are_kept_where_other_activations_would_be_made(copied, monkeypatch):
    shutil.rmtree(copied.folder("activations"))
    before = contents(copied.path)
    stage = STAGES["activations"]
    monkeypatch.setitem(STAGES, "activations", dataclasses.replace(stage, version=stage.version + 1))
    with pytest.raises(ValueError, match=r"sae was made of another activations, which is missing.*--redo .*: sae, fea"):
        run_stages(FEW, copied.path)
    assert contents(copied.path) == before


def test_a_hook_is_added_to_a_run_whose_page_was_interrupted(copied):
    interrupt(copied, "report", copied.manifest("report")["fingerprint"])
    hooks = (*FEW.harvest.hook_names, "blocks.0.hook_resid_mid")
    both = FEW.replace(harvest=dataclasses.replace(FEW.harvest, hook_names=hooks))
    assert Plan.of(both, copied.path).replaced["report"] == 0
    run_stages(both, copied.path, until="corpus")
    assert Run(copied.path).hooks == hooks and state_of(copied, STAGES["ranking"]).name == "current"
