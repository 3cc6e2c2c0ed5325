"""Results → figures: `figures.<noun>(table, …) -> plotly Figure`, with titles and units; nothing is shown or saved."""

from interp.figures.features import activation_histogram, density_histogram, logit_bars
from interp.figures.population import coherence_density, concept_scatter, decoder_map, score_distributions
from interp.figures.text import HighlightedText, highlighted_text
from interp.figures.training import model_training, quality_bars, quality_table, sae_training, training

__all__ = [
    "HighlightedText",
    "activation_histogram",
    "coherence_density",
    "concept_scatter",
    "decoder_map",
    "density_histogram",
    "highlighted_text",
    "logit_bars",
    "model_training",
    "quality_bars",
    "quality_table",
    "sae_training",
    "score_distributions",
    "training",
]
