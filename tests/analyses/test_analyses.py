"""The analyses run unchanged at a tiny size."""

import argparse
import ast
import dataclasses
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from functools import reduce
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from analyses import extract_features, result_tables
from analyses.bench import quality as bench_quality
from analyses.bench import quality_training, recovery_worlds
from analyses.bench import recovery as bench_recovery
from analyses.bench import report as bench_report
from analyses.bench import sae as bench_sae
from analyses.bench.peers import sparse_start
from analyses.bench.step_contenders import QUICK

ROOT = Path(__file__).parents[2]
ANALYSES = ROOT / "analyses"
FILES = [file for file in sorted(ANALYSES.rglob("*.py")) if file.name != "__init__.py"]
MODULES = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in FILES]
SCRIPTS = [file for file in FILES if '__name__ == "__main__"' in file.read_text()]
NOTEBOOKS = sorted((ANALYSES / "notebooks").glob("*.ipynb"))
SHORT = ("find_and_steer", "two_texts", "a_probe", "images")


def test_every_module_finds_what_it_imports():
    for name in MODULES:
        assert importlib.import_module(name).__doc__, name


def test_a_script_run_by_its_path_hides_no_library():
    """Python looks for imports in the script's folder first, so that no file there may have a library's name."""
    for folder in {file.parent for file in SCRIPTS}:
        beside = {each.stem for each in folder.iterdir() if each.suffix == ".py" or (each / "__init__.py").is_file()}
        known = {name for name in beside if name in sys.stdlib_module_names or name in ("interp", "models", "analyses")}
        assert not known, known
        third_party = {name for name in beside - {"__init__", "__main__"} if importlib.util.find_spec(name) is not None}
        assert not third_party, third_party


def test_a_script_starts_by_its_path_from_any_folder(tmp_path):
    """The environment is that of a bare shell: only the installation knows the checkout."""
    plain = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    where = "import analyses; print(analyses.__path__[0])"
    at = {"cwd": tmp_path, "env": plain, "capture_output": True, "text": True}
    installed = subprocess.run([sys.executable, "-c", where], **at)
    if installed.stdout.strip() != str(ANALYSES):
        pytest.skip("this checkout is not the one that is installed: pip install -e .")
    shown = subprocess.run([sys.executable, ANALYSES / "results.py", "--help"], **at)
    assert shown.returncode == 0 and shown.stdout.startswith("usage"), shown.stderr


def test_extract_features_writes_results_figures_and_page(tmp_path):
    sizes = {"characters": 60_000, "vocab-size": 512, "context": 64, "model-tokens": 10_000, "sae-tokens": 10_000}
    sizes |= {"d-sae": 18, "k": 4}
    arguments = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    page = extract_features.main([*arguments, "--out", str(tmp_path)])
    results = json.loads((tmp_path / "results.json").read_text())
    assert page.is_file() and sum(results["verdicts"].values()) == 18 and len(results["top"]) == 10
    assert {"density.html", "explanations.html", "verdicts.html"} <= {file.name for file in tmp_path.iterdir()}


def test_bench_sae_times_ours_beside_what_is_installed(tmp_path, capsys):
    flags = ["--tables", "speed", "scaling", "parts", "reader", "precision"]
    results = bench_sae.main(["--quick", "--threads", "1", *flags, "--out", str(tmp_path)])
    (rows,) = results["speed"].values()
    by_name = {row["name"]: row for row in rows}
    kinds = {"TopK", "BatchTopK", "Matryoshka", "JumpReLU", "ReLU", "Gated"}
    for kind in kinds:
        row = by_name[f"interp {kind}"]
        assert row["l0"] == pytest.approx(QUICK.k, rel=0.15) and row["ratios"]["floors"] > 0
        assert (row["ratios"]["saelens_own"] or 0) > 0 and by_name[f"SAELens {bench_sae.OWN_PEER[kind]}"]["ms"] > 0
    assert "interp TopK" in capsys.readouterr().out
    assert set(results["scaling"]) == {"d_sae", "k"} and results["parts"]["the step"] > 0
    assert results["reader"]["ratio"] > 0 and set(results["precision"]) == {"TopK", "BatchTopK", "JumpReLU"}
    assert all(found["differing_share_untrained"] < 0.01 for found in results["precision"].values())
    assert json.loads((tmp_path / "results.json").read_text())["speed"]["quick"][0]["name"] == "floor"


def test_bench_sae_measures_memory_in_a_process_of_its_own(capsys):
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from Linux's /proc")
    bench_sae.main(["--quick", "--threads", "1", "--only", "interp TopK"])
    assert float(capsys.readouterr().out) < 500


def test_sparse_start_is_where_k_latents_fire_on_the_mean():
    x, W_enc = torch.eye(4), torch.arange(24.0).reshape(4, 6)
    bound = sparse_start(x, W_enc, 2)
    assert ((x @ W_enc) >= bound).sum() == 2 * len(x)


def test_bench_quality_compares_both_trainers_and_resumes(tiny_run, tmp_path, capsys):
    arguments = ["--quick", "--threads", "1", "--demo", str(tiny_run.path), "--kinds", "TopK", "L1"]
    arguments += ["--out", str(tmp_path)]
    rows = bench_quality.main(arguments)
    assert [(row["kind"], row["trainer"]) for row in rows] == [
        (kind, trainer) for kind in ("TopK", "L1") for trainer in ("SAELens", "interp")
    ]
    for row in rows:
        assert 0 < row["fvu"][0] < 5 and 0 <= row["dead_share"][0] <= 1
    assert rows[0]["l0"][0] == pytest.approx(rows[1]["l0"][0], rel=0.01) and rows[1]["fvu_ratio"][0] > 0
    dictionaries = sorted((tmp_path / "dictionaries").rglob("test.json"))
    assert len(dictionaries) == 2 * 2 * 2
    stamps = [file.stat().st_mtime_ns for file in dictionaries]
    assert bench_quality.main(arguments) == rows
    assert [file.stat().st_mtime_ns for file in dictionaries] == stamps
    assert json.loads((tmp_path / "results.json").read_text())["rows"][0]["kind"] == "TopK"


def test_a_dictionary_of_other_sizes_is_not_taken_for_one_that_was_trained_before(tmp_path):
    data = SimpleNamespace(name="demo", hook="hook", store=SimpleNamespace(digest="a"))
    sizes = {"d_sae": 128, "k": 8, "tokens": 40_000, "batch": 512, "test_tokens": 4_000, "out": tmp_path}
    changed = [sizes, *(sizes | {name: 2 * sizes[name]} for name in list(sizes)[:-1])]
    recipe = quality_training.Recipe("TopK", "interp", 3e-3, None, 0)
    folders = {quality_training.folder_of(data, recipe, argparse.Namespace(**each)) for each in changed}
    assert len(folders) == len(changed)


@pytest.fixture
def shell():
    """Yield a shell of IPython in this process: a kernel of its own would import and load all anew."""
    config = Config()
    config.HistoryManager.enabled = False
    yield InteractiveShell.instance(config=config)
    InteractiveShell.clear_instance()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_and_show(path, tiny_run, shell, tmp_path, monkeypatch):
    smaller = {"../../runs/demo": str(tiny_run.path), "1_000_000": "5_000", "400_000": "5_000"}
    smaller |= {'"*.py"': '"a*.py"', "d_sae=256": "d_sae=48", "tokens=200_000": "tokens=20_000"}
    monkeypatch.setattr("interp.figures.saving.write_images", lambda figures: [file.touch() for file in figures])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(ANALYSES)
    sources = [
        reduce(lambda text, pair: text.replace(*pair), smaller.items(), cell.source) for cell in code_cells(path)
    ]
    shown = [data for source in sources for data in outputs(shell, source)]
    figures = {"compare_dictionaries": 3, "explore_run": 3, "own_model": 1, "paper_figures": 3, "two_texts": 1}
    assert sum("application/vnd.plotly.v1+json" in data for data in shown) == figures.get(path.stem, 0)
    assert any("<div" in data.get("text/html", "") for data in shown), "what shows itself"


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def outputs(shell: InteractiveShell, source: str) -> list[dict]:
    """Return what a cell shows: each output's forms by their kind."""
    with capture_output() as captured:
        ran = shell.run_cell(source)
    ran.raise_error()
    last = [] if ran.result is None else [shell.display_formatter.format(ran.result)[0]]
    return [output.data for output in captured.outputs] + last


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_code_of_a_notebook_is_seen_whole_and_that_of_a_short_one_is_short(path):
    """Behind its first cell, which imports and opens, and but for the one that trains a network to stand for the
    user's; a name alone, which shows what it stands for, is not counted."""
    cells = code_cells(path)
    assert max(len(line) for cell in cells for line in cell.source.splitlines()) <= 88
    own = [ast.parse(cell.source) for cell in cells[1:] if "your model" not in cell.metadata.get("tags", [])]
    statements = [each for tree in own for each in ast.walk(tree) if isinstance(each, ast.stmt)]
    n = sum(not isinstance(getattr(each, "value", None), ast.Name) for each in statements)
    assert n <= 16 or path.stem not in SHORT


def test_bench_report_times_a_peer_or_says_why_not(tmp_path, monkeypatch):
    arguments = [
        "--sequences",
        "8",
        "--d-sae",
        "48",
        "--features",
        "2",
        "--threads",
        "1",
        "--out",
        str(tmp_path / "out"),
    ]
    made = bench_report.shakespeare(8 * bench_report.N_CTX)
    monkeypatch.setattr(bench_report, "shakespeare", lambda n_tokens: made)
    alone = bench_report.main(arguments)
    assert alone["skipped"] == "no --peer was named" and alone["ratio"] is None and len(alone["rows"]) == 1
    assert alone["rows"][0]["features"] == 48 and alone["claims"][0]["holds"] is None
    assert "was not timed: no --peer was named" in result_tables.report(alone)
    ours = {"features": 48, "wall_seconds": 4.8, "cpu_seconds": 2.4, "bytes": 4800}
    monkeypatch.setattr(bench_report, "ours", lambda *_: ours)
    theirs = {"features": 2, "wall_seconds": 1e4, "cpu_seconds": 1e4, "bytes": 1000, "versions": {}}
    monkeypatch.setattr(bench_report, "peer", lambda *_: theirs | {"codes_of_8_sequences": -1.0})
    with pytest.raises(ValueError, match="SAEDashboard's to -1"):
        bench_report.main(arguments)
    monkeypatch.setattr(bench_report, "check_same_codes", lambda *_: None)
    both = bench_report.main(arguments)
    assert both["ratio"] == 50_000 and both["cpu_ratio"] == 100_000 and both["claims"][0]["holds"]
    assert both == json.loads((tmp_path / "out/results.json").read_text())


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.name)
def test_notebooks_define_no_code_and_show_nothing_machine_specific(notebook):
    """`python .ci/docs.py --keep` writes what they show."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "code":
            assert "def " not in cell.source and cell.execution_count is None
            kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
            assert kinds <= {"text/plain", "text/html", "text/latex", "image/png"}
    text = notebook.read_text(encoding="utf-8")
    assert not re.search(r"/(tmp|home|root|work)/|[0-9] s<|object at 0x", text)
    assert sum(path.stat().st_size for path in NOTEBOOKS) < 3_000_000


def test_bench_recovery_measures_ours_and_theirs_and_resumes(tmp_path, monkeypatch):
    arguments = ["--quick", "--out", str(tmp_path)]
    rows = bench_recovery.main(arguments)
    assert [row["contender"].split()[0] for row in rows] == ["interp", "interp", "SAELens"]
    assert all(0 <= row[metric][0] <= 1 for row in rows for metric in ("f1", "mcc", "unique"))
    assert not (tmp_path / "worlds").exists()
    monkeypatch.setattr(bench_recovery, "run", lambda job: pytest.fail(f"{job.file} already exists"))
    assert bench_recovery.main(arguments)[0]["f1"] == rows[0]["f1"]
    results = json.loads((tmp_path / "results.json").read_text())
    best = {row["contender"].split()[0]: row["f1"][0] for row in sorted(rows, key=lambda row: row["f1"][0])}
    recovered, gap = results["claims"]
    assert recovered["numbers"]["margins"][0] == pytest.approx(best["interp"] - best["SAELens"])
    assert recovered["holds"] == (min(recovered["numbers"]["margins"]) > 0) and gap["holds"] is None
    assert len(results["rows"]) == 3 and results["worlds"]["tiny"]["width"] == 48 and "sae-lens" in results["versions"]


@pytest.mark.parametrize("more", [{}, {"scale_children": True, "bias": 0.5, "seed": 42}])
def test_bench_recovery_makes_the_world_that_saelens_makes(more):
    from sae_lens.synthetic import SyntheticModel

    config = recovery_worlds.synthetic(dataclasses.replace(recovery_worlds.QUICK["tiny"], **more))
    ours, theirs = recovery_worlds.synthetic_model(config), SyntheticModel(config)
    torch.testing.assert_close(ours.feature_dict.feature_vectors, theirs.feature_dict.feature_vectors)
    torch.testing.assert_close(ours.feature_dict.bias, theirs.feature_dict.bias)
    drawn = []
    for model in (ours, theirs):
        with recovery_worlds.quiet(5):
            drawn.append(model.activation_generator.sample(64))
    assert drawn[0].equal(drawn[1]) and drawn[0].any()


def test_the_benchmark_is_made_as_saelens_says():
    """Its recipe, of docs/synth_sae_bench.md in SAELens, its second version."""
    from sae_lens import synthetic as s

    expected = s.SyntheticModelConfig(
        num_features=16_384,
        hidden_dim=768,
        firing_probability=s.ZipfianFiringProbabilityConfig(exponent=0.5, max_prob=0.4, min_prob=5e-4),
        hierarchy=s.HierarchyConfig(
            total_root_nodes=128,
            branching_factor=4,
            max_depth=3,
            mutually_exclusive_portion=1.0,
            mutually_exclusive_min_depth=0,
            compensate_probabilities=True,
            scale_children_by_parent=True,
        ),
        orthogonalization=s.OrthogonalizationConfig(num_steps=100, lr=3e-4),
        correlation=s.LowRankCorrelationConfig(rank=25, correlation_scale=0.1),
        mean_firing_magnitudes=s.LinearMagnitudeConfig(start=5.0, end=4.0),
        std_firing_magnitudes=s.FoldedNormalMagnitudeConfig(mean=0.5, std=0.5),
        bias=0.5,
        seed=42,
    )
    benchmark = recovery_worlds.WORLDS[recovery_worlds.BENCHMARK]
    assert recovery_worlds.synthetic(benchmark).to_dict() == expected.to_dict()
    assert (benchmark.width, benchmark.k) == (4096, 25)


def test_points_of_a_curve_are_judged_by_the_benchmarks_aim():
    name = recovery_worlds.BENCHMARK
    asked = bench_recovery.parse(["--world", name, "--samples", "1000", "--passes", "1", "20000"])
    worlds = bench_recovery.sized(name, recovery_worlds.WORLDS[name], asked)
    assert {point: world.tokens for point, world in worlds.items()} == {
        f"{name}, 1,000": 1000,
        f"{name}, 20,000,000": 20_000_000,
    }

    def judged(*f1s: float) -> bool | None:
        scores = zip(worlds, f1s, strict=False)
        rows = [{"world": world, "contender": "interp TopK", "f1": (f1, 0), "mcc": (0.8, 0)} for world, f1 in scores]
        [claim] = bench_recovery.benchmark_claims(rows, worlds)
        return claim.holds

    assert judged(0.5) is None and judged(0.5, 0.87) is False and judged(0.5, 0.89) is True
    assert bench_recovery.benchmark_claims([], {"1024 in 96": recovery_worlds.WORLDS["1024 in 96"]}) == []


def test_trainers_that_saelens_was_not_given_are_named():
    names = ["interp TopK", "SAELens TopK, tuned", "SAELens BatchTopK, tuned", "SAELens JumpReLU, tuned"]
    scores = dict.fromkeys(bench_recovery.METRICS, (0.5, 0.0))
    few, every = (
        [{"world": "one", "contender": name, **scores} for name in [*names, *more]]
        for more in ([], ["SAELens MatryoshkaBatchTopK, tuned"])
    )
    found = [bench_recovery.claims(rows)[0].found for rows in (few, every)]
    assert found[0].startswith("one, SAELens without MatryoshkaBatchTopK: f1") and "without" not in found[1]
