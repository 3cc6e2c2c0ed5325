"""Sparse dictionaries, and their training from a store of activations.

    store, hook, config  →  SAE,   and in `out`:  sae_weights.safetensors, cfg.json (SAELens reads them),
                                                  metrics.jsonl, results.json

    train_sae(store, hook, config)                      an autoencoder
    train_sae(store, hook, config, target=other_hook)   a transcoder: reads `hook`, writes `other_hook`
    train_sae(store, [hook, …], config)                 a crosscoder: the hooks share its latents
    train_sweep(store, hook, [config, …])               several at once
    train_sae(model, hook, config, tokens=tokens)       without a store: the model runs meanwhile (`activations.stream`)

A step reads in one direction:

    training        a batch for each run; folder, checkpoints, log, results
    learner         the step: forward, loss, gradients, Adam, and idle latents drawn again (`resampling`)
    architectures   which entries fire and what they cost: `pick` and `loss`, in plain torch on a `ForwardPass`
    sparse_ops      the differentiable operations, at the cost of the entries that fire; `encoding`: matmul and pick
    kernels         each operation in torch, numba or Triton

`scales` has the hooks that are read and written, `fold` makes the trained weights a dictionary for inputs as they are,
`model` is that dictionary, and `formats`, `saelens`, `stored` and `parts` are its files.
"""

from interp.sae.architectures.encoders import Encoder, StoredEncoder
from interp.sae.architectures.matching_pursuit import MatchingPursuit, MatchingPursuitConfig
from interp.sae.architectures.sae_config import ARCHITECTURES, SAEConfig
from interp.sae.architectures.thresholds import GatedConfig, JumpReLUConfig, ReLUConfig, Threshold
from interp.sae.architectures.topk import BatchTopKConfig, MatryoshkaConfig, PickConfig, TopK, TopKConfig
from interp.sae.forward_pass import ForwardPass
from interp.sae.gradient_check import check_gradients
from interp.sae.model import SAE, Crosscoder, Transcoder, load_sae
from interp.sae.training import train_sae, train_sweep

__all__ = [
    "ARCHITECTURES",
    "SAE",
    "BatchTopKConfig",
    "Crosscoder",
    "Encoder",
    "ForwardPass",
    "GatedConfig",
    "JumpReLUConfig",
    "MatchingPursuit",
    "MatchingPursuitConfig",
    "MatryoshkaConfig",
    "PickConfig",
    "ReLUConfig",
    "SAEConfig",
    "StoredEncoder",
    "Threshold",
    "TopK",
    "TopKConfig",
    "Transcoder",
    "check_gradients",
    "load_sae",
    "train_sae",
    "train_sweep",
]
