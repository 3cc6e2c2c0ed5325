"""Sparse dictionaries: architectures, kernels, training, and speaking SAELens."""

from interp.sae.architectures import ARCHITECTURES, SAEConfig
from interp.sae.architectures.thresholds import GatedConfig, JumpReLUConfig, ReLUConfig
from interp.sae.architectures.topk import (
    BatchTopKConfig,
    MatchingPursuitConfig,
    MatryoshkaConfig,
    PickConfig,
    TopKConfig,
)
from interp.sae.gradient_check import check_gradients
from interp.sae.model import SAE, Crosscoder, Transcoder, load_sae
from interp.sae.training import train_sae, train_sweep

__all__ = [
    "ARCHITECTURES",
    "SAE",
    "BatchTopKConfig",
    "Crosscoder",
    "GatedConfig",
    "JumpReLUConfig",
    "MatchingPursuitConfig",
    "MatryoshkaConfig",
    "PickConfig",
    "ReLUConfig",
    "SAEConfig",
    "TopKConfig",
    "Transcoder",
    "check_gradients",
    "load_sae",
    "train_sae",
    "train_sweep",
]
