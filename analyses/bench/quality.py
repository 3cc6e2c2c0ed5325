"""At equal tokens, does our training reach dictionaries as good as those of SAELens's trainer?

    python -m analyses.bench.quality --out runs/bench_quality         resumes; --demo RUN uses the model of that run
    python -m analyses.bench.quality --quick --out runs/quick         a tiny size, for the tests

Claim tested: on the demo's activations and on three hooks of a two-layer model, FVU and CE recovered on held-out text
are within 1 % of SAELens's or better, for TopK, BatchTopK, Matryoshka, JumpReLU and L1, with at most half as many dead
and faint latents.

Both trainers get the same store in the same batches and the same d_sae, tokens, k, penalty, input scale (mean norm √d),
learning rate schedule, and number of tokens after which a latent counts as dead. All other settings are each trainer's
defaults. Each gets the learning rate of `--rates` with the lowest FVU on validation text at seed 0.

FVU can be compared only at equal L0. So for each rate, at seed 0, the setting that controls L0 is searched until L0 on
validation text is within 1.5 % of k. That setting is λ for L1 (both penalties include the decoder norms), the target L0
for JumpReLU (the quadratic penalty, with the same weight), and the k of training for BatchTopK and Matryoshka (a whole
number for ours). Each row gives the L0 that was reached. All seeds are then tested on text that neither training nor
selection has seen. Intervals are 95 % by Student's t over the seeds; ratios are ours / theirs for each seed. Every
dictionary is kept in `--out` and not trained again. Writes results.json.
"""

import argparse
import json
import logging
import math
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import scipy.stats
import torch

from analyses.bench.peers import versions
from analyses.bench.quality_training import HOOKS, HookData, Recipe, folder_of, hook_data, train_recipe
from analyses.record import check_run, parse_with_out
from interp.evaluation.quality import evaluate_dictionary
from interp.sae import SAE, load_sae

KINDS, TRAINERS = ("TopK", "BatchTopK", "Matryoshka", "JumpReLU", "L1"), ("SAELens", "interp")
FIRST_L1, L0_TRIES, L0_TOLERANCE = 2.0, 6, 0.015
RESPONSE = {"L1": -1.0, "JumpReLU": 1.0, "BatchTopK": 1.0, "Matryoshka": 1.0}
"""The slope of log L0 in the log of what is sought, to begin with."""


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    o = parse(arguments)
    torch.set_num_threads(o.threads)
    warnings.filterwarnings("ignore")
    rows = []
    for data in hook_data(o):
        for kind in o.kinds:
            tested = {trainer: test(data, chosen(data, kind, trainer, o), o) for trainer in TRAINERS}
            rows += summary(data, kind, tested)
            show(rows[-len(TRAINERS) :], header=len(rows) == len(TRAINERS))
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(o).items()}
    results = {"rows": rows, "settings": settings, "versions": versions()}
    (o.out / "results.json").write_text(json.dumps(results, indent=1))
    return rows


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = {"d-sae": 1024, "k": 16, "tokens": 400_000, "batch": 1024, "test-tokens": 40_000, "threads": 2}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rates", type=float, nargs="+", default=[4e-3, 6e-3, 1e-2])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--models", nargs="+", choices=HOOKS, default=list(HOOKS))
    parser.add_argument("--hooks", nargs="+", help="of these models, in place of all")
    parser.add_argument("--demo", type=Path, help="the folder of a run of `interp demo`")
    parser.add_argument("--quick", action="store_true")
    options = parse_with_out(parser, arguments, Path("runs/bench_quality"))
    if options.demo:
        check_run(parser, "--demo", options.demo, ("corpus", "model"))
    if options.quick:
        options.d_sae, options.k, options.tokens, options.batch, options.test_tokens = 128, 8, 20_000, 512, 4_000
        options.rates, options.seeds, options.models = [3e-3], [0, 1], ["demo"]
    return options


def chosen(data: HookData, kind: str, trainer: str, o: argparse.Namespace) -> list[Recipe]:
    """Return a recipe for each seed, with the settings that did best at the first."""
    tried: dict[Recipe, float] = {}
    sought = {"L1": FIRST_L1, "JumpReLU": float(o.k), "BatchTopK": o.k, "Matryoshka": o.k}.get(kind)
    for lr in o.rates:
        recipe = Recipe(kind, trainer, lr, sought, o.seeds[0])
        measured = train_recipe(data, recipe, o)
        if kind in RESPONSE:
            recipe, measured = at_l0(data, recipe, measured, o)
            sought = recipe.sought
        tried[recipe] = measured["fvu"]
    best = min(tried, key=lambda recipe: tried[recipe])
    return [replace(best, seed=seed) for seed in o.seeds]


def at_l0(data: HookData, recipe: Recipe, measured: dict[str, float], o: argparse.Namespace) -> tuple[Recipe, dict]:
    """Return the penalty for an L0 of k: its log goes about linearly with that of L0, so each try follows the line
    through the two before."""
    sign = RESPONSE[recipe.kind]
    slope, tries = sign, [(recipe, measured)]
    for _ in range(L0_TRIES):
        recipe, measured = tries[-1]
        assert recipe.sought is not None
        if abs(off(measured, o.k)) < L0_TOLERANCE:
            break
        if len(tries) > 1:
            before, value_before = tries[-2]
            step = math.log(recipe.sought / before.sought)
            if step:
                slope = sign * max(0.3, sign * (off(measured, o.k) - off(value_before, o.k)) / step)
        further = min(2.0, max(-2.0, -off(measured, o.k) / slope))
        sought = float(f"{min(recipe.sought * math.exp(further), o.d_sae):.4g}")
        is_batch_wise = recipe.kind in ("BatchTopK", "Matryoshka") and recipe.trainer == "interp"
        recipe = replace(recipe, sought=max(1, round(sought)) if is_batch_wise else sought)
        if any(recipe == tried for tried, _ in tries):
            break
        tries.append((recipe, train_recipe(data, recipe, o)))
    return min(tries, key=lambda each: abs(off(each[1], o.k)))


def off(measured: dict[str, float], k: int) -> float:
    """Return log(L0 / k)."""
    return math.log(max(measured["l0"], 0.1) / k)


def test(data: HookData, recipes: Sequence[Recipe], o: argparse.Namespace) -> list[dict[str, Any]]:
    tested = []
    for recipe in recipes:
        measured, file = train_recipe(data, recipe, o), folder_of(data, recipe, o) / "test.json"
        if not file.exists():
            sae: SAE = load_sae(file.parent)
            bos = (data.run.tokenizer.bos_id,)
            quality = evaluate_dictionary(data.run.model, data.hook, sae, data.test_tokens, batch_size=64, exclude=bos)
            file.write_text(json.dumps({**asdict(quality), **asdict(recipe), "seconds": measured["seconds"]}))
        tested.append(json.loads(file.read_text()))
    return tested


def summary(data: HookData, kind: str, tested: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return one row per trainer: mean and half the width of the interval of each number."""
    rows = []
    for trainer, runs in tested.items():
        row: dict[str, Any] = {"model": data.name, "hook": data.hook, "kind": kind, "trainer": trainer}
        row |= {"lr": runs[0]["lr"], "sought": runs[0]["sought"]}
        row["seconds"] = statistics.median(run["seconds"] for run in runs)
        for name in ("fvu", "ce_recovered_zero", "ce_recovered_mean", "l0", "dead_share", "faint_share"):
            row[name] = interval([run[name] for run in runs])
        peers = tested["SAELens"]
        for name in ("fvu", "ce_recovered_zero") if trainer == "interp" else ():
            row[f"{name}_ratio"] = interval([a[name] / b[name] for a, b in zip(runs, peers, strict=True)])
        rows.append(row)
    return rows


def interval(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], float("inf")
    spread = statistics.stdev(values) / len(values) ** 0.5
    return statistics.fmean(values), float(scipy.stats.t.ppf(0.975, len(values) - 1)) * spread


def show(rows: Sequence[dict[str, Any]], header: bool) -> None:
    numbers = {
        "fvu": "FVU",
        "ce_recovered_zero": "CE recovered",
        "l0": "L0",
        "dead_share": "dead",
        "faint_share": "faint",
    }
    ratios = {"fvu_ratio": "FVU ratio", "ce_recovered_zero_ratio": "CE ratio"}
    if header:
        print(f"{'':44}" + "".join(f"{head:>17}" for head in (*numbers.values(), *ratios.values())) + "    lr    s")
    for row in rows:
        cells = [row.get(name) for name in (*numbers, *ratios)]
        shown = "".join(f"{'' if cell is None else f'{cell[0]:.4f} ± {cell[1]:.4f}':>17}" for cell in cells)
        name = f"{row['hook'].removeprefix('blocks.')} {row['kind']} {row['trainer']}"
        print(f"{name:44}{shown} {row['lr']:5g} {row['seconds']:4.1f}", flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main()
