"""Compare the sampled firings of each latent, and divide them into senses.

In: the rows of the firings, and the predicates of the text. Out: `SimilarityOfFirings`, the statistics of the firings
of each latent and of each of its senses, and the predicates that they share.

The similarity of two firings, its statistics and its clusters are those of `similarity`. A latent that surely has one
meaning, by the calibration, is not divided. A firing in tenth t (0 … 9) of its latent's activation range, of which n
were sampled, has the weight (t + ½)^¾ / max(n, FULL_FIRINGS). So a tenth with few firings says less, and exceptions
among the weakest firings count little, as they do for readers.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from numba import njit

from interp.runtime.progress import Progress, no_progress
from interp.runtime.threads import map_in_threads
from interp.text.predicates import Predicates, PredicatesOfUnits
from interp.text.rules import Atom
from interp.verdict.calibration import Calibration
from interp.verdict.measure_nulls import shift_rows
from interp.verdict.similarity import (
    MAX_SENSES,
    MIN_FIRINGS_OF_SENSE,
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
LATENTS_AT_ONCE = 1024
COMPARING = "comparing firings"
"""The name of this step in progress reports."""


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
    shared_share: Float64[np.ndarray, "d_sae sense"]
    """The share of the weight of all firings that are of each sense and at which the first predicate that these share
    holds."""
    shared: dict[tuple[int, int], list[Atom]] = field(default_factory=dict)
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
            shared_share=np.full((d_sae, MAX_SENSES), np.nan),
        )

    @property
    def n_senses(self) -> Int64[np.ndarray, " d_sae"]:
        """Number of senses of each latent; 0 if it was not evaluated."""
        return self.senses.max(1, initial=-1) + 1


@dataclass(frozen=True)
class FiringComparison:
    """Measures how similar the firings of latents are, and finds their senses."""

    predicates: Predicates
    calibration: Calibration
    rows: Int64[np.ndarray, "d_sae firing"]
    count_shares: Float64[np.ndarray, "d_sae firing"]
    """The share of its latent's firings that each represents."""
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
            self.count_shares,
            self.densities,
            self.predicates.surprise,
        )
        shared = np.full((len(latents), MAX_SENSES, N_COMMON), -1, np.int64)
        spans = np.array_split(np.arange(len(latents)), 4 * torch.get_num_threads())
        map_in_threads(spans, partial(_compare, firings, out.statistics, out.covariance))
        is_sure = self.calibration.probability(out.statistics[latents], out.covariance[latents]).low > 0.5
        senses = out.senses, out.sense_statistics, out.sense_covariance, out.shared_share
        map_in_threads(spans, partial(_find_senses, firings, is_sure, *senses, shared))
        if shift == 0:
            self._name_shared(latents, shared, out)

    def _name_shared(
        self, latents: Int64[np.ndarray, " latent"], shared: Int64[np.ndarray, "..."], out: SimilarityOfFirings
    ) -> None:
        """Write the predicates that the firings of each latent and sense share, in words."""
        for unit, latent in enumerate(latents.tolist()):
            for sense in range(int(out.senses[latent].max()) + 1):
                rows = self.rows[latent, out.senses[latent] == sense]
                atoms = [self.predicates.atom([number]) for number in shared[unit, sense].tolist() if number >= 0]
                out.shared[latent, sense] = [self.predicates.named(atom, rows) for atom in atoms]


class _Firings(NamedTuple):
    """The sampled firings of some latents, and what holds at them."""

    latents: Int64[np.ndarray, " unit"]
    read: PredicatesOfUnits
    places: Int64[np.ndarray, " entry"]
    """The place of each firing among the latent's sampled ones (`FiringEvidence.sampled_rows`)."""
    count_shares: Float64[np.ndarray, "d_sae firing"]
    densities: Float64[np.ndarray, " d_sae"]
    surprise: Float32[np.ndarray, " predicate"]


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
def _find_senses(firings, is_sure, senses, statistics, covariance, shared_share, shared, units):
    """Write the sense of each firing of some units, the statistics of the firings of each sense, if there are several,
    the predicates that these share [unit, sense, place], −1 for none, and the share of their weight at which the first
    of them holds. If it is sure that a latent has one meaning, it has one sense."""
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
            sense = sense_of_each(r, weights, firings.count_shares[latent][places])
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
                shared[unit, number, place] = of_sense.numbers[index]
                if place == 0:
                    hits = of_sense.members[of_sense.offsets[index] : of_sense.offsets[index + 1]]
                    shared_share[latent, number] = part[hits].sum() * share


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
