"""How fast is a feature scan, and how much memory does it take?

    python -m analyses.bench.scan [--tokens 1000000] [--d-sae 4096] [--k 32] [--labels 40] [--out runs/bench_scan]

Claim tested: given the codes, all statistics of all latents are computed at 100,000 tokens a second or more on two CPU
cores (SAEDashboard 0.8.0 on a similar machine: 256 of 4096 features of 524k tokens in 82 s, 4.4 GB at the peak). The
codes are synthetic. Tokens follow Zipf's law; half of the latents follow the token and half are drawn at random, so
there are many pairs to count. Each label covers 5 % of the tokens. Writes results.json.
"""

import argparse
import json
import platform
import resource
import shutil
import time
from pathlib import Path

import numpy as np
import torch

from interp.codes.sparse_codes import SparseCodes
from interp.features.feature_store import FeatureStore
from interp.storage.files import write_json

N_CTX, VOCAB, D_MODEL = 128, 4096, 128


def main() -> None:
    args = parse_arguments()
    generator = np.random.default_rng(args.seed)
    tokens = synthetic_tokens(args.tokens // N_CTX, generator)
    codes = synthetic_codes(tokens, args.k, args.d_sae, generator)
    labels = {f"label {i}": torch.from_numpy(generator.random(tokens.shape) < 0.05) for i in range(args.labels)}
    W_dec, W_U = torch.randn(args.d_sae, D_MODEL), torch.randn(D_MODEL, VOCAB)
    scan(tokens[:16], codes[: 16 * N_CTX], args.out / "warm-up", W_dec, W_U, {n: m[:16] for n, m in labels.items()})
    before, cpu = peak_gb(), time.process_time()
    seconds, stages = scan(tokens, codes, args.out / "features", W_dec, W_U, labels)
    results = {
        "tokens": tokens.numel(),
        "d_sae": args.d_sae,
        "k": args.k,
        "labels": args.labels,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "tokens_per_second": round(tokens.numel() / seconds),
        "features_per_second": round(args.d_sae / seconds),
        "seconds_by_stage": stages,
        "peak_gb_with_inputs": round(peak_gb(), 2),
        "peak_gb_before_the_scan": round(before, 2),
        "megabytes_of_tables": round(sum(f.stat().st_size for f in (args.out / "features").glob("*.parquet")) / 1e6, 1),
        "threads": torch.get_num_threads(),
        "seed": args.seed,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }
    write_json(args.out / "results.json", results)
    print(json.dumps(results, indent=2))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--d-sae", type=int, default=4096)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--labels", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/bench_scan"))
    return parser.parse_args()


def synthetic_tokens(n_seq: int, generator: np.random.Generator) -> torch.Tensor:
    weights = 1 / np.arange(1, VOCAB + 1)
    return torch.from_numpy(generator.choice(VOCAB, (n_seq, N_CTX), p=weights / weights.sum()).astype(np.int32))


def synthetic_codes(tokens: torch.Tensor, k: int, d_sae: int, generator: np.random.Generator) -> SparseCodes:
    """Return codes with k different latents on each row. Half of them are functions of its token, and half are
    random."""
    latents_of_token = generator.integers(0, d_sae // k, (VOCAB, k // 2))[tokens.flatten().numpy()]
    random = generator.integers(0, d_sae // k, (tokens.numel(), k - k // 2))
    latents = np.concatenate([latents_of_token, random], 1) * k + np.arange(k)
    values = generator.lognormal(0, 0.5, latents.shape).astype(np.float32)
    return SparseCodes.from_topk(torch.from_numpy(latents), torch.from_numpy(values), d_sae)


def scan(tokens, codes, out: Path, W_dec, W_U, labels) -> tuple[float, dict[str, float]]:
    """Return the seconds of the whole scan, and until the last progress report of each stage."""
    shutil.rmtree(out, ignore_errors=True)
    start = time.perf_counter()
    ends: dict[str, float] = {}
    FeatureStore.from_codes(
        tokens,
        codes,
        out,
        W_dec=W_dec,
        W_U=W_U,
        labels=labels,
        progress=lambda done, total, note: ends.update({note: round(time.perf_counter() - start, 2)}),
    )
    return time.perf_counter() - start, ends


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
