"""Do our dictionaries recover the true features of synthetic worlds better than SAELens's own trainers?

    python -m analyses.bench_recovery                  three worlds, three seeds; goes on where it was cut off
    python -m analyses.bench_recovery --world "16384 in 768" --seeds 0         the benchmark's own size
    python -m analyses.bench_recovery --quick          a tiny world, for the tests

Claim: at equal samples, width and k, F1 and MCC above the best of SAELens's TopK, BatchTopK, Matryoshka and JumpReLU on
every world, and above a frozen random decoder; and EV does not rank them as these do.

A world is x = Σ_j a_j d_j + bias:  many more unit directions d_j than dimensions, few a_j > 0 at once
(`sae_lens.synthetic`). Ours are the recipe of SynthSAEBench-16k (Chanin 2026, arXiv 2602.14687) at other sizes: Zipf
firing probabilities, trees of features in which a child fires only with its parent and one child at most, firing
correlated at low rank, magnitudes from 5 to 4. "16384 in 768" has its size too, and runs only where it is named: on one
thread its rows, 1.5 GB and twice that while they are made, take ten minutes, each of ours one to three, each of
SAELens's eight or more. The paper trains on 200 million rows; here the same half a million, read again, still help:
`interp Matryoshka, pruned` has F1 .46 after one pass, .74 after four (`--passes 4`) and .79 after nine, seed 0.

All contenders read the same rows in the same order and have the same width and the same k: three quarters of the true
L0, as in the paper (25 of 34); above the truth, latents fire where nothing is to be found.

    interp               the library's preset, `MatryoshkaConfig.recovery` and the like
    interp, pruned       then a latent whose part the others explain does not fire (`analyses.pruning`)
    SAELens, defaults    of its SyntheticSAERunner: batch 1024, a constant rate of 3e-4, dead after 1,000 steps
    SAELens, tuned       what helped it most in a few trials: our batch, a rate of 6e-3 (the better of it and 3e-3; for
                         more than 1,024 latents lower in proportion, as ours) that falls over the last fifth, dead
                         after an 80th of the run, JumpReLU with the quadratic penalty towards k

No run has the world's seed: features and first decoder would come from one stream of random numbers, and the decoder
begin at the truth. The frozen decoder shows that it does not.

Measured by SAELens's `eval_sae_on_synthetic_data` on held-out rows, on dictionaries that were saved, and read by
SAELens where it has an architecture for them. A latent stands for the true feature with the nearest direction:

    F1   of its firing as a detector of that feature, mean over latents      EV       1 − FVU, the explained variance
    MCC  mean |cos| of a one-to-one matching                                 unique   features found per latent

Writes one file a run to `out/runs`, which is not run again, and `results.json`. The rows of a world are deleted once
all its contenders are done.
"""

import argparse
import contextlib
import io
import itertools
import json
import logging
import multiprocessing
import os
import shutil
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from analyses.bench_sae import versions
from analyses.peers import MATRYOSHKA_SHARES, saelens_trainer
from analyses.pruning import prune
from interp.activations import ActivationStore
from interp.sae import BatchTopKConfig, JumpReLUConfig, MatryoshkaConfig, SAEConfig, TopKConfig, load_sae, train_sae
from interp.sae.architectures import PickConfig

HOOK = "world"
BATCH, FALL = 256, 0.2
SAELENS_RATE, SAELENS_DEAD, DEFAULT_RATE, DEFAULT_BATCH = 6e-3, 1 / 80, 3e-4, 1024
WORLD_SEED, K_SHARE = 7919, 0.75
BENCHMARK = "16384 in 768"
HELD_OUT, GENERATED, PRUNING = 20_000, 4096, 8192
"""Rows to measure on, rows made at once at most, rows that choose a threshold."""
CACHED = 2**22
"""Firings, of all features, that are drawn at once: more of them leave the processor's caches."""
PRUNED = ", pruned"
METRICS = ("f1", "precision", "recall", "mcc", "ev", "l0", "unique", "shrinkage", "dead", "seconds")
SAELENS = ("TopK", "BatchTopK", "MatryoshkaBatchTopK", "JumpReLU")


@dataclass(frozen=True, kw_only=True)
class World:
    n_features: int
    d: int
    width: int
    samples: int
    trees: int
    """Of 85 features each, 0 = none; the rest of the features are on their own."""
    most: float
    """Firing probability of the most frequent feature; the least is 5e-4, between them rank^-0.5."""
    correlation: tuple[int, float]
    """Rank and scale."""
    passes: int = 1
    """Times that the rows are read: of many features they take longer to make than to learn from."""

    @property
    def tokens(self) -> int:
        """Rows that are read."""
        return self.samples * self.passes

    @property
    def folder(self) -> str:
        """Where its runs are kept, after its name."""
        return f"{self.width}-{self.samples}" + (f"x{self.passes}" if self.passes > 1 else "")


WORLDS = {
    "1024 in 96": World(n_features=1024, d=96, width=512, samples=1_000_000, trees=8, most=0.4, correlation=(25, 0.1)),
    "correlated": World(n_features=1024, d=96, width=512, samples=1_000_000, trees=0, most=0.1, correlation=(8, 0.3)),
    "4096 in 256": World(
        n_features=4096, d=256, width=1024, samples=500_000, trees=32, most=0.4, correlation=(25, 0.1)
    ),
    BENCHMARK: World(n_features=16384, d=768, width=4096, samples=500_000, trees=128, most=0.4, correlation=(25, 0.1)),
}
QUICK = {"tiny": World(n_features=96, d=24, width=48, samples=6_000, trees=1, most=0.2, correlation=(4, 0.1))}


class Truth(NamedTuple):
    """A world that can be read and measured on. It stands in for SAELens's generator, so that all get the same rows."""

    model: Any
    store: ActivationStore
    held_out: Float[Tensor, "row feature"]
    k: int

    def sampler(self) -> "Replay":
        return Replay(iter(self.held_out.split(GENERATED)))


class Replay(NamedTuple):
    batches: Iterator[Float[Tensor, "row feature"]]

    def sample(self, n: int) -> Float[Tensor, "row feature"]:
        return next(self.batches)


@dataclass(frozen=True)
class Job:
    folder: Path
    """Of all results."""
    name: str
    world: World
    contender: str
    seed: int

    @property
    def file(self) -> Path:
        world, run = self.world, f"{self.contender.replace(', ', '_').replace(' ', '_')}-{self.seed}.json"
        return self.folder / "runs" / f"{self.name.replace(' ', '_')}-{world.folder}" / run


class Setting(NamedTuple):
    """What a contender may know."""

    store: ActivationStore
    world: World
    k: int
    seed: int


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    o = parse(arguments)
    worlds = QUICK if o.quick else {name: WORLDS[name] for name in o.world}
    worlds = {name: sized(world, o) for name, world in worlds.items()}
    rows = []
    for name, world in worlds.items():
        runs = run_all(jobs(name, world, o), o.workers)
        rows += summary(name, runs)
        show(name, runs, [row for row in rows if row["world"] == name])
    sizes = {name: asdict(world) for name, world in worlds.items()}
    results = {"rows": rows, "worlds": sizes, "seeds": o.seeds, "versions": versions()}
    (o.out / "results.json").write_text(json.dumps(results, indent=1))
    return rows


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", nargs="+", choices=WORLDS, default=[name for name in WORLDS if name != BENCHMARK])
    parser.add_argument("--samples", type=int, help="in place of each world's own")
    parser.add_argument("--width", type=int, help="in place of each world's own")
    parser.add_argument("--passes", type=int, help="over the rows, in place of each world's own")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="CONTENDER")
    parser.add_argument("--workers", type=int, default=2, help="processes, each on one thread; 1 = in this one")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_recovery"))
    options = parser.parse_args(arguments)
    if options.quick:
        options.seeds, options.workers = [0], 1
        options.only = ["interp BatchTopK", "interp Matryoshka, pruned", "SAELens BatchTopK, tuned"]
    return options


def sized(world: World, o: argparse.Namespace) -> World:
    given = {"samples": o.samples, "width": o.width, "passes": o.passes}
    return replace(world, **{name: value for name, value in given.items() if value})


def jobs(name: str, world: World, o: argparse.Namespace) -> list[Job]:
    """SAELens's defaults run at the first seed alone: they are far from the rest."""
    every = [Job(o.out, name, world, contender, seed) for seed in o.seeds for contender in o.only]
    return [job for job in every if job.seed == o.seeds[0] or not job.contender.endswith("defaults")]


def run_all(todo: Sequence[Job], workers: int) -> list[dict[str, Any]]:
    missing = [job for job in todo if not job.file.exists()]
    if missing:
        truth(missing[0].folder, missing[0].name, missing[0].world)
        if workers == 1:
            for job in missing:
                run(job)
        else:
            with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
                list(pool.map(run, missing))
        shutil.rmtree(rows_folder(missing[0].folder, missing[0].name, missing[0].world))
    return [json.loads(job.file.read_text()) for job in todo]


def run(job: Job) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    known = truth(job.folder, job.name, job.world)
    start = time.perf_counter()
    with TemporaryDirectory() as folder, quiet(job.seed):
        sae = CONTENDERS[job.contender](Setting(known.store, job.world, known.k, job.seed), Path(folder))
    seconds = time.perf_counter() - start
    measured = {**measure(sae, known), "seconds": seconds}
    print(f"  {job.name}, {job.contender}, seed {job.seed}: F1 {measured['f1']:.3f}, {seconds:.0f} s", flush=True)
    job.file.parent.mkdir(parents=True, exist_ok=True)
    job.file.write_text(json.dumps({"contender": job.contender, "seed": job.seed, "k": known.k, **measured}))


def measure(sae: Any, known: Truth) -> dict[str, float]:
    from sae_lens.synthetic import eval_sae_on_synthetic_data

    result = eval_sae_on_synthetic_data(
        sae, known.model.feature_dict, known.sampler(), num_samples=len(known.held_out), batch_size=GENERATED
    )
    firing = result.classification
    return {
        "f1": firing.f1_score,
        "precision": firing.precision,
        "recall": firing.recall,
        "mcc": result.mcc,
        "ev": result.explained_variance,
        "l0": result.sae_l0,
        "true_l0": result.true_l0,
        "unique": result.uniqueness,
        "shrinkage": result.shrinkage,
        "dead": result.dead_latents / len(sae.W_dec),
    }


def asked(setting: Setting) -> dict[str, Any]:
    return {"d_sae": setting.world.width, "tokens": setting.world.tokens, "seed": setting.seed, "device": "cpu"}


def recovering(kind: type[PickConfig], **more: Any) -> Callable[[Setting], SAEConfig]:
    return lambda setting: kind.recovery(**asked(setting), k=setting.k, **more)


KINDS: dict[str, Callable[[Setting], SAEConfig]] = {
    "TopK": recovering(TopKConfig),
    "BatchTopK": recovering(BatchTopKConfig),
    "Matryoshka": recovering(MatryoshkaConfig),
    f"TopK{PRUNED}": recovering(TopKConfig),
    f"BatchTopK{PRUNED}": recovering(BatchTopKConfig),
    f"Matryoshka{PRUNED}": recovering(MatryoshkaConfig),
    "Matryoshka, unrolled": recovering(MatryoshkaConfig, refinements=1, refinement_step=0.3),
    "JumpReLU": lambda setting: JumpReLUConfig.recovery(**asked(setting), target_l0=setting.k),
    "BatchTopK, frozen decoder": recovering(BatchTopKConfig, train_decoder=False),
}
"""Unrolled: one step of LISTA at 0.3, as in "Letting Claude do Autonomous Research to Improve SAEs" (Chanin 2026)."""


def ours(kind: str, setting: Setting, folder: Path) -> Any:
    from sae_lens import SAE

    sae = train_sae(setting.store, HOOK, KINDS[kind](setting))
    chosen = sae.preferred_format
    sae.save(folder, format=chosen)
    loaded = SAE.load_from_disk(folder) if chosen == "saelens" else load_sae(folder)
    if not kind.endswith(PRUNED):
        return loaded
    return prune(loaded, next(iter(setting.store.batches(HOOK, PRUNING, seed=setting.seed))))


def theirs(kind: str, tuned: bool, setting: Setting, folder: Path) -> Any:
    from sae_lens import SAE

    world, k = setting.world, setting.k
    batch = min(BATCH if tuned else DEFAULT_BATCH, world.tokens)
    steps = world.tokens // batch
    settings: dict[str, Any] = {"d_in": world.d, "d_sae": world.width, "device": "cpu"}
    if kind != "JumpReLU":
        settings["k"] = k
    elif tuned:
        settings |= {"jumprelu_sparsity_loss_mode": "quadratic", "target_l0": k}
    if kind == "MatryoshkaBatchTopK":
        settings["matryoshka_widths"] = [round(s * world.width) for s in itertools.accumulate(MATRYOSHKA_SHARES)]
    schedule: dict[str, Any] = {"lr": DEFAULT_RATE}
    if tuned:
        rate = SAELENS_RATE * min(1.0, 1024 / world.width)
        schedule = {"lr": rate, "lr_decay_steps": round(FALL * steps)}
        schedule["dead_feature_window"] = max(1, round(SAELENS_DEAD * steps))
    rows = setting.store.batches(HOOK, batch, seed=setting.seed, epochs=None)
    trainer = saelens_trainer(kind, settings, rows, tokens=steps * batch, batch_size=batch, **schedule)
    trainer.fit().save_inference_model(folder)
    return SAE.load_from_disk(folder)


CONTENDERS: dict[str, Callable[[Setting, Path], Any]] = {
    **{f"interp {kind}": partial(ours, kind) for kind in KINDS},
    **{f"SAELens {kind}, tuned": partial(theirs, kind, True) for kind in SAELENS},
    **{f"SAELens {kind}, defaults": partial(theirs, kind, False) for kind in SAELENS},
}


@lru_cache(maxsize=1)
def truth(folder: Path, name: str, world: World) -> Truth:
    """Made on the first call, read from `folder` on the next."""
    from sae_lens.synthetic import SyntheticModel

    rows = rows_folder(folder, name, world)
    if not (rows / "model").exists():
        with quiet(0):
            model = synthetic_model(synthetic(world))
            ActivationStore.from_batches(sampled(model, world), rows / "store", hook_name=HOOK, dtype="float32")
            model.save(rows / "model")
    model = SyntheticModel.load_from_disk(rows / "model")
    with quiet(1):
        held_out = torch.cat([model.activation_generator.sample(n) for n in sizes(HELD_OUT, world)])
    k = max(1, round(K_SHARE * float((held_out > 0).sum()) / HELD_OUT))
    return Truth(model, ActivationStore.open(rows / "store"), held_out, k)


def rows_folder(folder: Path, name: str, world: World) -> Path:
    return folder / "worlds" / f"{name.replace(' ', '_')}-{world.samples}"


def sampled(model: Any, world: World) -> Iterator[Float[Tensor, "row d"]]:
    with torch.no_grad():
        for size in sizes(world.samples, world):
            yield model.feature_dict(model.activation_generator.sample(size).to_sparse())


def sizes(n: int, world: World) -> list[int]:
    at_once = min(GENERATED, CACHED // world.n_features)
    return [min(at_once, n - start) for start in range(0, n, at_once)]


def synthetic_model(config: Any) -> Any:
    from sae_lens.synthetic import FeatureDictionary, SyntheticModel

    directions = FeatureDictionary(
        config.num_features,
        config.hidden_dim,
        bias=config.bias,
        seed=config.seed,
        initializer=partial(orthogonalise, config=config.orthogonalization),
    )
    return SyntheticModel(config, feature_dict=directions)


@torch.no_grad()
def orthogonalise(directions: Any, config: Any) -> None:
    """SAELens's descent of Σ_{i≠j} (d_i · d_j)² + n Σ_i (‖d_i‖² − 1)², with the gradient from the d × d products
    4 (D Dᵀ D + (n (‖d_i‖² − 1) − ‖d_i‖²) d_i)  in place of the n × n: 50 times as fast at 4,096 directions in 256."""
    D, n = directions.feature_vectors, directions.num_features
    descent = torch.optim.Adam([D], lr=config.lr)
    for _ in range(config.num_steps):
        squares = D.square().sum(1, keepdim=True)
        D.grad = 4 * (D @ (D.T @ D) + (n * (squares - 1) - squares) * D)
        descent.step()
    D.div_(D.norm(dim=1, keepdim=True))
    D.grad = None


def synthetic(world: World) -> Any:
    from sae_lens import synthetic as s

    trees = s.HierarchyConfig(
        total_root_nodes=max(1, world.trees),
        branching_factor=4,
        max_depth=3,
        mutually_exclusive_portion=1.0,
        compensate_probabilities=True,
    )
    rank, scale = world.correlation
    return s.SyntheticModelConfig(
        num_features=world.n_features,
        hidden_dim=world.d,
        firing_probability=s.ZipfianFiringProbabilityConfig(exponent=0.5, max_prob=world.most, min_prob=5e-4),
        hierarchy=trees if world.trees else None,
        orthogonalization=s.OrthogonalizationConfig(num_steps=100, lr=3e-4),
        correlation=s.LowRankCorrelationConfig(rank=rank, correlation_scale=scale),
        mean_firing_magnitudes=s.LinearMagnitudeConfig(5.0, 4.0),
        std_firing_magnitudes=s.FoldedNormalMagnitudeConfig(0.5, 0.5),
        seed=WORLD_SEED,
    )


@contextlib.contextmanager
def quiet(seed: int) -> Iterator[None]:
    """SAELens draws from the global generator and shows bars."""
    with torch.random.fork_rng(devices=[]), contextlib.redirect_stderr(io.StringIO()):
        torch.manual_seed(seed)
        yield


def summary(name: str, runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a contender: mean and standard deviation over the seeds of each number."""
    rows = []
    for contender in dict.fromkeys(run["contender"] for run in runs):
        mine = [run for run in runs if run["contender"] == contender]
        row: dict[str, Any] = {"world": name, "contender": contender, "k": mine[0]["k"], "seeds": len(mine)}
        for metric in METRICS:
            values = [run[metric] for run in mine]
            row[metric] = (statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0)
        rows.append(row)
    return rows


def show(name: str, runs: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]]) -> None:
    print(f"{name}: true L0 {runs[0]['true_l0']:.2f}, k {runs[0]['k']}")
    print(f"{'':38}" + "".join(f"{metric:>15}" for metric in METRICS))
    for row in rows:
        cells = "".join(f"{f'{mean:.3f} ± {spread:.3f}':>15}" for mean, spread in (row[metric] for metric in METRICS))
        print(f"{row['contender']:38}{cells}", flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    os.environ.setdefault("TQDM_DISABLE", "1")
    main()
