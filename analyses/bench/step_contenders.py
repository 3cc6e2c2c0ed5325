"""Build the contenders of `bench_sae`: the training step of each of our dictionaries, those of the peers, and the
floor.

    entrants(data, size, with_peers)   {name: how to build it};   built(entries)   those whose libraries are installed

Our architectures without a fixed k start at biases or thresholds at which k latents fire on average, as those of the
peers do.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from analyses.bench.peers import SMALL_RATE, Contender, contenders, sparse_start
from interp.activations import ActivationStatistics
from interp.sae import (
    BatchTopKConfig,
    GatedConfig,
    JumpReLUConfig,
    MatryoshkaConfig,
    PickConfig,
    ReLUConfig,
    SAEConfig,
    TopKConfig,
)
from interp.sae.encode_rows import has_fast_bfloat16
from interp.sae.hook_scales import HookScales
from interp.sae.learner import Learner

Build = Callable[[], Contender]


class Size(NamedTuple):
    d_in: int
    d_sae: int
    k: int
    batch: int = 2048


SIZES = {
    "medium": Size(512, 8192, 32),
    "large": Size(768, 24576, 32),
    "small": Size(128, 1024, 8),
    "wide": Size(2304, 65536, 64, 8192),
}
QUICK = Size(32, 256, 8, 128)


def entrants(data: Sequence[torch.Tensor], size: Size, with_peers: bool) -> dict[str, Build]:
    shared: dict[str, Any] = {
        "d_sae": size.d_sae,
        "tokens": 10**9,
        "batch_size": size.batch,
        "device": data[0].device.type,
        "lr": SMALL_RATE,
    }
    configs: list[SAEConfig] = [
        kind(**shared, k=size.k, k_start=size.k) for kind in (TopKConfig, BatchTopKConfig, MatryoshkaConfig)
    ]
    configs += [kind(**shared) for kind in (JumpReLUConfig, ReLUConfig, GatedConfig)]
    entries: dict[str, Build] = {
        "floor": lambda: floor(data, size.d_sae, keep_output=False),
        "floor, into memory that is there": lambda: floor(data, size.d_sae, keep_output=True),
    }
    for config in configs:
        name = type(config).__name__.removesuffix("Config")
        entries[f"interp {name}"] = lambda config=config: ours(config, data, size.k)
    return entries | (contenders(data, size.d_sae, size.k) if with_peers else {})


def ours(config: SAEConfig, data: Sequence[torch.Tensor], k: int) -> Contender:
    learner = learner_of(config, data)
    centred = learner.scale_rows(data[0])[0] - learner.weights["b_dec"]
    bound = sparse_start(centred, learner.weights["encoder_rows"].T, k)
    if isinstance(config, JumpReLUConfig):
        learner.weights["threshold"].fill_(bound)
    elif not isinstance(config, PickConfig):
        learner.weights["b_enc"].fill_(-bound)
    return Contender(lambda i: learner.step(data[i % len(data)]), lambda result: result.l0)


def floor(data: Sequence[torch.Tensor], d_sae: int, keep_output: bool) -> Contender:
    shape, device = (d_sae, data[0].shape[1]), data[0].device
    weights = [torch.nn.Parameter(torch.randn(shape, device=device)) for _ in range(2)]
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    optimizer = torch.optim.Adam(weights, fused=True)
    dtype = torch.bfloat16 if has_fast_bfloat16(data[0]) else torch.float32
    rounded = [x.to(dtype) for x in data]
    out = rounded[0].new_empty(len(rounded[0]), d_sae) if keep_output else None

    @torch.no_grad()
    def step(i: int) -> None:
        torch.mm(rounded[i % len(data)], weights[0].to(dtype).T, out=out)
        optimizer.step()

    return Contender(step, lambda nothing: None)


def built(entries: Mapping[str, Build]) -> dict[str, Contender]:
    ready = {}
    for name, build in entries.items():
        try:
            ready[name] = build()
        except ImportError as error:
            print(f"{name}: not installed ({error}), left out")
    return ready


def statistics_of(data: Sequence[torch.Tensor]) -> ActivationStatistics:
    rows = torch.cat(list(data))
    return ActivationStatistics(
        mean=rows.mean(0),
        mean_norm=rows.norm(dim=1).mean().item(),
        variance=rows.var(0, correction=0).sum().item(),
        second_moment=None,
        geometric_median=rows.median(0).values,
        n_rows=len(rows),
        second_moment_rows=0,
        geometric_median_rows=len(rows),
    )


def learner_of(config: SAEConfig, data: Sequence[torch.Tensor]) -> Learner:
    return Learner(config, HookScales(inputs=(statistics_of(data),)), data[0].device)


def random_rows(size: Size, device: str) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(size.batch, size.d_in, generator=generator).to(device) for _ in range(4)]
