"""Into how many senses do a latent's firings fall, and which firing has which?

In: sampled firings (`splits.Sample`). Out: the sense of each, 0 for the one with the most mass, −1 for none.

    1  Take the set of firings with the most mass that has not been looked at. Ask the calibration whether it has one
       meaning (`cohesion`, `calibration`).
    2  If that is less likely than not, split it where the between/within ratio is smallest (`splits`).
    3  When nothing is left to split, join the two parts with the largest ratio, as long as it is above MAX_RATIO.

A part with less than MIN_SENSE of the latent's mass, or with less than SMALL of it and more likely several meanings
than one, is noise and no sense; its firings go without.

    stability of sense s = mean over bootstraps of  max_t m(s ∩ t) / m(s ∪ t),      m: mass, t: a part of the bootstrap

says how well it is found again (Hennig 2007, Cluster-wise assessment of cluster stability). Whether a sense has one
meaning itself is what the calibration says of its firings alone; the senses of shifted text are its null (`evidence`).

Source: own, but for the stability. Cost: some 5 ms a latent that is not of one meaning, and as much for each bootstrap.
Failing: a sense with fewer than some ten sampled firings cannot be told from noise; the number is more often too small
than too large; and firings without any meaning fall into parts as well, by the kinds of text that they lie in.
"""

from collections.abc import Callable
from itertools import combinations

import numpy as np
from jaxtyping import Float64, Int64

from interp.monosemanticity.cohesion import Cohesion, measure_cohesion
from interp.monosemanticity.splits import Sample, ratio_of, similarities

MAX_SENSES = 6
MAX_RATIO = 0.4
"""Two parts with a larger between/within ratio are one sense."""
MIN_SENSE, SMALL = 0.1, 0.2
MIN_FIRINGS, MIN_SMALL = 20, 6
"""Fewer are not split any more; a small part of fewer is no sense."""
MIN_GROUPS = 20
"""A latent that fires in fewer groups of sequences is not tested: two halves of two senses, five firings each."""

HasOne = Callable[[Float64[np.ndarray, " statistic"]], float | Float64[np.ndarray, ""]]
"""The probability of one meaning from the statistics of `cohesion`."""
Senses = Int64[np.ndarray, " firing"]


def part_senses(sample: Sample, first: Cohesion, has_one: HasOne) -> Senses:
    """The sense of each firing. first: the cohesion of all firings."""
    sense = np.zeros(len(sample.own), np.int64)
    todo, n_parts = [0], 1
    while todo and n_parts < MAX_SENSES:
        todo.sort(key=lambda part: -sample.mass[sense == part].sum())
        label = todo.pop(0)
        cohesion = first if n_parts == 1 else measure_cohesion(sample.part(sense == label))
        if cohesion.split is None or has_one(cohesion.values[0]) >= 0.5:
            continue
        members = np.flatnonzero(sense == label)
        sense[members[cohesion.split.side]] = n_parts
        for part in (label, n_parts):
            tests = sample.test[sense == part]
            if len(tests) >= MIN_FIRINGS and 0 < tests.sum() < len(tests):
                todo.append(part)
        n_parts += 1
    return _number(sample, _join_similar(sample, sense), has_one)


def sense_stability(
    sample: Sample, sense: Senses, draws: Float64[np.ndarray, "bootstrap firing"], has_one: HasOne
) -> Float64[np.ndarray, " sense"]:
    """Of each sense that `part_senses` found; draws: how often each firing was drawn."""
    numbers, found = np.arange(sense.max() + 1), []
    for times in draws:
        drawn = np.flatnonzero(times)
        again = sample._replace(weights=sample.weights[:1] * times).part(drawn)
        if not again.is_in_both_halves:
            continue
        parts = part_senses(again, measure_cohesion(again), has_one)
        in_sense = sense[drawn] == numbers[:, None]
        in_part = parts == np.arange(parts.max() + 1)[:, None]
        shared = (in_sense * again.mass) @ in_part.T
        either = (in_sense @ again.mass)[:, None] + in_part @ again.mass - shared
        found.append((shared / np.maximum(either, 1e-12)).max(1))
    return np.mean(found, 0) if found else np.full(len(numbers), np.nan)


def probability_of_one(part: Sample, has_one: HasOne) -> float:
    """That some of a latent's firings have one meaning; NaN for too few firings to tell."""
    if len(part.own) < MIN_SMALL or not part.is_in_both_halves:
        return np.nan
    return float(has_one(measure_cohesion(part).values[0]))


def _join_similar(sample: Sample, sense: Senses) -> Senses:
    while True:
        best, joined = MAX_RATIO, None
        for pair in combinations(np.unique(sense), 2):
            side = np.select([sense == part for part in pair], [0, 1], -1)
            if np.bincount(2 * side[side >= 0] + sample.test[side >= 0], minlength=4).min() == 0:
                continue
            ratio = ratio_of(*similarities(sample.points, sample.own, sample.test, side, sample.mass)[:2])
            if ratio > best:
                best, joined = ratio, pair
        if joined is None:
            return sense
        sense = np.where(sense == joined[1], joined[0], sense)


def _number(sample: Sample, sense: Senses, has_one: HasOne) -> Senses:
    """Senses numbered by mass, the largest always one; −1 for the firings of a part that is no sense."""
    labels = np.unique(sense)
    order = np.argsort([-sample.mass[sense == label].sum() for label in labels], kind="stable")
    out, n = np.full(len(sense), -1, np.int64), 0
    for label in labels[order]:
        own = sense == label
        share = sample.mass[own].sum() / max(sample.mass.sum(), 1e-12)
        is_large = n == 0 or share >= SMALL
        if is_large or (share >= MIN_SENSE and probability_of_one(sample.part(own), has_one) >= 0.5):
            out[own] = n
            n += 1
    return out
