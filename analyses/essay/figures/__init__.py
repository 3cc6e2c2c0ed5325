"""Figures of the essay's own systems: `figures.<noun>(result, …) -> plotly Figure`, in the look of `interp.figures`."""

from analyses.essay.figures.characters import (
    generation_quality,
    leak,
    neuron_heatmaps,
    neuron_slider,
    twin_losses,
    unit_contrast,
)
from analyses.essay.figures.crosscoders import ablated_end, exclusive_counts, latent_on_turns
from analyses.essay.figures.grokking import (
    cumulative_power,
    grokking_curves,
    parity_curves,
    parity_weights,
    spectrum_slider,
    sum_responses,
)
from analyses.essay.figures.learning import character_losses, decision_regions, decision_slider, loss_curves
from analyses.essay.figures.neurons import (
    assignment_losses,
    loss_ratios,
    neuron_weights,
    polysemantic_shares,
    real_neuron,
    restart_shares,
)
from analyses.essay.figures.paired import odds_dumbbell, paired_odds
from analyses.essay.figures.phases import geometry, phase_diagram
from analyses.essay.figures.posttraining import gold_against_divergence, preference_curves, task_bars, tuning_curves
from analyses.essay.figures.scaling import compute_curves, scaling_law
from analyses.essay.figures.stages import stage_curves, stage_effects, stage_sizes
from analyses.essay.figures.superposition import (
    feature_polygons,
    features_kept,
    gram_heatmaps,
    gram_slider,
    polygon_multiples,
)

__all__ = [
    "ablated_end",
    "assignment_losses",
    "character_losses",
    "compute_curves",
    "cumulative_power",
    "decision_regions",
    "decision_slider",
    "exclusive_counts",
    "feature_polygons",
    "features_kept",
    "generation_quality",
    "geometry",
    "gold_against_divergence",
    "gram_heatmaps",
    "gram_slider",
    "grokking_curves",
    "latent_on_turns",
    "leak",
    "loss_curves",
    "loss_ratios",
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
    "real_neuron",
    "restart_shares",
    "scaling_law",
    "spectrum_slider",
    "stage_curves",
    "stage_effects",
    "stage_sizes",
    "sum_responses",
    "task_bars",
    "tuning_curves",
    "twin_losses",
    "unit_contrast",
]
