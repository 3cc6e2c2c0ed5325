"""What features do: the model run with latents changed, and what that changes in what it says."""

from interp.effects.automata import Automaton as Automaton
from interp.effects.automata import automaton as automaton
from interp.effects.circuits import feature_edges as feature_edges
from interp.effects.feature_effects import feature_effects as feature_effects
from interp.effects.interventions import ABLATE as ABLATE
from interp.effects.interventions import Action as Action
from interp.effects.interventions import add as add
from interp.effects.interventions import intervene as intervene
from interp.effects.interventions import pin as pin
from interp.effects.steering import dose_response as dose_response
from interp.effects.steering import steer as steer
from interp.effects.steering import useful_range as useful_range
from interp.effects.steering_scores import steering_scores as steering_scores
from interp.effects.steering_scores import steering_success as steering_success
