"""What is counted over all codes: firings to propose rules from, and where rules hold and what they hit, exactly.

    holds = positions where the rule holds,   both = those where its latent fires too, by slices of the strength

A row whose window stands in an earlier sequence counts for none of them (`features.examples`): it would count twice, or
in both halves. One pass over codes and text, a chunk at a time. Memory: a chunk, the sample, and the counts. Units are
spread over threads.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Bool, Float32, Int64
from numba import njit

from interp.explain.holding import Numbered, TextBits, atom_bits, begins, pack, popcount, rule_bits
from interp.explain.predicates import Rule, Text
from interp.features.chunks import in_threads
from interp.files import Progress, no_progress
from interp.monosemanticity.firings import CodeChunk, CodeSource, chunks, hashed

SAMPLE = 512
"""Firings of a latent that propose rules."""
ROOM = 128
"""Further firings that are held until the smallest hashes are picked again."""
N_SLICES = 5


class FitSample:
    """The SAMPLE firings of each latent in the fit half with the smallest hash of row and latent, as `firings` draws
    them. Filled by a pass over the codes that calls `add`."""

    def __init__(self, d_sae: int, n_ctx: int, half: Bool[np.ndarray, " seq"], seed: int):
        self.n_fire = np.zeros(d_sae, np.int64)
        """How many firings a latent has there."""
        self._limits, self._n_kept = np.full(d_sae, np.inf), np.zeros(d_sae, np.int64)
        self._keys = np.full((d_sae, SAMPLE + ROOM), np.inf)
        self._rows = np.full((d_sae, SAMPLE + ROOM), -1, np.int64)
        self._constants = n_ctx, half, np.uint64(seed)

    def add(self, chunk: CodeChunk) -> None:
        _sample(*chunk[:4], *self._constants, self.n_fire, self._limits, self._n_kept, self._keys, self._rows)

    @property
    def rows(self) -> Int64[np.ndarray, "d_sae firing"]:
        """−1 where there are fewer."""
        smallest = np.argpartition(self._keys, SAMPLE - 1)[:, :SAMPLE]
        return np.take_along_axis(self._rows, smallest, 1)


class Counts(NamedTuple):
    """Half 0 is the one that rules are chosen on; units are latents, or senses of one."""

    holds: Int64[np.ndarray, "2 unit candidate"]
    both: Int64[np.ndarray, "2 unit candidate slice"]
    """Firings of strength in (s / 5, (s + 1) / 5] of the latent's maximum."""
    fires: Int64[np.ndarray, "2 unit slice"]
    hits: Int64[np.ndarray, "2 unit candidate"]
    """Of the unit's sampled rows."""


def count_rules(
    text: Text,
    codes: CodeSource,
    half: Bool[np.ndarray, " seq"],
    counted: Bool[np.ndarray, " row"],
    proposed: Sequence[Sequence[Rule]],
    latents: Int64[np.ndarray, " unit"],
    maxima: Float32[np.ndarray, " d_sae"],
    sampled: Sequence[Int64[np.ndarray, " row"]],
    units: Int64[np.ndarray, " some"],
    progress: Progress = no_progress,
) -> Counts:
    """Count the rules proposed for each unit over all codes.

    latents: whose firings each unit's rules are held against; sampled: ascending rows of each unit to count hits on;
    counted: the rows that count at all; units: those to count, the others' counts are 0.
    """
    shape = (2, len(proposed), max([1, *map(len, proposed)]))
    sizes = (shape, (*shape, N_SLICES), (2, len(proposed), N_SLICES), shape)
    counts = Counts(*(np.zeros(size, np.int64) for size in sizes))
    hit_rows, first_hit = np.concatenate([*sampled, np.zeros(0, np.int64)]), begins(sampled)
    given = (latents, Numbered.of(proposed, text), hit_rows, first_hit)
    threads = torch.get_num_threads()
    spans = np.array_split(units, 8 * threads)

    def count(arrays: tuple[Any, ...], span: Int64[np.ndarray, " some"]) -> None:
        _count(*(span, *given, *arrays, *counts))

    read = chunks(codes, maxima, text.n_ctx, progress, "scoring explanations", counted)
    with ThreadPoolExecutor(threads) as pool:
        for arrays in in_threads(partial(_chunk_arrays, text, half, counted, codes.d_sae), read, 1):
            for _ in pool.map(partial(count, arrays), spans):
                pass
    return counts


def _chunk_arrays(
    text: Text, half: Bool[np.ndarray, " seq"], counted: Bool[np.ndarray, " row"], n_latents: int, codes: CodeChunk
) -> tuple[Any, ...]:
    """The text's bits; the first row; bits of the rows that count, and of those of the fit half; the firings by latent:
    where each latent's begin, their rows and slices."""
    sequences = slice(codes.start // text.n_ctx, codes.stop // text.n_ctx)
    bits = pack(counted[codes.start : codes.stop]), pack(np.repeat(half[sequences], text.n_ctx))
    shape = (codes.stop - codes.start, n_latents)
    fired = scipy.sparse.csr_matrix((codes.values.astype(float), codes.latents, codes.offsets), shape).tocsc()
    fired.eliminate_zeros()
    slices = np.clip(np.ceil(fired.data * N_SLICES) - 1, 0, N_SLICES - 1).astype(np.int64)
    return TextBits.of(text, sequences), codes.start, *bits, fired.indptr, fired.indices, slices


@njit(cache=True, nogil=True)
def _bit(bits, row):
    return np.int64((bits[row >> 6] >> np.uint64(row & 63)) & np.uint64(1))


@njit(cache=True, nogil=True)
def _count(
    units, latents, rules, hit_rows, first_hit, text, start, counted, fit, first_firing, fired, slices,
    holds, both, fires, hits,
):  # fmt: skip
    """Add the counts of some units in the chunk to those so far."""
    n_rows = len(text.order)
    for unit in units:
        atoms = atom_bits(rules, text, unit)
        firings = range(first_firing[latents[unit]], first_firing[latents[unit] + 1])
        inside = hit_rows[first_hit[unit] : first_hit[unit + 1]] - start
        for firing in firings:
            fires[1 - _bit(fit, fired[firing]), unit, slices[firing]] += 1
        for place in range(rules.first_rule[unit + 1] - rules.first_rule[unit]):
            held = rule_bits(rules.rules[rules.first_rule[unit] + place], atoms, counted)
            in_fit, in_all = _n_held(held, fit)
            holds[0, unit, place] += in_fit
            holds[1, unit, place] += in_all - in_fit
            for firing in firings:
                row = fired[firing]
                both[1 - _bit(fit, row), unit, place, slices[firing]] += _bit(held, row)
            for row in inside:
                if 0 <= row < n_rows:
                    hits[1 - _bit(fit, row), unit, place] += _bit(held, row)


@njit(cache=True, nogil=True)
def _n_held(held, fit):
    in_fit, in_all = np.uint64(0), np.uint64(0)
    for word in range(len(fit)):
        in_fit += popcount(held[word] & fit[word])
        in_all += popcount(held[word])
    return np.int64(in_fit), np.int64(in_all)


@njit(cache=True, nogil=True)
def _sample(start, offsets, latents, values, n_ctx, half, seed, n_fire, limits, n_kept, keys, rows):
    for at in range(len(offsets) - 1):
        row = start + at
        if not half[row // n_ctx]:
            continue
        seed_of_row = hashed(seed, np.uint64(row))
        for i in range(offsets[at], offsets[at + 1]):
            latent = latents[i]
            if values[i] <= 0:
                continue
            n_fire[latent] += 1
            key = float(hashed(seed_of_row, np.uint64(latent)) >> np.uint64(11))
            if key >= limits[latent]:
                continue
            own, its_rows = keys[latent], rows[latent]
            own[n_kept[latent]], its_rows[n_kept[latent]] = key, row
            n_kept[latent] += 1
            if n_kept[latent] == len(own):  # full: the SAMPLE smallest go on
                limits[latent] = np.partition(own, SAMPLE)[SAMPLE]
                smallest = np.flatnonzero(own < limits[latent])
                own[:SAMPLE], its_rows[:SAMPLE] = own[smallest], its_rows[smallest]
                own[SAMPLE:], its_rows[SAMPLE:], n_kept[latent] = np.inf, -1, SAMPLE
