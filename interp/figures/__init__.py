"""Results → figures: `figures.<noun>(table, …) -> plotly Figure`, with titles and units; nothing is shown or saved."""

from interp.figures.crosscoders import latent_scaling, relative_norms
from interp.figures.features import activation_histogram, density_histogram, logit_bars
from interp.figures.population import coherence_density, concept_scatter, decoder_map, score_distributions
from interp.figures.proxies import feature_against_neuron, sensitivity, sizes_table, specificity
from interp.figures.scorecard import calibration_curve, score_comparison
from interp.figures.text import HighlightedText, highlighted_text
from interp.figures.training_curves import model_training, quality_bars, quality_table, sae_training, training
from interp.figures.verdicts import verdict_shares

__all__ = [
    "HighlightedText",
    "activation_histogram",
    "calibration_curve",
    "coherence_density",
    "concept_scatter",
    "decoder_map",
    "density_histogram",
    "feature_against_neuron",
    "highlighted_text",
    "latent_scaling",
    "logit_bars",
    "model_training",
    "quality_bars",
    "quality_table",
    "relative_norms",
    "sae_training",
    "score_comparison",
    "score_distributions",
    "sensitivity",
    "sizes_table",
    "specificity",
    "training",
    "verdict_shares",
]
