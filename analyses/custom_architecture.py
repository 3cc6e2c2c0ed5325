"""Can you write a dictionary that this project does not have in your own script, and train it like the others?

    python -m analyses.custom_architecture --out runs/custom_architecture
    python -m analyses.custom_architecture --quick          a tiny size, for the tests

`GroupLassoConfig` below is all that it takes. Latents come in groups. A penalty on the norm of each group's activations
makes the latents of a group fire together (group lasso: Yuan & Lin 2006; as an autoencoder: Theodosis et al. 2021,
arXiv 2102.07003). Claims tested: a step takes at most 1.3 times as long as TopK's at equal L0. Its sparse gradients
equal those of dense float64 autograd. After SIGKILL, training resumes to the same bytes. A sweep trains it together
with a built-in architecture, and the result of each is the same as alone. SAELens reads the saved folder, and encodes
and decodes the same. `results.json` has the numbers.
"""

import argparse
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file
from torch import Tensor

from analyses.bench.step_contenders import Size, ours, random_rows
from analyses.gradient_check import check_gradients
from interp import ActivationStore, SAEConfig, TopKConfig, load_sae, train_sae, train_sweep
from interp.sae import ARCHITECTURES, ForwardPass, StepInputs, Threshold, training
from interp.storage.folders import unfinished_folder


@dataclass(frozen=True, kw_only=True)
class GroupLassoConfig(SAEConfig):
    """z = pre where pre > 0;   loss = ‖x_hat − x‖² + λ Σ_g √|g| ‖z_g‖₂ over groups g of neighbouring latents."""

    architecture: ClassVar[str] = "group_lasso"
    penalty: float = 0.4
    group: int = 4

    def pick(self, step: StepInputs) -> Threshold:
        return Threshold(torch.zeros_like(step.weights["b_enc"]))

    def loss(self, step: ForwardPass) -> Tensor:
        group_of_entry = step.support.rows * self.d_sae + step.support.latents // self.group
        groups, group_of_entry = group_of_entry.unique(return_inverse=True)
        squares = torch.zeros_like(groups, dtype=step.z.dtype).index_add(0, group_of_entry, step.z.square())
        return step.squared_error() + self.penalty * self.group**0.5 * squares.sqrt().sum()

    def trained_encoder(self, weights: dict[str, Tensor], state: dict[str, float]) -> Threshold:
        return Threshold(torch.zeros_like(weights["b_enc"]))


HOOK = "activations"


@dataclass(frozen=True)
class Sizes:
    timed: Size
    rounds: int
    rows: int
    d_in: int
    d_sae: int
    tokens: int


FULL_SIZES = Sizes(timed=Size(512, 8192, 32), rounds=15, rows=50_000, d_in=64, d_sae=512, tokens=200_000)
QUICK = Sizes(timed=Size(32, 256, 8, 128), rounds=3, rows=2_000, d_in=16, d_sae=64, tokens=20_000)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    o = parse(arguments)
    sizes = QUICK if o.quick else FULL_SIZES
    torch.set_num_threads(o.threads)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        store = ActivationStore.from_batches(plant_rows(sizes), folder / "store", dtype="float32")
        results = {
            "listed": ARCHITECTURES[GroupLassoConfig.architecture] is GroupLassoConfig,
            "gradient_differences": check_gradients(GroupLassoConfig(d_sae=64, tokens=6400, batch_size=64)),
            "step": step_times(sizes),
            "sweep": sweep(store, sizes, folder),
            "killed": killed(store, sizes, folder),
            "saelens": through_saelens(store, folder / "sweep" / "0"),
            "versions": {"python": sys.version.split()[0], "torch": torch.__version__},
        }
    print(json.dumps(results, indent=1))
    if o.out:
        o.out.mkdir(parents=True, exist_ok=True)
        (o.out / "results.json").write_text(json.dumps(results, indent=1))
    return results


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for results.json")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args(arguments)


def plant_rows(sizes: Sizes) -> Tensor:
    """Return rows that are sums of a few of many directions, with an offset."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(2 * sizes.d_in, sizes.d_in, generator=generator)
    fires = torch.rand(sizes.rows, len(directions), generator=generator) < 4 / len(directions)
    strengths = torch.rand(sizes.rows, len(directions), generator=generator) + 0.5
    return (fires * strengths) @ (directions / directions.norm(dim=1, keepdim=True)) + 1


def config_of(sizes: Sizes, **changes: Any) -> GroupLassoConfig:
    shared: dict[str, Any] = {"d_sae": sizes.d_sae, "tokens": sizes.tokens, "batch_size": 256, "device": "cpu"}
    return GroupLassoConfig(**(shared | changes))


def step_times(sizes: Sizes) -> dict[str, float]:
    """Return the milliseconds of a step of each architecture. They take turns, and the same number of latents fire in
    both."""
    size, data = sizes.timed, random_rows(sizes.timed, "cpu")
    shared: dict[str, Any] = {"d_sae": size.d_sae, "tokens": 10**9, "batch_size": size.batch, "lr": 1e-7}
    entries = {
        "topk": ours(TopKConfig(**shared, k=size.k, k_start=size.k, device="cpu"), data, size.k),
        "group_lasso": ours(GroupLassoConfig(**shared, device="cpu"), data, size.k),
    }
    seconds: dict[str, list[float]] = {name: [] for name in entries}
    l0: dict[str, float] = {}
    for i in range(sizes.rounds + 2):
        for name, entry in entries.items():
            start = time.perf_counter()
            l0[f"l0_{name}"] = entry.step(i).l0
            seconds[name].append(time.perf_counter() - start)
    ms = {f"ms_{name}": statistics.median(times[2:]) * 1e3 for name, times in seconds.items()}
    return {**ms, "ratio": ms["ms_group_lasso"] / ms["ms_topk"], **l0}


def sweep(store: ActivationStore, sizes: Sizes, folder: Path) -> list[dict[str, Any]]:
    """Train two strengths of the penalty and a TopK in one pass over the data, and the first of them also alone."""
    topk = TopKConfig(d_sae=sizes.d_sae, tokens=sizes.tokens, batch_size=256, k=4, device="cpu")
    configs = [config_of(sizes), config_of(sizes, penalty=0.8), topk]
    train_sweep(store, HOOK, configs, folder / "sweep")
    train_sae(store, HOOK, configs[0], folder / "alone")
    results = [json.loads((folder / "sweep" / str(i) / "results.json").read_text()) for i in range(len(configs))]
    rows = [{name: result[name] for name in ("fvu", "l0", "dead")} for result in results]
    for row, config in zip(rows, configs, strict=True):
        row |= {"architecture": config.architecture, "penalty": getattr(config, "penalty", None)}
    rows[0]["as_alone"] = same_bytes(folder / "sweep" / "0", folder / "alone")
    return rows


def killed(store: ActivationStore, sizes: Sizes, folder: Path) -> dict[str, Any]:
    """Train in a process that kills itself midway, and resume here. Returns whether the bytes are those of an
    uninterrupted run."""
    arguments = f"{str(store.path)!r}, {str(folder / 'cut')!r}, {'QUICK' if sizes == QUICK else 'FULL_SIZES'}"
    code = f"from analyses.custom_architecture import *; train_until_killed({arguments}, {torch.get_num_threads()})"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    if done.returncode != -signal.SIGKILL:
        raise RuntimeError(f"the process was to be killed, but ended with {done.returncode}: {done.stderr}")
    log = (unfinished_folder(folder / "cut") / "new" / "metrics.jsonl").read_text().splitlines()
    train_sae(store, HOOK, config_of(sizes), folder / "cut")
    return {"killed_after_rows_of_the_log": len(log), "same_bytes": same_bytes(folder / "cut", folder / "alone")}


def train_until_killed(store: str, out: str, sizes: Sizes, threads: int) -> None:
    torch.set_num_threads(threads)

    def die(done: int, total: int, note: str) -> None:
        if done > 20:
            os.kill(os.getpid(), signal.SIGKILL)

    opened = ActivationStore.open(store)
    training.CHECKPOINT_SECONDS = 0.0
    train_sae(opened, HOOK, config_of(sizes), out, progress=die)


def same_bytes(one: Path, other: Path) -> bool:
    a, b = (load_file(folder / "sae_weights.safetensors") for folder in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def through_saelens(store: ActivationStore, folder: Path) -> dict[str, Any]:
    """Return the largest differences between SAELens's reading of the folder and ours, on rows of the store."""
    import sae_lens

    x = next(itertools.islice(store.batches(HOOK, 512), 1))
    sae, theirs = load_sae(folder), sae_lens.SAE.load_from_disk(folder)
    with torch.no_grad():
        z, their_z = sae.encode(x), theirs.encode(x)
        differences = {"z": (z - their_z).abs().max(), "x_hat": (sae.decode(z) - theirs.decode(their_z)).abs().max()}
    return {
        "architecture": theirs.cfg.architecture(),
        "config_read_back": isinstance(sae.config, GroupLassoConfig),
        **{name: float(value) for name, value in differences.items()},
    }


if __name__ == "__main__":
    main()
