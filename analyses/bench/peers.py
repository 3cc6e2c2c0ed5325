"""Trainers of other libraries, each as one step on a batch. The benchmarks time ours against those that are installed.

    contenders(data, d_sae, k)   {name: how to build it}; building raises ImportError if a library is missing. Each
                                 contender trains on the device of `data`
    versions()                   of what is installed

The project works without them. To install them: `pip install sae-lens eai-sparsify dictionary-learning`. Architectures
without a fixed k start with thresholds and biases at which k latents fire on average on the first rows
(`sparse_start`), and the learning rates are so small that this does not change.
"""

import itertools
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

SMALL_RATE = 1e-6
SAMPLE_ROWS = 256
SIGNUM_MOMENTUM = 0.95
"""The value of sparsify's Trainer."""
SAELENS_KINDS = ("TopK", "BatchTopK", "MatryoshkaBatchTopK", "JumpReLU", "Standard", "Gated")
MATRYOSHKA_SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 17 / 32)


class Contender(NamedTuple):
    step: Callable[[int], Any]
    """Do one training step on batch number i."""
    l0: Callable[[Any], float | None]
    """The L0 that a step reached, from what it returned."""


def contenders(data: Sequence[Tensor], d_sae: int, k: int) -> dict[str, Callable[[], Contender]]:
    peers = {f"SAELens {kind}": lambda kind=kind: saelens(kind, data, d_sae, k) for kind in SAELENS_KINDS}
    peers["SAELens TopK, bf16 autocast"] = lambda: saelens("TopK", data, d_sae, k, autocast=True)
    peers["sparsify TopK"] = lambda: sparsify(data, d_sae, k)
    peers["sparsify TopK, bf16 autocast"] = lambda: sparsify(data, d_sae, k, autocast=True)
    for kind in ("TopK", "BatchTopK"):
        peers[f"dictionary_learning {kind}"] = lambda kind=kind: dictionary_learning(kind, data, d_sae, k)
    return peers


def saelens(kind: str, data: Sequence[Tensor], d_sae: int, k: int, autocast: bool = False) -> Contender:
    size: dict[str, Any] = {"d_in": data[0].shape[1], "d_sae": d_sae, "device": data[0].device.type}
    if kind in ("TopK", "BatchTopK", "MatryoshkaBatchTopK"):
        size["k"] = k
    if kind == "MatryoshkaBatchTopK":
        size["matryoshka_widths"] = [round(share * d_sae) for share in itertools.accumulate(MATRYOSHKA_SHARES)]
    trainer = saelens_trainer(
        kind, size, itertools.cycle(data), tokens=10**9, batch_size=len(data[0]), lr=SMALL_RATE, autocast=autocast
    )
    sae = trainer.sae
    if kind in ("JumpReLU", "Standard", "Gated"):
        bound = sparse_start(data[0], sae.W_enc.detach(), k)
        place, sign = {"JumpReLU": ("threshold", 1), "Standard": ("b_enc", -1), "Gated": ("b_gate", -1)}[kind]
        getattr(sae, place).data.fill_(sign * bound)
    return Contender(lambda i: trainer.step(data[i % len(data)]), lambda output: _l0(output.feature_acts))


def saelens_trainer(
    kind: str,
    sae_settings: dict[str, Any],
    batches: Iterator[Tensor],
    *,
    tokens: int,
    batch_size: int,
    lr: float,
    autocast: bool = False,
    **settings: Any,
) -> Any:
    """Return a SAETrainer that logs nothing and saves nothing; `settings`: further fields of its SAETrainerConfig."""
    import sae_lens
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    sae = getattr(sae_lens, f"{kind}TrainingSAE")(getattr(sae_lens, f"{kind}TrainingSAEConfig")(**sae_settings))
    config = SAETrainerConfig(
        total_training_samples=tokens,
        train_batch_size_samples=batch_size,
        device=sae_settings.get("device", "cpu"),
        autocast=autocast,
        lr=lr,
        lr_end=settings.pop("lr_end", lr / 10),
        logger=LoggingConfig(log_to_wandb=False),
        **settings,
    )
    return SAETrainer(cfg=config, sae=sae, data_provider=batches)


def sparsify(data: Sequence[Tensor], d_sae: int, k: int, autocast: bool = False) -> Contender:
    sae = sparsify_coder(data[0].shape[1], d_sae, k, data[0].device.type)
    optimizer = torch.optim.Adam(sae.parameters(), lr=SMALL_RATE, fused=True)

    def step(i: int) -> Any:
        return sparsify_step(sae, optimizer, data[i % len(data)], autocast)

    return Contender(step, lambda output: _l0(output.latent_acts))


def sparsify_coder(d_in: int, d_sae: int, k: int, device: str = "cpu") -> Any:
    """Return an untrained SparseCoder."""
    if device == "cpu":
        os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # it would use Triton wherever that is installed
    from sparsify import SparseCoderConfig
    from sparsify.sparse_coder import SparseCoder

    return SparseCoder(d_in, SparseCoderConfig(num_latents=d_sae, k=k), device=device)


def sparsify_optimizer(sae: Any, lr: float) -> Any:
    """Return the default optimizer of its Trainer, whose evaluation mode puts the averaged weights in place."""
    from schedulefree import ScheduleFreeWrapper
    from sparsify.sign_sgd import SignSGD

    optimizer = ScheduleFreeWrapper(SignSGD(sae.parameters(), lr=lr), momentum=SIGNUM_MOMENTUM)
    optimizer.train()
    return optimizer


def sparsify_step(sae: Any, optimizer: Any, rows: Tensor, autocast: bool = False) -> Any:
    """Return a step as its Trainer takes it, on rows that are there."""
    with torch.autocast(rows.device.type, torch.bfloat16, enabled=autocast):
        output = sae(rows)
    output.fvu.backward()
    if sae.cfg.normalize_decoder:
        sae.remove_gradient_parallel_to_decoder_directions()
    optimizer.step()
    optimizer.zero_grad()
    if sae.cfg.normalize_decoder:
        sae.set_decoder_norm_to_unit_norm()
    return output


def dictionary_learning(kind: str, data: Sequence[Tensor], d_sae: int, k: int) -> Contender:
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
    from dictionary_learning.trainers.top_k import TopKTrainer

    trainer = {"TopK": TopKTrainer, "BatchTopK": BatchTopKTrainer}[kind](
        steps=10**6,
        activation_dim=data[0].shape[1],
        dict_size=d_sae,
        k=k,
        layer=0,
        lm_name="none",
        device=data[0].device.type,
        lr=SMALL_RATE,
        warmup_steps=0,
        decay_start=None,
        seed=0,
    )
    return Contender(lambda i: trainer.update(i, data[i % len(data)]), lambda loss: float(k))


def versions() -> dict[str, str]:
    installed = {"python": platform.python_version(), "torch": torch.__version__}
    for name in ("numba", "sae-lens", "eai-sparsify", "dictionary-learning"):
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            installed[name] = "not installed"
    return installed


def sparse_start(x: Float[Tensor, "row d_in"], W_enc: Float[Tensor, "d_in d_sae"], k: int) -> float:
    """Return the pre-activation that k latents of a row exceed on the mean, before any bias."""
    pre = (x[:SAMPLE_ROWS] @ W_enc).flatten()
    return float(pre.topk(k * min(SAMPLE_ROWS, len(x)), sorted=False).values.min())


def _l0(acts: Float[Tensor, "row latent"]) -> float:
    return float((acts.detach() != 0).sum() / len(acts))
