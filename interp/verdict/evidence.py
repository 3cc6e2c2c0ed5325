"""Collect the evidence about every latent, and the same evidence for shifted text.

In: tokens and the codes of their rows. Out: `FiringEvidence`, with an array for each statistic, the sampled firings and
their senses.

    1  Sample each latent's firings in one pass over the codes, as readers see them: evenly over the tenths of its
       activation range. There are up to MAX_PER_TENTH per tenth, and at most one per group of neighbouring sequences
       (`nulls`). A window of the text that occurs in several sequences counts only in the first (`features.examples`).
       Other steps that count firings use the same pass.
    2  Read what is true at each of these positions, and how rare that is (`text.predicates`). This gives how alike the
       firings are, and the probability that they have one meaning (`similarity`, `calibration`).
    3  If this is not surely above ½, divide the firings into senses, and find the probability that each has one
       meaning.
    4  Do the same for some latents on shifted text: their firings are moved along the text by one shift, as on a ring.

A firing in tenth t (0 … 9), of which n were sampled, has the weight (t + ½)^¾ / max(n, FULL_FIRINGS). So a tenth with
few firings says less, and exceptions among the weakest firings count little, as they do for readers.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from numba import njit
from threadpoolctl import threadpool_limits

from interp.codes.code_chunks import CodeChunk
from interp.codes.sampling import FiringSampler
from interp.runtime.progress import Progress, no_progress
from interp.runtime.threads import map_in_threads
from interp.text.predicates import Predicates, PredicatesOfUnits
from interp.verdict.calibration import Calibration, Probability
from interp.verdict.coded_text import CodedText
from interp.verdict.nulls import (
    MIN_BLOCK,
    MIN_GROUPS,
    NullComparison,
    against_pooled_nulls,
    circular_shifts,
    rows_per_group,
    shift_rows,
)
from interp.verdict.ranking_config import N_SHIFTS
from interp.verdict.similarity import (
    MAX_SENSES,
    N_COMMON,
    STATISTIC_NAMES,
    full_similarity_lift,
    most_shared,
    pairwise_similarity,
    sense_of_each,
    shared_predicates,
    similarity_statistics,
)

N_TENTHS = 10
"""Parts of equal width into which activations are cut, up to the latent's largest."""
MAX_PER_TENTH = 12
"""Firings that are sampled of each tenth, at most."""
FULL_FIRINGS = 8
"""Number of sampled firings at which a tenth has its full weight."""
WEIGHT_EXPONENT = 0.75
"""The exponent of the activation in a firing's weight."""
MIN_FIRINGS_OF_SENSE = 6
"""A sense with fewer firings is not tested for one meaning."""
NULL_LATENTS = 256
"""Latents that are evaluated on each shifted text; enough for the null, since latents are pooled."""
LATENTS_AT_ONCE = 1024
READING = "reading firings"
COMPARING = "comparing firings"
"""The names of the steps in progress reports."""

log = logging.getLogger(__name__)

Listener = Callable[[CodeChunk], None]
"""A function that is called with every chunk while the codes are read. Other threads use the chunk at the same time, so
it must not change it."""


class SharedPredicate(NamedTuple):
    """A predicate that the firings of a sense share."""

    words: str
    kind: str


@dataclass(frozen=True)
class SimilarityOfFirings:
    """The similarity of each latent's firings, and their senses. A latent that was not evaluated has NaN or −1."""

    statistics: Float64[np.ndarray, "d_sae statistic"]
    """`similarity.STATISTIC_NAMES`."""
    covariance: Float64[np.ndarray, "d_sae statistic statistic"]
    senses: Int64[np.ndarray, "d_sae firing"]
    """The sense of each sampled firing, 0 for the largest; −1 for none."""
    sense_statistics: Float64[np.ndarray, "d_sae sense statistic"]
    """The statistics of the firings of each sense, if there are several senses."""
    sense_covariance: Float64[np.ndarray, "d_sae sense statistic statistic"]
    shared: dict[tuple[int, int], list[SharedPredicate]] = field(default_factory=dict)
    """The predicates that the firings of each latent and sense share."""

    @classmethod
    def empty(cls, d_sae: int, n_firings: int) -> "SimilarityOfFirings":
        n = len(STATISTIC_NAMES)
        return cls(
            statistics=np.full((d_sae, n), np.nan),
            covariance=np.zeros((d_sae, n, n)),
            senses=np.full((d_sae, n_firings), -1, np.int64),
            sense_statistics=np.full((d_sae, MAX_SENSES, n), np.nan),
            sense_covariance=np.zeros((d_sae, MAX_SENSES, n, n)),
        )

    @property
    def n_senses(self) -> Int64[np.ndarray, " d_sae"]:
        """Number of senses of each latent; 0 if it was not evaluated."""
        return self.senses.max(1, initial=-1) + 1


@dataclass(frozen=True)
class FiringEvidence:
    """The evidence about each latent's firings, and the same for some latents on shifted text."""

    observed: SimilarityOfFirings
    nulls: Sequence[SimilarityOfFirings]
    """The statistics of some latents on each shifted text."""
    sampled_rows: Int64[np.ndarray, "d_sae firing"]
    """Sampled firings, seq * n_ctx + pos, starting with the weakest tenth; −1 if there are fewer."""
    mass_shares: Float64[np.ndarray, "d_sae firing"]
    """The share of its latent's activation mass that each firing represents."""
    count_shares: Float64[np.ndarray, "d_sae firing"]
    """The share of its latent's firings that each represents: weak firings are more numerous than sampled ones show."""
    effective_groups: Float64[np.ndarray, " d_sae"]
    """(Σ_g m_g)² / Σ_g m_g² of the groups' activation masses: the effective number of groups over which the firings
    spread."""
    testable: Bool[np.ndarray, " d_sae"]
    """Whether it fires in at least MIN_GROUPS groups."""
    calibration: Calibration
    """The calibration that decided for which latents to look for senses."""

    @property
    def probability(self) -> Probability:
        """The probability that each latent has one meaning; NaN if it was not evaluated."""
        return self.calibration.probability(self.observed.statistics, self.observed.covariance)

    @property
    def sense_one(self) -> Float64[np.ndarray, "d_sae sense"]:
        """The probability that each sense has one meaning. NaN for a latent without several senses."""
        return self.calibration.probability(self.observed.sense_statistics, self.observed.sense_covariance).one

    def statistic(self, name: str) -> Float64[np.ndarray, " d_sae"]:
        """Return a statistic of `similarity.STATISTIC_NAMES`; NaN for a latent that was not evaluated."""
        return self.observed.statistics[:, STATISTIC_NAMES.index(name)]

    def null(self, name: str) -> NullComparison:
        """Return the statistic's z-score against the shifted texts, and the band of the null."""
        column = STATISTIC_NAMES.index(name)
        values = np.stack([evidence.statistics[:, column] for evidence in (self.observed, *self.nulls)])
        return against_pooled_nulls(values[0], values[1:], self.effective_groups, min_std=0.005)

    @property
    def senses_null(self) -> NullComparison:
        """The z-score of the number of senses against the shifted texts, whose firings also form clusters."""
        counts = np.stack(
            [np.where(evidence.n_senses, evidence.n_senses, np.nan) for evidence in (self.observed, *self.nulls)]
        )
        return against_pooled_nulls(counts[0], counts[1:], self.effective_groups, min_std=0.1)

    @property
    def sense_by_chance(self) -> Float64[np.ndarray, "d_sae sense"]:
        """For each sense, the share of the senses of shifted text that have at least its probability of one meaning."""
        probability = self.sense_one
        null_senses = [
            self.calibration.probability(null.sense_statistics, null.sense_covariance).one.ravel()
            for null in self.nulls
        ]
        shifted = np.sort(np.concatenate([np.zeros(0), *null_senses]))
        shifted = shifted[np.isfinite(shifted)]
        is_known = np.isfinite(probability) & (len(shifted) > 0)
        return np.where(is_known, 1 - np.searchsorted(shifted, probability) / max(len(shifted), 1), np.nan)


def collect_evidence(
    text: CodedText,
    calibration: Calibration,
    *,
    n_shifts: int = N_SHIFTS,
    seed: int = 0,
    listeners: Sequence[Listener] = (),
    chosen: Bool[np.ndarray, " d_sae"] | None = None,
    progress: Progress = no_progress,
) -> FiringEvidence:
    """Collect the evidence of all latents of a text.

    listeners: each is called with every chunk of the codes, in whole groups.
    chosen: the latents to judge, or None for all. The nulls are always drawn from all latents.
    """
    rng = np.random.default_rng(seed)
    group_rows = rows_per_group(text.n_seq, text.n_ctx)
    _warn_of_too_few(text.n_seq, text.n_ctx, group_rows)
    shifts = circular_shifts(text.n_seq, text.n_ctx, n_shifts, int((text.maxima > 0).sum()), seed, rng)
    sampler = FiringSampler(text.d_sae, N_TENTHS, MAX_PER_TENTH, seed, group_rows)
    groups = _Groups(text.d_sae, group_rows)
    for chunk in text.read_chunks(group_rows, progress, READING):
        tasks = [partial(listen, chunk) for listen in (*listeners, groups.add, sampler.add)]
        map_in_threads(tasks, lambda task: task())
    sampled = (sampler.rows, sampler.shares, sampler.count_shares)
    rows, mass_shares, count_shares = (part.reshape(text.d_sae, -1) for part in sampled)
    testable = groups.n >= MIN_GROUPS
    wanted = np.flatnonzero(testable if chosen is None else testable & chosen)
    null_latents = [np.sort(rng.permutation(np.flatnonzero(testable))[:NULL_LATENTS]) for _ in shifts]
    observed, *nulls = (SimilarityOfFirings.empty(text.d_sae, rows.shape[1]) for _ in range(1 + len(shifts)))
    if testable.any():
        candidates = np.flatnonzero(text.counted & text.encoded)
        densities = sampler.count.sum(1) / max(len(candidates), 1)
        comparison = _FiringComparison(text.predicates, calibration, rows, densities, candidates)
        with threadpool_limits(1, user_api="blas"):  # the result must not depend on BLAS's threads
            observed = comparison.evaluate(wanted, progress=progress)
            nulls = text.team.divide(
                [partial(comparison.evaluate, *each) for each in zip(null_latents, shifts, strict=True)]
            )
    return FiringEvidence(observed, nulls, rows, mass_shares, count_shares, groups.effective, testable, calibration)


@dataclass(frozen=True)
class _FiringComparison:
    """Measures how similar the firings of latents are, and finds their senses."""

    predicates: Predicates
    calibration: Calibration
    rows: Int64[np.ndarray, "d_sae firing"]
    densities: Float64[np.ndarray, " d_sae"]
    """The share of the text's rows on which each fires."""
    candidates: Int64[np.ndarray, " row"]
    """The rows on which a sampled firing may be: those that have codes and count as evidence. Firings are moved along
    these alone, as copies of one text are alike by themselves."""

    def evaluate(
        self,
        latents: Int64[np.ndarray, " latent"],
        shift: int = 0,
        progress: Progress = no_progress,
    ) -> SimilarityOfFirings:
        """Evaluate some latents, with their firings moved by `shift` rows."""
        out = SimilarityOfFirings.empty(*self.rows.shape)
        for start in range(0, len(latents), LATENTS_AT_ONCE):
            block = latents[start : start + LATENTS_AT_ONCE]
            self._evaluate_block(block, shift, out)
            progress(start + len(block), len(latents), COMPARING)
        return out

    def _evaluate_block(self, latents: Int64[np.ndarray, " latent"], shift: int, out: SimilarityOfFirings) -> None:
        drawn = [np.flatnonzero(rows >= 0) for rows in self.rows[latents]]
        n_rows = self.predicates.text.tokens.size
        rows = [
            shift_rows(self.rows[latent, places], shift, self.candidates, n_rows)
            for latent, places in zip(latents, drawn, strict=True)
        ]
        firings = _Firings(
            latents,
            self.predicates.at_each(rows, self.predicates.compared),
            np.concatenate(drawn),
            self.densities,
            self.predicates.surprise,
        )
        shared = _Shared.empty(len(latents))
        spans = np.array_split(np.arange(len(latents)), 4 * torch.get_num_threads())
        map_in_threads(spans, partial(_compare, firings, out.statistics, out.covariance))
        is_sure = self.calibration.probability(out.statistics[latents], out.covariance[latents]).low > 0.5
        senses = out.senses, out.sense_statistics, out.sense_covariance
        map_in_threads(spans, partial(_find_senses, firings, is_sure, *senses, shared))
        if shift == 0:
            self._name_shared(latents, firings.read.rows, shared, out)

    def _name_shared(
        self, latents: Int64[np.ndarray, " latent"], rows: np.ndarray, shared: "_Shared", out: SimilarityOfFirings
    ) -> None:
        """Write the predicates that the firings of each latent and sense share, in words."""
        for unit, latent in enumerate(latents.tolist()):
            for sense in range(int(out.senses[latent].max()) + 1):
                numbers = shared.numbers[unit, sense]
                out.shared[latent, sense] = [
                    SharedPredicate(self.predicates.words(number, rows[example]), self.predicates.kind_of(number))
                    for number, example in zip(numbers.tolist(), shared.examples[unit, sense], strict=True)
                    if number >= 0
                ]


class _Firings(NamedTuple):
    """The sampled firings of some latents, and what holds at them."""

    latents: Int64[np.ndarray, " unit"]
    read: PredicatesOfUnits
    places: Int64[np.ndarray, " entry"]
    """The place of each firing among the latent's sampled ones (`FiringEvidence.sampled_rows`)."""
    densities: Float64[np.ndarray, " d_sae"]
    surprise: Float32[np.ndarray, " predicate"]


class _Shared(NamedTuple):
    """The predicates that the firings of each latent and sense share; −1 for none."""

    numbers: Int64[np.ndarray, f"unit {MAX_SENSES} {N_COMMON}"]
    examples: Int64[np.ndarray, f"unit {MAX_SENSES} {N_COMMON}"]
    """An entry of `PredicatesOfUnits.rows` at which it holds."""

    @classmethod
    def empty(cls, n_units: int) -> "_Shared":
        shape = n_units, MAX_SENSES, N_COMMON
        return cls(np.full(shape, -1, np.int64), np.full(shape, -1, np.int64))


@njit(cache=True, nogil=True)
def _compare(firings, statistics, covariance, units):
    """Write the statistics of the firings of some units, and their covariance."""
    scratch = np.zeros(len(firings.surprise), np.int32)
    for unit in units:
        latent = firings.latents[unit]
        own = slice(firings.read.offsets[unit], firings.read.offsets[unit + 1])
        weights = firing_weights(firings.places[own] // MAX_PER_TENTH)
        rows = firings.read.entries[own]
        shared = shared_predicates(firings.read.holds, rows, weights, firings.surprise, scratch)
        r = pairwise_similarity(shared, len(rows), firings.densities[latent])
        _write(similarity_statistics(r, weights), statistics[latent], covariance[latent])


@njit(cache=True, nogil=True)
def _find_senses(firings, is_sure, senses, statistics, covariance, shared, units):
    """Write the sense of each firing of some units, the statistics of the firings of each sense, if there are several,
    and what these share. If it is sure that a latent has one meaning, it has one sense."""
    scratch = np.zeros(len(firings.surprise), np.int32)
    for unit in units:
        latent = firings.latents[unit]
        own = slice(firings.read.offsets[unit], firings.read.offsets[unit + 1])
        places = firings.places[own]
        rows = firings.read.entries[own]
        weights = firing_weights(places // MAX_PER_TENTH)
        r = np.ones((len(rows), len(rows)))
        sense = np.zeros(len(rows), np.int64)
        if not is_sure[unit]:
            of_all = shared_predicates(firings.read.holds, rows, weights, firings.surprise, scratch)
            r = pairwise_similarity(of_all, len(rows), firings.densities[latent])
            sense = sense_of_each(r, weights)
        n_senses = 0
        for firing in range(len(rows)):
            senses[latent, places[firing]] = sense[firing]
            n_senses = max(n_senses, sense[firing] + 1)
        for number in range(n_senses):
            members = np.flatnonzero(sense == number)
            part = weights[members]
            share = part.sum()
            part /= share
            if n_senses > 1 and len(members) >= MIN_FIRINGS_OF_SENSE:
                within = np.empty((len(members), len(members)))
                for i in range(len(members)):
                    for j in range(len(members)):
                        within[i, j] = r[members[i], members[j]]
                _write(similarity_statistics(within, part), statistics[latent, number], covariance[latent, number])
            of_sense = shared_predicates(firings.read.holds, rows[members], part, firings.surprise, scratch)
            most = full_similarity_lift(firings.densities[latent] * share)
            for place, index in enumerate(most_shared(of_sense, part, most)):
                shared.numbers[unit, number, place] = of_sense.numbers[index]
                shared.examples[unit, number, place] = rows[members[of_sense.members[of_sense.offsets[index]]]]


@njit(cache=True, nogil=True)
def _write(found, statistics, covariance):
    for a in range(len(statistics)):
        statistics[a] = found.values[a]
        for b in range(len(statistics)):
            covariance[a, b] = found.covariance[a, b]


@njit(cache=True, nogil=True)
def firing_weights(tenths):
    """Return the weights of firings in these tenths; they sum to 1."""
    n = np.zeros(N_TENTHS)
    for tenth in tenths:
        n[tenth] += 1
    weights = np.empty(len(tenths))
    total = 0.0
    for firing, tenth in enumerate(tenths):
        weights[firing] = (tenth + 0.5) ** WEIGHT_EXPONENT / max(n[tenth], FULL_FIRINGS)
        total += weights[firing]
    for firing in range(len(tenths)):
        weights[firing] /= total
    return weights


class _Groups:
    """Count, chunk by chunk, the groups in which each latent fires."""

    def __init__(self, d_sae: int, rows_per_group: int):
        self.n = np.zeros(d_sae, np.int64)
        self._last = np.full(d_sae, -1, np.int64)
        self._mass, self._total, self._square = np.zeros((3, d_sae))
        self._rows_per_group = rows_per_group

    def add(self, chunk: CodeChunk) -> None:
        _add_groups(
            chunk.start,
            chunk.offsets,
            chunk.latents,
            chunk.values,
            self._rows_per_group,
            self.n,
            self._last,
            self._mass,
            self._total,
            self._square,
        )

    @property
    def effective(self) -> Float64[np.ndarray, " d_sae"]:
        square = self._square + self._mass**2
        return (self._total + self._mass) ** 2 / np.where(square > 0, square, 1)


@njit(cache=True, nogil=True)
def _add_groups(start, offsets, latents, values, rows_per_group, n, last, mass, total, square):
    for row in range(len(offsets) - 1):
        group = (start + row) // rows_per_group
        for entry in range(offsets[row], offsets[row + 1]):
            latent, value = latents[entry], values[entry]
            if value <= 0:
                continue
            if last[latent] != group:
                total[latent] += mass[latent]
                square[latent] += mass[latent] * mass[latent]
                n[latent] += 1
                last[latent] = group
                mass[latent] = 0.0
            mass[latent] += value


def _warn_of_too_few(n_seq: int, n_ctx: int, group_rows: int) -> None:
    n_groups = -(-n_seq * n_ctx // group_rows)
    if n_groups < MIN_GROUPS:
        log.warning(
            "%d sequences of %d tokens are %d independent groups, and a latent is tested if it fires in at least %d: "
            "nothing can be. Scan at least %d sequences, or as many blocks of %d tokens in longer ones",
            *(n_seq, n_ctx, n_groups, MIN_GROUPS, MIN_GROUPS, MIN_BLOCK),
        )
