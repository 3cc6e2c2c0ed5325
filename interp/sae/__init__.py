"""Sparse dictionaries, and their training from a store of activations.

    store, hook, config  →  SAE,   and in `out`:  sae_weights.safetensors, cfg.json (SAELens reads them),
                                                  metrics.jsonl, results.json

    train_sae(store, hook, config)                      an autoencoder
    train_sae(store, hook, config, output_hook=other_hook)   a transcoder: reads `hook`, writes `other_hook`
    train_sae(store, [hook, …], config)                 a crosscoder: the hooks share its latents
    train_sweep(store, hook, [config, …])               several at once
    train_sharded(store, hook, config, out)             under torchrun: the latents are sharded over the processes

The rows come from an `ActivationStore`, or from an `ActivationStream`, which runs the model during the training.

The files, from a step of training down to its operations:

    training        a batch for each run; folder, checkpoints, log, results
    learner         the step: forward, loss, gradients, Adam, and the `resampling` of idle latents
    architectures   in plain torch: the entries that fire (`pick`), their loss (`loss`), the encoder that remains after
                    training (`trained_encoder`)
    sparse_ops      the differentiable operations, at the cost of the entries that fire; `encode_rows`: matmul and pick
    kernels         each operation in torch, numba or Triton

`hook_scales` has the hooks that are read and written. `weights` draws the initial weights, and folds the trained ones
into a dictionary for unscaled inputs. `model` is that dictionary, and `formats` reads and writes its files, those of
other tools too; `sharding` writes the files of a dictionary whose latents are sharded.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
