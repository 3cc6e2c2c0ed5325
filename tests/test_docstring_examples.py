"""The examples in docstrings run, one after another, on a tiny model."""

import importlib
import inspect
import re
import textwrap

import interp
from interp.figures import density_histogram
from models import tokenize
from tests.foreign_models import TEXTS, write_foreign

FUNCTIONS = (
    "models.loading.load_model",
    "interp.activations.harvesting.harvest",
    "interp.sae.training.train_sae",
    "interp.sae.model.load_sae",
    "interp.features.scan_features.scan_features",
    "interp.verdict.ranking.rank_features",
    "interp.report.writing.write_report",
    "interp.effects.steering.steer",
    "interp.effects.attribution.attribution_graph",
    "interp.figures.saving.save",
)
"""In the order in which one calls them."""


def example_of(function) -> str:
    [code] = re.findall(r"^Example:\n\n((?:    .*\n?)+)", inspect.getdoc(function), re.MULTILINE)
    return textwrap.dedent(code)


def test_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("interp.figures.saving.write_images", lambda figures: [file.touch() for file in figures])
    smaller = {
        "HuggingFaceTB/SmolLM2-135M": str(write_foreign("llama", tmp_path / "model")),
        '["a text", "another one"]': repr(TEXTS),
        "n_ctx=128": "n_ctx=24",
        "blocks.15.": "blocks.1.",
        "d_sae=8192, k=32, tokens=4_000_000": "d_sae=18, k=4, tokens=8_000",
    }
    names = {name: getattr(interp, name) for name in ("TopKConfig", "ranking_evidence")}
    names |= {"tokenize": tokenize, "density_histogram": density_histogram, "hook": "blocks.1.hook_resid_post"}
    for path in FUNCTIONS:
        module, _, name = path.rpartition(".")
        names[name] = getattr(importlib.import_module(module), name)
        code = example_of(names[name])
        often = names["features"].table().set_index("latent")["n_active"].idxmax() if "features" in names else 0
        for own, small in {**smaller, "476": str(often)}.items():
            code = code.replace(own, small)
        exec(code, names)
    assert all((tmp_path / made).exists() for made in ("page/index.html", "for-saelens/cfg.json", "graph.html"))
