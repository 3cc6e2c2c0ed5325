"""The run folder: skipped when done, refused when another's, the same after SIGKILL in every stage."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from interp.compare.compared_dictionaries import COMPARED_DICTIONARIES
from interp.compare.null_dictionaries import compare_with_nulls
from interp.compare.nulls_config import NullsConfig
from interp.display.verdict_names import VERDICTS
from interp.evaluation.baselines import shuffled_model
from interp.pipeline.config import RunConfig
from interp.pipeline.execution import run_alone, run_stages
from interp.pipeline.run import Run
from interp.pipeline.run_folder import MissingResultError
from interp.pipeline.stages import LEFT_OUT, LINE_WIDTH, STAGES, stage
from interp.pipeline.stages.corpus import _documents
from interp.pipeline.stages.neurons import basis_of
from interp.pipeline.stages.nulls import nulls_effort
from interp.pipeline.stages.ranking import rank_latents
from interp.report.meaning_learnt_effect import effect_accounts
from interp.report.panels import Panel
from interp.runtime.progress import no_progress
from interp.sae import JumpReLUConfig, load_sae
from interp.storage.folders import unfinished_folder
from interp.storage.locks import lock_folder
from interp.verdict.fit_files import digest_fits
from models.corpus import CorpusConfig, load_documents
from tests.forked import run_python
from tests.tiny import FEW, TINY, contents, ran_now

# Forks a child a stage, which ends itself with SIGKILL at a chosen progress call of that stage.
DRIVER = """
import os, signal, sys
from interp.pipeline.execution import run_stages
from interp.pipeline.stages import STAGES
from tests.tiny import FEW

def killer(stage, calls):
    def progress(name):
        count = 0
        def step(done, total, note):
            nonlocal count
            count += 1
            if name == stage and count == calls:
                os.kill(os.getpid(), signal.SIGKILL)
        return step
    return progress

kills = [(name, 3 if name in ("model", "sae", "features", "ranking", "report") else 1) for name in STAGES]
kills[kills.index(("ranking", 3)) : kills.index(("ranking", 3))] = [("nulls", calls) for calls in (3, 5, 8, 11)]
for stage, calls in kills + [(None, 0)]:
    child = os.fork()
    if child == 0:
        run_stages(FEW, sys.argv[1], until=stage or "report", progress=killer(stage, calls))
        os._exit(0)
    print(stage, calls, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture
def run(tiny_run):
    return tiny_run


@pytest.fixture
def copied(few_run, tmp_path):
    return Run(shutil.copytree(few_run.path, tmp_path / "run"))


def test_stages_leave_what_a_notebook_opens(run):
    opened = Run(run.path)
    assert opened.features.d_sae == TINY.sae.d_sae == len(opened.ranking)
    assert opened.neurons.d_sae == opened.store.d(basis_of(opened).hook_name) == 64
    assert set(opened.concepts.label) <= set(opened.train_tokens.label_names)
    assert opened.quality.dictionary.iloc[0] == "SAE"
    assert opened.model.cfg.d_vocab == opened.tokenizer.vocab_size
    assert (run.path / opened.manifest("report")["results"]["page"]).is_file()
    with pytest.raises(ValueError, match="a run has no 'rankin'; its files are those of .*ranking"):
        opened.path_to("rankin")


def second(run, folder, progress):
    """a stage that is refused"""


def test_a_stage_is_one_object(copied, monkeypatch):
    """Its section, its place in the order, its line, what a run offers of it and what the page shows of it follow from
    the function below."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class LongestConfig:
        latents: int = 3

    try:

        @stage(
            inputs=("features",),
            config={"longest": LongestConfig},
            opens={"longest": ("longest.parquet", pd.read_parquet)},
            summary="{latents} latents that fire most",
            panel=lambda run: Panel(title="Fire most", note="Those that fire most.", table=run.longest),
        )
        def longest(run, folder, progress):
            """the latents that fire most"""
            table = run.features.table().nlargest(run.config.longest.latents, "n_active")[["latent", "n_active"]]
            table.to_parquet(folder / "longest.parquet")
            return {"latents": len(table)}

        config = RunConfig.from_dict(FEW.to_dict() | {"longest": {"latents": 2}})
        assert ran_now(config, copied.path, redo=True) == ["longest", "report"]
        assert len(copied.longest) == 2 and "longest" in dir(copied)
        assert longest.line(copied.manifest("longest")).endswith(" s  2 latents that fire most")
        *_, shown = copied.report_inputs().panels
        rows = [[f"{value:,}" for value in row] for row in copied.longest.to_numpy().tolist()]
        expected = {"columns": ["latent", "n_active"], "rows": rows}
        assert shown == {"title": "Fire most", "note": "Those that fire most.", "table": expected}
        with pytest.raises(ValueError, match=r"\[longest\] latents='x' must be a whole number"):
            RunConfig.from_dict({"longest": {"latents": "x"}})
        for returned, message in (
            (None, "stage longest returned None, not a dict of results"),
            ({"n": 2}, "the summary of stage longest cannot be written from its results {'n': 2}: KeyError: 'latents'"),
        ):
            changed = dataclasses.replace(longest, build=lambda *_, returned=returned: returned, version=2)
            with monkeypatch.context() as patch, pytest.raises(ValueError, match=message):
                patch.setitem(STAGES, "longest", changed)
                run_stages(config, copied.path, redo=True)
            assert copied.manifest("longest")["results"] == {"latents": 2}, "the earlier result is kept"
        for taken in ("ranking", "longest", "path", "hooks"):
            with pytest.raises(ValueError, match=f"stage second opens '{taken}', which a run has already"):
                stage(opens={taken: ("x.parquet", pd.read_parquet)}, summary="")(second)
    finally:
        STAGES.pop("longest", None)


def test_effects_stage_feeds_the_run_sql_and_the_page(run):
    table, density = run.effects.set_index("latent"), run.features.table().set_index("latent")["density"]
    assert sorted(table.index) == list(range(TINY.sae.d_sae))
    fires = density > 0
    assert table.loss_change.notna().equals(fires.reindex(table.index))
    expected = (table.total_change * density).dropna()
    pd.testing.assert_series_equal(table.ce_rise.dropna(), expected, check_names=False)
    joined = run.features.sql("select latent, loss_change, max from features join effects using (latent)")
    assert len(joined) == TINY.sae.d_sae
    latent = int(table.loss_change.abs().idxmax())
    shown = effect_accounts(run.report_inputs())[latent]
    assert shown["loss_change"][0] == pytest.approx(table.loss_change[latent], rel=5e-2)
    assert shown["null_kl"][0] == pytest.approx(table.null_kl[latent], rel=5e-2)
    assert [token for token, _ in shown["likelier"]] == list(table.likelier_tokens[latent])
    strings = [run.features.vocab[token] for token in table.likelier_tokens[latent]]
    assert list(table.likelier_strings[latent]) == strings


def test_nulls_are_judged_beside_the_dictionary_on_the_same_text(run):
    shares, verdicts, twins = run.nulls
    names = ["SAE", "twin seed", "neurons", "frozen decoder", "frozen encoder", "soft-frozen decoder"]
    names += ["shuffled model", "untrained model"]
    assert list(dict.fromkeys(shares.dictionary)) == list(dict.fromkeys(verdicts.dictionary)) == names
    assert verdicts.groupby("dictionary").latent.agg(["size", "nunique"]).eq(TINY.nulls.latents).all(axis=None)
    working = verdicts[~verdicts.verdict.isin(["dead", "faint"])]
    expected = working.groupby("dictionary").verdict.value_counts(normalize=True)
    for row in shares[shares.n > 0].query("verdict not in ('dead', 'faint')").itertuples():
        parts = ("monosemantic", "single-token") if row.verdict == "one_meaning" else (row.verdict,)
        assert row.share == pytest.approx(sum(expected.get((row.dictionary, part), 0) for part in parts))
        assert row.ci_low <= row.share <= row.ci_high
    trained = shares.drop_duplicates("dictionary").set_index("dictionary").trained_tokens
    assert trained.to_dict() == dict.fromkeys(names, TINY.nulls.sae_tokens) | {"SAE": TINY.sae.tokens, "neurons": 0}
    assert sorted(twins.latent) == list(range(TINY.sae.d_sae))
    twin, frozen = (load_sae(run.path / "nulls" / "dictionaries" / name) for name in ("0", "1"))
    rows = [torch.nn.functional.normalize(sae.W_dec, dim=1) for sae in (run.sae, twin, frozen)]
    assert twins.cosine.to_numpy() == pytest.approx((rows[0] @ rows[1].T).max(1).values.numpy(), abs=1e-5)
    assert twins.frozen_cosine.to_numpy() == pytest.approx((rows[0] @ rows[2].T).max(1).values.numpy(), abs=1e-5)
    assert not (run.path / "nulls" / "work").exists()


def test_a_dictionary_among_its_nulls_fires_as_its_scan_says(run):
    """The codes that are judged are those of the feature store, for the latents drawn, on the first tokens."""
    judged = run.nulls.verdicts.query("dictionary == 'SAE'").set_index("latent")
    n_rows = TINY.nulls.tokens // run.features.n_ctx * run.features.n_ctx
    counts = torch.bincount(run.features.codes[:n_rows].latents.long(), minlength=run.features.d_sae).numpy()
    assert judged.n_active.to_dict() == {latent: counts[latent] for latent in judged.index}


def test_a_dictionary_with_more_tokens_is_trained_again_on_as_few_as_its_nulls(run, tmp_path, monkeypatch):
    settings = NullsConfig(tokens=8_000, sae_tokens=4_000, latents=16)
    given = run.features, run.store, TINY.harvest.hook_name, run.model, tmp_path
    neurons = {"neurons": run.neurons, "baseline_name": "units of the MLP"}
    compare = partial(compare_with_nulls, *given, config=run.sae.config, **neurons)
    nulls = compare(nulls_config=settings)
    trained = dict(nulls.verdicts[["dictionary", "trained_tokens"]].itertuples(index=False))
    assert trained.pop("units of the MLP") == 0 and set(trained.values()) == {4_000}
    own = load_sae(tmp_path / "dictionaries" / "0")
    assert own.config == dataclasses.replace(run.sae.config, tokens=4_000)
    assert not torch.equal(own.W_dec, run.sae.W_dec)
    again = compare(nulls_config=settings)
    assert again.verdicts.equals(nulls.verdicts) and not (tmp_path.with_name(f"{tmp_path.name}.unfinished")).exists()
    with pytest.raises(ValueError, match="holds other work: latents is 16, not 8"):
        compare(nulls_config=dataclasses.replace(settings, latents=8))
    monkeypatch.setitem(COMPARED_DICTIONARIES, "another null", COMPARED_DICTIONARIES["frozen encoder"])
    with pytest.raises(ValueError, match="holds other work: not the same compared dictionaries"):
        compare(nulls_config=settings)


def test_the_cost_of_the_nulls_is_estimated_from_the_run_so_far(run, monkeypatch):
    taken, manifest = {"sae": {"wall_seconds": 1.0}, "activations": {"wall_seconds": 1.0}}, Run.manifest
    monkeypatch.setattr(Run, "manifest", lambda run, name: {**(manifest(run, name) or {}), **taken.get(name, {})})
    told = nulls_effort(run)
    assert told == "about 1 min to train 6 dictionaries and harvest 2 models, and then to judge them"
    taken["sae"]["wall_seconds"], taken["activations"]["wall_seconds"] = 60.0, 40.0
    harvested = TINY.nulls.sae_tokens / run.features.tokens.numel()
    minutes = round(6 + 2 * 40 * min(harvested, 1) / 60)
    assert nulls_effort(run).startswith(f"about {minutes} min to train 6")


def test_a_shuffled_model_has_the_same_weights_in_another_order(run):
    before = {name: weight.clone() for name, weight in run.model.named_parameters()}
    shuffled = dict(shuffled_model(run.model, seed=3).named_parameters())
    moved = {name for name, weight in before.items() if not torch.equal(weight, shuffled[name])}
    matrices = {name for name in before if ".W_" in name}
    assert moved == matrices and len(matrices) == 9
    for name, weight in before.items():
        assert torch.equal(weight.flatten().sort().values, shuffled[name].flatten().sort().values)
        assert torch.equal(weight, dict(run.model.named_parameters())[name]), "the model itself stays"


def test_a_large_matrix_is_shuffled_without_an_index_larger_than_itself():
    class Largest(TorchDispatchMode):
        n_bytes = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                self.n_bytes = max(self.n_bytes, result.nbytes)
            return result

    embedding = torch.nn.Embedding(3000, 7)
    with Largest() as largest:
        shuffled = shuffled_model(embedding, seed=3)
    assert largest.n_bytes == embedding.weight.nbytes
    order = torch.randperm(embedding.weight.numel(), generator=torch.Generator().manual_seed(3))
    assert torch.equal(shuffled.weight, embedding.weight.flatten()[order].view(3000, 7))


def test_a_stage_alone_is_run_anew_from_what_is_there(copied):
    (copied.path / "ranking" / "ranking.parquet").write_bytes(b"")
    config = FEW.replace(ranking=dataclasses.replace(FEW.ranking, n_shifts=1))
    manifest = run_alone(copied, "ranking", config=config, progress=lambda done, total, note: None)
    assert manifest["config"] == {
        "ranking": config.to_dict()["ranking"],
        "verdicts": list(VERDICTS),
        "fits": digest_fits(),
    }
    assert Run(copied.path).config == config
    assert len(copied.ranking) == FEW.sae.d_sae
    assert ran_now(config, copied.path, until="ranking") == []
    shutil.rmtree(copied.path / "features")
    with pytest.raises(ValueError, match="has no features yet"):
        run_alone(copied, "ranking", progress=lambda done, total, note: None)


def test_results_stay_until_the_new_ones_are_whole(copied, tmp_path):
    """A process killed while it makes a ranking again leaves the old one and its configuration."""
    code = """
import dataclasses, os, signal, sys
from interp.pipeline.execution import run_alone
from interp.pipeline.run import Run
from interp.pipeline.stages import ranking
ranking.rank_latents = lambda run, config, progress: os.kill(os.getpid(), signal.SIGKILL)
run = Run(sys.argv[1])
config = run.config.replace(ranking=dataclasses.replace(run.config.ranking, seed=5))
run_alone(run, "ranking", config=config, progress=lambda done, total, note: None)
"""
    before = {file: file.read_bytes() for file in [copied.path / "run.toml", *copied.path.glob("ranking/*")]}
    killed = run_python(code, copied.path)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert {file: file.read_bytes() for file in before} == before
    assert len(Run(copied.path).ranking) == FEW.sae.d_sae
    assert ran_now(FEW, copied.path) == []


def test_a_process_killed_before_it_writes_a_configuration_has_replaced_nothing(copied):
    code = """
import dataclasses, os, signal, sys
from interp.pipeline import execution
from interp.pipeline.run import Run
execution._write_config = lambda out, config: os.kill(os.getpid(), signal.SIGKILL)
run = Run(sys.argv[1])
config = run.config.replace(quality=dataclasses.replace(run.config.quality, tokens=1_000))
execution.run_alone(run, "quality", config=config, progress=lambda done, total, note: None)
"""
    killed = run_python(code, copied.path)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert Run(copied.path).config == FEW
    assert ran_now(FEW, copied.path) == []


@pytest.mark.parametrize("new_in_place", [True, False])
def test_a_stage_interrupted_while_it_was_replaced_is_restored(copied, new_in_place):
    """The kill comes before or after the new stage is in its place."""
    work = unfinished_folder(copied.path / "concepts")
    work.mkdir()
    made_of = {"stage": "concepts", "fingerprint": copied.manifest("concepts")["fingerprint"]}
    (work / "begun.json").write_text(json.dumps({"made_of": made_of, "resumes": True}))
    if new_in_place:
        shutil.copytree(copied.path / "concepts", work / "old")
    else:
        (copied.path / "concepts").rename(work / "old")
    assert ran_now(FEW, copied.path) == []
    run_alone(copied, "concepts", progress=lambda done, total, note: None)
    assert ran_now(FEW, copied.path) == [] and not work.exists()


def test_a_stage_that_was_finished_when_its_process_was_killed_is_put_in_place(copied):
    work = unfinished_folder(copied.path / "concepts")
    work.mkdir()
    (copied.path / "concepts").rename(work / "new")
    assert ran_now(FEW, copied.path) == [] and not work.exists()
    assert len(copied.concepts)


def test_missing_and_cut_off_files_are_made_again_and_altered_ones_refused_by_name(copied):
    folder = copied.path / "concepts"
    (folder / "concepts.parquet").unlink()
    assert ran_now(FEW, copied.path) == ["concepts"]
    for file in ("concepts.parquet", "manifest.json"):
        os.truncate(folder / file, 10)
        assert ran_now(FEW, copied.path) == ["concepts"]
    data = bytearray((folder / "concepts.parquet").read_bytes())
    data[len(data) // 2] ^= 4
    (folder / "concepts.parquet").write_bytes(data)
    with pytest.raises(
        ValueError, match=r"concepts.parquet is altered.*delete .*concepts and `interp run` makes it again"
    ):
        Run(copied.path).concepts  # noqa: B018
    shutil.rmtree(folder)
    assert ran_now(FEW, copied.path) == ["concepts"] and len(Run(copied.path).concepts)


def test_run_refuses_stages_of_different_runs(copied):
    """An example is features of a dictionary that was trained again by a run that was then cut off."""
    other = FEW.replace(sae=dataclasses.replace(FEW.sae, seed=7))
    assert ran_now(other, copied.path, redo=True, until="sae") == ["sae"]
    assert Run(copied.path).sae.d_sae == FEW.sae.d_sae
    with pytest.raises(ValueError, match="features was made with another sae than the run now has: `interp run`"):
        Run(copied.path).features  # noqa: B018
    with pytest.raises(ValueError, match=r"nulls was made with another \[sae\] and another sae than the run now has"):
        Run(copied.path).nulls  # noqa: B018


def test_a_finished_run_is_run_again_where_nothing_may_be_written(copied):
    places = [copied.path, *copied.path.rglob("*")]
    times = {place: place.stat().st_mtime_ns for place in places}
    assert ran_now(FEW, copied.path) == []
    assert {place: place.stat().st_mtime_ns for place in copied.path.rglob("*")} | {
        copied.path: copied.path.stat().st_mtime_ns
    } == times


def test_a_second_process_is_refused_while_a_run_is_made(copied):
    with lock_folder(copied.path), pytest.raises(ValueError, match="is in use by"):
        run_stages(FEW, copied.path)
    with lock_folder(copied.path), pytest.raises(ValueError, match="is in use by"):
        run_alone(copied, "concepts", progress=lambda done, total, note: None)
    assert ran_now(FEW, copied.path) == []


def test_a_command_on_a_folder_in_use_is_refused_before_libraries_are_loaded(copied):
    run = str(copied.path)
    commands = [
        ["rank", run],
        ["report", run],
        ["harvest", "m", "t", "--hook", "h", "--out", run],
        ["demo", "--out", run],
    ]
    code = f"import sys, interp.cli as cli\nfor words in {commands}: print(cli.main(words), 'torch' in sys.modules)"
    with lock_folder(copied.path):
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.stdout == "2 False\n" * 4 and said.stderr.count("is in use by") == 4, said.stderr


def test_what_is_done_is_skipped(run):
    done = []
    run_stages(TINY, run.path, on_finish=lambda stage, manifest, ran: done.append((stage.name, ran)))
    assert done == [(name, False) for name in STAGES]


def test_a_training_that_reads_its_rows_many_times_says_so(run):
    manifest = run.manifest("sae")
    rows, line = manifest["results"]["rows"], STAGES["sae"].summary_of
    assert rows == len(run.store) and "each row" not in line(manifest)
    often = manifest | {"results": manifest["results"] | {"rows": 2_000}}
    assert line(often).endswith("each row was read 30 times: with more text fewer latents die")


def test_a_change_that_affects_finished_stages_is_refused_and_redo_runs_them_again(copied):
    other = FEW.replace(quality=dataclasses.replace(FEW.quality, tokens=1_000))
    loads = RunConfig.from_dict(FEW.to_dict() | {"sae": {"load": "sl"}})
    differs = r"\(sae.load: 'sl' here; sae.sae_id: 'none' here; \d\d further fields of \[sae\]\)"
    with pytest.raises(ValueError, match=differs):
        run_stages(loads, copied.path)
    differs = r"another configuration \(quality.tokens: 2000 there, 1000 here\).*--redo .*: quality, report$"
    with pytest.raises(ValueError, match=differs):
        run_stages(other, copied.path)
    before = copied.quality
    assert ran_now(other, copied.path, redo=True, until="quality") == ["quality"]
    assert copied.quality is not before, "what a stage left is read again after it ran again"
    assert ran_now(FEW, copied.path, until="sae", redo=True) == [], "the other quality is still there"
    assert ran_now(other, copied.path, until="quality") == [], "and may be gone back to"


def test_a_raised_version_makes_its_stage_and_those_that_read_it_again_if_they_are_to_be_redone(copied, monkeypatch):
    before = contents(copied.path)
    features = STAGES["features"]
    monkeypatch.setitem(STAGES, "features", dataclasses.replace(features, version=features.version + 1))
    message = r"another version of interp made features.*choose another folder.*--redo .*"
    message += ": features, effects, concepts, nulls, ranking, names, report$"
    for until in ("features", None):
        with pytest.raises(ValueError, match=message):
            run_stages(FEW, copied.path, until=until)
    assert contents(copied.path) == before and copied.config == FEW
    assert ran_now(FEW, copied.path, until="sae") == [], "the stages before it are as they were"
    assert ran_now(FEW, copied.path, until="effects", redo=True) == ["features", "effects"]


def test_a_number_on_which_a_stage_depends_is_no_section_of_its_provenance(copied, monkeypatch):
    corpus = STAGES["corpus"]
    monkeypatch.setitem(STAGES, "corpus", dataclasses.replace(corpus, outside_inputs=lambda run: {"edition": 3}))
    before = copied.provenance()
    run_alone(copied, "corpus", config=FEW, progress=no_progress)
    after = copied.provenance()
    assert after["seed"] == before["seed"] and after["config_sha256"] != before["config_sha256"]


def test_a_loaded_dictionary_of_the_same_weights_and_other_settings_is_another(copied, tmp_path, monkeypatch):
    theirs = shutil.copytree(copied.folder("sae"), tmp_path / "theirs")
    (theirs / "manifest.json").unlink()
    loads = RunConfig.from_dict(FEW.to_dict() | {"sae": {"load": str(theirs)}})
    run_stages(loads, copied.path, until="sae", redo=True)
    cfg = json.loads((theirs / "cfg.json").read_text())
    again = cfg | {"metadata": cfg["metadata"] | {"sae_lens_version": "6.99"}}
    changed = r"sae was made of other files of the loaded dictionary \(cfg.json\).*--redo .*: sae, features"
    (theirs / "cfg.json").write_text(json.dumps(again, indent=1))
    assert ran_now(loads, copied.path, until="sae", redo=True) == []
    limited = cfg | {"metadata": cfg["metadata"] | {"norm_limit": 1e9}}
    for other in (limited, cfg | {"k": cfg["k"] - 3}):
        (theirs / "cfg.json").write_text(json.dumps(other))
        with pytest.raises(ValueError, match=changed):
            run_stages(loads, copied.path, until="sae")
    run_stages(loads, copied.path, until="sae", redo=True)
    assert copied.results("sae")["l0"] == pytest.approx(cfg["k"] - 3, rel=1e-3)


def test_a_page_and_what_was_made_again_on_purpose_need_no_redo(copied):
    other = FEW.replace(quality=dataclasses.replace(FEW.quality, tokens=1_000))
    run_alone(copied, "quality", config=other, progress=no_progress)
    assert ran_now(other, copied.path) == ["report"]


def test_a_changed_calibration_is_named_before_a_ranking_is_made_again(copied, monkeypatch):
    monkeypatch.setattr("interp.verdict.fit_files.digest_fits", lambda: "others")
    match = r"nulls was made of other fits of the calibration.*: nulls, ranking, names, report$"
    with pytest.raises(ValueError, match=match):
        run_stages(FEW, copied.path)
    assert ran_now(FEW, copied.path, until="concepts") == [], "nothing of what is asked for would be lost"


def test_an_interrupted_stage_of_other_inputs_is_kept_unless_it_is_to_be_redone(copied):
    shutil.rmtree(copied.path / "concepts")
    work = unfinished_folder(copied.path / "concepts")
    (work / "new").mkdir(parents=True)
    (work / "new/half.parquet").write_bytes(b"half")
    made_of = {"stage": "concepts", "fingerprint": "of an earlier version"}
    (work / "begun.json").write_text(json.dumps({"made_of": made_of, "resumes": True}))
    with pytest.raises(ValueError, match="concepts was begun with other inputs.*--redo .*: concepts, report$"):
        run_stages(FEW, copied.path)
    assert (work / "new/half.parquet").is_file()
    assert ran_now(FEW, copied.path, redo=True) == ["concepts"]


def test_the_rules_of_a_run_may_name_the_labels_of_its_corpus_if_it_has_any(run, monkeypatch):
    monkeypatch.setattr("interp.verdict.ranking.rank_features", lambda features, **options: options)
    assert rank_latents(run, run.config.ranking, no_progress)["use_labels"] is True
    without = SimpleNamespace(labels={}, tokens=run.harvested.tokens)
    monkeypatch.setattr(Run, "harvested", property(lambda run: without))
    assert rank_latents(run, run.config.ranking, no_progress)["use_labels"] is False


def test_a_twin_that_does_not_exist_is_refused_before_any_work(copied, tmp_path):
    """Also in a run whose earlier stages are finished, whose configuration then stays as it was."""
    ranking = dataclasses.replace(FEW.ranking, twin=str(tmp_path / "typo"))
    began = []
    with pytest.raises(ValueError, match="typo"):
        run_stages(FEW.replace(ranking=ranking), copied.path, redo=True)
    assert copied.config == FEW and len(copied.ranking) == FEW.sae.d_sae
    with pytest.raises(ValueError, match="typo"):
        run_stages(FEW.replace(ranking=ranking), tmp_path / "new", progress=began.append)
    assert not began and not (tmp_path / "new/run.toml").exists()


def test_a_run_whose_twin_was_deleted_stays_and_only_another_ranking_asks_for_the_twin(copied, tmp_path):
    twin = shutil.copytree(copied.features.path, tmp_path / "twin")
    config = FEW.replace(ranking=dataclasses.replace(FEW.ranking, twin=str(twin)))
    run_alone(copied, "ranking", config=config, progress=no_progress)
    shutil.rmtree(twin)
    assert ran_now(config, copied.path, until="ranking") == []
    assert Run(copied.path).ranking.twin_correlation.notna().any()
    other = config.replace(ranking=dataclasses.replace(config.ranking, n_shifts=1))
    with pytest.raises(ValueError, match="twin does not exist"):
        run_stages(other, copied.path, redo=True)


def test_a_stage_that_was_done_before_says_so_within_the_width_of_a_terminal(copied):
    line = STAGES["quality"].line(copied.manifest("quality"), is_new=False)
    assert line.endswith("  (done before)") and line.count("\n") >= 3
    results = {"features": 0, "dead": 0, "l0": 0.0}
    long = {"stage": "longest", "wall_seconds": 1.0, "results": {LEFT_OUT: "word " * 15}, **results}
    lines = STAGES["features"].line(long, is_new=False).split("\n")
    assert lines[-1].strip() == "(done before)" and max(map(len, lines)) <= LINE_WIDTH


def test_what_never_ran_may_be_changed(copied):
    for name in ("ranking", "names", "report"):
        shutil.rmtree(copied.path / name)
    other = FEW.replace(ranking=dataclasses.replace(FEW.ranking, n_shifts=1))
    assert ran_now(other, copied.path, until="concepts") == [] and copied.config == other
    sae = dataclasses.replace(FEW.sae, seed=7)
    with pytest.raises(ValueError, match="--redo .*: sae, features, effects, quality, concepts, nulls$"):
        run_stages(other.replace(sae=sae), copied.path)
    assert copied.config == other


def test_sql_refuses_effects_that_are_not_those_of_the_features(copied):
    run_stages(FEW.replace(sae=dataclasses.replace(FEW.sae, seed=7)), copied.path, redo=True, until="features")
    query = "select * from effects join features using (latent)"
    for read in (lambda: copied.features.sql(query), lambda: copied.effects):
        with pytest.raises(ValueError, match="effects was made with another .* than the run now has"):
            read()
    assert len(copied.features.sql("select latent as effects from features")) == FEW.sae.d_sae
    shutil.rmtree(copied.path / "effects")
    with pytest.raises(MissingResultError, match="has no effects yet"):
        copied.features.sql(query)


def test_a_configuration_that_could_not_run_may_be_mended(copied, monkeypatch):
    """A run whose configuration was refused, or cannot be read now, has made nothing that would be lost."""

    def interrupt(stages, config):
        raise KeyboardInterrupt

    for name in STAGES:
        if name not in ("corpus", "model"):
            shutil.rmtree(copied.path / name)
    hooks = {**FEW.to_dict()["harvest"], "hook_name": "blocks.0.hook_resid_pots"}
    with pytest.raises(ValueError, match="no hook 'blocks.0.hook_resid_pots'"):
        run_stages(RunConfig.from_dict(FEW.to_dict() | {"harvest": hooks}), copied.path)
    assert copied.config == FEW
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("interp.pipeline.execution.check_config", interrupt)
        run_stages(FEW.replace(harvest=dataclasses.replace(FEW.harvest, tokens=2_000)), copied.path)
    assert copied.config == FEW
    (copied.path / "run.toml").write_text("[harvets]\ntokens = 3\n")
    assert ran_now(FEW, copied.path, until="activations") == ["activations"] and copied.config == FEW
    (copied.path / "run.toml").write_text("[harvets]\ntokens = 3\n")
    other = FEW.replace(harvest=dataclasses.replace(FEW.harvest, tokens=2_000))
    with pytest.raises(ValueError, match=r"'harvets' does not exist.*--redo .*: activations$"):
        run_stages(other, copied.path)


def test_run_stages_keeps_interrupted_work_without_redo(copied):
    made_of = {"stage": "ranking", "fingerprint": copied.manifest("ranking")["fingerprint"]}
    for name in ("effects", "ranking", "names", "report"):
        shutil.rmtree(copied.path / name)
    work = unfinished_folder(copied.path / "ranking")
    (work / "new").mkdir(parents=True)
    (work / "new/half.parquet").write_bytes(b"half")
    (work / "begun.json").write_text(json.dumps({"made_of": made_of, "resumes": True}))
    ranking = FEW.replace(ranking=dataclasses.replace(FEW.ranking, n_shifts=1))
    with pytest.raises(ValueError, match=r"\(ranking.n_shifts: 2 there, 1 here\).*--redo .*: ranking$"):
        run_stages(ranking, copied.path)
    effects = FEW.replace(effects=dataclasses.replace(FEW.effects, sequences=16))
    assert ran_now(effects, copied.path, until="neurons") == [] and copied.config == effects
    assert (work / "new/half.parquet").is_file()


def test_a_dictionary_without_k_is_compared_with_baselines_of_equal_l0(run, tmp_path):
    done = ("sae", "features", "effects", "quality", "ranking", "concepts", "nulls", "names", "report")
    shutil.copytree(run.path, tmp_path / "run", ignore=shutil.ignore_patterns(*done))
    sae = JumpReLUConfig(d_sae=128, tokens=20_000, batch_size=512, target_l0=8)
    other = run_stages(TINY.replace(sae=sae), tmp_path / "run", redo=True, until="quality")
    l0 = min(other.store.d(TINY.harvest.hook_name), round(other.results("sae")["l0"]))
    table = other.quality.set_index("dictionary")
    assert l0 > 1 and table.l0["PCA"] == pytest.approx(l0) and table.l0["random"] == pytest.approx(l0, rel=0.1)


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="is not a run folder"):
        run_stages(TINY, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(FileNotFoundError, match="not a run folder"):
        Run(tmp_path)


def test_what_a_run_does_not_have_is_named(run, copied):
    shutil.rmtree(copied.path / "concepts")
    with pytest.raises(MissingResultError, match="has no concepts yet: `interp run`"):
        copied.concepts  # noqa: B018
    assert not hasattr(copied, "concepts") and getattr(copied, "concepts", None) is None
    shutil.rmtree(copied.path / "corpus")
    with pytest.raises(MissingResultError, match="has no corpus yet: `interp run`"):
        Run(copied.path).held_out  # noqa: B018
    with pytest.raises(AttributeError, match=r"a run has no 'rankings'; did you mean ranking"):
        run.rankings  # noqa: B018
    with pytest.raises(AttributeError, match=r"a run has no 'zzz'; there are .*ranking"):
        run.zzz  # noqa: B018
    with pytest.raises(FileNotFoundError, match=f"no run.toml; did you mean {run.path}"):
        Run(f"{run.path}x")


def test_a_run_killed_in_each_stage_equals_the_uninterrupted_one(few_run, tmp_path):
    driven = run_python(DRIVER, tmp_path / "killed")
    lines = [line.split() for line in driven.stdout.splitlines()]
    killed = {stage for stage, _, code in lines if int(code) == -signal.SIGKILL}
    assert lines and lines[-1] == ["None", "0", "0"], driven.stdout + driven.stderr
    assert killed == set(STAGES)
    whole, resumed = contents(few_run.path), contents(tmp_path / "killed")
    assert whole.keys() == resumed.keys()
    assert {name for name in whole if whole[name] != resumed[name]} == set()
    pd.testing.assert_frame_equal(few_run.ranking, Run(tmp_path / "killed").ranking)


@pytest.mark.parametrize("name", ["book.txt", "**/*.txt"])
def test_a_text_that_changed_is_named_and_read_again_only_if_asked_to(tmp_path, name):
    text = tmp_path / "book.txt"
    text.write_text("The quick brown fox jumps over the lazy dog.\n\n" * 600)
    corpus = dataclasses.replace(TINY.corpus, source="files", paths=(str(tmp_path / name),), characters=None)
    config = TINY.replace(corpus=corpus)
    counts = [ran_now(config, tmp_path / "run", until="corpus") for _ in range(2)]
    text.write_text("A slow grey goose walks under the busy cat.\n\n" * 600)
    before = contents(tmp_path / "run")
    message = rf"corpus was made of other files of text \({text}\); choose another folder.*--redo .*: corpus$"
    with pytest.raises(ValueError, match=message):
        run_stages(config, tmp_path / "run")
    assert contents(tmp_path / "run") == before
    counts.append(ran_now(config, tmp_path / "run", until="corpus", redo=True))
    assert counts == [["corpus"], [], ["corpus"]]


def test_a_changed_file_of_a_local_data_set_makes_the_text_again(tmp_path):
    file = tmp_path / "set" / "data" / "train.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("{}")

    def text_files(name):
        config = RunConfig.from_dict({"corpus": {"source": "huggingface", "name": name}})
        return STAGES["corpus"].outside_inputs(SimpleNamespace(config=config))["files"]

    before = text_files(str(tmp_path / "set"))
    assert list(before) == [str(file)] and text_files("nobody/nothing") == {}
    file.write_text("{} {}")
    assert text_files(str(tmp_path / "set")) != before


def test_a_run_says_that_it_reads_only_the_beginning_of_a_text(tmp_path, caplog):
    (tmp_path / "a.txt").write_text("one word and another " * 100)

    def warnings(characters):
        caplog.clear()
        corpus = CorpusConfig(source="files", paths=(str(tmp_path / "a.txt"),), characters=characters)
        assert [*_documents(corpus)] == load_documents(corpus)
        return caplog.messages

    assert warnings(None) == warnings(3_000) == []
    [line] = warnings(1_000)
    assert re.match(r"the run reads the first [12],\d{3} characters of the text: raise \[corpus\] characters", line)
