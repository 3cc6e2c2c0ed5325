"""What features do: the model run with latents changed, and what that changes in what it says."""

from interp.effects.automata import automaton
from interp.effects.circuits import feature_edges
from interp.effects.feature_effects import feature_effects
from interp.effects.interventions import ABLATE, Action, add, intervene, pin
from interp.effects.steering import dose_response, steer, useful_range
from interp.effects.steering_scores import steering_scores, steering_success

__all__ = ["ABLATE", "Action", "add", "automaton", "dose_response", "feature_edges", "feature_effects", "intervene"]
__all__ += ["pin", "steer", "steering_scores", "steering_success", "useful_range"]
