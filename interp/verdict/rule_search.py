"""Search for rules of latents and of their senses, in a sample of their firings and a sample of the text.

    1  Take the predicates that the firings share: of each kind, those that predict firing best (`candidates`).
    2  Search for conjunctions of them, by estimated counts (`beam_search`).

The best conjunctions are then counted exactly (`rule_counts`).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from numba import njit

from interp.codes.code_chunks import CodeChunk
from interp.runtime.processes import SINGLE_PROCESS, Processes, slice_of_part
from interp.runtime.threads import map_in_threads
from interp.statistics.evenly_spread import rows_of, spread_sequences
from interp.statistics.sorting import largest_first
from interp.text.predicates import Predicates, PredicatesOfUnits
from interp.text.rules import MAX_ATOMS, MAX_VALUES, Rule
from interp.verdict.beam_search import N_KEPT, best_conjunctions
from interp.verdict.candidates import Background, choose_candidates, read_firings, sample_text
from interp.verdict.coded_text import CodedText
from interp.verdict.firing_sampler import FiringSampler

N_SAMPLED_FIRINGS = 256
"""Firings of a latent from which rules are proposed."""
MAX_FIT_ROWS = 1 << 19
"""Largest number of rows of the text that are read. Of a longer text, evenly spread sequences are read."""
ITEM_PRICE = 0.005
"""The least increase of F₁ for a further item to read."""


class FitFirings(FiringSampler):
    """Sample N_SAMPLED_FIRINGS firings of each latent in the fit half of the sequences, and count all firings there.
    `add` is a listener (`evidence`)."""

    def __init__(self, d_sae: int, n_ctx: int, half: Bool[np.ndarray, " seq"], seed: int):
        super().__init__(d_sae, 1, N_SAMPLED_FIRINGS, seed, 1)
        self.half = half
        """The sequences of the fit half."""
        self._fit = np.repeat(half, n_ctx)

    @classmethod
    def read(cls, text: CodedText, half: Bool[np.ndarray, " seq"], seed: int = 0) -> "FitFirings":
        """Draw the sample in a separate pass over the codes."""
        sample = cls(text.d_sae, text.n_ctx, half, seed)
        for chunk in text.read_chunks(text.n_ctx):
            sample.add(chunk)
        return sample

    def add(self, chunk: CodeChunk) -> None:
        fit = np.repeat(self._fit[chunk.start : chunk.stop], np.diff(chunk.offsets))
        super().add(replace(chunk, values=chunk.values * fit))


def read_background(
    predicates: Predicates,
    half: Bool[np.ndarray, " seq"],
    counted: Bool[np.ndarray, " row"],
    world: Processes = SINGLE_PROCESS,
) -> Background:
    """Read the fit half.
    half: marks its sequences.
    counted: marks the rows that count as evidence.
    world: processes that each read a part of the rows."""
    n_ctx = predicates.text.tokens.shape[1]
    sequences = np.flatnonzero(half)
    kept = spread_sequences(sequences, n_ctx, MAX_FIT_ROWS)
    rows = rows_of(kept, n_ctx)
    rows = rows[counted[rows]]
    own_rows = rows[slice_of_part(len(rows), world.rank, world.count)]
    parts = world.gather_results(lambda: predicates.at(own_rows, predicates.in_rules))
    holds = np.concatenate([part for part in parts if len(part)] or parts)
    return Background.of(predicates, rows, holds, scale=len(sequences) / max(1, len(kept)))


def item_price(n_firings: int) -> float:
    """Return the increase of F₁ that an item must bring. It is larger for few firings, as a single firing changes F₁ by
    about 1 / n_firings."""
    return ITEM_PRICE + 1 / max(n_firings, 1)


def propose_rules(
    predicates: Predicates,
    background: Background,
    firings: Sequence[Int64[np.ndarray, " firing"]],
    n_fire: Float64[np.ndarray, " unit"],
) -> list[list[Rule]]:
    """Propose some distinct rules for each latent or sense, whose atoms have no names yet.
    firings: for each, rows that are a sample of its n_fire firings, at least one."""
    read = PredicatesOfUnits.of(firings, partial(background.at, predicates))
    prices = np.array([item_price(len(rows_of_unit)) for rows_of_unit in firings])
    numbers = np.full((len(firings), N_KEPT, MAX_ATOMS, MAX_VALUES), -1, np.int32)
    spans = np.array_split(np.arange(len(firings)), 4 * torch.get_num_threads())
    map_in_threads(spans, partial(_propose, background, read, n_fire, prices, numbers))
    return [[_rule(predicates, rule) for rule in of_unit if rule[0][0] >= 0] for of_unit in numbers.tolist()]


def _rule(predicates: Predicates, conjunction: list[list[int]]) -> Rule:
    """Return a conjunction [atom, value] of predicates as a rule; −1 stands for none."""
    return tuple(
        predicates.atom([number for number in numbers if number >= 0]) for numbers in conjunction if numbers[0] >= 0
    )


@njit(cache=True, nogil=True)
def _propose(background, read, n_fire, prices, numbers, units):
    """Search for conjunctions of some units. Writes the predicates [unit, rule, atom, value], those that hold at more
    firings first in each atom."""
    scratch = np.zeros(len(background.offsets) - 1, np.int16)
    for unit in units:
        firings = read.entries[read.offsets[unit] : read.offsets[unit + 1]]
        candidates = choose_candidates(background, read.holds, firings, n_fire[unit], scratch)
        at_firings = read_firings(candidates, read.holds, firings, scratch)
        in_text = sample_text(background, candidates, scratch)
        conjunctions, best = best_conjunctions(background, candidates, at_firings, in_text, n_fire[unit], prices[unit])
        for rule in range(len(best)):
            for atom in range(MAX_ATOMS):
                values = conjunctions[best[rule], atom]
                n_values = 0
                while n_values < MAX_VALUES and values[n_values] >= 0:
                    n_values += 1
                values = values[:n_values]
                for place, value in enumerate(largest_first(candidates.hits[values])):
                    numbers[unit, rule, atom, place] = candidates.numbers[values[value]]
