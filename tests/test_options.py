"""A function and the config of a run's section have their common options with the same names, types and defaults."""

import inspect
from dataclasses import fields
from typing import get_type_hints

import pytest

from interp.activations.harvest_options import RowConfig, RowOptions
from interp.activations.harvesting import harvest
from interp.activations.stream import ActivationStream
from interp.checks.config_fields import field_docs
from interp.cli import COMMANDS, main
from interp.effects import feature_effects
from interp.effects.ablation_config import AblationConfig
from interp.features.scan_config import ScanConfig
from interp.features.scan_features import scan_features, scan_saes
from interp.pipeline.config import RunConfig
from interp.sae import train_sae, train_saes, train_sharded, train_sweep
from interp.verdict.ranking import rank_features
from interp.verdict.ranking_config import RankingConfig

TAKEN_BY = [
    (harvest, RowOptions),
    (ActivationStream.__init__, RowOptions),
    (rank_features, RankingConfig),
    (feature_effects, AblationConfig),
]
SHARED = {"harvest": RowConfig, "scan": ScanConfig, "ranking": RankingConfig, "effects": AblationConfig}
"""The dataclass whose fields a section of the configuration has, and the command of the section."""


def options_of(function):
    """The keywords of a function, with their types and defaults."""
    hints = get_type_hints(function)
    parameters = inspect.signature(function).parameters.values()
    return {p.name: (hints[p.name], p.default) for p in parameters if p.kind is p.KEYWORD_ONLY}


@pytest.mark.parametrize(("function", "config"), TAKEN_BY, ids=lambda value: value.__qualname__)
def test_a_function_has_the_options_of_its_config(function, config):
    hints = get_type_hints(config)  # without their limits
    expected = {field.name: (hints[field.name], field.default) for field in fields(config)}
    assert expected.items() <= options_of(function).items()


@pytest.mark.parametrize(
    ("function", "others"),
    [(train_sae, (train_sweep, train_saes, train_sharded)), (scan_features, (scan_saes,))],
    ids=["training", "scan"],
)
def test_functions_of_one_verb_have_the_same_options(function, others):
    own = {name: str(option) for name, option in options_of(function).items() if name not in ("output_hook", "resume")}
    for other in others:  # as text, since jaxtyping makes a type anew each time
        assert own.items() <= {name: str(option) for name, option in options_of(other).items()}.items()


@pytest.mark.parametrize("function", [harvest, train_sae, scan_features, rank_features], ids=lambda f: f.__name__)
def test_each_option_is_described(function):
    described = {line.split(":")[0].strip() for line in function.__doc__.splitlines()}
    assert options_of(function).keys() <= described | {"latents", "part"}


@pytest.mark.parametrize("section", SHARED)
def test_a_section_and_its_command_have_all_shared_fields(section, capsys):
    """With the defaults of the functions, but for the minutes of ablation and the labels in rules, which a run has."""
    config = getattr(RunConfig(), section)
    changed = {field.name for field in fields(SHARED[section]) if getattr(config, field.name) != field.default}
    assert changed == {"effects": {"minutes"}, "ranking": {"use_labels"}}.get(section, set())
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
