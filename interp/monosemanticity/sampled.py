"""Cohesion and senses of latents, from a sample of their firings, on the text where they fire or on shifted text.

In: rows of sampled firings and what each stands for (`firings.FiringSampler`), the views of the text. Out: `Measured`:
an array a statistic. On shifted text the firings keep their latent, strength and half, and lie `shift` rows further on.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from threadpoolctl import threadpool_limits

from interp.files import Progress
from interp.monosemanticity import cohesion
from interp.monosemanticity.senses import MAX_SENSES, HasOne, part_senses, probability_of_one, sense_stability
from interp.monosemanticity.splits import Sample
from interp.monosemanticity.views import Views

SLICES, FIRINGS_PER_SLICE = 5, 32
STRONG_SLICE = 2
"""Slices from this one on hold strong firings: above 0.4 of the latent's maximum."""


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
        first = cohesion.measure_cohesion(sample)
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
