"""The options of a long job are written once: each public function shows them, and type checkers know them."""

import inspect
import re
from dataclasses import fields
from typing import get_type_hints

import pytest

from interp.activations.harvesting import HarvestKeywords, HarvestOptions, harvest, harvest_stores
from interp.activations.model_passes import RowKeywords, RowOptions
from interp.activations.stream import ActivationStream, StreamKeywords, StreamOptions
from interp.features.scan_features import ScanKeywords, ScanOptions, scan_features, scan_saes
from interp.sae import train_sae, train_saes, train_sharded, train_sweep
from interp.sae.training import TrainingKeywords, TrainingOptions
from interp.verdict.ranking import RankingKeywords, RankingOptions, rank_features

KEYWORDS = {
    RowOptions: RowKeywords,
    HarvestOptions: HarvestKeywords,
    StreamOptions: StreamKeywords,
    TrainingOptions: TrainingKeywords,
    ScanOptions: ScanKeywords,
    RankingOptions: RankingKeywords,
}
TAKEN_BY = {
    HarvestOptions: (harvest, harvest_stores),
    StreamOptions: (ActivationStream,),
    TrainingOptions: (train_sae, train_sweep, train_saes, train_sharded),
    ScanOptions: (scan_features, scan_saes),
    RankingOptions: (rank_features,),
}


@pytest.mark.parametrize("options", KEYWORDS, ids=lambda kind: kind.__name__)
def test_the_keywords_have_the_names_and_types_of_the_options(options):
    keywords, named = (get_type_hints(kind) for kind in (KEYWORDS[options], options))
    assert {name: str(kind) for name, kind in keywords.items()} == {name: str(kind) for name, kind in named.items()}


@pytest.mark.parametrize("options", TAKEN_BY, ids=lambda kind: kind.__name__)
def test_each_function_shows_all_options_with_their_defaults(options):
    for function in TAKEN_BY[options]:
        shown = inspect.signature(inspect.unwrap(function)).parameters  # the documentation unwraps it
        assert shown == inspect.signature(function).parameters
        for field in fields(options):
            assert (shown[field.name].default, shown[field.name].kind) == (
                field.default,
                inspect.Parameter.KEYWORD_ONLY,
            )
        assert not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in shown.values())


@pytest.mark.parametrize("function", [harvest, train_sae, scan_features, rank_features], ids=lambda f: f.__name__)
def test_the_docstring_names_every_keyword(function):
    keywords = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert [name for name in keywords if not re.search(rf"\b{name}\b", function.__doc__)] == []


@pytest.mark.parametrize("function", [harvest, train_sae, scan_features, rank_features], ids=lambda f: f.__name__)
def test_an_unknown_keyword_is_a_type_error(function):
    n_inputs = sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in inspect.signature(function).parameters.values())
    with pytest.raises(TypeError, match="unexpected keyword argument 'overwrites'"):
        function(*[None] * n_inputs, overwrites=True)
