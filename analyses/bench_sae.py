"""How long does a training step of a dictionary take, beside the peers and beside what no step can go below?

    python analyses/bench_sae.py                    d_in 512, d_sae 8192, k 32, batch 2048 on two threads
    python analyses/bench_sae.py --quick            a tiny size, for the tests

Claim: a step is at least 5 times faster than SAELens's TopK in fp32. Every contender takes one step a round, in turn,
on the same random activations; the medians over the rounds are printed, with the parts of our step and the floor (the
encoder's matmul plus a fused Adam step over both weight matrices). SAELens is timed where it is installed.
"""

import argparse
import itertools
import json
import logging
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from interp.activations import ActivationStatistics
from interp.sae import BatchTopKConfig, TopKConfig
from interp.sae.kernels import AdamStep, kernels
from interp.sae.learner import Learner
from interp.sae.selection import encode, has_fast_bfloat16

Step = Callable[[int], object]


def main(arguments: list[str] | None = None) -> dict[str, float]:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(0)
    data = [torch.randn(options.batch, options.d_in, generator=generator) for _ in range(4)]
    size = {"d_sae": options.d_sae, "k": options.k}
    steps = {
        "floor: encoder matmul + fused Adam": floor(data, options.d_sae),
        "interp TopK": ours(TopKConfig(**size, tokens=10**9, batch_size=options.batch, device="cpu"), data),
        "interp BatchTopK": ours(BatchTopKConfig(**size, tokens=10**9, batch_size=options.batch, device="cpu"), data),
    }
    if not options.no_peers:
        steps |= saelens(data, size)
    contenders = interleaved(steps, options.rounds)
    pieces = interleaved(parts(data, size), options.rounds)
    show(contenders, pieces, options)
    if options.out:
        write(options.out, contenders, pieces, vars(options))
    return contenders


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"d-in": 512, "d-sae": 8192, "k": 32, "batch": 2048, "rounds": 7, "threads": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--quick", action="store_true", help="d_in 32, d_sae 256, k 8, batch 128, 2 rounds")
    parser.add_argument("--out", type=Path, help="folder for results.json")
    options = parser.parse_args(arguments)
    if options.quick:
        options.d_in, options.d_sae, options.k, options.batch, options.rounds = 32, 256, 8, 128, 2
    return options


def ours(config: TopKConfig | BatchTopKConfig, data: list[torch.Tensor]) -> Step:
    learner = Learner(config, statistics_of(data), torch.device("cpu"))
    return lambda i: learner.step(data[i % len(data)])


def floor(data: list[torch.Tensor], d_sae: int) -> Step:
    """In bfloat16 where the processor has units for it, as our step does it."""
    weights = [torch.nn.Parameter(torch.randn(d_sae, data[0].shape[1])) for _ in range(2)]
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    optimizer = torch.optim.Adam(weights, fused=True)
    dtype = torch.bfloat16 if has_fast_bfloat16(data[0]) else torch.float32

    def step(i: int) -> None:
        with torch.no_grad():
            data[i % len(data)].to(dtype) @ weights[0].to(dtype).T
        optimizer.step()

    return step


def saelens(data: list[torch.Tensor], size: Mapping[str, int]) -> dict[str, Step]:
    try:
        import sae_lens
        from sae_lens.config import LoggingConfig, SAETrainerConfig
        from sae_lens.training.sae_trainer import SAETrainer
    except ImportError:
        return {}
    batch, d_in = data[0].shape

    def trainer(kind: str) -> Step:
        config = getattr(sae_lens, f"{kind}TrainingSAEConfig")(d_in=d_in, device="cpu", **size)
        settings = SAETrainerConfig(
            total_training_samples=10**9,
            train_batch_size_samples=batch,
            device="cpu",
            autocast=False,
            lr=3e-4,
            lr_end=3e-5,
            lr_scheduler_name="constant",
            lr_warm_up_steps=0,
            lr_decay_steps=0,
            adam_beta1=0.9,
            adam_beta2=0.999,
            n_checkpoints=0,
            checkpoint_path=None,
            save_final_checkpoint=False,
            dead_feature_window=1000,
            feature_sampling_window=2000,
            n_batches_for_norm_estimate=1,
            n_restart_cycles=1,
            logger=LoggingConfig(log_to_wandb=False),
        )
        sae = getattr(sae_lens, f"{kind}TrainingSAE")(config)
        peer = SAETrainer(cfg=settings, sae=sae, data_provider=itertools.cycle(data))
        return lambda i: peer.step(data[i % len(data)])

    return {f"SAELens {kind} fp32": trainer(kind) for kind in ("TopK", "BatchTopK")}


def parts(data: list[torch.Tensor], size: Mapping[str, int]) -> dict[str, Step]:
    """The operations of a step, each alone."""
    learner = Learner(TopKConfig(**size, tokens=1, device="cpu"), statistics_of(data), torch.device("cpu"))
    x, n = data[0], len(data[0])
    encoder, W_dec, b_enc, b_dec = learner.encoder, learner.W_dec, learner.b_enc, learner.b_dec
    ops, pre = kernels(x), torch.addmm(b_enc, x, encoder.T)
    codes = ops.top_k(pre, size["k"])
    error, _ = ops.decode_backward(codes, W_dec, b_dec, x)
    by_latent, gradient = ops.transpose(codes), torch.empty_like(W_dec)
    mean, square = torch.zeros_like(W_dec), torch.zeros_like(W_dec)
    adam = AdamStep(1e-4, 1)
    return {
        "encoder matmul": lambda i: torch.addmm(b_enc, x, encoder.T, out=pre),
        "pick: top k of each row": lambda i: ops.top_k(pre, size["k"]),
        "pick: top k·B of the batch": lambda i: ops.batch_top_k(pre, size["k"] * n),
        "matmul and pick, piece by piece": lambda i: encode(x, encoder, b_enc, learner.rule.pick),
        "decode, error, value gradients": lambda i: ops.decode_backward(codes, W_dec, b_dec, x),
        "transpose of the codes": lambda i: ops.transpose(codes),
        "one weight gradient": lambda i: ops.sum_by_latent(by_latent, codes.values, error, gradient),
        "Adam on one matrix, unit norm": lambda i: ops.adam_(W_dec, gradient, mean, square, adam, unit_norm=True),
    }


def statistics_of(data: list[torch.Tensor]) -> ActivationStatistics:
    rows = torch.cat(data)
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


def interleaved(steps: Mapping[str, Step], rounds: int) -> dict[str, float]:
    """Median milliseconds of each, after one step that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step(i)
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times[1:]) * 1e3 for name, times in taken.items()}


def show(contenders: Mapping[str, float], pieces: Mapping[str, float], options: argparse.Namespace) -> None:
    o = options
    print(f"d_in={o.d_in} d_sae={o.d_sae} k={o.k} batch={o.batch} threads={o.threads} rounds={o.rounds}")
    reference = contenders.get("SAELens TopK fp32")
    for name, ms in contenders.items():
        times = f"{reference / ms:6.1f} × SAELens TopK" if reference else ""
        print(f"{name:38s} {ms:9.1f} ms {o.batch / ms * 1e3:10.0f} tokens/s {times}")
    print("parts of a step of ours")
    for name, ms in pieces.items():
        print(f"  {name:36s} {ms:9.1f} ms")


def write(
    out: Path, contenders: Mapping[str, float], pieces: Mapping[str, float], settings: Mapping[str, object]
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    results = {
        "milliseconds": dict(contenders),
        "parts": dict(pieces),
        "settings": {name: value for name, value in settings.items() if name != "out"},
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    (out / "results.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main()
