"""The command line: each command does its stage, and bad input ends with one line and exit code 2."""

import errno
import shutil

import pandas as pd
import pytest
import tomli_w

from interp.cli import main
from tests.tiny import SECTIONS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model trained by the command, then each stage by its own command."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.toml").write_text(tomli_w.dumps(SECTIONS))
    assert main(["train-model", str(folder / "tiny.toml"), "--out", str(folder / "run")]) == 0
    model, tokens, hook = folder / "run/model", folder / "run/corpus/train", "blocks.0.mlp.hook_post"
    harvest = ["harvest", model, tokens, "--hook", hook, "--max-tokens", 20_000, "--out", folder / "store"]
    train = ["train-sae", folder / "store", "--d-sae", 64, "--k", 4, "--max-tokens", 20_000, "--out", folder / "sae"]
    scan = [
        "scan",
        folder / "sae",
        folder / "store",
        "--model",
        model,
        "--tokens",
        tokens,
        "--out",
        folder / "features",
    ]
    rank = ["rank", folder / "features", "--nulls", 2, "--out", folder / "ranking.csv"]
    for command in (harvest, train, scan, rank):
        assert main([str(word) for word in command]) == 0, command
    return folder


def refused(capsys, *words: object) -> str:
    """The one line that the command ends with."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("interp: "), lines
    return lines[0]


def test_a_stage_at_a_time_ends_in_a_ranking_and_a_page(folder, capsys):
    ranking = pd.read_csv(folder / "ranking.csv")
    assert sorted(ranking.latent) == list(range(64))
    assert main(["report", str(folder / "features"), "--out", str(folder / "page")]) == 0
    assert (folder / "page/index.html").is_file()
    assert main(["export", str(folder / "sae"), "--out", str(folder / "exported")]) == 0
    import sae_lens

    assert sae_lens.SAE.load_from_disk(str(folder / "exported")).cfg.d_sae == 64


def test_corpus_mistakes(tmp_path, capsys):
    def run(**corpus) -> str:
        (tmp_path / "c.toml").write_text(tomli_w.dumps(SECTIONS | {"corpus": corpus}))
        line = refused(capsys, "run", tmp_path / "c.toml", "--out", tmp_path / "out", "--until", "corpus")
        assert not (tmp_path / "out/corpus/manifest.json").exists()
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        return line

    files = {"empty.txt": b"", "latin.txt": b"caf\xe9 au lait\n" * 50, "short.txt": b"To be."}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert "nowhere.txt" in run(source="files", paths=[str(tmp_path / "nowhere.txt")])
    assert "empty" in run(source="files", paths=[str(tmp_path / "empty.txt")])
    line = run(source="files", paths=[str(tmp_path / "latin.txt")])
    assert "latin.txt" in line and "UTF-8" in line and "3" in line
    assert "context" in run(source="files", paths=[str(tmp_path / "short.txt")], val_fraction=0.0)
    assert "shakespeare" in run(source="shakespear")


def test_hook_that_the_model_lacks_names_the_nearest(folder, capsys):
    words = ("harvest", folder / "run/model", folder / "run/corpus/train", "--hook", "blocks.0.mlp.hook_pots")
    line = refused(capsys, *words, "--out", folder / "wrong")
    assert "blocks.0.mlp.hook_post" in line and not (folder / "wrong/manifest.json").exists()


def test_dictionary_of_another_width_names_both(folder, capsys):
    words = ("harvest", folder / "run/model", folder / "run/corpus/train", "--hook", "blocks.0.hook_resid_post")
    assert main([str(w) for w in (*words, "--max-tokens", 4_000, "--out", folder / "narrow")]) == 0
    line = refused(capsys, "scan", folder / "sae", folder / "narrow", "--out", folder / "mismatch")
    assert "64" in line and "32" in line


def test_k_above_d_sae(folder, capsys):
    words = ("train-sae", folder / "store", "--d-sae", 16, "--k", 32, "--max-tokens", 1000, "--out", folder / "bad")
    assert "k=32" in refused(capsys, *words) and not (folder / "bad").exists()


def test_truncated_and_altered_shards_are_named(folder, tmp_path, capsys):
    for change in ("truncated", "altered"):
        store = shutil.copytree(folder / "store", tmp_path / change)
        shard = sorted(store.glob("shard-*.safetensors"))[0]
        data = bytearray(shard.read_bytes())
        data[-20] ^= 1
        shard.write_bytes(data[:-100] if change == "truncated" else data)
        words = (
            "train-sae",
            store,
            "--d-sae",
            16,
            "--k",
            4,
            "--max-tokens",
            20_000,
            "--out",
            tmp_path / f"{change}-sae",
        )
        assert shard.name in refused(capsys, *words)
        assert not (tmp_path / f"{change}-sae/sae_weights.safetensors").exists()


def test_full_disk_is_said_in_one_line(folder, capsys, monkeypatch, tmp_path):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "ranking.csv.tmp"))

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    line = refused(capsys, "rank", folder / "features", "--nulls", 2, "--out", tmp_path / "ranking.csv")
    assert "the disk is full" in line and not (tmp_path / "ranking.csv").exists()


def test_run_of_another_configuration_says_what_differs(folder, capsys):
    sections = SECTIONS | {"tokenizer": {"vocab_size": 600}}
    (folder / "other.toml").write_text(tomli_w.dumps(sections))
    line = refused(capsys, "train-model", folder / "other.toml", "--out", folder / "run")
    assert "tokenizer.vocab_size: 512 there, 600 here" in line


def test_other_mistakes(folder, tmp_path, capsys):
    assert "not a stage" in refused(capsys, "run", folder / "tiny.toml", "--until", "lunch", "--out", tmp_path / "r")
    assert "No such file" in refused(capsys, "run", tmp_path / "missing.toml")
    assert ".parquet or .csv" in refused(capsys, "rank", folder / "features", "--out", tmp_path / "ranking.xlsx")
    assert refused(capsys, "rank", tmp_path, "--out", tmp_path / "ranking.csv")
    assert refused(capsys, "report", tmp_path, "--out", tmp_path / "page")
    assert refused(capsys, "harvest", tmp_path, tmp_path, "--hook", "x", "--out", tmp_path / "s")


def test_warm_up_runs_every_stage_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["warm-up"]) == 0
    assert list(tmp_path.iterdir()) == []


def test_help_teaches(capsys):
    assert main([]) == 0
    overview = capsys.readouterr().out
    for command in ("demo", "run", "train-model", "harvest", "train-sae", "scan", "rank", "report", "export"):
        assert command in overview
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])
        assert "--out" in capsys.readouterr().out
