"""Measure the details of `bench_sae`: the parts of a step, the reader, and what picking latents in bfloat16 changes.

Each function takes sizes, prints its findings and returns them; `analyses.bench.sae` has the flags.
"""

import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from analyses.bench.step_contenders import Size, learner_of
from interp.activations import ActivationStore
from interp.sae import BatchTopKConfig, JumpReLUConfig, SAEConfig, TopK, TopKConfig, train_sae
from interp.sae.encode_rows import Workspace, encode
from interp.sae.hook_scales import HookScales
from interp.sae.kernels.dispatch import kernels
from interp.sae.kernels.torch_kernels import AdamStep
from interp.sae.learner import Learner

HELD_OUT_ROWS = 20_000
PLANTED = {"d_in": 64, "features": 512, "l0": 8.0}
PLANTED_SEED = 10**6
"""The seed of planted directions. A learner draws its directions in the same way, so its seed must differ."""


def parts(data: Sequence[Tensor], d_sae: int, k: int) -> dict[str, Callable[[], object]]:
    """Time each operation of a step of our TopK, and the whole step."""
    config = TopKConfig(d_sae=d_sae, k=k, k_start=k, tokens=10**9, batch_size=len(data[0]), device="cpu")
    learner, x = learner_of(config, data), data[0]
    names = ("encoder_rows", "b_enc", "W_dec", "b_dec")
    encoder_rows, b_enc, W_dec, b_dec = (learner.weights[name] for name in names)
    ops, codes = kernels(x), learner.loss_and_gradients(x).forward.support.codes
    transposed, dots = ops.transpose(codes), ops.decode_backward(codes, W_dec, b_dec, x)
    gradient, mean, square = (torch.zeros_like(W_dec) for _ in range(3))
    low = learner.low_precision
    matrix, rows = (encoder_rows.bfloat16(), x.bfloat16()) if low else (encoder_rows, x)
    pre, workspace, adam = rows @ matrix.T, Workspace(), AdamStep(1e-6, 1)
    unit = adam._replace(unit_norm=True)
    return {
        f"the encoder's matmul alone, {matrix.dtype}": lambda: torch.mm(rows, matrix.T, out=pre),
        "encode: matmul, pick, exact values": lambda: encode(
            x, encoder_rows, b_enc, TopK(k), low_precision=low, workspace=workspace
        ),
        "decode, error, slopes of the values": lambda: ops.decode_backward(codes, W_dec, b_dec, x),
        "codes by latent": lambda: ops.transpose(codes),
        "one weight gradient": lambda: ops.sum_by_latent(transposed, codes.values, dots.error, gradient),
        "Adam on one matrix": lambda: ops.adam_(encoder_rows, gradient, mean, square, adam),
        "Adam on one matrix, rows of norm one": lambda: ops.adam_(W_dec, gradient, mean, square, unit),
        "the step": lambda: learner.step(x),
    }


def reader(size: Size, rounds: int, steps: int) -> dict[str, float]:
    """Return the tokens per second of `train_sae` from a store on disk (with reading, checks, log and checkpoints), and
    of steps on batches in memory. They take turns, `rounds` times each, after a step that is not counted.
    """
    config = TopKConfig(
        d_sae=size.d_sae, k=size.k, k_start=size.k, tokens=steps * size.batch, batch_size=size.batch, device="cpu"
    )
    generator = torch.Generator().manual_seed(0)
    trained, alone = [], []
    with tempfile.TemporaryDirectory() as scratch:
        batches = (torch.randn(size.batch, size.d_in, generator=generator) for _ in range(steps))
        store = ActivationStore.from_batches(batches, Path(scratch) / "store")
        ready = list(itertools.islice(store.batches("activations", size.batch), 4))
        for i in range(rounds):
            out = Path(scratch) / f"sae{i}"
            train_sae(store, "activations", config, out)
            log = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()][1:]
            counts = [b["tokens"] - a["tokens"] for a, b in itertools.pairwise(log)]
            seconds = sum(n / row["tokens_per_second"] for n, row in zip(counts, log[1:], strict=True))
            trained.append(sum(counts) / seconds)
            learner = Learner(config, HookScales(inputs=(store.statistics("activations"),)), torch.device("cpu"))
            learner.step(ready[0])
            start = time.perf_counter()
            for j in range(steps - 1):
                learner.step(ready[j % len(ready)])
            alone.append((steps - 1) * size.batch / (time.perf_counter() - start))
    speeds = {
        "from_a_store": statistics.median(trained),
        "step_alone": statistics.median(alone),
        "ratio": statistics.median(a / b for a, b in zip(trained, alone, strict=True)),
    }
    print(f"\nreader, d_in={size.d_in} d_sae={size.d_sae}, medians of {rounds} runs of {steps} steps")
    print(f"  train_sae from a store {speeds['from_a_store']:10,.0f} tokens/s")
    print(f"  the step alone         {speeds['step_alone']:10,.0f} tokens/s    ratio {speeds['ratio']:.3f}")
    return speeds


def precision(size: Size, tokens: int) -> dict[str, dict[str, float]]:
    """Compare picks from bfloat16 with picks from fp32: the share that differs, and held-out FVU of training with
    each."""
    data = [torch.randn(size.batch, size.d_in, generator=torch.Generator().manual_seed(1))]
    errors: dict[str, dict[str, float]] = {}
    print("\nbfloat16 picks compared with fp32")
    for kind, sparsity in ((TopKConfig, "k"), (BatchTopKConfig, "k"), (JumpReLUConfig, "target_l0")):
        name = kind.__name__.removesuffix("Config")
        wide: dict[str, Any] = {"d_sae": size.d_sae, sparsity: size.k, "tokens": 10**9, "device": "cpu"}
        untrained = learner_of(kind(**wide | ({"k_start": size.k} if sparsity == "k" else {})), data)
        small: dict[str, Any] = {"d_sae": 512, sparsity: 8, "tokens": tokens, "device": "cpu"}
        config = kind(**small, batch_size=1024, lr=2e-3)
        fvu, learners = {}, {}
        for low in (True, False):
            learners[low], fvu[low] = trained_on_planted(config, low)
        differing = differing_picks(learners[True], next(planted_batches(1024, seed=2)))
        errors[name] = {
            "differing_share_untrained": differing_picks(untrained, data[0]),
            "differing_share_trained": differing,
            "fvu_bfloat16": fvu[True],
            "fvu_float32": fvu[False],
            "fvu_ratio": fvu[True] / fvu[False],
            "fvu_float32_other_seed": trained_on_planted(replace(config, seed=1), False)[1],
        }
        print(f"  {name:12}" + "  ".join(f"{key} {value:.6f}" for key, value in errors[name].items()))
    return errors


def differing_picks(learner: Learner, rows: Float[Tensor, "row d_in"]) -> float:
    """Return the share of the picks at full precision that bfloat16 misses."""
    x, _ = learner.scale_rows(rows)
    picks = {}
    for low in (True, False):
        learner.low_precision = low
        codes = learner.loss_and_gradients(x).forward.support.codes
        picks[low] = set((codes.rows * codes.d_sae + codes.latents).tolist())
    return len(picks[False] - picks[True]) / len(picks[False])


def trained_on_planted(config: SAEConfig, low: bool) -> tuple[Learner, float]:
    """Return the learner, and the FVU of its dictionary on unseen rows."""
    batches = planted_batches(config.batch_size, seed=0)
    learner = learner_of(config, list(itertools.islice(batches, 4)))
    learner.low_precision = low
    for _ in range(config.steps):
        learner.step(next(batches))
    x = next(planted_batches(HELD_OUT_ROWS, seed=3))
    sae = learner.sae({})
    error = sae.decode(sae.codes(x)) - x
    return learner, float(error.square().sum() / (x - x.mean(0)).square().sum())


def planted_batches(rows: int, seed: int) -> Iterator[Float[Tensor, "row d_in"]]:
    """Yield rows that are sums of a few of many directions, whose firing rates fall as 1 / rank."""
    d_in, features = int(PLANTED["d_in"]), int(PLANTED["features"])
    directions = torch.randn(features, d_in, generator=torch.Generator().manual_seed(PLANTED_SEED))
    directions /= directions.norm(dim=1, keepdim=True)
    rates = 1 / torch.arange(1, features + 1)
    rates = (rates * PLANTED["l0"] / rates.sum()).clamp(max=0.5)
    generator = torch.Generator().manual_seed(100 + seed)
    while True:
        fires = torch.rand(rows, features, generator=generator) < rates
        sizes = 1 + 0.3 * torch.randn(rows, features, generator=generator).abs()
        yield (fires * sizes) @ directions + 0.01 * torch.randn(rows, d_in, generator=generator)
