"""Results → figures: `figures.<noun>(table, …)` gives a plotly Figure with titles and units; `figures.save` writes one.

In: the tables that the other rooms make. Nothing is computed, shown or saved while a figure is drawn.
"""

from interp.figures.crosscoders import latent_scaling, relative_norms
from interp.figures.one_latent import HighlightedText, activation_histogram, highlighted_text, logit_bars
from interp.figures.population import coherence_density, concept_scatter, density_histogram, score_distributions
from interp.figures.ranking_checks import calibration_curve, score_comparison, verdict_shares
from interp.figures.saving import save
from interp.figures.training_curves import quality_bars, training

__all__ = [
    "HighlightedText",
    "activation_histogram",
    "calibration_curve",
    "coherence_density",
    "concept_scatter",
    "density_histogram",
    "highlighted_text",
    "latent_scaling",
    "logit_bars",
    "quality_bars",
    "relative_norms",
    "save",
    "score_comparison",
    "score_distributions",
    "training",
    "verdict_shares",
]
