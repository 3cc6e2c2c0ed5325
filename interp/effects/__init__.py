"""Measure the effects of features: run the model with changed latents, and measure the change of its predictions."""

from interp.effects.attention_attribution import attention_scores as attention_scores
from interp.effects.attribution import attribution_graph as attribution_graph
from interp.effects.feature_edges import feature_edges as feature_edges
from interp.effects.graph import AttributionGraph as AttributionGraph
from interp.effects.graph import load_graph as load_graph
from interp.effects.graph_cards import disagreements as disagreements
from interp.effects.graph_checks import agreement as agreement
from interp.effects.graph_checks import beside_nulls as beside_nulls
from interp.effects.graph_checks import changed_next_tokens as changed_next_tokens
from interp.effects.graph_checks import measured_effects as measured_effects
from interp.effects.interventions import ABLATE as ABLATE
from interp.effects.interventions import Action as Action
from interp.effects.interventions import add as add
from interp.effects.interventions import intervene as intervene
from interp.effects.interventions import pin as pin
from interp.effects.latent_ablation import feature_effects as feature_effects
from interp.effects.latent_ablation import join_effects as join_effects
from interp.effects.steering import dose_response as dose_response
from interp.effects.steering import steer as steer
from interp.effects.steering import useful_range as useful_range
