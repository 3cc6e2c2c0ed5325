"""Is the monosemanticity ranking right? Every score against the truth, in worlds where the truth is known.

    python -m analyses.scorecard                 worlds A, B and C; goes on where it was cut off (out/worlds)
    python -m analyses.scorecard --run RUN       and the labelled corpus of a run, judged by its labels
    python -m analyses.scorecard --calibrate     fits the calibration that the package ships, writes it into the package
    python -m analyses.scorecard --quick         small worlds, for the tests

Claim: the probability of one meaning tells latents with one meaning from latents with several (AUROC ≥ .95 in world A
and ≥ .90 in world B, both held out, ≥ .05 above the best single known score), it is calibrated (ECE ≤ .05), and the
number of senses is exact for ≥ 70 % of the latents with several.

A   planted latents on planted text (`interp.worlds`): three families of text, many seeds, difficulty knobs one at a
    time.
B   a transformer trained on planted text, its dictionary and its neurons, judged by the factors of the text (which the
    ranking never saw). With --run: the run's latents and neurons, judged by the labels of its corpus and by token.
C   dictionaries learnt on `sae_lens.synthetic` worlds, where there is no text: only what needs no text can be scored.

In A and B the probability of each family's latents comes from a calibration on the other two families, in which planted
and learnt latents weigh the same.

Frequency-matched AUROC, Spearman with polysemanticity, precision among the first k, calibration, senses, and the share
called monosemantic on nulls: shifted text, an untrained transformer. Writes results.json, tables (Parquet) and figures.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analyses import scorecard_synthetic
from analyses.scorecard_synthetic import synthetic_world
from interp import TopKConfig, figures, harvest, train_sae
from interp.codes import SparseCodes
from interp.run import Run
from interp.scorecard import (
    calibration_curve,
    calibration_worlds,
    claimed,
    fit_to,
    judge_latents,
    judge_world,
    leave_one_family_out,
    probabilities,
    scorecard,
    verdict_quality,
)
from interp.scores.table import MEASURES
from interp.worlds import FAMILIES, Factor, Truth, WorldConfig, planted_world
from models.training import TrainingConfig, train_model
from models.transformer import Transformer, TransformerConfig

KNOBS: dict[str, tuple[float, ...]] = {
    "superposition": (2.0, 4.0, 8.0),
    "noise": (0.02, 0.15, 0.3),
    "similarity": (0.0, 0.2, 0.4),
    "segment": (10, 40, 100),
    "rarity": (1.0, 0.4, 0.15),
    "max_senses": (2, 3, 5),
    "n_seq": (256, 1024),
}
EVIDENCE = {
    "distinctness": 1, "core": 1, "consistency": 1, "kinship": 1, "common": 1, "coherence": 1, "token_coherence": 1,
}  # fmt: skip
SINGLE = EVIDENCE | MEASURES
CALIBRATION_FILE = Path(__file__).parent.parent / "interp" / "scores" / "calibration.json"


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    options = _parse(arguments)
    out: Path = options.out
    (out / "worlds").mkdir(parents=True, exist_ok=True)
    size = {"n_seq": 192, "n_latents": 60} if options.quick else {}
    calibrating = list(calibration_worlds(1 if options.quick else options.seeds, **size))
    judged = pd.concat(
        [kept(out, name, lambda c=config, n=name: judge_world(planted_world(c), n)) for name, config in calibrating]
    )
    learnt = learnt_worlds(out, options)
    trained = learnt[learnt.basis != "untrained"]
    judged = pd.concat(
        [judged.assign(learnt=False), trained.assign(learnt=True, world="a transformer's " + trained.world)]
    )
    if options.calibrate:
        fit_to(judged).save(CALIBRATION_FILE)
        print(f"{len(claimed(judged)):,} latents of {judged.world.nunique()} worlds → {CALIBRATION_FILE}")
        return {}
    results: dict[str, Any] = {"seeds": options.seeds}
    held_out = leave_one_family_out(judged).query("not learnt")
    results["A"] = report("world A, families held out", held_out, SINGLE)
    results["A by family"] = {f: report(f"  {f}", part, {}) for f, part in held_out.groupby("family")}
    learnt = pd.concat([by_others(part, judged, family) for family, part in learnt.groupby("family")])
    results |= worlds_b(learnt, options)
    synthetic = kept(out, "C", lambda: synthetic_world(out / "models" / "C", options.quick))
    results["C"] = scores_alone("world C, synthetic activations without text", synthetic)
    if not options.quick:
        results["A by knob"] = by_knob(out, judged)
    (out / "results.json").write_text(json.dumps(results, indent=1, default=float))
    curves = {"planted latents, families held out": held_out, "learnt latents": learnt.query("basis != 'untrained'")}
    figure = figures.calibration_curve(
        {name: calibration_curve(part) for name, part in curves.items() if len(claimed(part))},
        title="Of latents with probability p, how many have one meaning",
    )
    figure.write_html(out / "calibration.html")
    tables = {name: pd.DataFrame(results[name]["scores"]) for name in ("A", "B") if results[name]}
    figures.score_comparison({f"world {name}": table for name, table in tables.items()}).write_html(out / "scores.html")
    return results


def by_knob(out: Path, judged: pd.DataFrame) -> dict[str, Any]:
    """One knob at a time, from the default world; each family's latents by a calibration on the others."""
    results: dict[str, Any] = {}
    for knob, values in KNOBS.items():
        for value in values:
            parts = []
            for family in FAMILIES:
                config = replace(WorldConfig(family=family, seed=9, n_latents=200), **{knob: value})
                name = f"{knob}-{value}-{family}"
                part = kept(out, name, lambda c=config, n=name: judge_world(planted_world(c), n))
                parts.append(by_others(part, judged, family))
            results[f"{knob}={value}"] = report(f"  {knob} = {value}", pd.concat(parts), {})
    return results


def by_others(part: pd.DataFrame, judged: pd.DataFrame, family: str) -> pd.DataFrame:
    """`part` with probabilities from a calibration on the latents of all families but one."""
    return part.assign(monosemanticity=probabilities(part, judged[judged.family != family]))


def learnt_worlds(out: Path, options: argparse.Namespace) -> pd.DataFrame:
    """Latents and neurons of all transformers on planted text, the untrained ones' too."""
    parts = []
    for family in FAMILIES:
        for seed in range(1 if options.quick else options.model_seeds):
            folder = out / "models" / f"{family}-{seed}"
            make = partial(learned_world, folder, family, seed, options.quick)
            parts.append(kept(out, f"B-{family}-{seed}", make))
    return pd.concat(parts)


def worlds_b(learnt: pd.DataFrame, options: argparse.Namespace) -> dict[str, Any]:
    results: dict[str, Any] = {}
    trained = learnt[learnt.basis != "untrained"]
    results["B"] = report("world B, a transformer on planted text", trained, SINGLE)
    for (family, basis), part in learnt.groupby(["family", "basis"]):
        results[f"B {family} {basis}"] = report(f"  {family}, {basis}", part, {})
    if options.run:
        corpus = kept(options.out, "B-run", lambda: run_world(options.run))
        for basis, part in corpus.groupby("basis"):
            results[f"B run {basis}"] = report(f"world B, the labelled corpus, {basis}", part, SINGLE)
    return results


def learned_world(folder: Path, family: str, seed: int, quick: bool) -> pd.DataFrame:
    """Latents and neurons of a transformer trained on a family's text, and of an untrained one."""
    n_seq, judged_seq, n_ctx, d_sae = (320, 192, 64, 64) if quick else (8192, 2048, 128, 512)
    text = FAMILIES[family](np.random.default_rng([seed, 77]), n_seq, n_ctx, 40, 0.0)
    tokens = torch.from_numpy(text.tokens)
    config = TransformerConfig.preset(
        "one-layer", d_vocab=len(text.vocab), n_ctx=n_ctx, d_model=64, n_heads=4, d_mlp=256, seed=seed
    )
    steps = TrainingConfig(tokens=20_000 if quick else 2_000_000, n_samples=0, seed=seed)
    train_model(Transformer(config), tokens[judged_seq // 8 :], tokens[: judged_seq // 8], steps, folder)
    factors = [Factor(f.name, f.tags, f.rows[f.rows < judged_seq * n_ctx]) for f in text.factors]
    factors = [factor for factor in factors if len(factor.rows)]
    parts = []
    for name, model in (("", Transformer.load(folder)), ("untrained", Transformer(config))):
        for basis, (codes, W_dec) in bases(model, tokens, judged_seq, d_sae, folder / f"sae{name}", quick).items():
            part = judge_latents(
                tokens[:judged_seq],
                codes,
                text.vocab,
                Truth.attribute(codes, factors),
                family=family,
                world=f"{family}-{seed}",
                kinds=basis,
                W_dec=W_dec,
                W_U=model.W_U,
            )
            parts.append(part.assign(basis=name or basis))
    return pd.concat(parts)


class Basis(NamedTuple):
    codes: SparseCodes
    """Of the judged sequences, in token order."""
    W_dec: Tensor


def bases(
    model: Transformer, tokens: Tensor, judged_seq: int, d_sae: int, folder: Path, quick: bool
) -> dict[str, Basis]:
    """A dictionary learnt on the residual stream, and the neurons."""
    hook, neurons = "blocks.0.hook_resid_post", "blocks.0.mlp.hook_post"
    store = harvest(model, tokens, [hook], folder.with_name(folder.name + "-store"))
    sae = train_sae(store, hook, TopKConfig(d_sae=d_sae, k=8, tokens=20_000 if quick else 1_500_000), out=folder)
    found: dict[str, list[SparseCodes]] = {"dictionary": [], "neurons": []}
    with torch.no_grad():
        for start in range(0, judged_seq, 64):
            _, cache = model.run_with_cache(tokens[start : start + 64], names_filter=[hook, neurons])
            found["dictionary"].append(sae.codes(cache[hook].flatten(0, 1).float()))
            found["neurons"].append(SparseCodes.from_dense(cache[neurons].flatten(0, 1).float().clamp_min(0)))
    W_dec = {"dictionary": sae.W_dec, "neurons": model.blocks[0].mlp.W_out}
    return {name: Basis(SparseCodes.cat(parts), W_dec[name].detach()) for name, parts in found.items()}


def run_world(path: Path) -> pd.DataFrame:
    """Latents and neurons of a run, by the labels of its corpus and by token, neither of which the ranking sees."""
    run = Run(path)
    tokens, labels = run.features.tokens, run.harvested.labels
    factors = [
        Factor(f"label {name}", frozenset({name}), torch.as_tensor(mask).reshape(-1).nonzero()[:, 0].numpy())
        for name, mask in labels.items()
    ]
    flat = tokens.numpy().reshape(-1)
    counts = np.bincount(flat, minlength=len(run.features.vocab))
    words = pd.Series(run.features.vocab).str.strip().str.casefold()
    for word, ids in words.groupby(words).groups.items():
        if counts[ids].sum() >= 200 and word:
            factors.append(Factor(f"token {word!r}", frozenset({f"token {word}"}), np.flatnonzero(np.isin(flat, ids))))
    # As in the planted worlds, what holds at more than a quarter of the text is no meaning.
    factors = [factor for factor in factors if 0 < len(factor.rows) <= flat.size // 4]
    parts = []
    for basis, features in (("dictionary", run.features), ("neurons", run.neurons)):
        codes = features.codes[0 : len(features.codes)]
        part = judge_latents(
            tokens,
            codes,
            features.vocab,
            Truth.attribute(codes, factors),
            family="corpus",
            world=str(path),
            kinds=basis,
        )
        parts.append(part.assign(basis=basis))
    return pd.concat(parts)


def report(title: str, judged: pd.DataFrame, singles: dict[str, int]) -> dict[str, Any]:
    """Print one line, and one a score; the numbers."""
    if len(claimed(judged)) == 0:
        print(f"{title}: no latent whose truth is claimed", flush=True)
        return {}
    table = scorecard(judged, {"monosemanticity": 1, **singles})
    quality, tested = verdict_quality(judged), judged[judged.tested]
    quality["called_one"] = float((tested.monosemanticity >= 0.5).mean())
    ours = table.set_index("score").reindex(["monosemanticity"]).iloc[0]
    words = {
        "AUROC": f"{ours.auroc:.3f} ({ours.auroc_low:.3f}–{ours.auroc_high:.3f})",
        "Spearman": f"{ours.spearman:.2f}",
        "P@k": f"{ours.precision:.3f}",
        "ECE": f"{quality['ece']:.3f}",
        "accuracy": f"{quality['accuracy']:.3f}",
        "abstained": f"{quality['abstained']:.2f}",
        "senses exact": f"{quality['senses_exact']:.2f}",
        "of countable": f"{quality['senses_exact_countable']:.2f} ({quality['n_countable']:.0f})",
        "called one": f"{(tested.monosemanticity >= 0.5).mean():.2f}",
    }
    n, share = len(claimed(judged)), claimed(judged).is_one.mean()
    print(f"{title}: {n:,} latents, {share:.0%} with one meaning", *map(" ".join, words.items()), sep="; ", flush=True)
    if singles:
        print(
            table[["score", "auroc", "auroc_low", "auroc_high", "spearman", "precision"]]
            .round(3)
            .to_string(index=False),
            flush=True,
        )
    return {"verdict": quality, "scores": table.to_dict(orient="records")}


def scores_alone(title: str, judged: pd.DataFrame) -> list[dict[str, Any]]:
    if len(claimed(judged)) == 0:
        print(f"{title}: no latent whose truth is claimed", flush=True)
        return []
    table = scorecard(judged, scorecard_synthetic.MEASURES)
    print(f"{title}: {len(claimed(judged)):,} latents, {claimed(judged).is_one.mean():.0%} with one meaning")
    print(table[["score", "auroc", "auroc_low", "auroc_high", "spearman", "precision"]].round(3).to_string(index=False))
    return table.to_dict(orient="records")


def kept(out: Path, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The table of a world, from its file where it is there already."""
    file = out / "worlds" / f"{name}.parquet"
    if not file.exists():
        begin = time.monotonic()
        table = make()
        temporary = file.with_suffix(".tmp")
        table.to_parquet(temporary, index=False)
        os.replace(temporary, file)
        print(f"  judged {name} in {time.monotonic() - begin:.0f} s", flush=True)
    return pd.read_parquet(file)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/scorecard"))
    parser.add_argument("--run", type=Path, help="a run folder with a labelled corpus")
    parser.add_argument("--seeds", type=int, default=12, help="worlds A of each family (default 12)")
    parser.add_argument("--model-seeds", type=int, default=3, help="worlds B of each family (default 3)")
    parser.add_argument("--calibrate", action="store_true", help="fit the shipped calibration and stop")
    parser.add_argument("--quick", action="store_true")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
