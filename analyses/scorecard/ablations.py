"""What does each statistic and each kind of predicate contribute? The verdict is fitted without it.

In: a folder of latents that readers judged, and planted worlds. Out: a table with a row for the whole verdict, and one
for each statistic and each group of kinds that is left out,

    readings_auroc, readings_ece      of all read latents, those of each source by a fit to all others
    planted_auroc, planted_worst, planted_ece      mean of the families, worst, mean; each family by a fit to all others

Each firing's predicates are looked up once, and those of the omitted kinds are removed.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from analyses.scorecard.judged import NEVER_SURE, claimed
from analyses.scorecard.planted_latents import WorldConfig, planted_world
from analyses.scorecard.read_latents import family_of, open_source, told_by_readers
from analyses.scorecard.refit import held_out_probabilities
from analyses.scorecard.scores import auroc, expected_calibration_error, matched_weights
from interp.codes.sparse_codes import SparseCodes
from interp.text.predicates import Predicates, PredicatesOfUnits
from interp.verdict.calibration_fit import READ
from interp.verdict.coded_text import CodedText
from interp.verdict.evidence import collect_evidence
from interp.verdict.firing_comparison import MAX_PER_TENTH, firing_weights
from interp.verdict.similarity import STATISTIC_NAMES, pairwise_similarity, shared_predicates, similarity_statistics

GROUPS = {
    "the token": ("token",),
    "related words": ("related", "previous_related"),
    "script, shape, length": ("script", "shape", "start", "letters", "length"),
    "first letters": ("first_", "stem"),
    "last letters": ("last_",),
    "about": ("about_",),
    "the token before": ("previous",),
    "the token behind": ("next",),
    "topic": ("topic_",),
    "tokens around": ("around",),
}
"""The beginnings of the names of the kinds of each group."""
PLACES = "places"
"""The group of all other kinds."""
LATENTS = 120
"""Latents of each planted world."""


class Sampled(NamedTuple):
    """The sampled firings of the latents of one text."""

    table: pd.DataFrame
    """One row per latent: `family`, `is_one`, `is_several`, `tested`, `n_active`."""
    read: PredicatesOfUnits
    """The predicates at each firing of each latent."""
    tenths: list[np.ndarray]
    predicates: Predicates


def ablations(folder: Path, sources: Sequence[str], worlds: Iterable[WorldConfig]) -> pd.DataFrame:
    """Return one row per fit, the whole first; `without` names what it lacks."""
    sampled = [*_read(folder, sources), *_planted(worlds)]
    kinds = list(dict.fromkeys(group_of(kind) for one in sampled for kind in one.predicates.compared))
    statistics = pd.concat([_statistics(each, None) for each in sampled])
    rows = [{"without": "nothing"} | _scores(statistics, STATISTIC_NAMES)]
    rows += [
        {"without": name} | _scores(statistics, [other for other in STATISTIC_NAMES if other != name])
        for name in STATISTIC_NAMES
    ]
    for group in kinds:
        rows.append(
            {"without": group} | _scores(pd.concat([_statistics(each, group) for each in sampled]), STATISTIC_NAMES)
        )
    return pd.DataFrame(rows)


def group_of(kind: str) -> str:
    return next((group for group, begins in GROUPS.items() if kind.startswith(begins)), PLACES)


def _read(folder: Path, sources: Sequence[str]) -> Iterator[Sampled]:
    for name in sources:
        source = open_source(folder, name)
        about = told_by_readers(source.rows) | {"family": family_of(name)}
        kept = (source.rows.draw != "lexical").to_numpy()
        yield _sample(source.tokens, SparseCodes.from_scipy(source.codes), source.vocab, pd.DataFrame(about), kept)


def _planted(worlds: Iterable[WorldConfig]) -> Iterator[Sampled]:
    for config in worlds:
        world = planted_world(config)
        about = {"family": config.family, "is_one": world.truth.is_one, "is_several": world.truth.is_several}
        table = pd.DataFrame(about)
        yield _sample(world.tokens, world.codes, world.vocab, table, np.arange(len(table)) < LATENTS)


def _sample(
    tokens: torch.Tensor, codes: SparseCodes, vocab: Sequence[str], table: pd.DataFrame, kept: np.ndarray
) -> Sampled:
    text = CodedText.from_codes(tokens, codes, vocab)
    evidence = collect_evidence(text, NEVER_SURE, chosen=np.zeros(len(table), bool), n_shifts=0)
    table = table.assign(tested=evidence.testable, n_active=text.n_active, density=text.n_active / len(codes))
    chosen = np.flatnonzero(kept & evidence.testable & (table.is_one | table.is_several).to_numpy())
    present = [np.flatnonzero(evidence.sampled_rows[latent] >= 0) for latent in chosen]
    rows = [evidence.sampled_rows[latent, places] for latent, places in zip(chosen, present, strict=True)]
    read = text.predicates.at_each(rows, text.predicates.compared)
    return Sampled(table.iloc[chosen], read, [places // MAX_PER_TENTH for places in present], text.predicates)


def _statistics(sampled: Sampled, without: str | None) -> pd.DataFrame:
    """Return the table with the statistics, in which predicates of one group of kinds do not count."""
    predicates, read, values = sampled.predicates, sampled.read, []
    left_out = np.array([group_of(kind) == without for kind in predicates.offsets])
    holds = np.where(left_out[predicates.kinds_of(read.holds)], -1, read.holds)
    scratch = np.zeros(len(predicates.surprise), np.int32)
    for unit, (tenths, density) in enumerate(zip(sampled.tenths, sampled.table.density, strict=True)):
        weights = firing_weights(tenths)
        rows = read.entries[read.offsets[unit] : read.offsets[unit + 1]]
        shared = shared_predicates(holds, rows, weights, predicates.surprise, scratch)
        values.append(similarity_statistics(pairwise_similarity(shared, len(rows), density), weights).values)
    return sampled.table.assign(**dict(zip(STATISTIC_NAMES, np.array(values).T, strict=True)))


def _scores(table: pd.DataFrame, names: Sequence[str]) -> dict[str, float]:
    """Score a fit to some of the statistics."""
    table = claimed(table).reset_index(drop=True)
    for name in set(STATISTIC_NAMES) - set(names):
        table[name] = 0.0
    one, p = table.is_one.to_numpy(bool), held_out_probabilities(table)
    read = table.family.str.startswith(READ).to_numpy(bool)
    scores_of_families = []
    for family in table.family[~read].unique():
        in_family = (table.family == family).to_numpy()
        matched = matched_weights(table.n_active.to_numpy()[in_family], one[in_family])
        scores_of_families.append(
            (auroc(one[in_family], p[in_family], matched), expected_calibration_error(p[in_family], one[in_family]))
        )
    mean, worst = np.mean(scores_of_families, axis=0), np.min(scores_of_families, axis=0)
    return {
        "readings_auroc": auroc(one[read], p[read], np.ones(read.sum())),
        "readings_ece": expected_calibration_error(p[read], one[read]),
        "planted_auroc": mean[0],
        "planted_worst": worst[0],
        "planted_ece": mean[1],
    }
