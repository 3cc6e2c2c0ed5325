"""What features do: the model run with latents changed, and what that changes in what it says."""

from interp.effects.circuits import feature_edges
from interp.effects.feature_effects import feature_effects
from interp.effects.interventions import ABLATE, Action, add, intervene, pin
from interp.effects.steering import dose_response, steer, useful_range

__all__ = ["ABLATE", "Action", "add", "dose_response", "feature_edges", "feature_effects", "intervene"]
__all__ += ["pin", "steer", "useful_range"]
