"""Cohesion and senses of latents, from a sample of their firings, on the text where they fire or on shifted text.

In: rows of sampled firings and what each stands for (`firings.FiringSampler`), the views of the text. Out: `Measured`:
an array a statistic. On shifted text the firings keep their latent, strength and half, and lie `shift` rows further on.
The senses into which the firings of a latent (`splits.Sample`) fall:

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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from threadpoolctl import threadpool_limits

from interp.monosemanticity import cohesion
from interp.monosemanticity.cohesion import Cohesion, measure_cohesion
from interp.monosemanticity.splits import Sample, ratio_of, similarities
from interp.monosemanticity.views import Views
from interp.storage.files import Progress

SLICES, FIRINGS_PER_SLICE = 5, 32
STRONG_SLICE = 2
"""Slices from this one on hold strong firings: above 0.4 of the latent's maximum."""
MAX_SENSES = 6
MAX_RATIO = 0.4
"""Two parts with a larger between/within ratio are one sense."""
MIN_SENSE, SMALL = 0.1, 0.2
MIN_FIRINGS, MIN_SMALL = 20, 6
"""Fewer are not split any more; a small part of fewer is no sense."""

HasOne = Callable[[Float64[np.ndarray, " statistic"]], float | Float64[np.ndarray, ""]]
"""The probability of one meaning from the statistics of `cohesion`."""
Senses = Int64[np.ndarray, " firing"]


@dataclass(frozen=True)
class Measured:
    """NaN or −1 for a latent that was not looked at."""

    statistics: Float64[np.ndarray, "draw d_sae statistic"]
    """Columns are `cohesion.NAMES`; the first row is of the sample, the others had other firings been drawn."""
    best_view: Int64[np.ndarray, " d_sae"]
    """Place in `views.NAMES`."""
    senses: Int64[np.ndarray, "d_sae firing"]
    """The sense of each sampled firing, 0 for the largest; −1 for none."""
    stability: Float64[np.ndarray, "d_sae sense"]
    """Of each sense, where there are several (`senses`); NaN beyond."""
    sense_one: Float64[np.ndarray, "d_sae sense"]
    """The probability that a sense has one meaning itself; NaN likewise."""

    @property
    def n_senses(self) -> Int64[np.ndarray, " d_sae"]:
        """0 where not looked at."""
        return self.senses.max(1, initial=-1) + 1


class SampledFirings(NamedTuple):
    views: Views
    rows: Int64[np.ndarray, "d_sae firing"]
    shares: Float64[np.ndarray, "d_sae firing"]
    rows_per_group: int
    densities: Float64[np.ndarray, " d_sae"]
    """The share of the text's rows on which each fires."""

    def tests(self, rows: Int64[np.ndarray, "*latent firing"]) -> Bool[np.ndarray, "*latent firing"]:
        """Those in every second group."""
        return rows // self.rows_per_group % 2 == 1

    @property
    def is_in_both_halves(self) -> Bool[np.ndarray, " d_sae"]:
        present, tests = self.rows >= 0, self.tests(self.rows)
        return (present & tests).any(1) & (present & ~tests).any(1)

    def sample(self, latent: int, draws: Float64[np.ndarray, "draw firing"], shift: int) -> Sample:
        """The firings of a latent, weighted by how often they were drawn."""
        present = self.rows[latent] >= 0
        rows, share = self.rows[latent, present], self.shares[latent, present]
        test = self.tests(rows)
        weights = share * draws[:, present]
        # A draw without any firing in one half says nothing; it repeats the sample.
        empty = (weights[:, test].sum(1) == 0) | (weights[:, ~test].sum(1) == 0)
        weights[empty] = share
        strong = np.repeat(np.arange(SLICES) >= STRONG_SLICE, FIRINGS_PER_SLICE)[present]
        return Sample.of(self.views.embed(rows + shift), test, weights, strong, float(self.densities[latent]))


def measure_latents(
    sampled: SampledFirings,
    latents: Int64[np.ndarray, " latent"],
    draws: Float64[np.ndarray, "draw firing"],
    has_one: HasOne,
    *,
    shift: int = 0,
    every: int = 1,
    bootstraps: int = 0,
    progress: Progress | None = None,
) -> Measured:
    """Cohesion of the latents; of every so many the senses, looked for again in `bootstraps` of the further draws."""
    d_sae, n_firings = sampled.rows.shape
    statistics = np.full((len(draws), d_sae, len(cohesion.NAMES)), np.nan)
    of_senses = np.full((2, d_sae, MAX_SENSES), np.nan)
    found = Measured(statistics, np.full(d_sae, -1), np.full((d_sae, n_firings), -1), *of_senses)
    looked_at = set(latents[::every].tolist())

    def measure(latent: int) -> None:
        sample = sampled.sample(latent, draws, shift)
        first = measure_cohesion(sample)
        found.statistics[:, latent], found.best_view[latent] = first.values, first.best_view
        if latent not in looked_at:
            return
        present = sampled.rows[latent] >= 0
        senses = part_senses(sample, first, has_one)
        found.senses[latent, present] = senses
        n = senses.max() + 1
        if n > 1:
            parts = (sample.part(senses == sense) for sense in range(n))
            found.sense_one[latent, :n] = [probability_of_one(part, has_one) for part in parts]
        if n > 1 and bootstraps:
            found.stability[latent, :n] = sense_stability(sample, senses, draws[1 : 1 + bootstraps, present], has_one)

    # BLAS threads beside ours take each other's cores: a small product then takes up to 100 times as long.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for done, _ in enumerate(pool.map(measure, latents.tolist()), 1):
            if progress and done % 64 == 0:
                progress(done, len(latents), "comparing firings")
    return found


def part_senses(sample: Sample, first: Cohesion, has_one: HasOne) -> Senses:
    """The sense of each firing. first: the cohesion of all firings."""
    sense = np.zeros(len(sample.own), np.int64)
    todo, n_parts = [0], 1
    while todo and n_parts < MAX_SENSES:
        todo.sort(key=lambda part: -sample.mass[sense == part].sum())
        label = todo.pop(0)
        found = first if n_parts == 1 else measure_cohesion(sample.part(sense == label))
        if found.split is None or has_one(found.values[0]) >= 0.5:
            continue
        members = np.flatnonzero(sense == label)
        sense[members[found.split.side]] = n_parts
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
