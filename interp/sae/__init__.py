"""Sparse dictionaries, and their training from a store of activations.

    store, hook, config  →  SAE,   and in `out`:  sae_weights.safetensors, cfg.json (SAELens reads them),
                                                  metrics.jsonl, results.json

    train_sae(store, hook, config)                      an autoencoder
    train_sae(store, hook, config, output_hook=other_hook)   a transcoder: reads `hook`, writes `other_hook`
    train_sae(store, [hook, …], config)                 a crosscoder: the hooks share its latents
    train_sweep(store, hook, [config, …])               several at once
    train_sharded(store, hook, config, out)             under torchrun: the latents are sharded over the processes
    train_sae(model, hook, config, tokens=tokens)       without a store: the model runs during training
                                                        (`activations.stream`)

The files, from a step of training down to its operations:

    training        a batch for each run; folder, checkpoints, log, results
    learner         the step: forward, loss, gradients, Adam, and the `resampling` of idle latents
    architectures   in plain torch: the entries that fire (`pick`), their loss (`loss`), the encoder that remains after
                    training (`trained_encoder`)
    sparse_ops      the differentiable operations, at the cost of the entries that fire; `encode_rows`: matmul and pick
    kernels         each operation in torch, numba or Triton

`hook_scales` has the hooks that are read and written. `weights` draws the initial weights, and folds the trained ones
into a dictionary for unscaled inputs. `model` is that dictionary, and `formats`, `saelens`, `stored_dictionary` and
`file_tensors` read and write its files; `sharding` writes the files of a dictionary whose latents are sharded.
"""

from interp.sae.architectures.encoders import Encoder as Encoder
from interp.sae.architectures.encoders import StoredEncoder as StoredEncoder
from interp.sae.architectures.matching_pursuit import MatchingPursuit as MatchingPursuit
from interp.sae.architectures.matching_pursuit import MatchingPursuitConfig as MatchingPursuitConfig
from interp.sae.architectures.sae_config import ARCHITECTURES as ARCHITECTURES
from interp.sae.architectures.sae_config import SAEConfig as SAEConfig
from interp.sae.architectures.thresholds import GatedConfig as GatedConfig
from interp.sae.architectures.thresholds import JumpReLUConfig as JumpReLUConfig
from interp.sae.architectures.thresholds import ReLUConfig as ReLUConfig
from interp.sae.architectures.thresholds import Threshold as Threshold
from interp.sae.architectures.topk import BatchTopKConfig as BatchTopKConfig
from interp.sae.architectures.topk import MatryoshkaConfig as MatryoshkaConfig
from interp.sae.architectures.topk import PickConfig as PickConfig
from interp.sae.architectures.topk import TopK as TopK
from interp.sae.architectures.topk import TopKConfig as TopKConfig
from interp.sae.forward_pass import ForwardPass as ForwardPass
from interp.sae.forward_pass import PickedEntries as PickedEntries
from interp.sae.forward_pass import StepInputs as StepInputs
from interp.sae.model import SAE as SAE
from interp.sae.model import Crosscoder as Crosscoder
from interp.sae.model import Transcoder as Transcoder
from interp.sae.model import load_sae as load_sae
from interp.sae.training import train_sae as train_sae
from interp.sae.training import train_saes as train_saes
from interp.sae.training import train_sharded as train_sharded
from interp.sae.training import train_sweep as train_sweep
