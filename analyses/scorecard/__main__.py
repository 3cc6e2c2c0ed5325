"""Is the monosemanticity ranking right? Every score is compared with the truth, in worlds where the truth is known.

    python -m analyses.scorecard                 worlds A to D; resumes (out/worlds)
    python -m analyses.scorecard --short         without the synthetic worlds and the knobs
    python -m analyses.scorecard --run RUN       and the labelled corpus of a run, judged by its labels
    python -m analyses.scorecard --ablate        and the readings without each statistic, and each kind of predicate
    python -m analyses.scorecard --calibrate     judges all latents again, fits the calibration of the package, and
                                                 prints the scores of each source before and after
    python -m analyses.scorecard --quick         small worlds and no readings, for the tests

All but the last two also read latents of real dictionaries that careful readers judged: those of readings/, whose
README describes them, or yours (`--readings DIR`).

Claim: the probability of one meaning separates latents with one meaning from latents with several (AUROC ≥ 0.95 in
world A and ≥ 0.90 in world B, both held out, ≥ 0.05 above the best single known score), it is calibrated (ECE ≤ 0.05),
and the number of senses is exact for ≥ 70 % of the latents with several.

A   planted latents on planted text (`scorecard.planted_latents`): eleven families of text, several seeds, and for three
    of them difficulty knobs one at a time.
B   a transformer trained on planted text of three families, its dictionary and its neurons, judged by the factors of
    the text (which the ranking never saw). With --run: the run's latents and neurons, judged by the labels of its
    corpus and by token.
D   latents from another author, planted in different texts: what machines write, and what people say. They are ranked
    as a user ranks their own (`FeatureStore.from_codes`, `rank_features`) with the shipped calibration.
C   dictionaries trained on `sae_lens.synthetic` worlds, which have no text: only scores that need no text are given.

Reported: frequency-matched AUROC, Spearman with polysemanticity, precision among the first k, calibration, and senses,
by kind of latent and by number of senses. For senses: how often their number is exact, and how often it would be if the
meaning of each sampled firing were known; how many senses have one meaning themselves, and how well their probability
tells which. Nulls: codes on text further on, a dictionary with a frozen decoder, an untrained transformer; for each the
share called monosemantic, and how many of its latents have one meaning by the truth. Probability, interval and senses
of each family's latents come from a calibration on all other families. Writes results.json, tables (Parquet) and
figures. Each world is made and read once. With --short and --ablate the whole takes 6 processor minutes.

`--calibrate` writes interp/verdict/judged_latents.parquet, and the calibration of the package, which is fitted to
that file alone, and prints what changed (`refit`). The file has numbers only: the two statistics of each latent with
its source, whether it has one meaning, and for read latents how they were drawn and what the two readers said (p_one,
0..100). It is what to do after a change of the statistics, or of the kinds of predicates that compare firings;
analyses/README.md has the procedure.
"""

import argparse
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from analyses.record import check_run, parse_with_out
from analyses.scorecard import figures
from analyses.scorecard.ablations import ablations
from analyses.scorecard.foreign_worlds import TEXTS, foreign_scores, judge_foreign
from analyses.scorecard.judged import (
    calibration_latents,
    calibration_worlds,
    claimed,
    family_calibrations,
    fit_to,
    judge_world,
    with_verdict,
    with_verdicts,
)
from analyses.scorecard.learned_world import QUICK, TRAINED, Sizes
from analyses.scorecard.planted_latents import WorldConfig, planted_world
from analyses.scorecard.read_latents import (
    READINGS,
    agreement,
    digest_of,
    disagreements,
    judged_by_both,
    read_latents,
    read_sources,
)
from analyses.scorecard.refit import changes
from analyses.scorecard.report import OURS, SINGLE, by_group, json_value, of_families, report, scores_alone
from analyses.scorecard.scores import calibration_curve
from analyses.scorecard.synthetic import synthetic_world, synthetic_worlds
from analyses.scorecard.world_models import learned_world, run_world
from interp import Run
from interp.statistics.estimates import wilson
from interp.storage.files import digest_json
from interp.verdict.calibration import Calibration
from interp.verdict.calibration_fit import JUDGED_LATENTS, fit_shipped

KNOBS: dict[str, tuple[float, ...]] = {
    "superposition": (2.0, 4.0, 8.0),
    "noise": (0.02, 0.15, 0.3),
    "similarity": (0.0, 0.2, 0.4),
    "segment": (10, 40, 100),
    "n_ctx": (32, 128, 256),
    "rarity": (1.0, 0.4, 0.15),
    "max_senses": (2, 3, 5),
    "n_seq": (256, 1024),
}
KNOB_FAMILIES = ("topics", "records", "scripts")
MODEL_FAMILIES = ("topics", "agreement", "nesting")

Judge = Callable[[], pd.DataFrame]


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    options = _parse(arguments)
    out: Path = options.out
    if options.calibrate:
        shutil.rmtree(out / "worlds", ignore_errors=True)  # their statistics are those of the code that wrote them
    (out / "worlds").mkdir(parents=True, exist_ok=True)
    table = pd.concat([read_or_make(out, name, judge) for name, judge in judges(options)], ignore_index=True)
    table["world"] = table.world.mask(table.basis.notna(), "a transformer's " + table.world)
    sources = [] if options.quick else read_sources(options.readings)
    read = [
        read_or_make(
            out, f"read-{name}-{digest_of(options.readings, name)}", partial(read_latents, options.readings, name)
        )
        for name in sources
    ]
    # Nulls are judged, and nothing is fitted to them.
    fitted_to = pd.concat([table[table.basis.isna() | table.basis.isin(TRAINED)], *read])
    if options.calibrate:
        calibrate(calibration_latents(fitted_to))
        return {}
    calibrations = family_calibrations(fitted_to)
    judged = with_verdicts(table, calibrations)
    planted, learnt = judged[judged.basis.isna()], judged[judged.basis.notna()]
    results: dict[str, Any] = {"seeds": options.seeds, "model_seeds": options.model_seeds}
    singles = OURS if options.quick else SINGLE
    if sources:
        results["readings"] = readings(options, with_verdicts(pd.concat(read), calibrations))
    results |= world_a(planted, singles) | world_b(learnt, singles) | {"nulls": nulls(learnt)}
    if options.run:
        results |= labelled_run(options, fit_to(fitted_to))
    results["D"] = worlds_d(options)
    if not options.short:
        results |= worlds_c(out, options.quick)
    if not options.short and not options.quick:
        results["A by knob"] = by_knob(out, calibrations)
    (out / "results.json").write_text(json.dumps(json_value(results), indent=1))
    save_figures(planted, learnt[learnt.basis.isin(TRAINED)], results, out)
    return results


def calibrate(latents: pd.DataFrame) -> None:
    """Write the latents and the calibration of the package, which is fitted to them, and print what that changes."""
    before = pd.read_parquet(JUDGED_LATENTS)
    latents.to_parquet(JUDGED_LATENTS, index=False, compression="zstd")
    fit_shipped()
    print(
        "each source by a fit to all others, before and after", changes(before, latents).round(3).to_string(), sep="\n"
    )


def readings(options: argparse.Namespace, table: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Return latents that readers judged, those of each source by a calibration on all others and on planted text."""
    scores = {
        "readers' judgement, each source left out": agreement(table),
        "calibration on readings": calibration_curve(judged_by_both(table)),
        "where probability and readers are furthest apart": disagreements(table),
    }
    if options.ablate:
        worlds = [config for _, config in calibration_worlds(1)]
        sources = read_sources(options.readings)
        scores["lost without a statistic or a kind of predicate"] = ablations(options.readings, sources, worlds)
    for title, part in scores.items():
        print(title, part.round(3).to_string(index=False, max_colwidth=48), sep="\n", flush=True)
    return {title: part.to_dict(orient="records") for title, part in scores.items()}


def judges(options: argparse.Namespace) -> Iterator[tuple[str, Judge]]:
    """Yield name of each world A and B, and how to judge it."""
    size = {"n_seq": 192, "n_latents": 60} if options.quick else {}
    for name, config in calibration_worlds(1 if options.quick else options.seeds, **size):
        yield name, partial(_judge_planted, config, name)
    sizes = QUICK if options.quick else Sizes()
    for family in MODEL_FAMILIES:
        for seed in range(1 if options.quick else options.model_seeds):
            folder = options.out / "models" / f"{family}-{seed}"
            yield f"B-{family}-{seed}", partial(learned_world, folder, family, seed, sizes)


def world_a(planted: pd.DataFrame, singles: dict[str, int]) -> dict[str, Any]:
    results: dict[str, Any] = {"A": report("world A, families held out", planted, singles)}
    results["A by family"] = {f: report(f"  {f}", part, {}) for f, part in planted.groupby("family")}
    results["A families"] = of_families(results["A by family"])
    results["A by kind"] = by_group("kind", planted.groupby("kind"))
    several = planted[planted.is_several & (planted.true_senses > 1)]
    results["A by senses"] = by_group("senses", several.groupby("true_senses"))
    return results


def world_b(learnt: pd.DataFrame, singles: dict[str, int]) -> dict[str, Any]:
    trained = learnt[learnt.basis.isin(TRAINED)]
    results: dict[str, Any] = {"B": report("world B, transformers on planted text", trained, singles)}
    for basis, part in trained.groupby("basis"):
        results[f"B {basis}"] = report(f"world B, {basis}", part, singles)
    for (family, basis), part in trained.groupby(["family", "basis"]):
        results[f"B {family} {basis}"] = report(f"  {family}, {basis}", part, {})
    several = trained[trained.is_several & (trained.true_senses > 1)]
    results["B by senses"] = by_group("senses", several.groupby("true_senses"))
    return results


def nulls(learnt: pd.DataFrame) -> list[dict[str, Any]]:
    """Count, for each basis, the tested latents called monosemantic, and surely; of the `n_claimed` with a known truth,
    those that are."""
    rows = []
    for basis, part in learnt[learnt.tested].groupby("basis", sort=False):
        claims = claimed(part)
        row: dict[str, Any] = {"basis": basis, "n": len(part), "n_claimed": len(claims)}
        for name, hits in (
            ("called_one", part.monosemanticity >= 0.5),
            ("surely_one", part.ci_low > 0.5),
            ("is_one", claims.is_one),
        ):
            low, high = wilson(hits.sum(), len(hits))
            row |= {name: hits.mean(), f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    print("shares of the tested latents", pd.DataFrame(rows).round(3).to_string(index=False), sep="\n", flush=True)
    return rows


def labelled_run(options: argparse.Namespace, calibration: Calibration) -> dict[str, Any]:
    corpus = with_verdict(judged_run(options), calibration)
    return {
        f"B run {basis}": report(f"world B, the labelled corpus, {basis}", part, SINGLE)
        for basis, part in corpus.groupby("basis")
    }


def judged_run(options: argparse.Namespace) -> pd.DataFrame:
    """Return the latents of the run, judged; kept by what they were made of, so that another run is judged anew."""
    made_of = digest_json(Run(options.run).fingerprints(("corpus", "features", "neurons")))
    return read_or_make(options.out, f"B-run-{made_of[:8]}", partial(run_world, options.run))


def by_knob(out: Path, calibrations: dict[str, Calibration]) -> dict[str, Any]:
    """Return one knob at a time, from the default world; each family's latents by a calibration on the others."""
    results: dict[str, Any] = {}
    for knob, values in KNOBS.items():
        for value in values:
            parts = []
            for family in KNOB_FAMILIES:
                config = replace(WorldConfig(family=family, seed=9, n_latents=200), **{knob: value})
                name = f"{knob}-{value}-{family}"
                table = read_or_make(out, name, partial(_judge_planted, config, name))
                parts.append(with_verdict(table, calibrations[family]))
            results[f"{knob}={value}"] = report(f"  {knob} = {value}", pd.concat(parts), {})
    return results


def _judge_planted(config: WorldConfig, name: str) -> pd.DataFrame:
    return judge_world(planted_world(config), name)


def worlds_d(options: argparse.Namespace) -> list[dict[str, Any]]:
    size = {"n_seq": 200, "n_latents": 40} if options.quick else {}
    shipped = Calibration.load()
    digest = hashlib.sha256(shipped.weights.tobytes() + shipped.bias.tobytes()).hexdigest()[:8]
    tables = [
        read_or_make(options.out, f"D-{name} by {digest}", partial(judge_foreign, name, shipped, **size))
        for name in TEXTS
    ]
    table = foreign_scores(pd.concat(tables))
    print("worlds of another maker", table.round(3).to_string(index=False), sep="\n", flush=True)
    return table.to_dict(orient="records")


def worlds_c(out: Path, quick: bool) -> dict[str, Any]:
    """Judge all dictionaries together, and each by itself: together, a score may only reveal which dictionary it
    is."""
    parts = []
    for name, seed in synthetic_worlds(quick):
        make = partial(synthetic_world, out / "models" / "C", name, seed)
        parts.append(read_or_make(out, f"C-{name.replace(' ', '_')}-{seed}", make))
    learnt = pd.concat(parts)
    results = {"C": scores_alone("world C, synthetic activations without text", learnt)}
    if not quick:
        for (world, kind), part in learnt.groupby(["family", "kind"]):
            results[f"C {world} {kind}"] = scores_alone(f"  {world}, {kind}", part)
    return results


def save_figures(planted: pd.DataFrame, learnt: pd.DataFrame, results: dict[str, Any], out: Path) -> None:
    curves = {"planted latents, families held out": planted, "learnt latents": learnt}
    figures.calibration_curve(
        {name: calibration_curve(part) for name, part in curves.items() if len(claimed(part))},
        title="Of latents with probability p, how many have one meaning",
    ).write_html(out / "calibration.html")
    tables = {name: pd.DataFrame(results[name]["scores"]) for name in ("A", "B") if results[name]}
    figures.score_comparison({f"world {name}": table for name, table in tables.items()}).write_html(out / "scores.html")


def read_or_make(out: Path, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Return the table of a world, from its file where it already exists."""
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
    parser.add_argument("--run", type=Path, help="a run folder with a labelled corpus")
    parser.add_argument("--seeds", type=int, default=3, help="worlds A of each family (default 3)")
    parser.add_argument("--model-seeds", type=int, default=1, help="worlds B of each family (default 1)")
    parser.add_argument("--short", action="store_true", help="neither worlds C nor knobs")
    parser.add_argument("--calibrate", action="store_true", help="judge all latents again, fit the calibration, stop")
    parser.add_argument("--readings", type=Path, default=READINGS, help="latents that readers judged (default: ours)")
    parser.add_argument("--ablate", action="store_true", help="and the readings without each statistic and kind")
    parser.add_argument("--quick", action="store_true")
    options = parse_with_out(parser, arguments, Path("runs/scorecard"))
    if options.calibrate and options.quick:
        parser.error("--calibrate fits the calibration that ships, and --quick has too few latents for it")
    if options.ablate and options.quick:
        parser.error("--ablate leaves predicates out of the readings, which --quick does not read")
    if options.run:
        check_run(parser, "--run", options.run, ("corpus", "features", "neurons"))
    return options


if __name__ == "__main__":
    main()
