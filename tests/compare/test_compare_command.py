"""`interp compare`: how two folders can be compared, and what it prints about them."""

import shutil

import pandas as pd
import pytest
import torch

from interp.cli import main
from interp.codes.sparse_codes import SparseCodes
from interp.compare import open_pair
from interp.features.feature_store import FeatureStore
from tests.command_line import refused


def fake(folder, hook: str, d_sae: int = 12, *, tokens: int = 0, seed: int = 0, width: int = 8) -> str:
    """Return a feature store of random codes on one of two texts."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.randint(0, 20, (16, 32), generator=torch.Generator().manual_seed(tokens))
    z = torch.rand(512, d_sae, generator=generator) * (torch.rand(512, d_sae, generator=generator) < 0.3)
    W = torch.randn(d_sae, width, generator=generator)
    FeatureStore.from_codes(text, SparseCodes.from_dense(z), folder, W_dec=W, hook_name=hook)
    return str(folder)


def test_a_run_beside_a_wider_dictionary_its_neurons_and_its_sae(tiny_run, wider_scan, tmp_path, capsys):
    run = tiny_run.path
    assert open_pair(run, run / "neurons").by == "models"
    assert main(["compare", str(wider_scan), str(run), "--out", str(tmp_path / "widths")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("compared by widths") and "narrow latents split" in said and "PW-MCC" in said
    assert (tmp_path / "widths/splitting.html").is_file()
    pair = open_pair(run, run / "sae")
    assert pair.by == "seeds" and not pair.share_text
    assert main(["compare", str(run), str(run / "neurons"), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("compared by models") and "median r of first in second" in said
    table = pd.read_parquet(tmp_path / "out/universality.parquet")
    assert set(table.direction) == {"first in second", "second in first"} and table.correlation.between(-1, 1).all()
    assert (tmp_path / "out/universality.html").is_file()
    assert main(["compare", str(run), str(run / "sae")]) == 0  # of itself: all is found
    assert "PW-MCC 1.000 (1.000 to 1.000)" in capsys.readouterr().out
    assert "compared with itself: name two folders" in refused(capsys, "compare", run, run / "sae" / "..")


def test_compare_recognizes_two_seeds_by_their_decoders(tmp_path, capsys):
    a, b = fake(tmp_path / "a", "hook"), fake(tmp_path / "b", "hook", seed=1)
    assert main(["compare", a, b, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "compared by seeds: one hook (hook), 12 and 12 latents" in said and "activations" in said
    assert {file.name for file in (tmp_path / "out").iterdir()} >= {"stability.parquet", "universality.parquet"}


def test_compare_replaces_a_comparison_only_with_overwrite_and_never_user_files(tmp_path, capsys):
    a, b = fake(tmp_path / "a", "hook"), fake(tmp_path / "b", "hook", seed=1)
    out = tmp_path / "out"
    assert main(["compare", a, b, "--out", str(out)]) == 0
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    assert main(["compare", a, b, "--out", str(out)]) == 0
    assert {file.name: file.read_bytes() for file in out.iterdir()}.keys() == before.keys()
    said = refused(capsys, "compare", b, a, "--out", out)
    assert f"{out} holds other work: not the same first; not the same second" in said
    assert main(["compare", b, a, "--out", str(out), "--overwrite"]) == 0
    (out / "mine.txt").write_text("mine")
    assert "mine.txt was not written by interp" in refused(capsys, "compare", b, a, "--out", out, "--overwrite")


def test_what_shares_nothing_is_refused(tmp_path, capsys):
    a = fake(tmp_path / "a", "hook")
    other = fake(tmp_path / "other", "elsewhere", tokens=1)
    line = refused(capsys, "compare", a, other)
    assert "nothing to compare" in line and "`interp scan` both over the same tokens" in line
    assert open_pair(a, fake(tmp_path / "c", "elsewhere")).by == "models"
    narrow = fake(tmp_path / "narrow", "hook", width=5, tokens=1)
    assert "nothing to compare" in refused(capsys, "compare", a, narrow)
    assert f"{tmp_path} is neither a feature store" in refused(capsys, "compare", a, tmp_path)
    assert "Invalid value '-1' for '--seed'" in refused(capsys, "compare", a, a, "--seed", -1)
    (tmp_path / "file").touch()
    assert "is a file: name a folder" in refused(capsys, "compare", a, a, "--out", tmp_path / "file")
    shutil.rmtree(tmp_path / "a/codes")
    with pytest.raises(ValueError, match="codes"):
        open_pair(a, a)
