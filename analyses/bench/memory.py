"""Does the memory that a stage takes grow with the text?

    python -m analyses.bench.memory [--tokens 1 2 4 8 16] [--out runs/bench_memory]

Claim tested: from 1 to 16 million tokens the peak memory of a harvest, a training, a scan, a ranking and a report grows
by at most 15 %. Each stage runs in its own process, and its peak resident memory is read at the end. Memory-mapped
files and the tokens themselves count. The model is tiny and the text synthetic: tokens follow Zipf's law, and each is
often followed by its neighbour. Writes results.json: megabytes and seconds by stage and millions of tokens.
"""

import argparse
import json
import platform
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from interp.storage.files import write_json, write_tensors

N_CTX, VOCAB, D_MODEL, D_SAE, K = 128, 4096, 32, 256, 8
HOOK = "resid"


def main() -> None:
    args = parse_arguments()
    if args.stage:
        run_stage(args.stage, args.out)
        return
    table: dict[str, dict[str, float]] = {stage: {} for stage in STAGES}
    seconds: dict[str, dict[str, float]] = {stage: {} for stage in STAGES}
    for millions in args.tokens:
        folder = args.out / f"{millions}m"
        shutil.rmtree(folder, ignore_errors=True)
        write_text(folder, millions * 1_000_000 // N_CTX, args.seed)
        for stage in STAGES:
            command = [sys.executable, "-m", "analyses.bench.memory", "--stage", stage, "--out", str(folder)]
            peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            table[stage][str(millions)], seconds[stage][str(millions)] = peak["megabytes"], peak["seconds"]
            print(f"{millions:4d} million tokens  {stage:8} {peak['megabytes']:7.0f} MB {peak['seconds']:6.1f} s")
        if not args.keep:
            shutil.rmtree(folder)
    growth = {stage: max(row.values()) / row[str(args.tokens[0])] - 1 for stage, row in table.items()}
    results = {
        "megabytes": table,
        "seconds": seconds,
        "growth": {stage: round(value, 3) for stage, value in growth.items()},
        "sizes": {"n_ctx": N_CTX, "vocab": VOCAB, "d_model": D_MODEL, "d_sae": D_SAE, "k": K},
        "threads": torch.get_num_threads(),
        "seed": args.seed,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }
    write_json(args.out / "results.json", results)
    print("growth: " + ", ".join(f"{stage} {value:+.0%}" for stage, value in growth.items()))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="millions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="leave the stores where they are")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_memory"))
    parser.add_argument("--stage", choices=STAGES, help="run this stage alone, on what is in --out")
    return parser.parse_args()


def write_text(folder: Path, n_seq: int, seed: int) -> None:
    """Write a text in which half of the tokens are drawn by Zipf's law, and each other token follows from the previous
    one."""
    generator, weights = np.random.default_rng(seed), 1 / np.arange(1, VOCAB + 1)
    tokens = generator.choice(VOCAB, (n_seq, N_CTX), p=weights / weights.sum()).astype(np.int32)
    for position in range(1, N_CTX):
        follows = generator.random(n_seq) < 0.5
        tokens[follows, position] = (tokens[follows, position - 1] + 1) % VOCAB
    folder.mkdir(parents=True)
    write_tensors(folder / "text.safetensors", {"tokens": torch.from_numpy(tokens)})


class TinyModel(nn.Module):
    """Each position sees its token and the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.before = nn.Embedding(VOCAB, D_MODEL), nn.Embedding(VOCAB, D_MODEL)
        self.resid = nn.Identity()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.resid(self.own(tokens) + self.before(tokens.roll(1, 1)))


def run_stage(stage: str, folder: Path) -> None:
    start = time.perf_counter()
    STAGES[stage](folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps({"megabytes": round(peak, 1), "seconds": round(time.perf_counter() - start, 1)}))


def harvest_stage(folder: Path) -> None:
    from interp import harvest

    torch.manual_seed(0)
    model = TinyModel()
    harvest((model, {HOOK: model.resid}), load_file(folder / "text.safetensors")["tokens"], [HOOK], folder / "store")


def train_stage(folder: Path) -> None:
    from interp import ActivationStore, TopKConfig, train_sae

    config = TopKConfig(d_sae=D_SAE, k=K, tokens=500_000, batch_size=4096)
    train_sae(ActivationStore.open(folder / "store"), HOOK, config, out=folder / "sae")


def scan_stage(folder: Path) -> None:
    from interp import ActivationStore, load_sae, scan_features

    store = ActivationStore.open(folder / "store")
    scan_features(load_sae(folder / "sae"), store, HOOK, folder / "features", vocab=vocabulary())


def rank_stage(folder: Path) -> None:
    from interp import FeatureStore, rank_features
    from interp.storage.files import write_parquet

    write_parquet(folder / "ranking.parquet", rank_features(FeatureStore.open(folder)))


def report_stage(folder: Path) -> None:
    import pandas as pd

    from interp import FeatureStore, write_report

    ranking = pd.read_parquet(folder / "ranking.parquet")
    write_report(FeatureStore.open(folder), folder / "report", ranking=ranking)


def vocabulary() -> list[str]:
    return [f" word{token}" for token in range(VOCAB)]


STAGES = {
    "harvest": harvest_stage,
    "train": train_stage,
    "scan": scan_stage,
    "rank": rank_stage,
    "report": report_stage,
}

if __name__ == "__main__":
    main()
