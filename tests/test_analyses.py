"""The analyses run as they are, at tiny size."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from analyses import extract_features
from interp.run import run_stages
from tests.tiny import TINY

ANALYSES = Path(__file__).parents[1] / "analyses"


def test_extract_features_writes_results_figures_and_page(tmp_path):
    sizes = {"characters": 120_000, "vocab-size": 512, "context": 64, "model-tokens": 20_000, "sae-tokens": 40_000}
    sizes |= {"d-sae": 128, "k": 8}
    words = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    page = extract_features.main([*words, "--out", str(tmp_path)])
    results = json.loads((tmp_path / "results.json").read_text())
    assert page.is_file() and sum(results["verdicts"].values()) == 128 and len(results["top"]) == 10
    assert {f"{name}.html" for name in ("density", "monosemanticity", "coherence")} <= {
        p.name for p in tmp_path.iterdir()
    }


def test_explore_features_runs_and_shows(tmp_path, monkeypatch):
    run = run_stages(TINY, tmp_path / "run", until="ranking")
    monkeypatch.setenv("INTERP_RUN", str(run.path))
    notebook = nbformat.read(ANALYSES / "explore_features.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(ANALYSES)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    figures = [output for output in outputs if "application/vnd.plotly.v1+json" in output.get("data", {})]
    assert len(figures) == 3
    assert sum("<bdi" in output.get("data", {}).get("text/html", "") for output in outputs) >= 1


@pytest.mark.parametrize("notebook", sorted(ANALYSES.glob("*.ipynb")), ids=lambda p: p.name)
def test_notebooks_hold_no_code_of_their_own_and_no_outputs(notebook):
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "code":
            assert "def " not in cell.source and not cell.outputs and cell.execution_count is None
