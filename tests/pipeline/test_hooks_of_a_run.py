"""Several hooks in one run: each has what a run with that hook alone has, from one pass of the model."""

import dataclasses
import re
import shutil
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from interp import Run, open_any, run_stages
from interp.cli import main
from interp.cli.run_commands import _show_stages
from interp.display.segments import to_json
from interp.effects import feature_edges
from interp.pipeline import execution, run_folder, states
from interp.pipeline import run as run_module
from interp.pipeline.config import RunConfig
from interp.pipeline.stages import STAGES, Stage, stage
from interp.report.live import Explorer, LiveModel
from interp.storage.artifacts import find_artifact
from interp.storage.locks import lock_folder
from interp.text.short_rules import short_rule
from models.transformer import Transformer
from tests.forked import run_python
from tests.tiny import FEW, TINY, contents, copy_stages, ran_now

POST, MID = "blocks.0.hook_resid_post", "blocks.0.hook_resid_mid"
PART = f"hooks/{MID}"


def with_hooks(*hook_names: str, config: RunConfig = FEW) -> RunConfig:
    return config.replace(harvest=dataclasses.replace(config.harvest, hook_names=hook_names))


@pytest.fixture(scope="module")
def folder_of_model(tiny_run, tmp_path_factory):
    return copy_stages(tiny_run, tmp_path_factory.mktemp("model") / "run")


@pytest.fixture(scope="module")
def both(few_run, tmp_path_factory):
    """Return a finished run with two hooks, of which the second was added."""
    out = shutil.copytree(few_run.path, tmp_path_factory.mktemp("both") / "run")
    return run_stages(with_hooks(POST, MID), out)


@pytest.fixture
def copied(both, tmp_path):
    return Run(shutil.copytree(both.path, tmp_path / "run"))


def test_a_hook_that_is_added_has_what_a_run_with_that_hook_alone_has(both, folder_of_model, tmp_path):
    """They agree to the byte, and in the fingerprints of the stages, and what was there before is as it was."""
    alone = run_stages(with_hooks(MID), shutil.copytree(folder_of_model, tmp_path / MID), until="ranking")
    stages = list(STAGES)[: list(STAGES).index("ranking") + 1]

    def own_files(run: Run) -> dict[str, str]:
        own = tuple(f"{name}/" for name in stages[2:])
        return {name: sum for name, sum in contents(run.path).items() if name.startswith(own)}

    assert own_files(alone) == own_files(both.at(MID)) and len(own_files(alone)) > 10
    for name in stages:
        assert alone.manifest(name)["fingerprint"] == both.at(MID).manifest(name)["fingerprint"]


def test_the_model_passes_over_the_text_once(folder_of_model, tmp_path, monkeypatch):
    passes, forward = [], Transformer.forward

    def counted(self, tokens, *given, **options):
        passes.append(len(tokens))
        return forward(self, tokens, *given, **options)

    monkeypatch.setattr(Transformer, "forward", counted)
    run = shutil.copytree(folder_of_model, tmp_path / "run")
    both = run_stages(with_hooks(POST, MID), run, until="activations")
    n_seq = len(both.harvested)
    sample, width = n_seq, 1  # all sequences are the sample whose norms are looked at, and one shows the widths
    planned = 2  # one up to the hooks and one whole, on which operations are counted
    assert sum(passes) == n_seq + sample + width + planned
    assert len(both.store) == len(both.at(MID).store)


def test_a_run_gives_the_run_of_each_hook(both):
    assert both.hooks == both.at(MID).hooks == (POST, MID)
    part = both.at(MID)
    assert both.at(POST) is both and part.at(POST) is both and part.at(MID) is part
    assert (both.hook_name, part.hook_name, both.config.harvest.hook_name) == (POST, MID, POST)
    assert part.config.harvest.hook_names == (MID,) and part.path == both.path / PART
    assert part.model is both.model and part.tokenizer is both.tokenizer
    assert part.features.meta["hook_name"] == MID and both.features.meta["hook_name"] == POST
    assert not part.sae.W_dec.equal(both.sae.W_dec) and part.ranking.shape == both.ranking.shape
    assert part.feature(3).verdict is not None
    assert {"hooks", "at", "root", "sae"} <= {*dir(part)}
    with pytest.raises(ValueError, match=f"has no hook 'blocks.7'; it has {POST}, {MID}"):
        both.at("blocks.7")


def test_a_part_is_opened_by_its_path_too(both):
    part = Run(both.path / PART)
    assert part.hooks == (POST, MID) and part.root.path == both.path
    assert len(part.ranking) == FEW.sae.d_sae and part.page == both.at(MID).page
    assert part.model.W_U.equal(both.model.W_U) and part.title == f"run · {MID}" and both.title == f"run · {POST}"
    assert open_any(part.path, "model").W_U.equal(both.model.W_U)
    assert open_any(part.path, "tokens").tokens.equal(both.train_tokens.tokens)
    assert find_artifact(part.path, "tokenizer").path == both.path / "corpus/tokenizer"
    assert find_artifact(part.path, "features").path == part.path / "features"


def test_pages_name_one_another(both):
    for hook, other in ((POST, MID), (MID, POST)):
        page = both.at(hook).page
        [(address, name)] = re.findall('<li><a href="(.+?)">(.+?)</a>', page.read_text())
        assert (page.parent / address).resolve() == both.at(other).page.resolve() and name == other


@pytest.mark.parametrize("own, other", [(MID, POST), (POST, MID)])
def test_the_explorer_shows_which_earlier_latents_feed_later_ones(both, own, other):
    """Either page gives the same edges as the library."""
    live = LiveModel(both.at(own))
    has_lock: list[bool] = []
    watch = live.model.register_forward_pre_hook(lambda *_: has_lock.append(live._lock.locked()))
    assert live.hooks == [MID, POST], "in the order of the model"
    watch.remove()
    assert has_lock == [True], "no other call runs the model meanwhile"
    found = live.edges("Once upon a time", 4, other, ablate=True)
    pair = [(hook, both.at(hook).sae) for hook in (MID, POST)]
    table = feature_edges(both.model, live.tokens("Once upon a time")[:, :5], *pair, targets=8)
    expected = {(row.upstream, row.downstream): (row.attribution, row.ablation) for row in table.itertuples()}
    assert {(up, down) for up, down, *_ in found["edges"]} == set(expected)
    for up, down, *weights in found["edges"]:
        assert weights == pytest.approx(expected[up, down], abs=1e-5)
    sizes = [abs(owed) for _, _, owed, _ in found["edges"]]
    assert sizes == sorted(sizes, reverse=True) and len(found["targets"]) <= 8
    ranking = both.at(other).ranking.set_index("latent")
    ends = {edge[0 if other == MID else 1] for edge in found["edges"]}
    rules = {str(latent): to_json(short_rule(ranking.loc[latent])) for latent in ends}
    assert found["rules"] == rules
    assert live.edges("Once upon a time", 4, other)["edges"][0][3] is None
    with pytest.raises(ValueError, match="is not another hook of the run"):
        live.edges("Once upon a time", 4, own)


def test_explorer_draws_edges_between_hooks_and_lists_those_of_a_latent(both, chromium):
    with Explorer(both) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        chromium.open(f"{server.address}#try")
        chromium.wait("document.querySelectorAll('.feeds path').length > 0")
        ends = chromium.text(".feeds h3")
        assert ends == [MID, f"{POST} this page"] and len(chromium.text(".edges tbody tr")) > 1
        target = chromium.text(".feeds > div:last-child li a")[0]
        chromium.click(".feeds > div:last-child .choose")
        told = set(chromium.text(".edges tbody td:nth-child(2) a"))
        assert told == {target} and chromium.evaluate("document.querySelectorAll('.feeds path.off').length") > 0
        assert set(chromium.text(".edges td:nth-child(4)")) == {"–"}
        chromium.click(".edges .more")
        chromium.wait("document.querySelector('.edges td:nth-child(4)').textContent !== '–'")
        chromium.size(390, 844)
        assert chromium.evaluate("document.documentElement.scrollWidth") == 390
        assert chromium.faint() == [] == chromium.unnamed() and not chromium.complaints
        server.shutdown()


def test_finished_work_is_kept_and_a_hook_can_be_added(few_run, tmp_path):
    run = shutil.copytree(few_run.path, tmp_path / "run")
    before = contents(run)
    assert ran_now(with_hooks(POST, MID), run, until="sae") == ["activations", "sae"]
    after = contents(run)
    assert {name: after[name] for name in before if name != "run.toml"} == {
        name: sum for name, sum in before.items() if name != "run.toml"
    }
    assert Run(run).at(MID).sae.d_sae == FEW.sae.d_sae
    assert ran_now(with_hooks(POST, MID), run, until="sae") == []
    assert ran_now(with_hooks(POST), run, until="sae") == [] and Run(run).hooks == (POST,)
    with pytest.raises(
        ValueError, match=r"harvest.hook_name: .*--redo to run the affected stages again: activations, sae"
    ):
        run_stages(with_hooks(MID), run)


# Forks a child for each kill: before the second hook's own stages, or when both stores, or
# dictionaries, are finished and only one is in its place.
KILLED = """
import os, signal, sys
import interp.activations.harvesting, interp.sae
from interp.pipeline.execution import run_stages
from interp.storage import folders
from tests.pipeline.test_hooks_of_a_run import MID, POST, with_hooks

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

swap = folders._swap
def swapping(new, out, old):
    swap(new, out, old)
    if out.name == when:
        kill()

for when, until in (("neurons", "neurons"), ("activations", "sae"), ("sae", "sae")):
    if os.fork() == 0:
        if when != "neurons":
            folders._swap = swapping
        on_begin = lambda run: run.hook_name == MID and kill()
        run_stages(with_hooks(POST, MID), f"{sys.argv[1]}/{when}", until=until, on_begin=on_begin)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_run_killed_between_hooks_resumes(both, folder_of_model, tmp_path):
    left = {"neurons": ("neurons", ["neurons"]), "activations": ("sae", ["sae", "sae"]), "sae": ("sae", [])}
    for when in left:
        shutil.copytree(folder_of_model, tmp_path / when)
    killed = run_python(KILLED, tmp_path)
    assert killed.stdout == "-9\n-9\n-9\n", killed.stderr
    whole = contents(both.path)
    for when, (until, stages) in left.items():
        assert ran_now(with_hooks(POST, MID), tmp_path / when, until=until) == stages, "what was finished is kept"
        files = {name: sum for name, sum in contents(tmp_path / when).items() if ".unfinished/" not in name}
        assert len(files) > 20 and files == {name: whole[name] for name in files}


# Is killed once the stage has finished a first folder inside its own: a store, a dictionary or a scan.
KILLED_INSIDE = """
import os, signal, sys
from interp.pipeline.execution import run_stages
from interp.storage import folders
from tests.pipeline.test_hooks_of_a_run import MID, POST, with_hooks

run, stage = sys.argv[1:]
swap = folders._swap
def swapping(new, out, old):
    swap(new, out, old)
    if f"{stage}.unfinished" in out.parts:
        print(out, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

folders._swap = swapping
run_stages(with_hooks(POST, MID), run, until=stage)
"""


def test_run_killed_inside_a_stage_finds_again_what_was_finished(both, folder_of_model, tmp_path):
    run = shutil.copytree(folder_of_model, tmp_path / "run")
    finished = {}
    for name in ("activations", "sae", "features", "neurons", "nulls"):
        killed = run_python(KILLED_INSIDE, run, name)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        finished |= times_of_files(killed.stdout.strip())
    run_stages(with_hooks(POST, MID), run, until="nulls")
    assert {file: Path(file).stat().st_mtime_ns for file in finished} == finished, "it is not made again"
    whole = contents(both.path)
    files = {file: sum for file, sum in contents(run).items() if ".unfinished/" not in file}
    assert len(files) > 20 and files == {file: whole[file] for file in files}


def times_of_files(folder):
    """Return when each file of a finished folder was written, by the place that it has once its stage is finished."""
    files = [file for file in Path(folder).rglob("*") if file.is_file() and file.name != "manifest.json"]
    assert files
    return {str(file).replace(".unfinished/new", ""): file.stat().st_mtime_ns for file in files}


def test_a_run_plans_what_a_later_hook_lacks(tmp_path, monkeypatch):
    def build(run, folder, progress):
        (folder / "made").write_text("made")
        return {}

    def of(config, out, to_come, outdated):
        planned.append([each.name for each in to_come])
        return SimpleNamespace(check=lambda: None)

    planned = []
    own = {name: Stage(name=name, help="", build=build, summary="") for name in ("first", "second")}
    for module in (execution, run_module, run_folder, states):
        monkeypatch.setattr(module, "STAGES", own)
    monkeypatch.setattr(execution.Plan, "of", of)
    run = tmp_path / "run"
    run_stages(with_hooks(POST, MID), run)
    shutil.rmtree(run / "second")
    shutil.rmtree(run / PART / "first")
    run_stages(with_hooks(POST, MID), run)
    assert planned == [["first", "second"], ["first", "second"]]
    assert all((folder / name / "made").is_file() for folder in (run, run / PART) for name in own)


def test_what_all_hooks_share_is_compared_once(both, tmp_path, monkeypatch):
    run, counted = Run(shutil.copytree(both.path, tmp_path / "run")), []
    corpus = STAGES["corpus"]
    counting = dataclasses.replace(corpus, outside_inputs=lambda run: counted.append(run) or corpus.outside_inputs(run))
    monkeypatch.setitem(STAGES, "corpus", counting)
    shutil.rmtree(run.path / "concepts")
    assert ran_now(with_hooks(POST, MID), run.path) == ["concepts"]
    assert len(counted) == 2, "to know what is to be done, and to compare it with what there is"


def test_commands_work_on_a_part_as_on_a_run(copied, tmp_path, capsys):
    part = copied.path / PART
    before = contents(copied.path)
    assert main(["rank", str(part), "--n-shifts", "1"]) == 0
    assert Run(part).config.ranking.n_shifts == 1 and copied.config.ranking.n_shifts == 2
    assert main(["report", str(part)]) == 0
    after = contents(copied.path)
    assert {name for name in before if before[name] != after[name]} <= {
        f"{PART}/{name}" for name in ("run.toml", "ranking/ranking.parquet", "names/names.parquet")
    } | {name for name in before if name.startswith(f"{PART}/report/")}
    said = capsys.readouterr().out
    assert f"report {part}" in said
    assert said.count(f"at {MID}; of the other hooks {POST} is {copied.path}\n") == 2, "rank and report tell"
    assert main(["compare", str(copied.path), str(part)]) == 0
    scan = ["scan", part, part, "--model", part, "--tokens", part, "--out", tmp_path / "scan"]
    assert main([str(word) for word in scan]) == 0
    assert open_any(tmp_path / "scan").codes[:].nnz == Run(part).features.codes[:].nnz
    with pytest.raises(ValueError, match=r"ranking.n_shifts: 1 there, 2 here.*--redo .*: ranking, names, report"):
        run_stages(with_hooks(POST, MID), copied.path)
    assert ran_now(with_hooks(POST, MID), copied.path, until="ranking", redo=True) == ["ranking"]


def test_the_command_looks_for_a_twin_at_the_same_hook(copied, both, tmp_path):
    part = copied.path / PART
    assert main(["rank", str(part), "--twin", str(both.path)]) == 0
    assert Run(part).config.ranking.twin == str(both.path.resolve())
    assert (Run(part).ranking.twin_correlation.dropna() > 0.99).all()
    out = tmp_path / "ranking.parquet"
    assert main(["rank", str(part / "features"), "--twin", str(both.path), "--out", str(out)]) == 0
    assert (pd.read_parquet(out).twin_correlation.dropna() > 0.99).all()


def test_a_part_in_use_is_left_alone(copied):
    with lock_folder(copied.path / PART), pytest.raises(ValueError, match=f"{MID} is in use by another process"):
        run_stages(with_hooks(POST, MID), copied.path)
    with pytest.raises(ValueError, match=f"{MID} is one hook's part of .*: run that"):
        run_stages(with_hooks(MID), copied.path / PART)
    assert ran_now(with_hooks(POST, MID), copied.path) == []


@pytest.mark.parametrize(
    ("harvest", "message"),
    [
        ({"hook_names": []}, r"\[harvest\] hook_names is empty: name at least one hook"),
        ({"hook_names": [POST, ""]}, r"\[harvest\] hook_names has an empty name"),
        ({"hook_names": [POST, MID, POST]}, rf"\[harvest\] hook_names has {POST} twice"),
        ({"hook_names": POST}, r"\[harvest\] hook_names='blocks.0.hook_resid_post' must be a list"),
        ({"hook_names": [POST, 3]}, r"\[harvest\] hook_names=3 must be text"),
        ({"hook_name": [POST, MID]}, r"\[harvest\] hook_name=.* must be text; several are hook_names"),
        ({"hook_name": POST, "hook_names": [MID]}, r"\[harvest\] has both hook_name='blocks.0.hook_resid_post' and"),
        ({"exclude_positions": [-1]}, r"\[harvest\] exclude_positions=-1 must be at least 0"),
        ({"exclude_positions": "01"}, r"\[harvest\] exclude_positions='01' must be a list"),
    ],
)
def test_mistakes_in_the_names_of_hooks_and_in_positions_are_named(harvest, message):
    with pytest.raises(ValueError, match=message):
        RunConfig.from_dict({"harvest": harvest})


def test_hooks_that_cannot_be_are_refused_before_anything_is_made(folder_of_model, tmp_path):
    run = shutil.copytree(folder_of_model, tmp_path / "run")
    with pytest.raises(ValueError, match=r"no hook 'blocks.0.hook_resid_pots'; did you mean"):
        run_stages(with_hooks(POST, "blocks.0.hook_resid_pots"), run)
    for positions, wrong in ([0, 400], "400"), (range(FEW.model.n_ctx), "all"):
        harvest = dataclasses.replace(FEW.harvest, exclude_positions=list(positions))
        with pytest.raises(ValueError, match=rf"\[harvest\] exclude_positions holds {wrong}: a sequence has the"):
            run_stages(FEW.replace(harvest=harvest), run)
    loaded = RunConfig.from_dict(FEW.to_dict() | {"sae": {"load": "somewhere"}})
    with pytest.raises(ValueError, match=r"\[sae\] load = 'somewhere' is the dictionary of one hook"):
        run_stages(with_hooks(POST, MID, config=loaded), run)
    assert not (run / "activations").exists() and not (run / "hooks").exists() and Run(run).hooks == (POST,)


def test_one_hook_and_several_hooks_round_trip_through_toml(tmp_path):
    assert list(FEW.to_dict()["harvest"])[0] == "hook_name" and "hook_names" not in FEW.to_dict()["harvest"]
    assert RunConfig.from_dict({"harvest": {"hook_names": [POST]}}).to_dict() == RunConfig().to_dict()
    several = with_hooks(POST, MID)
    assert several.to_dict()["harvest"]["hook_names"] == [POST, MID] and "hook_name" not in several.to_dict()["harvest"]
    assert RunConfig.from_dict(several.to_dict()) == several and several.at(MID) == with_hooks(MID)


def test_a_stage_that_is_built_for_all_hooks_reads_none_that_each_has():
    with pytest.raises(ValueError, match="stage early runs for all hooks at once, before effects of"):

        @stage(made_for="all hooks", inputs=("effects",), summary="")
        def early(runs, folders, progress):
            """never run"""

    assert "early" not in STAGES


def test_a_users_stage_cannot_read_the_page_which_is_made_later():
    with pytest.raises(ValueError, match="stage summed_up runs before report"):

        @stage(inputs=("report",), summary="")
        def summed_up(run, folder, progress):
            """never run"""

    assert "summed_up" not in STAGES


def test_a_stage_cannot_have_the_name_of_the_folder_of_hooks():
    with pytest.raises(ValueError, match="the stage cannot be called 'hooks', which means something else"):

        @stage(inputs=("features",), summary="")
        def hooks(run, folder, progress):
            """never run"""

    assert "hooks" not in STAGES


def test_a_section_has_no_name_that_a_configuration_has_for_something_else():
    for taken in ("replace", "extra", "plugins"):
        with pytest.raises(ValueError, match=f"stage _widths has a section '{taken}', which a configuration has"):
            stage(config={taken: dict}, inputs=("sae",), summary="")(_widths)
    assert "_widths" not in STAGES


def test_a_configuration_that_cannot_be_written_for_all_hooks_changes_that_of_none(tiny_run, tmp_path, monkeypatch):
    copied = shutil.copytree(tiny_run.path, tmp_path / "run")
    before = (copied / "run.toml").read_bytes()
    write = execution._write_config

    def fill_the_disk(out, config):
        if "hooks" in out.parts:
            raise OSError("the disk is full")
        write(out, config)

    monkeypatch.setattr(execution, "_write_config", fill_the_disk)
    with pytest.raises(OSError, match="the disk is full"):
        run_stages(with_hooks(POST, MID, config=Run(copied).config), copied)
    assert (copied / "run.toml").read_bytes() == before and not (copied / "hooks").exists()


def test_what_is_left_is_checked_if_a_users_stage_of_all_hooks_comes_first(tiny_run, tmp_path, monkeypatch):
    checked = []

    def refuse(stages, config):
        checked.extend(each.name for each in stages)
        raise ValueError("refused")

    monkeypatch.setattr("interp.pipeline.execution.check_config", refuse)
    copied = shutil.copytree(tiny_run.path, tmp_path / "run")
    try:
        stage(made_for="all hooks", inputs=("sae",), summary="")(_widths)
        with pytest.raises(ValueError, match="refused"):
            run_stages(TINY, copied)
    finally:
        STAGES.pop("_widths", None)
    assert checked[0] == "_widths" and {"ranking", "names", "report"} <= set(checked) and "features" not in checked


def _widths(runs, folders, progress):
    """never run"""


def test_a_users_stage_of_all_hooks_names_each_hook_in_its_line(tmp_path, capsys, monkeypatch):
    """Its manifest holds only the sections that it reads."""
    made = Stage(name="widths", help="", build=_widths, made_for="all hooks", summary="{n} wide")

    def run_it(config, out, *, on_finish, **given):
        for n in (3, 4):
            on_finish(made, {"wall_seconds": 1.0, "config": {}, "results": {"n": n}}, True)

    monkeypatch.setattr("interp.pipeline.execution.run_stages", run_it)
    _show_stages(with_hooks(POST, MID), tmp_path / "run", "widths", redo=False)
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first.endswith(f"{POST}: 3 wide") and second.endswith(f"{MID}: 4 wide")
