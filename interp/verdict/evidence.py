"""Collect the evidence about every latent, and the same evidence for shifted text.

In: tokens and the codes of their rows. Out: `FiringEvidence`, with an array for each statistic, the sampled firings and
their senses.

    1  Sample each latent's firings in one pass over the codes, as readers see them: evenly over the tenths of its
       activation range. There are up to MAX_PER_TENTH per tenth, and at most one per group of neighbouring sequences
       (`measure_nulls`). A window of the text that occurs in several sequences counts only in the first
       (`features.examples`). Other steps that count firings use the same pass.
    2  Read what is true at each of these positions, and how rare that is (`text.predicates`). This gives how alike the
       firings are, and the probability that they have one meaning (`firing_comparison`, `similarity`, `calibration`).
    3  If this is not surely above ½, divide the firings into senses, and find the probability that each has one
       meaning.
    4  Do the same for some latents on shifted text: their firings are moved along the text by one shift, as on a ring.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numba import njit
from threadpoolctl import threadpool_limits

from interp.codes.code_chunks import CodeChunk
from interp.runtime.progress import Progress, no_progress
from interp.runtime.threads import map_in_threads
from interp.verdict.calibration import Calibration, Probability
from interp.verdict.coded_text import CodedText
from interp.verdict.firing_comparison import MAX_PER_TENTH, N_TENTHS, FiringComparison, SimilarityOfFirings
from interp.verdict.firing_sampler import FiringSampler
from interp.verdict.measure_nulls import (
    MIN_BLOCK,
    MIN_GROUPS,
    NullComparison,
    against_pooled_nulls,
    circular_shifts,
    rows_per_group,
)
from interp.verdict.ranking_config import N_SHIFTS
from interp.verdict.similarity import STATISTIC_NAMES

NULL_LATENTS = 256
"""Latents that are evaluated on each shifted text; enough for the null, since latents are pooled."""
READING = "reading firings"
"""The name of this step in progress reports."""
log = logging.getLogger(__name__)

ChunkListener = Callable[[CodeChunk], None]
"""A function that is called with every chunk while the codes are read. Other threads use the chunk at the same time, so
it must not change it."""


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
    listeners: Sequence[ChunkListener] = (),
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
        comparison = FiringComparison(text.predicates, calibration, rows, count_shares, densities, candidates)
        with threadpool_limits(1, user_api="blas"):  # the result must not depend on BLAS's threads
            observed = comparison.evaluate(wanted, progress=progress)
            nulls = text.world.divide(
                [partial(comparison.evaluate, *each) for each in zip(null_latents, shifts, strict=True)]
            )
    return FiringEvidence(observed, nulls, rows, mass_shares, count_shares, groups.effective, testable, calibration)


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
