"""What features do: the model run with latents changed, and what that changes in what it says."""

from interp.effects.attention_scores import attention_scores
from interp.effects.attribution import attribution_graph
from interp.effects.circuits import feature_edges
from interp.effects.feature_effects import feature_effects
from interp.effects.graph import AttributionGraph, load_graph
from interp.effects.graph_checks import agreement, beside_nulls, disagreements, measured_effects
from interp.effects.interventions import ABLATE, Action, add, intervene, pin
from interp.effects.steering import dose_response, steer, useful_range

__all__ = ["ABLATE", "Action", "AttributionGraph", "add", "agreement", "attention_scores", "attribution_graph"]
__all__ += ["beside_nulls", "disagreements", "dose_response", "feature_edges", "feature_effects", "intervene"]
__all__ += ["load_graph", "measured_effects", "pin", "steer", "useful_range"]
