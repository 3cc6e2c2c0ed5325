"""The command line: each command does its stage, and bad input ends with one line and exit code 2."""

import dataclasses
import errno
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest
import tomli_w
import torch

from interp import FeatureStore, ranking_evidence, write_report
from interp.activations import ActivationStore
from interp.checks.limits import Seed, check_value
from interp.cli import COMMAND_GROUPS, COMMANDS, Terminated, main
from interp.cli.sae_commands import field_lines, first_sentence
from interp.display.verdict_names import UNTESTED
from interp.pipeline.stages import LINE_WIDTH, STAGES
from interp.runtime.progress_bar import Bar
from interp.runtime.threads import slices
from interp.sae import ARCHITECTURES, Crosscoder, Transcoder, load_sae
from interp.storage import addresses
from interp.verdict.ranking_tables import Ranking
from tests.command_line import refused
from tests.launched import launch
from tests.tiny import FEW, SECTIONS, TINY, copy_stages

ROOT = Path(__file__).parents[2]
LIBRARY = {name: kind for name, kind in ARCHITECTURES.items() if kind.__module__.startswith("interp.")}
"""The architectures of the library, without those that a script has registered in the same process."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_run):
    """Return the model and tokens of a finished run, then each later stage by its own command."""
    folder = tmp_path_factory.mktemp("cli")
    copy_stages(tiny_run, folder / "run")
    model, tokens, hook = folder / "run/model", folder / "run/corpus/train", "blocks.0.mlp.hook_post"
    harvest = ["harvest", model, tokens, "--hook", hook, "--max-tokens", 6_000, "--out", folder / "store"]
    train = ["train-sae", folder / "store", "--d-sae", 18, "--k", 4, "--tokens", 8_000, "--out", folder / "sae"]
    scan = ["scan", folder / "sae", folder / "store", "--model", model, "--tokens", tokens]
    rank = ["rank", folder / "features", "--n-shifts", 1, "--out", folder / "ranking.csv"]
    for command in (harvest, train, [*scan, "--out", folder / "features"], rank):
        assert main([str(word) for word in command]) == 0, command
    return folder


def test_a_stage_at_a_time_ends_in_a_ranking_and_a_page(folder, capsys):
    ranking = pd.read_csv(folder / "ranking.csv")
    assert sorted(ranking.latent) == list(range(18))
    assert main(["report", str(folder / "features"), "--out", str(folder / "page")]) == 0
    assert (folder / "page/index.html").is_file()
    assert main(["export", str(folder / "sae"), "--out", str(folder / "exported")]) == 0
    import sae_lens

    assert sae_lens.SAE.load_from_disk(str(folder / "exported")).cfg.d_sae == 18


@pytest.fixture(scope="module")
def whole(tmp_path_factory, few_run):
    """Return a finished run folder, next to its configuration."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "few.toml").write_text(tomli_w.dumps(FEW.to_dict()))
    return shutil.copytree(few_run.path, folder / "run")


def test_a_run_folder_is_ranked_and_reported_in_place(whole, capsys):
    before = pd.read_parquet(whole / "ranking/ranking.parquet")
    (whole / "ranking/ranking.parquet").unlink()
    shutil.rmtree(whole / "report/page")
    capsys.readouterr()
    assert main(["rank", str(whole)]) == 0
    said = capsys.readouterr().out.splitlines()
    file = whole / "ranking/ranking.parquet"
    *rows, path, _ = said
    counts = before.verdict.value_counts()
    told = " ".join(rows).replace("too rare", "too-rare")
    assert all(f"{n:,} {verdict}" in told for verdict, n in counts.items())
    assert "\n".join(rows).endswith(Ranking(before).head(10).rows_as_text()) and max(map(len, rows)) <= 120
    assert path == str(file)
    pd.testing.assert_frame_equal(pd.read_parquet(file), before)
    made = file.stat().st_mtime_ns
    assert main(["rank", str(whole)]) == 0
    again = capsys.readouterr().out.splitlines()[-len(said) :]
    assert again == [*said[:-1], "done before, with the same settings"] and file.stat().st_mtime_ns == made
    assert main(["report", str(whole)]) == 0
    assert Path(capsys.readouterr().out.splitlines()[-1]) == whole / "report/page/index.html"
    assert (whole / "report/page/index.html").is_file()
    assert main(["run", str(whole.parent / "few.toml"), "--out", str(whole)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("(done before)") == len(STAGES), "all is as the stages left it"
    paths = [line for line in printed.splitlines() if str(whole) in line]
    assert all(len(line) <= LINE_WIDTH for line in printed.splitlines() if line not in paths)


def test_another_seed_is_kept_in_the_run_and_a_file_elsewhere_leaves_it_alone(whole, tmp_path, capsys):
    before = (whole / "ranking/ranking.parquet").read_bytes()
    other_seed = ["--seed", "4", "--n-shifts", "1"]
    assert main(["rank", str(whole), *other_seed, "--out", str(tmp_path / "other.parquet")]) == 0
    assert (whole / "ranking/ranking.parquet").read_bytes() == before and (tmp_path / "other.parquet").is_file()
    arguments = ["report", str(whole / "features"), "--ranking", str(tmp_path / "other.parquet")]
    assert main([*arguments, "--out", str(tmp_path / "page")]) == 0
    assert '"ranked":true' in (tmp_path / "page/data/page.js").read_text()
    shutil.copytree(whole, tmp_path / "run")
    assert main(["rank", str(tmp_path / "run"), *other_seed]) == 0
    assert "seed = 4" in (tmp_path / "run/run.toml").read_text().split("[ranking]")[1].split("[")[0]


def test_rank_use_labels_lets_explanations_name_the_runs_labels(whole, folder, tmp_path, capsys):
    labels = json.loads((whole / "features/meta.json").read_text())["labels"]
    assert main(["rank", str(whole), "--use-labels", "--out", str(tmp_path / "asked.parquet")]) == 0
    plain, asked = pd.read_parquet(whole / "ranking/ranking.parquet"), pd.read_parquet(tmp_path / "asked.parquet")
    assert plain.verdict.equals(asked.verdict) and plain.monosemanticity.equals(asked.monosemanticity)
    of_labels = ranking_evidence(plain).query("measure == 'label_f1'")
    assert labels and of_labels.z.notna().any() and plain.label_f1.notna().any()
    line = refused(capsys, "rank", folder / "features", "--use-labels", "--out", tmp_path / "no.csv")
    assert "--use-labels" in line and "does not keep label masks" in line


def test_a_ranking_beside_a_twin(whole, few_run, folder, tmp_path, capsys):
    out = tmp_path / "beside.parquet"
    shutil.copytree(whole, tmp_path / "run")
    assert main(["rank", str(tmp_path / "run"), "--twin", str(few_run.folder("features"))]) == 0
    ranked = tmp_path / "run/ranking/ranking.parquet"
    table, plain = pd.read_parquet(ranked), pd.read_parquet(whole / "ranking/ranking.parquet")
    assert f"twin_correlation {table.twin_correlation.median():.2f} (median of" in capsys.readouterr().out
    assert table.monosemanticity.equals(plain.monosemanticity) and plain.twin_correlation.isna().all()
    tested = ~table.verdict.isin(UNTESTED)
    assert table.twin_correlation[tested].notna().all()
    beside = ranking_evidence(table).query("measure == 'twin_correlation'").set_index("latent")
    assert beside.z[table.latent[tested]].notna().all()
    assert main(["rank", str(tmp_path / "run"), "--twin", "none", "--n-shifts", "1"]) == 0
    assert pd.read_parquet(ranked).twin_correlation.isna().all(), "the run has no twin again"
    line = refused(capsys, "rank", whole, "--twin", tmp_path / "none", "--out", out)
    assert "none does not exist (a feature store: `interp scan` makes one)" in line
    line = refused(capsys, "rank", whole, "--twin", folder / "features", "--out", out)
    assert "is a scan of other tokens and another hook than" in line


@pytest.mark.parametrize(("end", "code"), [(KeyboardInterrupt, 0), (Terminated, 143)])
def test_a_server_ends_in_silence(whole, monkeypatch, capsys, end, code):
    monkeypatch.setattr("interp.report.live.Explorer.serve_forever", lambda server: raise_error(end()))
    capsys.readouterr()
    assert main(["explore", str(whole), "--port", "0"]) == code
    printed = capsys.readouterr()
    assert printed.out.startswith(f"opening {whole} and its model …\nhttp://127.0.0.1:")
    assert printed.err == "", "there is no work to resume"


def test_an_unknown_option_is_reported_with_the_nearest(capsys):
    line = refused(capsys, "train-sae", "store", "--d-see", 64, "--out", "out")
    assert "No such option: --d-see. Did you mean --d-sae" in line
    assert line.endswith("(see interp train-sae --help)")
    line = refused(capsys, "rank", "run", "--top", 3)
    assert line == "interp: No such option: --top (see interp rank --help)", "--out is near only by its dashes"


def test_help_says_each_default_once(capsys):
    for command in COMMANDS:
        assert main([command, "--help"]) == 0
        for option in re.split(r"\n  --", capsys.readouterr().out.split("\nOptions:")[1]):
            assert len(re.findall(r"[(\[]default", option)) <= 1, option


def test_a_run_tells_the_shares_of_its_nulls(whole, capsys):
    capsys.readouterr()
    assert main(["run", str(whole.parent / "few.toml"), "--out", str(whole)]) == 0
    said = capsys.readouterr().out.split("\nnulls ")[1].split(" s  ")[1].splitlines()
    shares = pd.read_parquet(whole / "nulls/shares.parquet").query("verdict == 'monosemantic'").set_index("dictionary")
    for line, (name, row) in zip(said, shares.iterrows(), strict=False):
        assert line.strip().startswith(f"{name}: ") and f"{row.share:.0%} monosemantic" in line
    assert len(shares) == 8


def test_an_unwritable_output_is_reported_before_the_work(folder, tmp_path, capsys, monkeypatch):
    def never(*_, **__):
        raise AssertionError("worked before it looked where to write")

    for name in ("verdict.ranking.rank_features", "report.write_report"):
        monkeypatch.setattr(f"interp.{name}", never)
    file, store = tmp_path / "file", folder / "features"
    file.touch()
    under = f"cannot be created: {file} is a file, not a folder; name another path"
    assert f"--out {file}/x.csv {under}" in refused(capsys, "rank", store, "--out", file / "x.csv")
    assert f"--out {file}/page {under}" in refused(capsys, "report", store, "--out", file / "page")
    assert f"{file} is a file: name a folder" in refused(capsys, "report", store, "--out", file)
    (tmp_path / "x.csv").mkdir()
    assert "x.csv is a folder: name a file" in refused(capsys, "rank", store, "--out", tmp_path / "x.csv")
    monkeypatch.setattr("os.access", lambda path, mode, **_: not mode & os.W_OK)
    line = refused(capsys, "rank", store, "--out", tmp_path / "new/y.csv")
    assert f"{tmp_path} is not writable" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "x.csv"]


def test_commands_replace_an_existing_file_only_with_overwrite(folder, tmp_path, capsys, monkeypatch):
    def never(*_, **__):
        raise AssertionError("worked before it looked where to write")

    mine = "what somebody else keeps"
    commands = {
        "mine.csv": ("rank", folder / "features", "--n-shifts", 1),
        "mine.parquet": ("quality", folder / "sae", "--model", folder / "run/model", "--tokens", folder / "run"),
        "mine.html": ("graph", folder / "run", "To be, or not"),
        "mine.json": ("graph", folder / "run", "To be, or not"),
    }
    with monkeypatch.context() as patched:
        for name in ("verdict.ranking.rank_features", "evaluation.quality.quality_table", "effects.attribution_graph"):
            patched.setattr(f"interp.{name}", never)
        for name, arguments in commands.items():
            (tmp_path / name).write_text(mine)
            line = refused(capsys, *arguments, "--out", tmp_path / name)
            assert f"{tmp_path / name} already exists: name another file, or replace it with" in line
            assert line.endswith("(--overwrite)") and (tmp_path / name).read_text() == mine
    (tmp_path / "link.csv").symlink_to(tmp_path / "nowhere.csv")
    assert "link.csv already exists" in refused(capsys, *commands["mine.csv"], "--out", tmp_path / "link.csv")
    arguments = [*commands["mine.csv"], "--out", tmp_path / "mine.csv", "--overwrite"]
    assert main([str(word) for word in arguments]) == 0
    assert (tmp_path / "mine.csv").read_bytes() == (folder / "ranking.csv").read_bytes()


def test_mistakes_in_a_ranking_are_named(folder, tmp_path, capsys):
    arguments = ("report", folder / "features", "--out", tmp_path / "page", "--ranking")
    assert f"--ranking {tmp_path}/no.parquet does not exist" in refused(capsys, *arguments, tmp_path / "no.parquet")
    line = refused(capsys, *arguments, folder / "ranking.csv")
    assert "must end in .parquet: a .csv does not hold the senses" in line
    (tmp_path / "bad.parquet").write_text("x")
    assert "bad.parquet is not a readable table" in refused(capsys, *arguments, tmp_path / "bad.parquet")
    pd.DataFrame({"verdict": ["dead"]}).to_parquet(tmp_path / "bad.parquet")
    assert "bad.parquet has no column latent" in refused(capsys, *arguments, tmp_path / "bad.parquet")
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize(
    ("arguments", "before"),
    [(["rank", "x", "--twin", ""], "--twin"), (["harvest", ""], "harvest"), (["rank", "--twin="], "--twin")],
)
def test_an_empty_argument_is_named(arguments, before, capsys):
    assert f"after {before} is empty: give one" in refused(capsys, *arguments)


def test_a_value_may_end_with_an_equals_sign(tmp_path, capsys):
    assert "missing does not exist" in refused(capsys, "rank", tmp_path / "missing", "--twin=a=", "--out", "x.csv")


def test_a_prompt_behind_two_dashes_is_no_flag(tmp_path, capsys):
    assert "missing" in refused(capsys, "graph", tmp_path / "missing", "--", "-- select a =")


def test_corpus_mistakes(tmp_path, capsys):
    def run(**corpus) -> str:
        (tmp_path / "c.toml").write_text(tomli_w.dumps(SECTIONS | {"corpus": corpus}))
        line = refused(capsys, "run", tmp_path / "c.toml", "--out", tmp_path / "out", "--until", "corpus")
        assert not (tmp_path / "out/corpus/manifest.json").exists()
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        return line

    files = {"empty.txt": b"", "latin.txt": b"caf\xe9 au lait\n" * 50, "short.txt": b"To be."}
    files["page.txt"] = b"".join(b"Line %d of a page.\n" % number for number in range(90))
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert "nowhere.txt" in run(source="files", paths=[str(tmp_path / "nowhere.txt")])
    assert "empty" in run(source="files", paths=[str(tmp_path / "empty.txt")])
    line = run(source="files", paths=[str(tmp_path / "latin.txt")])
    assert "latin.txt" in line and "UTF-8" in line and "3" in line
    assert "context" in run(source="files", paths=[str(tmp_path / "short.txt")])
    assert "val_fraction = 0 leaves no text" in run(source="files", paths=[str(tmp_path / "short.txt")], val_fraction=0)
    assert "val_fraction = 0.05 holds out too little" in run(source="files", paths=[str(tmp_path / "page.txt")])
    assert f"is a folder: name its files by a glob, such as {tmp_path}/**" in run(source="files", paths=[str(tmp_path)])
    assert "shakespeare" in run(source="shakespear")


def test_hook_that_the_model_lacks_names_the_nearest(folder, capsys):
    arguments = ("harvest", folder / "run/model", folder / "run/corpus/train", "--hook", "blocks.0.mlp.hook_pots")
    line = refused(capsys, *arguments, "--out", folder / "wrong")
    assert "blocks.0.mlp.hook_post" in line and not (folder / "wrong/manifest.json").exists()


def test_dictionary_of_another_width_names_both(folder, capsys):
    arguments = ("harvest", folder / "run/model", folder / "run/corpus/train", "--hook", "blocks.0.hook_resid_post")
    assert main([str(w) for w in (*arguments, "--max-tokens", 4_000, "--out", folder / "narrow")]) == 0
    line = refused(capsys, "scan", folder / "sae", folder / "narrow", "--out", folder / "mismatch")
    assert "64" in line and "32" in line


def test_k_above_d_sae(folder, capsys):
    arguments = ("train-sae", folder / "store", "--d-sae", 16, "--k", 32, "--tokens", 1000, "--out", folder / "bad")
    assert "k=32" in refused(capsys, *arguments) and not (folder / "bad").exists()


@pytest.fixture(scope="module")
def two_hooks(folder):
    """Return a store of the MLP and of the residual stream."""
    arguments = ("harvest", folder / "run/model", folder / "run/corpus/train", "--max-tokens", 4_000)
    hooks = ("--hook", "blocks.0.mlp.hook_post", "--hook", "blocks.0.hook_resid_post")
    assert main([str(word) for word in (*arguments, *hooks, "--out", folder / "two")]) == 0
    return folder / "two"


def trained(store, out, *arguments: object) -> dict:
    """Return the config of what `train-sae` trains."""
    assert main([str(word) for word in ("train-sae", store, "--out", out, "--batch-size", 256, *arguments)]) == 0
    return json.loads((out / "results.json").read_text())["config"]


def test_train_sae_uses_the_hook_of_a_run(tiny_run, tmp_path):
    assert len(tiny_run.store.hook_names) > 1
    config = trained(tiny_run.path, tmp_path / "sae", "--d-sae", 8, "--k", 2, "--tokens", 600)
    assert config["hook"] == tiny_run.hook_name


@pytest.mark.parametrize("architecture", LIBRARY)
def test_train_sae_reaches_every_architecture_and_field(folder, tmp_path, architecture):
    arguments = ("--architecture", architecture, "--d-sae", 48, "--tokens", "1e3", "--clip", 50)
    config = trained(folder / "store", tmp_path / "sae", *arguments, "--dead-after", "none", "--lr", ".01")
    assert config["architecture"] == architecture and config["tokens"] == 1000
    assert config["clip"] == 50 and config["dead_after"] is None and config["lr"] == 0.01


def test_an_architecture_of_ones_own_is_on_the_command_line(folder, tmp_path, capsys, monkeypatch):
    from analyses.custom_architecture import GroupLassoConfig

    monkeypatch.setitem(ARCHITECTURES, GroupLassoConfig.architecture, GroupLassoConfig)
    arguments = ("--architecture", "group_lasso", "--d-sae", 24, "--tokens", 1000, "--group", 3, "--penalty", 0.2)
    config = trained(folder / "store", tmp_path / "sae", *arguments)
    assert (config["architecture"], config["group"], config["penalty"]) == ("group_lasso", 3, 0.2)
    assert main(["train-sae", "--help"]) == 0
    assert "group_lasso" in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_is_no_error():
    command = [sys.executable, "-m", "interp", "train-sae", "--fields", "topk"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait() == 0


def test_flags_of_an_architecture_and_the_whole_store_by_default(folder, tmp_path):
    arguments = ("--d-sae", 24, "--architecture", "jumprelu", "--target-l0", 3, "--device", "cpu", "--seed", 2)
    config = trained(folder / "store", tmp_path / "jumprelu", *arguments)
    rows = len(ActivationStore.open(folder / "store"))
    assert (config["target_l0"], config["seed"], config["tokens"]) == (3.0, 2, rows)


def test_several_hooks_make_a_crosscoder_and_an_output_hook_a_transcoder(two_hooks, tmp_path, capsys):
    both = ("--hook", "blocks.0.mlp.hook_post", "--hook", "blocks.0.hook_resid_post")
    small = ("--d-sae", 24, "--k", 4, "--tokens", 1000)
    trained(two_hooks, tmp_path / "cross", *both, *small)
    assert isinstance(load_sae(tmp_path / "cross"), Crosscoder) and load_sae(tmp_path / "cross").widths == (64, 32)
    trained(two_hooks, tmp_path / "trans", *both[:2], "--output-hook", both[3], *small)
    assert isinstance(load_sae(tmp_path / "trans"), Transcoder) and load_sae(tmp_path / "trans").d_out == 32
    named = (f"a={two_hooks}", f"b={two_hooks}", "--hook", f"a/{both[1]}", "--hook", f"b/{both[1]}")
    assert main([str(word) for word in ("train-sae", *named, *small, "--out", tmp_path / "joined")]) == 0
    assert load_sae(tmp_path / "joined").hook_names == (f"a/{both[1]}", f"b/{both[1]}")
    assert "format='interp'" in refused(capsys, "export", tmp_path / "cross", "--out", tmp_path / "exported")
    assert main(["export", str(tmp_path / "cross"), "--format", "interp", "--out", str(tmp_path / "exported")]) == 0
    assert isinstance(load_sae(tmp_path / "exported"), Crosscoder)


def test_a_sweep_trains_every_combination(folder, tmp_path, capsys):
    arguments = ("train-sae", folder / "store", "--d-sae", 24, "--tokens", 1000, "--out", tmp_path)
    swept = ("--sweep", "k=2,4", "--sweep", "architecture=topk,batchtopk", "--log", "tensorboard")
    assert main([str(word) for word in arguments + swept]) == 0
    configs = [json.loads((tmp_path / str(i) / "results.json").read_text())["config"] for i in range(4)]
    pairs = [(config["k"], config["architecture"]) for config in configs]
    assert pairs == [(2, "topk"), (2, "batchtopk"), (4, "topk"), (4, "batchtopk")]
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 4 and "k=4 architecture=batchtopk FVU" in lines[3]
    assert all(list((tmp_path / str(i) / "tensorboard").iterdir()) for i in range(4))


def test_mistakes_in_training_a_dictionary(folder, two_hooks, tmp_path, capsys):
    def line(*arguments: object) -> str:
        said = refused(capsys, "train-sae", folder / "store", "--out", tmp_path / "out", *arguments)
        assert not (tmp_path / "out").exists()
        return said

    small = ("--d-sae", 8, "--k", 2)
    assert "shards=2 must divide the number of processes, 1: start them with torchrun" in line(*small, "--shards", 2)
    assert "--sweep trains several: leave one" in line(*small, "--shards", 2, "--sweep", "k=2,4")
    assert "did you mean jumprelu" in line("--d-sae", 8, "--architecture", "jumprlu")
    assert "did you mean dead_after" in line("--d-sae", 8, "--sweep", "dead_aftre=3")
    assert "'k' must be FIELD=VALUE" in line("--d-sae", 8, "--sweep", "k")
    assert "d_sae='many' must be a whole number" in line("--d-sae", "many")
    assert "device='gpu' does not exist" in line("--d-sae", 8, "--k", 4, "--device", "gpu")
    assert "there are relu, gated, jumprelu, topk, batchtopk" in line("--d-sae", 8, "--architecture", "xyz")
    assert "l1=-1 must be at least 0" in line("--d-sae", 8, "--architecture", "relu", "--l1=-1")
    assert "topk needs d_sae" in line("--k", 8)
    assert "k=16 must be in 1..d_sae=8" in line("--d-sae", 8, "--sweep", "k=4,16")
    assert "it has blocks.0.mlp.hook_post" in line("--d-sae", 8, "--k", 4, "--hook", "nowhere")
    assert "choose one with --hook" in refused(capsys, "train-sae", two_hooks, "--d-sae", 8, "--out", tmp_path / "out")
    assert "NAME=STORE" in refused(capsys, "train-sae", two_hooks, two_hooks, "--d-sae", 8, "--out", tmp_path / "out")
    twice = [f"base={two_hooks}", f"base={folder / 'store'}"]
    assert "two stores have one name" in refused(capsys, "train-sae", *twice, "--d-sae", 8, "--out", tmp_path / "out")


def test_wrong_usage_is_one_line(capsys):
    for arguments in (["train-sae", "store"], ["train-sae", "store", "--out", "x", "--bogus"], ["no-command"]):
        assert "--help" in refused(capsys, *arguments)
    assert "No such command 'rnk'. Did you mean 'rank'" in refused(capsys, "rnk")
    assert "No such command 'steer': `interp explore RUN` steers with features" in refused(capsys, "steer")
    assert "n_shifts='many' must be a whole number" in refused(capsys, "rank", "x", "--n-shifts", "many")
    line = refused(capsys, "tokenize", "x", "--model", "y", "--out", "z", "--context", "many")
    assert "Invalid value 'many' for '--context': Input should be a valid integer" in line
    assert "--to: format 'hubb' does not exist; did you mean hub?" in refused(
        capsys, "publish", "x", "--to", "hubb", "--out", "y"
    )
    for flag, value in (("--serve", "70000"), ("--nodes", "80")):
        assert f"Invalid value '{value}' for '{flag}'" in refused(capsys, "graph", "x", "To be", flag, value)


def test_train_sae_lists_the_fields_of_an_architecture(capsys):
    assert main(["train-sae", "--fields", "jumprelu"]) == 0
    assert "coefficient_warmup" in capsys.readouterr().out
    assert len(LIBRARY) == 7
    for name, kind in LIBRARY.items():
        lines = field_lines(kind)
        fields = [i for i, line in enumerate(lines) if not line.startswith(" ")]
        assert len(fields) == len(dataclasses.fields(kind))
        for i in fields:
            assert lines[i + 1 : i + 2] and lines[i + 1].startswith("    "), f"{name}: {lines[i]} says nothing"
    assert "architecture 'jump' does not exist; did you mean jumprelu" in refused(
        capsys, "train-sae", "--fields", "jump"
    )
    assert main(["train-sae", "--help"]) == 0
    text = capsys.readouterr().out
    words = " ".join(text.split())
    assert all(f" {name} {first_sentence(kind)} " in words for name, kind in LIBRARY.items())
    assert first_sentence(LIBRARY["gated"]).endswith("et al. 2024, arXiv 2404.16014"), "a sentence has abbreviations"


SPEAKING = """
import os
from interp.cli import main

if __name__ == "__main__":
    for number, name in ((1, "out"), (2, "error")):
        os.dup2(os.open(f"{sys.argv[1]}/{name} of {os.environ['RANK']}", os.O_WRONLY | os.O_CREAT), number)
    sys.exit(main(sys.argv[2:]))
"""


def test_of_two_processes_the_first_speaks(folder, tmp_path):
    arguments = ("train-sae", folder / "store", "--d-sae", 24, "--k", 4, "--tokens", 1000, "--out", tmp_path / "out")
    assert launch(SPEAKING, tmp_path, *arguments, folder=tmp_path) == 0
    said = {file.name: file.read_text() for file in tmp_path.glob("* of *")}
    assert said.pop("out of 0").startswith("SAE in ")
    assert said == {"error of 0": "", "out of 1": "", "error of 1": ""}


def test_what_several_processes_cannot_share_is_refused_by_all(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    for arguments in (("quality", folder / "run"), ("report", folder / "run", "--out", tmp_path / "page")):
        assert "runs in one process" in refused(capsys, *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("address", ["s3://bucket/out", "file:///tmp/out", "memory://out"])
def test_an_address_is_refused_as_a_folder(folder, tmp_path, capsys, monkeypatch, address):
    """Only a folder is accepted for a run and for a graph."""
    monkeypatch.chdir(tmp_path)
    assert f"{address} is an address" in refused(capsys, "demo", "--out", address)
    assert f"{address}.html is an address" in refused(capsys, "graph", folder / "run", "a", "--out", f"{address}.html")
    assert not list(tmp_path.iterdir())


def test_a_page_is_written_to_an_address(folder, tmp_path, capsys):
    address = addresses.RemoteAddress("memory://bucket/page")
    assert main(["report", str(folder / "features"), "--out", address]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{address}/index.html"
    page = write_report(FeatureStore.open(folder / "features"), tmp_path / "page")
    assert addresses.read_object(address / "index.html") == page.read_bytes()


def test_only_the_first_process_prints_a_mistake(folder, tmp_path, capsys, monkeypatch):
    arguments = ["train-sae", str(folder / "store"), "--d-sae", "8", "--k", "9", "--out", str(tmp_path / "out")]
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("RANK", "1")
    assert "k=9" in refused(capsys, *arguments), "a scheduler's variables alone do not make several processes"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train-sae"]) == 2 and capsys.readouterr() == ("", "")
    Bar("sae")(1, 2, "")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("RANK", "0")
    refused(capsys, "train-sae")


def test_a_full_disk_gives_one_line(folder, capsys, monkeypatch, tmp_path):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "ranking.csv.tmp"))

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    line = refused(capsys, "rank", folder / "features", "--n-shifts", 2, "--out", tmp_path / "ranking.csv")
    assert "the disk is full" in line and not (tmp_path / "ranking.csv").exists()


def test_run_of_another_configuration_says_what_differs(folder, capsys):
    sections = SECTIONS | {"tokenizer": {"vocab_size": 600}}
    (folder / "other.toml").write_text(tomli_w.dumps(sections))
    line = refused(capsys, "run", folder / "other.toml", "--out", folder / "run", "--until", "model")
    assert "tokenizer.vocab_size: 512 there, 600 here" in line


def raise_error(error: BaseException):
    raise error


def test_an_error_that_no_raise_of_ours_made_says_where_it_is_shown(monkeypatch, capsys):
    monkeypatch.setattr("interp.cli._run", lambda arguments: check_value("seed", -1, Seed))
    assert "seed=-1 must be" in (line := refused(capsys)) and "--traceback" not in line
    monkeypatch.setattr("interp.cli._run", lambda arguments: int("x"))
    assert refused(capsys).endswith("'x' (interp --traceback … shows where)")
    monkeypatch.setattr("interp.cli._run", lambda arguments: slices(3, 0))
    assert refused(capsys).endswith("must not be zero (interp --traceback … shows where)"), "a line of interp's own"
    full = "CUDA out of memory. Tried to allocate 2.00 GiB."
    monkeypatch.setattr("interp.cli._run", lambda arguments: raise_error(torch.OutOfMemoryError(full)))
    assert refused(capsys).startswith(f"interp: there is not enough memory ({full}): lower the batch size")
    monkeypatch.setattr("interp.cli._run", lambda arguments: int("x"))
    with pytest.raises(ValueError, match="invalid literal"):
        main(["--traceback"])


def test_other_mistakes(folder, tmp_path, capsys):
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(SECTIONS))
    line = refused(capsys, "run", tmp_path / "tiny.toml", "--until", "reprot", "--out", tmp_path / "r")
    assert "--until: stage 'reprot' does not exist; did you mean report" in line
    line = refused(capsys, "run", tmp_path / "tiny.toml", "--until", "nostage", "--out", tmp_path / "r")
    assert "'nostage' does not exist; there are corpus, model" in line
    line = refused(capsys, "run", tmp_path / "tyni.toml")
    assert line == f"interp: {tmp_path}/tyni.toml does not exist; did you mean {tmp_path}/tiny.toml?"
    assert "mine.toml does not exist: write one" in refused(capsys, "run", tmp_path / "none" / "mine.toml")
    near = f"interp: {folder}/rnu does not exist; did you mean {folder}/run? (a run folder: `interp demo`"
    for command in ("rank", "report", "explore"):
        assert refused(capsys, command, folder / "rnu").startswith(near)
    (tmp_path / "graph.html").touch()
    assert refused(capsys, "graph", folder / "rnu", "To be", "--out", tmp_path / "graph.html").startswith(near)
    (tmp_path / "graph.html").unlink()
    line = refused(capsys, "graph", folder / "run", "To be", "--nodes", "0", "--out", tmp_path / "graph.html")
    assert "--nodes 0 would draw an empty graph" in line
    line = refused(capsys, "export", folder / "saee", "--out", tmp_path / "e")
    assert f"{folder}/saee does not exist; did you mean {folder}/sae?" in line
    assert ".parquet or .csv" in refused(capsys, "rank", folder / "features", "--out", tmp_path / "ranking.xlsx")
    assert refused(capsys, "rank", tmp_path, "--out", tmp_path / "ranking.csv")
    assert refused(capsys, "report", tmp_path, "--out", tmp_path / "page")
    assert "--out" in refused(capsys, "rank", folder / "features")
    assert "--out" in refused(capsys, "report", folder / "features")
    assert "has no features yet" in refused(capsys, "rank", folder / "run")
    assert "has no features yet" in refused(capsys, "rank", folder / "run", "--out", tmp_path / "ranking.csv")
    before = (folder / "run/run.toml").read_text()
    arguments = ("rank", folder / "features", "--out", tmp_path / "ranking.csv")
    assert "seed=-1 must" in refused(capsys, *arguments, "--seed=-1")
    assert "n_shifts=0 must be" in refused(capsys, *arguments, "--n-shifts", 0)
    assert refused(capsys, "rank", folder / "run", "--seed", 7)
    assert (folder / "run/run.toml").read_text() == before and not (tmp_path / "ranking.csv").exists()
    assert refused(capsys, "harvest", tmp_path, tmp_path, "--hook", "x", "--out", tmp_path / "s")


def test_warm_up_runs_every_stage_and_leaves_no_file(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr("interp.pipeline.execution.run_stages", lambda *given, **also: ran.append((given, also)))
    monkeypatch.chdir(tmp_path)
    assert main(["warm-up"]) == 0
    ((config, folder), options) = ran[0]
    assert config == TINY and "until" not in options
    assert list(tmp_path.iterdir()) == [] and not folder.parent.exists()


def test_help_teaches(capsys):
    assert main([]) == 0
    overview = capsys.readouterr().out
    assert main(["--help"]) == 0 and capsys.readouterr().out == overview
    for title, commands in COMMAND_GROUPS.items():
        group = overview.split(f"\n{title}:\n")[1].split("\n\n")[0].splitlines()
        assert [line.split()[0] for line in group if not line.startswith("   ")] == list(commands)
    for command in ("demo", "run", "harvest", "train-sae", "scan", "rank", "report", "export"):
        assert main([command, "--help"]) == 0
        assert "--out" in capsys.readouterr().out
    assert main(["run", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"\n *{name} +{re.escape(stage.help)}", text) for name, stage in STAGES.items())
    assert main(["--version"]) == 0 and capsys.readouterr().out == f"interp {version('interp')}\n"


def test_a_process_ends_at_once_after_its_output_and_the_handlers_of_its_libraries():
    code = (
        "import atexit, sys; from interp.cli import main; from interp import cli\n"
        "def run(words): atexit.register(print, 'handled'); print('ran'); {}\n"
        "cli._run = run; raise SystemExit(main())"
    )
    for last, expected in (("pass", 0), ("raise ValueError('no')", 2), ("raise KeyError", 1)):
        ended = subprocess.run([sys.executable, "-c", code.format(last)], capture_output=True, text=True, check=False)
        assert (ended.stdout, ended.returncode) == ("ran\nhandled\n", expected)
        assert ("Traceback" in ended.stderr) == (expected == 1)


def test_help_is_quick():
    code = "import sys; from interp.cli import main; main(['rank', '--help'])\n"
    code += "assert not {'torch', 'numpy', 'pandas', 'rich', 'tqdm'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def test_the_shell_completes_commands_options_and_names(capsys, monkeypatch):
    def completed(*arguments: str) -> list[str]:
        asked = {"COMP_WORDS": " ".join(arguments), "COMP_CWORD": str(len(arguments) - 1)}
        for name, value in {"_INTERP_COMPLETE": "complete_bash", **asked}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit, match="0"):
            main([])
        return capsys.readouterr().out.split()

    assert completed("interp", "ra") == ["rank"]
    assert completed("interp", "run", "a.toml", "--until", "fea") == ["features"]
    assert completed("interp", "train-sae", "--target-") == ["--target-l0"]
