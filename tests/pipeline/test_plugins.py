"""A user's own file counts in the stages that can use what it registers, by its code alone."""

import shutil
import sys

import pytest

from interp.checks.errors import OverwriteError
from interp.compare.compared_dictionaries import COMPARED_DICTIONARIES
from interp.figures.figure import FIGURES
from interp.pipeline.config import RunConfig
from interp.pipeline.plugins import import_plugin, plugin_digest, registered_by
from interp.pipeline.run import Run
from interp.pipeline.stages import STAGES
from interp.pipeline.states import state_of
from interp.runtime.registry import registered_in
from interp.sae.architectures.sae_config import ARCHITECTURES
from interp.sae.formats.dictionary_format import FORMATS
from interp.text.predicate_kinds import PREDICATE_KINDS
from interp.verdict.measures import MEASURES
from models.sources import MODEL_SOURCES, TEXT_SOURCES
from tests.tiny import FEW, ran_now

MEASURE = """
from interp.verdict.measures import measure


@measure("Rarity", "how seldom it fires", sign=1, null="none")
def rarity(features):
    return -features.column("n_active").astype(float)
"""
EACH = {
    "": [],
    "from models.sources import text_source\n@text_source()\ndef mine(rng, size): yield": ["corpus"],
    "from models.sources import model_source\n@model_source(takes='a name')\ndef mine(name): ...": ["corpus", "model"],
    "from interp.sae import SAEConfig\nclass Mine(SAEConfig): architecture = 'mine'": ["sae"],
    "from interp.text.predicate_kinds import *\nregister_kind('mine', place_kind('mine', ['a'], lambda s: s.tag))": [
        "nulls",
        "ranking",
        "names",
    ],
    "from interp.compare import register_null\nregister_null('mine', 'of mine', config=lambda twin: twin)": ["nulls"],
    MEASURE: ["ranking"],
    "from interp.figures.figure import figure\n@figure\ndef mine(table): ...": ["report"],
}


@pytest.fixture(autouse=True)
def registries():
    """Let the registries be as they were before, and forget the plugins."""
    every = (FIGURES, STAGES, ARCHITECTURES, FORMATS, PREDICATE_KINDS, MEASURES, MODEL_SOURCES, TEXT_SOURCES)
    every += (COMPARED_DICTIONARIES,)
    before = [dict(registry) for registry in every]
    yield
    for registry, entries in zip(every, before, strict=True):
        registry.clear()
        registry.update(entries)
    for name in [name for name in sys.modules if name.startswith("mine_")]:
        del sys.modules[name]


def with_plugin(file) -> RunConfig:
    return FEW.replace(plugins={str(file): import_plugin(file)})


@pytest.mark.parametrize(("code", "stages"), EACH.items(), ids=[" ".join(stages) for stages in EACH.values()])
def test_a_plugin_counts_in_the_stages_that_can_use_what_it_registers(code, stages, few_run, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(code)
    run = Run(few_run.path, with_plugin(file))
    assert [name for name in STAGES if state_of(run, STAGES[name], outside=False).settings] == stages


def test_all_that_can_be_registered_counts_somewhere():
    import interp.report.live  # noqa: F401  it brings the rest
    from interp.exchange.results_format import results_formats
    from interp.figures.figure import all_figures

    assert all_figures() and results_formats()
    nouns = {noun for noun, _ in registered_in if noun != "function"}  # tests register those
    counted = {noun for stage in STAGES.values() for noun in stage.extended_by}
    assert counted == nouns - {"stage", "format of results"}


def test_what_another_file_registers_that_a_plugin_imports_is_its_own_but_for_the_librarys(tmp_path, monkeypatch):
    (tmp_path / "helper_of_mine.py").write_text(MEASURE)
    (tmp_path / "mine.py").write_text("import helper_of_mine\nimport interp.figures.steering_curves")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "interp.figures.steering_curves", raising=False)
    file = (tmp_path / "mine.py").resolve()
    assert registered_by(str(file), plugin_digest(file)) is None
    assert registered_by(str(file), import_plugin(file)) == {("measure", "rarity")}


def test_a_measure_that_is_edited_makes_the_ranking_again_and_a_comment_nothing(few_run, tmp_path):
    folder, file = shutil.copytree(few_run.path, tmp_path / "run"), tmp_path / "mine.py"
    file.write_text(MEASURE)
    assert ran_now(with_plugin(file), folder, redo=True, until="ranking") == ["ranking"]
    assert Run(folder).ranking["rarity"].max() < 0
    file.write_text(f'"""My measures."""\n\n{MEASURE}  # rare is good\n')
    assert ran_now(with_plugin(file), folder, until="ranking") == []
    file.write_text(MEASURE.replace("return -", "return 2 * "))
    with pytest.raises(OverwriteError, match=r"again: ranking, names, report$"):
        ran_now(with_plugin(file), folder)
    assert ran_now(with_plugin(file), folder, redo=True, until="ranking") == ["ranking"]
    assert Run(folder).ranking["rarity"].max() > 0


def test_a_plugin_that_is_not_python_is_one_line(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("import os\ndef mine(:\n")
    with pytest.raises(ValueError, match=r"mine.py is not Python, line 2: invalid syntax$"):
        import_plugin(file)
