"""The figures of analyses show names letter by letter too, and are laid out for a column."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from analyses.claims import (
    checkpoint_figures,
    circuit_figures,
    effect_figures,
    neighbour_figures,
    proxy_figures,
    rewriting,
)
from analyses.essay import figures as essay
from analyses.essay.figures import crosscoders
from analyses.scorecard import figures as scorecard
from tests.figures.test_figure_names import GRID, NAME, ROWS, laid_out

SECOND = ROWS.assign(kind="second")
ASSIGNED = ROWS.assign(features=1, mass=0.5, fires=NAME, MSE=0.5, **{"cross-entropy": 0.5})
NOUNS = ROWS.assign(noun=NAME, he=1, she=2, corpus=0.5, model=0.5, balanced=0.5, only_plays=False, label=True)
WORDS = ROWS.assign(reconstruction=NAME, ce_spliced=2.0, ce_clean=1.0, ce_nothing=3.0)
PARITY = dict.fromkeys(("train_accuracy", "test_accuracy", "distractor_share"), GRID)
POINTS = (GRID[:2], np.arange(3), GRID[:, :2], np.array([0, 1, 1]))
STATES = np.array([[0, 1, 2]] * 3)
DRAWN: dict[str, Callable[[], go.Figure]] = {
    "automaton": lambda: circuit_figures.automaton(
        pd.DataFrame({"latent": [1], "effect": [0.5]}),
        pd.DataFrame({"latent": [1], "other": [2], "effect": [0.4]}),
        names={1: NAME},
    ),
    "circuit": lambda: circuit_figures.circuit(
        pd.DataFrame({"upstream": [1, 2], "downstream": [3, 3], "effect": [0.5, -0.2]}), names={("upstream", 1): NAME}
    ),
    "context_effects": lambda: effect_figures.context_effects(
        ROWS.assign(inside=0.5, off=0.1, free=0.1, pinned=[{"0": 0.1, "1": 0.9}] * len(ROWS))
    ),
    "calibration_curve": lambda: scorecard.calibration_curve({NAME: ROWS}, title=NAME),
    "latent_scaling": lambda: crosscoders.latent_scaling(SECOND),
    "concept_births": lambda: checkpoint_figures.concept_births(
        GRID, [NAME, "b", "c"], steps=[1, 2, 3], losses=[3, 2, 1]
    ),
    "neighbourhoods": lambda: neighbour_figures.neighbourhoods({NAME: ROWS}),
    "loss_in_words": lambda: rewriting.loss_in_words(WORDS),
    "relative_norms": lambda: crosscoders.relative_norms(ROWS),
    "score_comparison": lambda: scorecard.score_comparison({NAME: ROWS.head(1)}, title=NAME),
    "specificity": lambda: proxy_figures.specificity(ROWS, label=NAME, name=NAME),
    "sensitivity": lambda: proxy_figures.sensitivity(ROWS.assign(sensitivity=0.5)),
    "feature_against_neuron": lambda: proxy_figures.feature_against_neuron(ROWS),
    "sizes_table": lambda: proxy_figures.sizes_table(ROWS, columns={"label": NAME, "n": "n"}, formats=["", "d"]),
    "ablated_end": lambda: essay.ablated_end({NAME: (0.5, 0.1)}),
    "assignment_losses": lambda: essay.assignment_losses(ASSIGNED, {NAME: (GRID[0], GRID[0])}, title=NAME),
    "character_losses": lambda: essay.character_losses(NAME, {NAME: np.ones(len(NAME))}, unit="bits"),
    "cumulative_power": lambda: essay.cumulative_power({NAME: GRID}),
    "decision_regions": lambda: essay.decision_regions(*POINTS, [NAME, "b"]),
    "exclusive_counts": lambda: essay.exclusive_counts(ROWS),
    "feature_polygons": lambda: essay.feature_polygons({NAME: GRID[:2]}, title=NAME),
    "features_kept": lambda: essay.features_kept({NAME: ROWS}, 3),
    "gram_heatmaps": lambda: essay.gram_heatmaps({NAME: (GRID, GRID[0])}),
    "gram_slider": lambda: essay.gram_slider({NAME: (GRID, GRID[0])}),
    "latent_on_turns": lambda: essay.latent_on_turns([[NAME, "b"]], [[0.5, 1.0]], NAME),
    "leak": lambda: essay.leak({NAME: np.ones((3, 3))}, "abc"),
    "loss_curves": lambda: essay.loss_curves({NAME: ROWS}, {NAME: 0.5}, title=NAME, unit="bits"),
    "loss_ratios": lambda: essay.loss_ratios(ROWS),
    "neuron_heatmaps": lambda: essay.neuron_heatmaps({NAME: GRID}, "abc", top=1.0),
    "neuron_slider": lambda: essay.neuron_slider({NAME: GRID}, "abc", top=1.0),
    "neuron_weights": lambda: essay.neuron_weights({NAME: GRID}),
    "odds_dumbbell": lambda: essay.odds_dumbbell(NOUNS),
    "paired_odds": lambda: essay.paired_odds({NAME: NOUNS, "other": NOUNS}, prompt=NAME),
    "parity_curves": lambda: essay.parity_curves(np.arange(3), {NAME: PARITY}),
    "parity_weights": lambda: essay.parity_weights({NAME: GRID}, 2),
    "phase_diagram": lambda: essay.phase_diagram(
        {NAME: (STATES, STATES)}, [0.1, 0.2, 0.3], [1, 2, 3], [NAME, "b", "c"]
    ),
    "polygon_multiples": lambda: essay.polygon_multiples({NAME: GRID[:2]}),
    "polysemantic_shares": lambda: essay.polysemantic_shares({NAME: ROWS}),
    "real_neuron": lambda: essay.real_neuron(GRID, best=0.5, title=NAME),
    "restart_shares": lambda: essay.restart_shares(ROWS.assign(loss=NAME)),
    "scaling_law": lambda: essay.scaling_law(np.arange(1, 4), GRID + 1, {}, 0.5, title=NAME, x_title=NAME, symbol=NAME),
    "stage_curves": lambda: essay.stage_curves(ROWS, title=NAME),
    "stage_effects": lambda: essay.stage_effects(ROWS),
    "stage_sizes": lambda: essay.stage_sizes(ROWS, [2]),
    "sum_responses": lambda: essay.sum_responses(GRID[None], [NAME]),
    "task_bars": lambda: essay.task_bars(ROWS),
    "twin_losses": lambda: essay.twin_losses(ROWS),
    "steering_scores": lambda: circuit_figures.steering_scores(
        pd.DataFrame({"output": [0.1, 0.2], "input": [0.3, 0.2], "success": [0.2, 0.1]})
    ),
}
NAMELESS = {
    *("compute_curves", "decision_slider", "generation_quality", "geometry"),
    *(
        "gold_against_divergence",
        "grokking_curves",
        "preference_curves",
        "spectrum_slider",
        "steering_scores",
        "tuning_curves",
    ),
}
"""Numbers alone are given to them."""
TITLED = {"unit_contrast"}
"""Its axis titles are the caller's markup."""


@pytest.mark.parametrize("noun", DRAWN)
def test_every_figure_shows_names_letter_by_letter_and_is_laid_out_for_a_column(noun):
    laid_out(DRAWN[noun](), has_names=noun not in NAMELESS)


def test_every_figure_with_names_is_drawn_here():
    assert set(essay.__all__) - NAMELESS - TITLED <= set(DRAWN)


def test_scores_of_any_world_are_compared_the_best_on_top():
    def table(**auroc):
        rows = [(name, value, value - 0.1, value + 0.05) for name, value in auroc.items()]
        return pd.DataFrame(rows, columns=["score", "auroc", "auroc_low", "auroc_high"])

    drawn = scorecard.score_comparison(
        {"A": table(core=0.9, token_set=0.6), "B": table(token_set=0.7, twin_cosine=0.8)}
    )
    assert list(drawn.layout.yaxis.categoryarray) == ["token set", "twin cosine", "core"]
    points = {(world.name, score): x for world in drawn.data for score, x in zip(world.y, world.x, strict=True)}
    assert points == {("A", "core"): 0.9, ("A", "token set"): 0.6, ("B", "token set"): 0.7, ("B", "twin cosine"): 0.8}
    assert list(drawn.data[1].error_x.array) == pytest.approx([0.05, 0.05])
    assert list(drawn.data[1].error_x.arrayminus) == pytest.approx([0.1, 0.1])
    with pytest.raises(ValueError, match="auroc_low"):
        scorecard.score_comparison({"A": table(core=0.9).drop(columns="auroc_low")})
