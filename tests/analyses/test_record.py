"""Pieces are made once, claims and figures are written completely, and intervals are Student's."""

import json
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from analyses.bench import quality as bench_quality
from analyses.claims import compared_dictionaries, towards_monosemanticity
from analyses.claims.compared_dictionaries import Sizes
from analyses.essay.figures.slider import with_slider
from analyses.record import Claim, Interval, Record, interval, json_value, options
from interp import Run
from interp.figures.theme import HEIGHT, with_style, without_slider
from interp.pipeline.stages import LEFT_OUT
from interp.storage.manifests import write_manifest


@dataclass(frozen=True)
class Setting:
    steps: int = 3
    seeds: tuple[int, ...] = (0, 1)


def test_a_piece_is_made_once_and_again_when_the_setting_changes(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"W": torch.arange(3.0), "n": np.int64(4), "names": ["a", "b"]}

    first = Record(tmp_path, Setting()).piece("one", make)
    again = Record(tmp_path, Setting()).piece("one", make)
    assert len(made) == 1 and (first["W"] == [0, 1, 2]).all() and (again["W"] == first["W"]).all()
    assert again["n"] == 4 and again["names"] == ["a", "b"] and "seconds" not in again
    Record(tmp_path, Setting(steps=4)).piece("one", make)
    assert len(made) == 2


def test_a_piece_that_was_made_before_its_script_was_changed_is_kept_and_named(tmp_path, caplog):
    record, script = Record(tmp_path / "kept", Setting()), tmp_path / "mine.py"
    script.write_text("one")
    record.script = script
    record.piece("one", lambda: {"x": 1})
    record.piece("one", dict)
    assert not caplog.messages
    script.write_text("two")
    assert record.piece("one", dict) == {"x": 1}
    assert "one.safetensors was made before mine.py was changed: delete it" in caplog.messages[0]


def test_a_damaged_piece_is_named(tmp_path):
    (tmp_path / "pieces").mkdir()
    (tmp_path / "pieces" / "one.safetensors").write_bytes(b"12345678 and no more")
    with pytest.raises(ValueError, match="one.safetensors is damaged"):
        Record(tmp_path, Setting()).piece("one", dict)


def test_results_hold_claims_figures_and_the_seconds_of_all_pieces(tmp_path, capsys):
    record = Record(tmp_path, Setting(), svg=False)
    record.piece("one", lambda: {"x": 1.0})
    claim = Claim(
        row="9", text="it rises", holds=False, found="by -1", numbers={"r": Interval(1.0, float("-inf"), 2.0)}
    )
    record.finish([claim], {"curve": go.Figure(go.Scatter(y=[1, 2]))}, {"x": np.float32(0.5)})
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["claims"][0]["numbers"] == {"r": [1.0, None, 2.0]} and results["claims"][0]["holds"] is False
    assert results["values"] == {"x": 0.5} and results["setting"] == {"steps": 3, "seeds": [0, 1]}
    assert json.loads((tmp_path / "curve.json").read_text())["data"][0]["y"] == [1, 2]
    assert (tmp_path / "curve.html").exists() and "does not hold" in capsys.readouterr().out
    assert not list(tmp_path.rglob("*.tmp"))


def test_figures_are_drawn_as_svg_without_their_sliders(tmp_path, monkeypatch):
    """How a figure becomes an image is tested with the figures."""
    drawn = {}
    monkeypatch.setattr("analyses.record.write_images", drawn.update)
    figure = with_style(go.Figure(go.Scatter(y=[1, 2])), "Curve", x="x", y="y")
    frames = {"4": [go.Scatter(y=[1, 2])], "5": [go.Scatter(y=[2, 2])]}
    figure = with_slider(figure, frames, prefix="dragged to ")
    assert "dragged to" in str(figure.to_json())
    Record(tmp_path, Setting()).finish([], {"curve": figure})
    [(file, image)] = drawn.items()
    assert file == tmp_path / "curve.svg" and image.layout.title.text == "Curve"
    assert "dragged to" not in str(image.to_json())
    assert figure.layout.sliders and without_slider(figure).layout.height == HEIGHT


def test_the_interval_is_student_t_over_the_seeds():
    mean, low, high = interval([1.0, 2.0, 3.0])
    assert mean == 2 and high - mean == pytest.approx(4.302653 / 3**0.5, rel=1e-6) and mean - low == high - mean
    assert json_value(interval([1.0])) == [1.0, None, None]
    assert Interval(0.5, -0.2, 1.4).percent() == "50.0% (0.0% to 100.0%)"


def test_a_quick_run_goes_to_a_folder_of_its_own(tmp_path):
    """There it replaces neither the results nor the pieces of a run that took longer."""

    def out_of(parse, *words: str) -> str:
        return str(parse([*words]).out)

    for parse, name in (
        (lambda words: options("", "grokking", words), "essay/grokking"),
        (lambda words: compared_dictionaries.options("", "split_features", words), "compare/split_features"),
        (bench_quality.parse, "bench_quality"),
    ):
        assert out_of(parse) == f"runs/{name}" and out_of(parse, "--quick") == f"runs/analyses-quick/{name}"
        assert out_of(parse, "--quick", "--out", str(tmp_path)) == str(tmp_path)


def test_pieces_of_a_run_are_made_again_when_its_model_is_another(tmp_path):
    settings = []
    for model in "ab":
        (tmp_path / "run.toml").write_text("")
        (tmp_path / "model").mkdir(exist_ok=True)
        write_manifest(tmp_path / "model", {"fingerprint": model, "stage": "model"})
        settings.append(compared_dictionaries.sized(Sizes(), SimpleNamespace(run=tmp_path)))
    assert settings[0].run == settings[1].run and settings[0] != settings[1]
    assert compared_dictionaries.sized(Sizes(), SimpleNamespace(run=None)) == Sizes()


@pytest.mark.parametrize(("parse", "flag"), [(towards_monosemanticity.parse, "--run"), (bench_quality.parse, "--demo")])
def test_a_run_that_is_none_ends_in_one_line(parse, flag, tmp_path, capsys, monkeypatch):
    def refused(message: str) -> bool:
        with pytest.raises(SystemExit, match="2"):
            parse([flag, str(tmp_path)])
        lines = capsys.readouterr().err.splitlines()
        return len(lines) == 1 and f"{flag}: " in lines[0] and message in lines[0]

    assert refused(f"{tmp_path} is not a run folder, it has no run.toml")
    (tmp_path / "run.toml").write_text("[sae\n")
    assert refused("run.toml is not valid TOML")
    (tmp_path / "run.toml").write_text("")
    assert refused(f"{tmp_path} has no corpus and model yet: `interp run` or `interp demo` makes them")
    for stage in ("corpus", "model"):
        (tmp_path / stage).mkdir()
        write_manifest(tmp_path / stage, {"fingerprint": stage, "stage": stage, "results": {LEFT_OUT: "it is empty"}})
    assert refused(f"{tmp_path} has no corpus: it was left out, as it is empty")
    for stage in ("corpus", "model"):
        write_manifest(tmp_path / stage, {"fingerprint": stage, "stage": stage, "results": {}})
    text = SimpleNamespace(label_names=["dna", "hebrew", "base64"])
    monkeypatch.setattr(Run, "train_tokens", text, raising=False)
    if flag == "--run":
        assert refused(f"the text of {tmp_path} has no label arabic: take a run of the mixture")
    text.label_names.append("arabic")
    parse([flag, str(tmp_path)])
