"""Does the memory of a process fall as 1 / n if n processes divide the latents of a dictionary?

    python -m analyses.bench.shards [--shards 1 2 4] [--d-sae 65536] [--d-in 256] [--out runs/bench_shards]

Claim tested: the weights and Adam's moments of a process take 1 / n of those of a single process. So does, to within a
tenth of the whole, the growth of its resident memory while it trains, saves checkpoints and saves the dictionary. The
dictionary equals that of one process to 1e-5. Each n trains TopK on random rows under `torchrun`, with one thread per
process. Memory that was resident before the weights were drawn (libraries, compiled loops) is subtracted. Writes
results.json: megabytes of the largest process by n, and the largest relative difference of a tensor from that of the
first n.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import load_file

from analyses.bench.peers import versions
from interp import ActivationStore, TopKConfig
from interp.runtime.memory import limit_arenas, peak_memory, release_freed, reset_peak
from interp.runtime.processes import processes
from interp.sae import train_sharded, training
from interp.sae.learner import Learner
from interp.storage.files import write_json

HOOK = "activations"


def main() -> None:
    o = parse()
    if o.worker:
        work(o)
        return
    shutil.rmtree(o.out, ignore_errors=True)
    rows = torch.randn(8 * o.batch_size, o.d_in, generator=torch.Generator().manual_seed(o.seed))
    ActivationStore.from_batches(rows, o.out / "store", dtype="float32")
    table = {str(n): measure(n, o) for n in o.shards}
    settings = {name: value for name, value in vars(o).items() if name not in ("out", "worker")}
    write_json(o.out / "results.json", {"megabytes": table, "settings": settings, "versions": versions()})


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--d-sae", type=int, default=65_536)
    parser.add_argument("--d-in", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/bench_shards"))
    parser.add_argument("--worker", action="store_true", help="train, in one of the processes")
    return parser.parse_args()


def measure(n: int, o: argparse.Namespace) -> dict[str, float]:
    """Train in n processes. Returns the largest value of each number among them."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)]
    options = [f"--{name}={getattr(o, name.replace('-', '_'))}" for name in ("d-sae", "d-in", "batch-size", "steps")]
    command = [*torchrun, "-m", "analyses.bench.shards", "--worker", *options, f"--seed={o.seed}", f"--out={o.out}"]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)
    parts = [json.loads((o.out / f"{n}-{rank}.json").read_text()) for rank in range(n)]
    row = {name: max(part[name] for part in parts) for name in parts[0]}
    first, this = (load_file(o.out / str(count) / "sae_weights.safetensors") for count in (o.shards[0], n))
    row["difference"] = max(float((this[name] - first[name]).norm() / first[name].norm()) for name in first)
    print(n, row)
    return row


def work(o: argparse.Namespace) -> None:
    world, results = processes(), dict[str, Any]()
    train(o, o.out / f"warm-up of {world.count}", d_sae=512)
    update = Learner.update

    def weighed(self: Learner, *arguments: Any) -> None:
        update(self, *arguments)
        results["state"] = sum(tensor.nbytes for tensor in self.state()[0].values())

    Learner.update = weighed  # type: ignore[method-assign]
    limit_arenas()
    release_freed()
    reset_peak()
    before = psutil.Process().memory_info().rss
    train(o, o.out / str(world.count), d_sae=o.d_sae)
    megabytes = {"weights and moments": results["state"] / 1e6, "peak": (peak_memory() - before) / 1e6}
    write_json(o.out / f"{world.count}-{world.rank}.json", megabytes)


def train(o: argparse.Namespace, out: Path, d_sae: int) -> None:
    tokens = o.steps * o.batch_size
    config = TopKConfig(d_sae=d_sae, k=16, tokens=tokens, batch_size=o.batch_size, lr=2e-4, device="cpu", seed=o.seed)
    training.CHECKPOINT_SECONDS = 0.0
    train_sharded(ActivationStore.open(o.out / "store"), HOOK, config, out)


if __name__ == "__main__":
    main()
