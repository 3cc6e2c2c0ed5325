"""Sparse autoencoders: selection rules, kernels, training, and speaking SAELens."""

from interp.sae.model import SAE
from interp.sae.saelens import load_sae
from interp.sae.selection import BatchTopKConfig, SAEConfig, TopKConfig
from interp.sae.training import train_sae

__all__ = ["SAE", "BatchTopKConfig", "SAEConfig", "TopKConfig", "load_sae", "train_sae"]
