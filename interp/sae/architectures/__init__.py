"""The dictionaries that can be trained, what fires, what it minimises, where it comes from.

    TopKConfig             the k largest of each row
    BatchTopKConfig        the k·B largest of a batch of B rows; trained, those above a threshold
    MatryoshkaConfig       BatchTopK whose prefixes must reconstruct on their own
    JumpReLUConfig         those above a threshold that is learnt for each latent
    ReLUConfig             those above zero, an L1 penalty
    GatedConfig            one path decides what fires, the other how strongly
    MatchingPursuitConfig  one latent after the other, each from what the ones before leave

`ARCHITECTURES` has them by name, a user's own among them. Every file of this folder is read, so that a new one needs no
other line.
"""

from importlib import import_module
from pkgutil import iter_modules

from interp.sae.architectures.jumprelu import JumpReLUConfig
from interp.sae.architectures.matching_pursuit import MatchingPursuitConfig
from interp.sae.architectures.relu import GatedConfig, ReLUConfig
from interp.sae.architectures.sae_config import ARCHITECTURES, SAEConfig, config_from_dict, config_to_dict
from interp.sae.architectures.topk import BatchTopKConfig, MatryoshkaConfig, PickConfig, TopKConfig

__all__ = [
    "ARCHITECTURES",
    "BatchTopKConfig",
    "GatedConfig",
    "JumpReLUConfig",
    "MatchingPursuitConfig",
    "MatryoshkaConfig",
    "PickConfig",
    "ReLUConfig",
    "SAEConfig",
    "TopKConfig",
    "config_from_dict",
    "config_to_dict",
]

for _file in iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")
