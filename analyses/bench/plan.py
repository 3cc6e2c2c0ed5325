"""How well does `interp plan` estimate a run, and what would 10⁹ tokens and 10⁶ latents take on 8 and on 64 H100s?

    python -m analyses.bench.plan runs/demo runs/smollm2 [--out runs/bench_plan]      any finished run folders

Claim tested: for each stage of ten seconds or more, and for all stages together, the plan predicts seconds and bytes on
disk within a factor of 1.5 of what the stage took. For the whole run it also predicts the peak memory. The plan's
seconds assume that nothing else runs on the machine, so the runs must have been made that way too. The costs of
overhead were fitted to the demo and to that of SmolLM2; on any other run, such as a demo of 16 million tokens, the
plan is a prediction. `factor` is that by which a stage's constants in `interp/pipeline/timings.py` should be
multiplied, once a change of the code has made it faster or slower.

The estimate for GPUs contains no measurement on a GPU. It takes the costs of the same stages (`Stage.cost`) at the
speed of n H100s. Their peak rates are those of NVIDIA's data sheet (SXM: 989 TFLOP/s of dense bfloat16, 67 of float32,
3.35 TB/s, 80 GB; NVLink 450 GB/s each way inside a node of eight, 400 Gb/s a GPU between nodes), multiplied by the
fractions in `Assumed`. The model has the size of Gemma 2 2B (26 blocks, width 2,304, MLP of 9,216, 256,000 tokens) and
is hooked after block 12. The latents of the dictionary, a TopK of 64, are divided among the devices. Each device
encodes all rows with its part of the latents and sends its 64 largest values of each row; the parts of the
reconstruction are summed. Every token is read once. Writes results.json.
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from analyses.bench.peers import versions
from interp import Run
from interp.pipeline import timings
from interp.pipeline.config import RunConfig
from interp.pipeline.costs import Cost, Sizes, Speed
from interp.pipeline.plan import LIBRARY_BYTES, Plan
from interp.pipeline.stages import STAGES
from interp.storage.artifacts import is_run
from interp.storage.files import write_json

DEVICES = (8, 64)
NODE, NODE_DISK = 8, 2.5e9
"""Devices of a node, and the bytes a second of its disk or object store."""
HOOK = "blocks.12.hook_resid_post"
TOKENS, LATENTS, K, D_MODEL, BATCH = 10**9, 10**6, 64, 2304, 1 << 16


@dataclass(frozen=True)
class Assumed:
    """The data sheet of an H100, and the share of it that a program reaches."""

    half: float = 989e12
    single: float = 67e12
    memory: float = 3.35e12
    reached: float = 0.4
    """Share of the peak multiplications; the share of the memory rate is 1.5 times as much."""
    nvlink: float = 450e9
    network: float = 50e9
    """Bytes a second and device, each way."""
    cores: int = 12
    """Processor cores a device, of a node with 96."""

    def speed(self, n: int) -> Speed:
        """Return the speed of n devices together."""
        multiplying = n * self.reached
        return Speed(multiplying * self.single, multiplying * self.half, 1.5 * multiplying * self.memory, 1.0)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", help="finished run folders, measured with nothing beside")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_plan"))
    options = parser.parse_args(arguments)
    if others := [folder for folder in options.runs if not is_run(folder)]:
        parser.error(f"{others[0]} is not a run folder: `interp run` or `interp demo` makes one")
    speed = Speed.measure()
    results: dict[str, Any] = {
        "runs": {folder.name: held_against(Run(folder), speed) for folder in options.runs},
        "paper": on_paper(Assumed()),
        "assumed": asdict(Assumed()),
        "speed": speed._asdict(),
        "versions": versions(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "results.json", results)
    for name, rows in results["runs"].items():
        for row in rows:
            print(f"{name:10s} {row['stage']:12s}", *(f"{key} {value:.3g}" for key, value in numbers_of(row)))
    for row in results["paper"]:
        print(f"{row['what']:48s} {row['8']:>12s} {row['64']:>12s}   {row['derived']}")
    return results


def held_against(run: Run, speed: Speed) -> list[dict[str, Any]]:
    """Return a row per stage, and one of all: planned and measured seconds, bytes on disk and of memory at its peak."""
    rows: list[dict[str, Any]] = []
    for name, cost in Plan.of(run.config, run.path).rows:
        manifest = run.manifest(name)
        if manifest is None:
            continue
        planned = {"seconds": cost.seconds_on(speed), "disk": cost.disk, "memory": cost.memory + LIBRARY_BYTES}
        measured = {
            "seconds": manifest["wall_seconds"],
            "disk": sum(file["bytes"] for file in manifest["files"].values()),
            "memory": 1e6 * manifest["peak_megabytes"],
        }
        factor = bookkeeping_factor(cost, speed, manifest["wall_seconds"])
        rows.append({"stage": name, "factor": factor} | columns(planned, measured))
    together: dict[str, Callable[..., float]] = {"seconds": sum, "disk": sum, "memory": max}
    planned, measured = (
        {name: add(row[f"{kind}_{name}"] for row in rows) for name, add in together.items()}
        for kind in ("planned", "measured")
    )
    return [*rows, {"stage": "all"} | columns(planned, measured)]


def numbers_of(row: dict[str, Any]) -> list[tuple[str, float]]:
    return [(key, value) for key, value in row.items() if isinstance(value, int | float)]


def bookkeeping_factor(cost: Cost, speed: Speed, wall_seconds: float) -> float | None:
    """Return the factor by which the stage's constants in `pipeline.timings` should be multiplied, so that the plan
    gives the measured seconds; None for a stage without any, or one that took less than its operations should."""
    rest = wall_seconds - replace(cost, seconds=0).seconds_on(speed)
    return rest / (cost.seconds * speed.pace) if cost.seconds and rest > 0 else None


def columns(planned: dict[str, float], measured: dict[str, float]) -> dict[str, float]:
    kinds = {"planned": planned, "measured": measured}
    return {f"{kind}_{name}": value for kind, values in kinds.items() for name, value in values.items()}


def on_paper(assumed: Assumed) -> list[dict[str, str]]:
    """Return rows of the table: what, on 8 and on 64 devices, and how it is derived."""
    sizes = large_sizes()
    harvest, training, scan, ranking = (
        STAGES[name].cost(sizes) for name in ("activations", "sae", "features", "ranking")
    )
    steps, numbers = TOKENS / BATCH, BATCH * D_MODEL
    batches = 4 * 2 * D_MODEL * 2 * BATCH
    weights = training.memory - batches

    def devices(cost: Cost) -> Callable[[int], str]:
        return lambda n: duration(replace(cost, seconds=0).seconds_on(assumed.speed(n)))

    def hosts(cost: Cost) -> Callable[[int], str]:
        return lambda n: duration(cost.seconds * 2 / (assumed.cores * n))

    def between(n: int) -> str:
        sent = 2 * numbers + 8 * BATCH * K * n + 8 * numbers
        return duration(steps * sent / (assumed.nvlink if n <= NODE else assumed.network))

    rows: list[tuple[str, str, Callable[[int], str]]] = [
        (
            "model, bytes a device",
            f"{sizes.weights:,} weights × 2 bytes on each device",
            lambda n: size(sizes.weight_bytes),
        ),
        (
            "activations on disk",
            f"10⁹ rows × ({D_MODEL:,} × 2 + 4) bytes; a stream of activations keeps none",
            lambda n: size(harvest.disk),
        ),
        (
            "harvest",
            f"{harvest.operations:.2g} operations: the blocks up to the hook, counted on one sequence",
            devices(harvest),
        ),
        (
            "to write or read the store once",
            f"at {NODE_DISK / 1e9} GB a second and node",
            lambda n: duration(harvest.disk / (NODE_DISK * n / NODE)),
        ),
        ("dictionary on disk", f"2 × {D_MODEL:,} × 10⁶ weights × 4 bytes", lambda n: size(training.disk)),
        (
            "training, bytes a device",
            "weights, gradients and two moments are shared out (16 bytes a weight); a batch is whole",
            lambda n: size(weights / n + batches),
        ),
        (
            "training, on the devices",
            f"2 × {D_MODEL:,} × 10⁶ × 10⁹ operations to encode; {training.moved:.2g} bytes moved: 28 a weight and "
            "step, 24 a firing and number",
            devices(training),
        ),
        (
            "training, between the devices",
            f"{steps:,.0f} steps of {BATCH:,} rows: these (2 bytes a number), each device's {K} best a row (8 bytes "
            "each), and the parts of the reconstruction, added up (8 bytes a number)",
            between,
        ),
        ("scan, on the devices", f"{scan.operations:.2g} operations to encode, and for the unembedding", devices(scan)),
        (
            "scan, on the hosts",
            f"10⁹ × {K}² pairs of latents at {1e9 * timings.pair_seconds(LATENTS):.3g} ns and 10⁹ × {K} firings at "
            f"{1e6 * timings.SCANNED_FIRING:.3g} µs on two cores, on "
            f"{assumed.cores} cores a device",
            hosts(scan),
        ),
        (
            "features on disk",
            f"10⁹ × {K} firings × 8 bytes, 16 a row, and 8 kB of examples a latent",
            lambda n: size(scan.disk),
        ),
        (
            "ranking, on the hosts",
            f"{1e3 * timings.JUDGED_LATENT:.3g} ms a latent and {1e6 * timings.JUDGED_ROW:.3g} µs a token on two cores",
            hosts(ranking),
        ),
    ]
    return [{"what": what, **{str(n): value(n) for n in DEVICES}, "derived": derived} for what, derived, value in rows]


def large_sizes() -> Sizes:
    """Return the sizes of the run on paper; its model has no weights."""
    config = RunConfig.from_dict({
        "tokenizer": {"vocab_size": 256_000},
        "corpus": {"characters": 10**10},
        "model": {"n_layers": 26, "d_model": D_MODEL, "n_heads": 8, "d_mlp": 9216, "n_ctx": 1024},
        "harvest": {"tokens": TOKENS, "hook_name": HOOK, "neuron_hook": HOOK},
        "sae": {"d_sae": LATENTS, "k": K, "tokens": TOKENS, "batch_size": BATCH},
    })  # fmt: skip
    sizes = Sizes(config)
    sizes.model.to(torch.bfloat16)
    return sizes


def size(number: float) -> str:
    return f"{number / 1e12:,.1f} TB" if number >= 1e12 else f"{number / 1e9:,.1f} GB"


def duration(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} h" if seconds >= 7200 else f"{seconds / 60:,.1f} min"


if __name__ == "__main__":
    main()
