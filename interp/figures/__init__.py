"""Results → figures: `figures.<noun>(table, …) -> plotly Figure`, with titles and units; nothing is shown or saved."""

from interp.figures.characters import (
    generation_quality,
    leak,
    neuron_heatmaps,
    neuron_slider,
    twin_losses,
    unit_contrast,
)
from interp.figures.crosscoders import ablated_end, exclusive_counts, latent_on_turns, latent_scaling, relative_norms
from interp.figures.features import activation_histogram, density_histogram, logit_bars
from interp.figures.grokking import (
    cumulative_power,
    grokking_curves,
    parity_curves,
    parity_weights,
    spectrum_slider,
    sum_responses,
)
from interp.figures.learning import character_losses, decision_regions, decision_slider, loss_curves
from interp.figures.neurons import (
    assignment_losses,
    loss_ratios,
    neuron_weights,
    polysemantic_shares,
    real_neuron,
    restart_shares,
)
from interp.figures.paired import odds_dumbbell, paired_odds
from interp.figures.phases import geometry, phase_diagram
from interp.figures.population import coherence_density, concept_scatter, decoder_map, score_distributions
from interp.figures.posttraining import gold_against_divergence, preference_curves, task_bars, tuning_curves
from interp.figures.proxies import feature_against_neuron, sensitivity, sizes_table, specificity
from interp.figures.scaling import compute_curves, scaling_law
from interp.figures.scorecard import calibration_curve, score_comparison
from interp.figures.stages import stage_curves, stage_effects, stage_sizes
from interp.figures.superposition import (
    feature_polygons,
    features_kept,
    gram_heatmaps,
    gram_slider,
    polygon_multiples,
)
from interp.figures.text import HighlightedText, highlighted_text
from interp.figures.training_curves import model_training, quality_bars, quality_table, sae_training, training
from interp.figures.verdicts import verdict_shares

__all__ = [
    "HighlightedText",
    "ablated_end",
    "activation_histogram",
    "assignment_losses",
    "calibration_curve",
    "character_losses",
    "coherence_density",
    "compute_curves",
    "concept_scatter",
    "cumulative_power",
    "decision_regions",
    "decision_slider",
    "decoder_map",
    "density_histogram",
    "exclusive_counts",
    "feature_against_neuron",
    "feature_polygons",
    "features_kept",
    "generation_quality",
    "geometry",
    "gold_against_divergence",
    "gram_heatmaps",
    "gram_slider",
    "grokking_curves",
    "highlighted_text",
    "latent_on_turns",
    "latent_scaling",
    "leak",
    "logit_bars",
    "loss_curves",
    "loss_ratios",
    "model_training",
    "neuron_heatmaps",
    "neuron_slider",
    "neuron_weights",
    "odds_dumbbell",
    "paired_odds",
    "parity_curves",
    "parity_weights",
    "phase_diagram",
    "polygon_multiples",
    "polysemantic_shares",
    "preference_curves",
    "quality_bars",
    "quality_table",
    "real_neuron",
    "relative_norms",
    "restart_shares",
    "sae_training",
    "scaling_law",
    "score_comparison",
    "score_distributions",
    "sensitivity",
    "sizes_table",
    "specificity",
    "spectrum_slider",
    "stage_curves",
    "stage_effects",
    "stage_sizes",
    "sum_responses",
    "task_bars",
    "training",
    "tuning_curves",
    "twin_losses",
    "unit_contrast",
    "verdict_shares",
]
