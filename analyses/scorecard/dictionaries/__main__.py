"""How good is a dictionary, by measures that need no judge, and how small a difference can each of them detect?

    python -m analyses.scorecard.dictionaries runs/demo runs/smollm2
    python -m analyses.scorecard.dictionaries runs/demo --dictionaries my/sae another/sae --no-training

In: runs with stored activations; their model, text and store are read, and nothing is written to them. On each run, the
same recipe is trained by this library, by SAELens's trainer and by sparsify's coder (if they are installed), with the
same number of latents, k and batches, from several seeds. They are compared with a Matryoshka dictionary of the same L0
and with two nulls: a dictionary whose decoder stayed as it was drawn, and random features. `--dictionaries` names
folders of dictionaries of the run's hook, of any kind that `load_sae` reads. The measures, one module each:

    core         FVU, L0, CE recovered, dead and faint latents
    probing      how well one latent, and five, predict a known label of a text
    absorption   first letters, if the model can spell: what other latents took from the latents of a letter
    structure    how far directions are made of one another

Each seed has a dictionary and, for each measure, its own text, division or draw, which is the same for all
dictionaries. The effect of a seed's text on all of them is not noise. The noise of a measure is the standard deviation
of [dictionary, seed] after the means of rows and of columns are removed, over the dictionaries that were trained
freely. The smallest difference that the measure can detect between two dictionaries, with as many seeds each, is the
one that a two-sided test at 5 % finds 4 times in 5. A dictionary from a folder is measured with each seed's text.

Claim tested: each measure separates freely trained dictionaries from both nulls by more than the smallest difference.
TPP and SCR, which others measure too, are left out: they fail an audit against known truth (arXiv 2605.18229). Resumes;
runs that were measured into the same folder before stay in its results. Out: OUT/results.json (`analyses.record`), with
the seconds of processor time by measure.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
import torch

from analyses.record import Claim, Record, check_run
from analyses.scorecard.dictionaries.absorption import absorption
from analyses.scorecard.dictionaries.core import COLUMNS, core
from analyses.scorecard.dictionaries.probing import baselines, probing
from analyses.scorecard.dictionaries.structure import structure
from analyses.scorecard.dictionaries.subject import LIKE, NULLS, RANDOM, Sizes, Subject
from interp import SAE, Run, load_sae
from interp.evaluation.quality import decoder_digest
from interp.storage.files import digest_json, read_json

MEASURES = {
    "core": tuple(COLUMNS.values()),
    "probing": ("k=1", "k=5", "hard, k=1", "hard, k=5"),
    "absorption": ("full", "fraction", "F1 of main", "main latents"),
    "structure": ("composed", "twins"),
}
JUDGED = ("FVU", "CE recovered", "hard, k=1", "hard, k=5", "fraction", "composed")
"""Numbers that the claim is about."""
BESIDE = ("activations", "token counts")
"""The inputs that are probed for comparison with the dictionaries."""
LEVEL, POWER = 0.05, 0.8
SIZES = ("d_sae", "tokens", "seeds", "test_tokens", "batch", "characters")


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    o = parse(arguments)
    torch.set_num_threads(o.threads)
    warnings.filterwarnings("ignore")
    sizes = Sizes(k=o.k[0], **{name: getattr(o, name) for name in SIZES})
    whole_record, file, cards = Record(o.out, sizes, svg=False), o.out / "results.json", {}
    for path, k in zip(o.runs, o.k if len(o.k) > 1 else o.k * len(o.runs), strict=True):
        subject = Subject(Run(path), replace(sizes, k=k), o.out)
        record = Record(subject.folder, subject.sizes, svg=False)
        texts = record.piece("texts", timed(partial(about, subject)))
        card = scorecard(subject, record, dictionaries(subject, o))
        cards[subject.name] = {"sizes": asdict(subject.sizes), "texts": texts, **card}
        whole_record.seconds += record.seconds
    before = read_json(file, "delete it")["values"] if file.exists() else {}
    return whole_record.finish(claims(before | cards), {}, before | cards)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--dictionaries", nargs="+", default=[], metavar="FOLDER", help="of these too, in every run")
    parser.add_argument("--no-training", action="store_true", help="measure the named dictionaries alone")
    parser.add_argument("--k", type=int, nargs="+", default=[8], help="of each run, or of all")
    for name in SIZES:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(Sizes(), name))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("runs/dictionaries"))
    o = parser.parse_args(arguments)
    for path in o.runs:
        check_run(parser, "RUN", path, ("corpus", "model", "activations"))
    if len(o.k) not in (1, len(o.runs)):
        parser.error(f"--k: {len(o.k)} numbers for {len(o.runs)} runs: name one for each, or one for all")
    if o.no_training and not o.dictionaries:
        parser.error("--no-training leaves nothing to measure: name --dictionaries")
    return o


def dictionaries(subject: Subject, o: argparse.Namespace) -> dict[str, list[SAE]]:
    """Return the dictionaries by name, one per seed."""
    trained = {} if o.no_training else subject.trained()
    for folder in o.dictionaries:
        sae, d_in = load_sae(folder), subject.run.store.d(subject.hook)
        if sae.d_in != d_in:
            raise ValueError(f"{folder} reads rows of width {sae.d_in}, {subject.hook} of {subject.name} has {d_in}")
        trained["/".join(Path(folder).resolve().parts[-2:])] = [sae] * subject.sizes.seeds
    trained[RANDOM] = subject.random(trained.get(LIKE) or next(iter(trained.values())))
    for sae in (sae for saes in trained.values() for sae in saes):
        if subject.limit is not None:
            sae.metadata.setdefault("norm_limit", subject.limit)
    return trained


def scorecard(subject: Subject, record: Record, saes: Mapping[str, list[SAE]]) -> dict[str, Any]:
    """Return all numbers of a run: by dictionary, their noise, the smallest differences, and the processor time they
    took."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in (*saes, *BESIDE)}
    for seed in range(subject.sizes.seeds):
        seed_saes = {name: each[seed] for name, each in saes.items()}
        digests = {name: digest_json([name, decoder_digest(sae.W_dec)])[:12] for name, sae in seed_saes.items()}
        tokens = subject.test_tokens[seed :: subject.sizes.seeds]
        run_over = partial(core, seed_saes, subject.run, subject.hook, tokens)
        cores = record.piece(f"core-{seed}-{digest_json(digests)[:12]}", timed(run_over))
        for name, sae in seed_saes.items():
            card = {"core": cores[name] | {"took": cores["took"] / len(seed_saes)}}
            for measure, make in {
                "probing": partial(probing, sae, subject.tasks, seed),
                "absorption": partial(absorption, sae, subject.words, subject.spellings[seed]),
                "structure": partial(structure, sae, subject.tasks.choose.x, seed),
            }.items():
                card[measure] = record.piece(f"{measure}-{seed}-{digests[name]}", timed(make))
            rows[name].append(card)
            record.say(f"{subject.name}, seed {seed}: {name}")
        baseline_scores = record.piece(f"baselines-{seed}", timed(partial(baselines, subject.tasks, seed)))
        for name in BESIDE:
            rows[name].append({"probing": baseline_scores[name]})
    values = {name: by_number(each) for name, each in rows.items()}
    free = [values[name] for name in saes if name not in NULLS]
    spread = {number: noise([each[number] for each in free]) for number in free[0]}
    took = [row for name in saes for row in rows[name]]
    return {
        "values": values,
        "noise": {number: each[0] for number, each in spread.items()},
        "smallest difference": {number: each[1] for number, each in spread.items()},
        "seconds": {measure: float(np.mean([row[measure]["took"] for row in took])) for measure in MEASURES},
        "by seed": rows,
    }


def about(subject: Subject) -> dict[str, Any]:
    """Return what the texts are like, and whether the model can spell."""
    return {
        "tasks": len(subject.tasks.labels),
        "hard tasks": subject.tasks.hard,
        "words": len(subject.words.words),
        "spelling": [{"accuracy": each.accuracy, "letters": len(each.spelt)} for each in subject.spellings],
    }


def timed(make: Callable[[], Mapping[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Return what `make` gives, and the seconds of processor time that it `took`."""

    def run() -> dict[str, Any]:
        begin = time.process_time()
        return {**make(), "took": time.process_time() - begin}

    return run


def by_number(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return the numbers of `MEASURES` that every seed has, one per seed."""
    numbers = [(measure, number) for measure, names in MEASURES.items() for number in names]
    return {
        number: [float(row[measure][number]) for row in rows]
        for measure, number in numbers
        if all(number in row.get(measure, {}) and row[measure][number] is not None for row in rows)
    }


def noise(values: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Return the standard deviation of values [dictionary, seed] without the means of rows and columns, and the least
    difference of two rows' means that a t test at `LEVEL` finds with probability `POWER`; NaN for one row or column."""
    x = np.array(values)
    freedom = (x.shape[0] - 1) * (x.shape[1] - 1)
    if not freedom:
        return float("nan"), float("nan")
    left = x - x.mean(0) - x.mean(1, keepdims=True) + x.mean()
    deviation = float(np.sqrt(np.square(left).sum() / freedom))
    quantiles = scipy.stats.t.ppf(1 - LEVEL / 2, freedom) + scipy.stats.t.ppf(POWER, freedom)
    return deviation, float(quantiles * deviation * np.sqrt(2 / x.shape[1]))


def claims(cards: Mapping[str, Mapping[str, Any]]) -> list[Claim]:
    """Judge each number: in every run that measures it, do all freely trained dictionaries differ from each null in the
    same direction, by more than the smallest difference that it detects? The gap is that of the nearest dictionary; 0
    if the null lies among them."""
    claims_made = []
    for number in JUDGED:
        gaps: dict[str, dict[str, float]] = {}
        for name, card in cards.items():
            means = {
                each: float(np.mean(values[number])) for each, values in card["values"].items() if number in values
            }
            free = [each for each in means if each not in (*NULLS, *BESIDE)]
            smallest = card["smallest difference"].get(number) or float("nan")
            for null in NULLS:
                if null in means and free and np.isfinite(smallest):
                    differences = [means[each] - means[null] for each in free]
                    gap = max(min(differences), -max(differences), 0.0)
                    gaps[f"{name}, {null}"] = {"gap": gap, "smallest difference": smallest}
        if gaps:
            text = f"{number} separates freely trained dictionaries from both nulls by more than it can detect."
            differences = (
                f"{where}: {gap['gap']:.3g} (detects {gap['smallest difference']:.2g})" for where, gap in gaps.items()
            )
            holds = all(gap["gap"] > gap["smallest difference"] for gap in gaps.values())
            claims_made.append(Claim(row=number, text=text, holds=holds, found="; ".join(differences), numbers=gaps))
    return claims_made


if __name__ == "__main__":
    main()
