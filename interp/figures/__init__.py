"""Results → figures: `figures.<noun>(table, …)` gives a plotly Figure with titles and units; `figures.save` writes one.

In: the tables that the other rooms make. Nothing is computed, shown or saved while a figure is drawn.
"""

from interp.figures.causes import automaton, circuit, steering, steering_scores
from interp.figures.checkpoints import concept_births, feature_lives
from interp.figures.comparisons import matched_cosines, neighbourhoods, universality
from interp.figures.concepts import concept_dots, concept_frequency, concept_scatter
from interp.figures.crosscoders import latent_scaling, relative_norms
from interp.figures.dictionary_geometry import coactivation_heatmap, cosine_histogram, decoder_map
from interp.figures.example_text import example_text
from interp.figures.feature_flow import splitting
from interp.figures.fidelity import quality, quality_latex, sparsity_fidelity
from interp.figures.one_latent import HighlightedText, activation_histogram, highlighted_text, logit_bars
from interp.figures.population import (
    coherence_density,
    density_histogram,
    precision_recall,
    score_distributions,
    scores_beside_nulls,
)
from interp.figures.ranking_checks import calibration_curve, loss_in_words, score_comparison, verdict_shares
from interp.figures.saving import save
from interp.figures.training_curves import training

__all__ = [
    "HighlightedText",
    "activation_histogram",
    "automaton",
    "calibration_curve",
    "circuit",
    "coactivation_heatmap",
    "coherence_density",
    "concept_births",
    "concept_dots",
    "concept_frequency",
    "concept_scatter",
    "cosine_histogram",
    "decoder_map",
    "density_histogram",
    "example_text",
    "feature_lives",
    "highlighted_text",
    "latent_scaling",
    "logit_bars",
    "loss_in_words",
    "matched_cosines",
    "neighbourhoods",
    "precision_recall",
    "quality",
    "quality_latex",
    "relative_norms",
    "save",
    "score_comparison",
    "score_distributions",
    "scores_beside_nulls",
    "sparsity_fidelity",
    "splitting",
    "steering",
    "steering_scores",
    "training",
    "universality",
    "verdict_shares",
]
