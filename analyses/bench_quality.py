"""At equal tokens, does our training reach dictionaries as good as those of SAELens's trainer?

    python -m analyses.bench_quality --out runs/bench_quality         resumes; --demo RUN uses the model of that run
    python -m analyses.bench_quality --quick --out runs/quick         a tiny size, for the tests

Claim tested: on the demo's activations and on three hooks of a two-layer model, FVU and CE recovered on held-out text
are within 1 % of SAELens's or better, for TopK, BatchTopK, JumpReLU and L1, with fewer dead latents.

Both trainers get the same store in the same batches, d_sae, tokens, k, penalty, scale of the inputs (mean norm √d),
rise and fall of the rate, and number of tokens after which a latent is dead; all else is each one's own default. Each
gets the learning rate of `--rates` that leaves the least FVU on validation text at seed 0. FVU can only be compared at
equal L0, so for each rate, at seed 0, what L0 follows is sought until L0 on validation text is k within 1.5 %: of L1
(decoder norms in the penalty, both) λ; of JumpReLU (the quadratic penalty, with the same weight) the L0 that it pulls
towards; of BatchTopK the k of training, of ours a whole number. Each row says which L0 it came to. Then all seeds are
tested on text that neither training nor choice has seen. Intervals: 95 %, of Student's t over the seeds; ratios are
ours / theirs seed by seed. Every dictionary is kept in `--out` and not trained again. Writes results.json.
"""

import argparse
import contextlib
import io
import json
import logging
import math
import statistics
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import scipy.stats
import torch
from jaxtyping import Float
from torch import Tensor

from analyses.bench_sae import versions
from analyses.peers import saelens_trainer
from analyses.record import check_run
from interp import Run, run_stages
from interp.activations import ActivationStore
from interp.harvest import harvest
from interp.pipeline.config import RunConfig
from interp.quality import evaluate_dictionary
from interp.sae import SAE, BatchTopKConfig, JumpReLUConfig, ReLUConfig, SAEConfig, TopKConfig, load_sae, train_sae

KINDS, TRAINERS = ("TopK", "BatchTopK", "JumpReLU", "L1"), ("SAELens", "interp")
HOOKS = {
    "demo": ("blocks.0.hook_resid_post",),
    "two-layer": ("blocks.0.hook_mlp_out", "blocks.1.hook_attn_out", "blocks.1.hook_resid_mid"),
}
RISE, L1_RISE, L0_RISE, FALL = 0.05, 0.05, 0.1, 0.2
DEAD_AFTER = 0.05
"""Fractions of the run."""
FIRST_L1, L0_TRIES, L0_TOLERANCE = 2.0, 6, 0.015
RESPONSE = {"L1": -1.0, "JumpReLU": 1.0, "BatchTopK": 1.0}
"""The slope of log L0 in the log of what is sought, to begin with."""


@dataclass(frozen=True)
class Site:
    """A hook of a model, with what is trained, chosen and tested on."""

    name: str
    hook: str
    run: Run
    store: ActivationStore
    validation: Float[Tensor, "row d_in"]
    test_tokens: Tensor


@dataclass(frozen=True)
class Recipe:
    kind: str
    trainer: str
    lr: float
    sought: float | None
    """λ of L1, the target of JumpReLU, the k of BatchTopK."""
    seed: int

    @property
    def folder(self) -> str:
        sought = "" if self.sought is None else f"-{self.sought:.4g}"
        return f"{self.kind}-{self.trainer}-lr_{self.lr:g}{sought}-seed_{self.seed}"


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    o = parse(arguments)
    torch.set_num_threads(o.threads)
    warnings.filterwarnings("ignore")
    rows = []
    for site in sites(o):
        for kind in o.kinds:
            tested = {trainer: test(site, chosen(site, kind, trainer, o), o) for trainer in TRAINERS}
            rows += summary(site, kind, tested)
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
    parser.add_argument("--out", type=Path, default=Path("runs/bench_quality"))
    options = parser.parse_args(arguments)
    if options.demo:
        check_run(parser, "--demo", options.demo, ("corpus", "model"))
    if options.quick:
        options.d_sae, options.k, options.tokens, options.batch, options.test_tokens = 128, 8, 40_000, 512, 4_000
        options.rates, options.seeds, options.models = [3e-3], [0, 1], ["demo"]
    return options


def sites(o: argparse.Namespace) -> list[Site]:
    found = []
    for name in o.models:
        given = o.demo if name == "demo" else None
        run = Run(given) if given else run_stages(model_config(name, o), o.out / name, until="model")
        folder, bos, n_ctx = o.out / "stores" / name, (run.tokenizer.bos_id,), run.train_tokens.n_ctx
        n_test = max(2, o.test_tokens // n_ctx)
        held_out = run.val_tokens.tokens
        if len(held_out) < 2 * n_test:
            have = len(held_out)
            raise ValueError(f"{name} has {have} held-out sequences, {2 * n_test} are needed: lower --test-tokens")
        tokens = run.train_tokens.tokens[: max(1, o.tokens // n_ctx)]
        store = harvest(run.model, tokens, HOOKS[name], folder / "train", exclude=bos)
        validation = harvest(run.model, held_out[n_test : 2 * n_test], HOOKS[name], folder / "validation", exclude=bos)
        for hook in [hook for hook in HOOKS[name] if hook in (o.hooks or HOOKS[name])]:
            rows = torch.cat(list(validation.batches(hook, 8192, shuffle=False)))
            found.append(Site(name, hook, run, store, rows, held_out[:n_test]))
    return found


def model_config(name: str, o: argparse.Namespace) -> RunConfig:
    if o.quick:
        return RunConfig.tiny()
    if name == "demo":
        return RunConfig()
    return RunConfig.from_dict({"model": {"n_layers": 2}, "training": {"tokens": 2_000_000}})


def chosen(site: Site, kind: str, trainer: str, o: argparse.Namespace) -> list[Recipe]:
    """A recipe for each seed, with what did best at the first of them."""
    tried: dict[Recipe, float] = {}
    sought = {"L1": FIRST_L1, "JumpReLU": float(o.k), "BatchTopK": o.k}.get(kind)
    for lr in o.rates:
        recipe = Recipe(kind, trainer, lr, sought, o.seeds[0])
        measured = trained(site, recipe, o)
        if kind in RESPONSE:
            recipe, measured = at_l0(site, recipe, measured, o)
            sought = recipe.sought
        tried[recipe] = measured["fvu"]
    best = min(tried, key=lambda recipe: tried[recipe])
    return [replace(best, seed=seed) for seed in o.seeds]


def at_l0(site: Site, recipe: Recipe, measured: dict[str, float], o: argparse.Namespace) -> tuple[Recipe, dict]:
    """The penalty for an L0 of k: its log goes about linearly with that of L0, so each try follows the line through
    the two before."""
    sign = RESPONSE[recipe.kind]
    slope, tries = sign, [(recipe, measured)]
    for _ in range(L0_TRIES):
        recipe, measured = tries[-1]
        assert recipe.sought is not None
        if abs(off(measured, o.k)) < L0_TOLERANCE:
            break
        if len(tries) > 1:
            before, there = tries[-2]
            step = math.log(recipe.sought / before.sought)
            if step:
                slope = sign * max(0.3, sign * (off(measured, o.k) - off(there, o.k)) / step)
        further = min(2.0, max(-2.0, -off(measured, o.k) / slope))
        sought = float(f"{min(recipe.sought * math.exp(further), o.d_sae):.4g}")
        whole = (recipe.kind, recipe.trainer) == ("BatchTopK", "interp")
        recipe = replace(recipe, sought=max(1, round(sought)) if whole else sought)
        if any(recipe == tried for tried, _ in tries):
            break
        tries.append((recipe, trained(site, recipe, o)))
    return min(tries, key=lambda each: abs(off(each[1], o.k)))


def off(measured: dict[str, float], k: int) -> float:
    """log(L0 / k)"""
    return math.log(max(measured["l0"], 0.1) / k)


def folder_of(site: Site, recipe: Recipe, o: argparse.Namespace) -> Path:
    return o.out / "dictionaries" / f"{site.name}-{site.hook}" / recipe.folder


def trained(site: Site, recipe: Recipe, o: argparse.Namespace) -> dict[str, float]:
    """FVU and L0 on validation text, and the seconds that training took."""
    folder = folder_of(site, recipe, o)
    results = folder / "validation.json"
    if results.exists():
        return json.loads(results.read_text())
    start = time.perf_counter()
    if recipe.trainer == "interp":
        train_sae(site.store, site.hook, ours(recipe, o), folder, resume=False)
    else:
        theirs(site, recipe, folder, o)
    seconds = time.perf_counter() - start
    x, sae = site.validation, load_sae(folder)
    codes = sae.codes(x)
    measured = {
        "fvu": float((sae.decode(codes) - x).square().sum() / (x - x.mean(0)).square().sum()),
        "l0": float((codes.values != 0).sum()) / len(x),
        "seconds": seconds,
    }
    results.write_text(json.dumps(measured))
    print(f"  {site.hook} {recipe.folder}: FVU {measured['fvu']:.4f}, L0 {measured['l0']:.1f}, {seconds:.1f} s")
    return measured


def ours(recipe: Recipe, o: argparse.Namespace) -> SAEConfig:
    shared: dict[str, Any] = {
        "d_sae": o.d_sae,
        "tokens": o.tokens,
        "batch_size": o.batch,
        "lr": recipe.lr,
        "warmup": RISE,
        "decay": FALL,
        "dead_after": round(DEAD_AFTER * o.tokens),
        "seed": recipe.seed,
        "device": "cpu",
    }
    match recipe.kind:
        case "TopK":
            return TopKConfig(**shared, k=o.k)
        case "BatchTopK":
            return BatchTopKConfig(**shared, k=recipe.sought)
        case "JumpReLU":
            return JumpReLUConfig(**shared, target_l0=recipe.sought, coefficient_warmup=L0_RISE)
    return ReLUConfig(**shared, l1=recipe.sought, l1_warmup=L1_RISE)


def theirs(site: Site, recipe: Recipe, folder: Path, o: argparse.Namespace) -> None:
    d_in, steps, known = site.store.d(site.hook), o.tokens // o.batch, site.store.statistics(site.hook)
    scale = d_in**0.5 / known.mean_norm
    settings: dict[str, Any] = {"d_in": d_in, "d_sae": o.d_sae, "normalize_activations": "expected_average_only_in"}
    kind = "Standard" if recipe.kind == "L1" else recipe.kind
    if recipe.kind in ("TopK", "BatchTopK"):
        settings["k"] = recipe.sought or o.k
    elif recipe.kind == "L1":
        settings |= {"l1_coefficient": recipe.sought, "l1_warm_up_steps": round(L1_RISE * steps)}
    else:
        target = recipe.sought
        weight = JumpReLUConfig(d_sae=o.d_sae, tokens=o.tokens).coefficient * known.variance * scale**2 / (2 * target)
        settings |= {"jumprelu_sparsity_loss_mode": "quadratic", "target_l0": target, "l0_coefficient": weight}
        settings |= {"l0_warm_up_steps": round(L0_RISE * steps), "pre_act_loss_coefficient": 3e-6}
    with torch.random.fork_rng(devices=[]), contextlib.redirect_stderr(io.StringIO()):
        torch.manual_seed(recipe.seed)
        trainer = saelens_trainer(
            kind,
            settings,
            site.store.batches(site.hook, o.batch, seed=recipe.seed, epochs=None),
            tokens=steps * o.batch,
            batch_size=o.batch,
            lr=recipe.lr,
            lr_end=0.0,
            lr_warm_up_steps=round(RISE * steps),
            lr_decay_steps=round(FALL * steps),
            dead_feature_window=max(1, round(DEAD_AFTER * steps)),
        )
        trainer.activation_scaler.scaling_factor = scale
        trainer.fit().save_inference_model(folder)


def test(site: Site, recipes: Sequence[Recipe], o: argparse.Namespace) -> list[dict[str, Any]]:
    tested = []
    for recipe in recipes:
        measured, file = trained(site, recipe, o), folder_of(site, recipe, o) / "test.json"
        if not file.exists():
            sae: SAE = load_sae(file.parent)
            bos = (site.run.tokenizer.bos_id,)
            quality = evaluate_dictionary(sae, site.run.model, site.test_tokens, site.hook, batch_size=64, exclude=bos)
            file.write_text(json.dumps({**asdict(quality), **asdict(recipe), "seconds": measured["seconds"]}))
        tested.append(json.loads(file.read_text()))
    return tested


def summary(site: Site, kind: str, tested: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One row a trainer: mean and half the width of the interval of each number."""
    rows = []
    for trainer, runs in tested.items():
        row: dict[str, Any] = {"model": site.name, "hook": site.hook, "kind": kind, "trainer": trainer}
        row |= {"lr": runs[0]["lr"], "sought": runs[0]["sought"]}
        row["seconds"] = statistics.median(run["seconds"] for run in runs)
        for name in ("fvu", "ce_recovered_zero", "ce_recovered_mean", "l0", "dead_share"):
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
    numbers = {"fvu": "FVU", "ce_recovered_zero": "CE recovered", "l0": "L0", "dead_share": "dead"}
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
