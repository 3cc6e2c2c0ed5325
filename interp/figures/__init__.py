"""Results → figures: `figures.<noun>(table, …)` gives a plotly Figure with titles and units; `figures.save` writes one.

In: the tables that the other rooms make. Nothing is computed, shown or saved while a figure is drawn.
"""

from interp.figures.causes import automaton as automaton
from interp.figures.causes import circuit as circuit
from interp.figures.causes import steering as steering
from interp.figures.causes import steering_scores as steering_scores
from interp.figures.comparisons import latent_scaling as latent_scaling
from interp.figures.comparisons import matched_cosines as matched_cosines
from interp.figures.comparisons import neighbourhoods as neighbourhoods
from interp.figures.comparisons import relative_norms as relative_norms
from interp.figures.comparisons import splitting as splitting
from interp.figures.comparisons import universality as universality
from interp.figures.dictionaries import coactivation_heatmap as coactivation_heatmap
from interp.figures.dictionaries import concept_dots as concept_dots
from interp.figures.dictionaries import concept_frequency as concept_frequency
from interp.figures.dictionaries import concept_scatter as concept_scatter
from interp.figures.dictionaries import cosine_histogram as cosine_histogram
from interp.figures.dictionaries import decoder_map as decoder_map
from interp.figures.dictionaries import quality as quality
from interp.figures.dictionaries import quality_latex as quality_latex
from interp.figures.dictionaries import sparsity_fidelity as sparsity_fidelity
from interp.figures.one_latent import activation_histogram as activation_histogram
from interp.figures.one_latent import example_text as example_text
from interp.figures.one_latent import logit_bars as logit_bars
from interp.figures.population import coherence_density as coherence_density
from interp.figures.population import density_histogram as density_histogram
from interp.figures.population import precision_recall as precision_recall
from interp.figures.population import score_distributions as score_distributions
from interp.figures.population import scores_beside_nulls as scores_beside_nulls
from interp.figures.ranking_checks import calibration_curve as calibration_curve
from interp.figures.ranking_checks import loss_in_words as loss_in_words
from interp.figures.ranking_checks import score_comparison as score_comparison
from interp.figures.ranking_checks import verdict_shares as verdict_shares
from interp.figures.saving import save as save
from interp.figures.training_curves import concept_births as concept_births
from interp.figures.training_curves import feature_lives as feature_lives
from interp.figures.training_curves import training as training
