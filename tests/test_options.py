"""An option is declared once: functions, a run's configuration and commands have it, with its default and its help."""

import inspect
from dataclasses import fields
from typing import get_type_hints

import pytest

from interp.activations.harvesting import HarvestKeywords, HarvestOptions, harvest, harvest_stores
from interp.activations.row_options import RowConfig, RowKeywords, RowOptions
from interp.activations.stream import ActivationStream
from interp.cli import COMMANDS, main
from interp.effects import feature_effects
from interp.effects.ablation_config import AblationConfig, AblationKeywords
from interp.features.scan_config import ScanConfig
from interp.features.scan_features import ScanKeywords, ScanOptions, scan_features, scan_saes
from interp.pipeline.config import RunConfig
from interp.runtime.options import field_docs
from interp.sae import train_sae, train_saes, train_sharded, train_sweep
from interp.sae.training import TrainingKeywords, TrainingOptions
from interp.verdict.ranking import rank_features
from interp.verdict.ranking_config import RankingConfig, RankingKeywords

KEYWORDS = {
    RowOptions: RowKeywords,
    HarvestOptions: HarvestKeywords,
    TrainingOptions: TrainingKeywords,
    ScanOptions: ScanKeywords,
    RankingConfig: RankingKeywords,
    AblationConfig: AblationKeywords,
}
TAKEN_BY = {
    RowOptions: (ActivationStream.__init__,),
    HarvestOptions: (harvest, harvest_stores),
    TrainingOptions: (train_sae, train_sweep, train_saes, train_sharded),
    ScanOptions: (scan_features, scan_saes),
    RankingConfig: (rank_features,),
    AblationConfig: (feature_effects,),
}
SHARED = {"harvest": RowConfig, "scan": ScanConfig, "ranking": RankingConfig, "effects": AblationConfig}
"""The dataclass whose fields a section of the configuration has, and the command of the section."""


@pytest.mark.parametrize("options", KEYWORDS, ids=lambda kind: kind.__name__)
def test_the_keywords_have_the_names_and_types_of_the_options(options):
    keywords, named = (get_type_hints(kind) for kind in (KEYWORDS[options], options))
    assert list(keywords) == list(named)
    for name, kind in keywords.items():
        assert kind == named[name] or str(kind) == str(named[name]), "jaxtyping makes a type anew each time"


@pytest.mark.parametrize("options", TAKEN_BY, ids=lambda kind: kind.__name__)
def test_each_function_shows_all_options_with_their_defaults_and_their_help(options):
    for function in TAKEN_BY[options]:
        shown = inspect.signature(inspect.unwrap(function)).parameters  # the documentation unwraps it
        assert shown == inspect.signature(function).parameters
        for field in fields(options):
            assert (shown[field.name].default, shown[field.name].kind) == (
                field.default,
                inspect.Parameter.KEYWORD_ONLY,
            )
            assert shown[field.name].annotation == get_type_hints(options)[field.name], "without its limits"
            assert f"- `{field.name}`: {field_docs(options)[field.name]}" in " ".join(function.__doc__.split())
        assert not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in shown.values())


@pytest.mark.parametrize("section", SHARED)
def test_a_section_and_its_command_have_all_shared_fields(section, capsys):
    """With the defaults of the functions, but for the minutes of ablation, which a run limits."""
    config = getattr(RunConfig(), section)
    changed = {field.name for field in fields(SHARED[section]) if getattr(config, field.name) != field.default}
    assert changed == ({"minutes"} if section == "effects" else set())
    command = {"ranking": "rank"}.get(section, section)
    assert command in COMMANDS and main([command, "--help"]) == 0
    help = " ".join(capsys.readouterr().out.split())
    for name, text in field_docs(SHARED[section]).items():
        assert f"--{name.replace('_', '-')}" in help and " ".join(text.split()[:2]) in help


@pytest.mark.parametrize("function", [harvest, train_sae, scan_features, rank_features], ids=lambda f: f.__name__)
def test_an_unknown_keyword_is_a_type_error(function):
    n_inputs = sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in inspect.signature(function).parameters.values())
    with pytest.raises(TypeError, match="unexpected keyword argument 'overwrites'"):
        function(*[None] * n_inputs, overwrites=True)
