"""Into how many senses do a latent's firings fall, and which firing has which?

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

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from interp.monosemanticity.cohesion import Cohesion, measure_cohesion
from interp.monosemanticity.splits import FLOOR, products

MAX_SENSES = 6
MAX_RATIO = 0.6
"""Two parts with a larger between/within ratio are one sense."""
MIN_SENSE, SMALL = 0.08, 0.2
MIN_FIRINGS, MIN_SMALL = 20, 6
"""Fewer are not parted any more; a small part of fewer is no sense."""
MIN_GROUPS = 20
"""A latent that fires in fewer groups of sequences is not tested: two halves of two senses, five firings each."""

HasOne = Callable[[Float64[np.ndarray, " statistic"]], float]


def part_senses(
    points: Float32[np.ndarray, "firing view dim"],
    test: Bool[np.ndarray, " firing"],
    mass: Float64[np.ndarray, " firing"],
    strong: Bool[np.ndarray, " firing"],
    first: Cohesion,
    has_one: HasOne,
) -> Int64[np.ndarray, " firing"]:
    """The sense of each firing, 0 for the one with the most mass; −1 for none.

    first: the cohesion of all firings. has_one: the probability of one meaning from the statistics of `cohesion`.
    """
    sense = np.zeros(len(points), np.int64)
    todo, n_parts = [(0, first)], 1
    while todo and n_parts < MAX_SENSES:
        todo.sort(key=lambda item: -mass[sense == item[0]].sum())
        label, cohesion = todo.pop(0)
        if cohesion.split is None or has_one(cohesion.values[0]) >= 0.5:
            continue
        members = np.flatnonzero(sense == label)
        sense[members[cohesion.split.side]] = n_parts
        for part in (label, n_parts):
            own = np.flatnonzero(sense == part)
            both = test[own].any() and (~test[own]).any()
            if len(own) >= MIN_FIRINGS and both:
                todo.append((part, measure_cohesion(points[own], test[own], mass[None, own], strong[own])))
        n_parts += 1
    sense = _join_similar(points, test, mass, sense)

    def is_sense(own: Bool[np.ndarray, " firing"]) -> bool:
        share = mass[own].sum() / max(mass.sum(), 1e-12)
        if share < MIN_SENSE or share >= SMALL:
            return bool(share >= SMALL)
        if own.sum() < MIN_SMALL or test[own].all() or not test[own].any():
            return False
        return has_one(measure_cohesion(points[own], test[own], mass[None, own], strong[own]).values[0]) >= 0.5

    return _named(sense, mass, is_sense)


def sense_stability(
    points: Float32[np.ndarray, "firing view dim"],
    test: Bool[np.ndarray, " firing"],
    mass: Float64[np.ndarray, " firing"],
    strong: Bool[np.ndarray, " firing"],
    sense: Int64[np.ndarray, " firing"],
    draws: Float64[np.ndarray, "bootstrap firing"],
    has_one: HasOne,
) -> Float64[np.ndarray, " sense"]:
    """Of each sense that `part_senses` found; draws: how often each firing was drawn."""
    found, n_draws = np.zeros(sense.max() + 1), 0
    for times in draws:
        drawn = np.flatnonzero(times)
        if test[drawn].all() or not test[drawn].any():
            continue
        own = points[drawn], test[drawn], (mass * times)[drawn], strong[drawn]
        first = measure_cohesion(own[0], own[1], own[2][None], own[3])
        parts = part_senses(*own, first, has_one)
        in_sense = sense[drawn] == np.arange(len(found))[:, None]
        in_part = parts == np.arange(parts.max() + 1)[:, None]
        shared = (in_sense * own[2]) @ in_part.T
        either = (in_sense @ own[2])[:, None] + in_part @ own[2] - shared
        found += (shared / np.maximum(either, 1e-12)).max(1)
        n_draws += 1
    return found / n_draws if n_draws else np.full(len(found), np.nan)


def one_each(
    points: Float32[np.ndarray, "firing view dim"],
    test: Bool[np.ndarray, " firing"],
    mass: Float64[np.ndarray, " firing"],
    strong: Bool[np.ndarray, " firing"],
    sense: Int64[np.ndarray, " firing"],
    has_one: HasOne,
) -> Float64[np.ndarray, " sense"]:
    """The probability that each sense has one meaning itself; NaN for one of too few firings to tell."""
    found = np.full(sense.max() + 1, np.nan)
    for label in range(len(found)):
        own = sense == label
        if own.sum() >= MIN_SMALL and test[own].any() and not test[own].all():
            found[label] = has_one(measure_cohesion(points[own], test[own], mass[None, own], strong[own]).values[0])
    return found


def _join_similar(
    points: Float32[np.ndarray, "firing view dim"],
    test: Bool[np.ndarray, " firing"],
    mass: Float64[np.ndarray, " firing"],
    sense: Int64[np.ndarray, " firing"],
) -> Int64[np.ndarray, " firing"]:
    while True:
        best, pair = MAX_RATIO, (0, 0)
        labels = np.unique(sense)
        for i, a in enumerate(labels):
            for b in labels[i + 1 :]:
                cells = np.stack([(sense == s) & t for s in (a, b) for t in (~test, test)])
                if cells.sum(1).min() == 0:
                    continue
                within, between = products(points, (cells * mass).astype(np.float32)[None])
                ratio = (max(between.max(), 0) + FLOOR) / (max(within.max(2).min(), 0) + FLOOR)
                if ratio > best:
                    best, pair = ratio, (a, b)
        if pair == (0, 0):
            return sense
        sense = np.where(sense == pair[1], pair[0], sense)


def _named(
    sense: Int64[np.ndarray, " firing"],
    mass: Float64[np.ndarray, " firing"],
    is_sense: Callable[[Bool[np.ndarray, " firing"]], bool],
) -> Int64[np.ndarray, " firing"]:
    """Numbered by mass; the largest is always one."""
    labels = np.unique(sense)
    order = np.argsort([-mass[sense == label].sum() for label in labels], kind="stable")
    out, n = np.full(len(sense), -1, np.int64), 0
    for label in labels[order]:
        own = sense == label
        if n == 0 or is_sense(own):
            out[own] = n
            n += 1
    return out
