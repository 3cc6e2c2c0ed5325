"""What is counted over all codes: where rules hold and what they hit, exactly; and how strongly latents fire there.

    holds = positions where the rule holds,   both = those where its latent fires too, by slices of the strength

`Strengths` predict the codes of any text from the rules. The cases of a rule are its conjunctions, one for each token
where x_t is one of several; of those that hold at t the first counts:

    ẑ_j(t)  = the mean of z_j over the fit half's positions at which the same case holds; where none does, over those
    share_j = 1 − Σ_t (z_j − ẑ_j)² / Σ_t (z_j − z̄_j)²            on the held-out half

The means are over all positions of a case, 0 where the latent is silent: the least-squares values. A mean over firings
alone is too large where a rule is imprecise. Latents without a rule are their mean everywhere, as in mean ablation.
A share of 1: the words tell every value; of 0: no better than a constant; below: worse, on text not learnt from.

A row whose window stands in an earlier sequence counts for none of them (`features.examples`): it would count twice, or
in both halves. Each is one pass over codes and text, a chunk at a time. Memory: a chunk, and the counts.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from numba import njit

from interp.codes.reading import ROWS_PER_CHUNK, CodeChunk, CodeSource, read_chunks
from interp.codes.sparse_codes import SparseCodes
from interp.features.examples import first_windows
from interp.features.feature_store import FeatureStore
from interp.storage.files import Progress, no_progress, ratio
from interp.storage.processes import in_threads
from interp.verdict.holding import Numbered, TextBits, atom_bits, begins, first_that_hold, pack, popcount, rule_bits
from interp.verdict.predicates import Atom, Rule, Text

N_SLICES = 5
Latents = Float64[np.ndarray, " d_sae"]


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

    note = "scoring explanations"
    read = read_chunks(codes, text.n_ctx, maxima=maxima, counted=counted, progress=progress, note=note)
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


@dataclass(frozen=True)
class Strengths:
    cases: Numbered
    latents: Int64[np.ndarray, " case"]
    rises: Float32[np.ndarray, " case"]
    """The mean activation in a case, less that where no case of its latent holds."""
    elsewhere: Float32[np.ndarray, " d_sae"]
    """The mean activation where no case holds."""
    shares: Float64[np.ndarray, " d_sae"]
    """NaN for a latent that is constant on the held-out half."""

    def rises_on(self, text: Text, sequences: slice) -> SparseCodes:
        """What is to be added to `elsewhere` at each position of the sequences. The text's vocabulary and names of
        labels are those that the strengths were learnt with."""
        held = first_that_hold(text, sequences, self.cases)
        which = held.latents.long()
        latents, rises = torch.from_numpy(self.latents)[which], torch.from_numpy(self.rises)[which]
        return SparseCodes(held.offsets, latents.int(), rises, len(self.elsewhere))


def learn_strengths(
    features: FeatureStore, text: Text, rules: Sequence[Rule], progress: Progress = no_progress
) -> Strengths:
    """From one pass over the codes. text: that of the features; rules: one a latent, () for none."""
    by_case = [cases(rule) for rule in rules]
    numbered, latents = Numbered.of(by_case, text), np.repeat(np.arange(len(rules)), [len(own) for own in by_case])
    fit, counted = features.fit_half().numpy(), first_windows(text.tokens)
    step, halves = max(1, ROWS_PER_CHUNK // text.n_ctx), [_Sums(latents, features.d_sae) for _ in range(2)]
    for start in range(0, len(text.tokens), step):
        sequences = slice(start, min(start + step, len(text.tokens)))
        rows = slice(sequences.start * text.n_ctx, sequences.stop * text.n_ctx)
        counts, learns = counted[rows] & features.codes.present(rows.start, rows.stop).numpy(), fit[sequences]
        held, z = first_that_hold(text, sequences, numbered).scipy(), features.codes[rows].scipy().maximum(0)
        for sums, half in zip(halves, (learns, ~learns), strict=True):
            own = np.flatnonzero(counts & np.repeat(half, text.n_ctx))
            sums.add(held[own], z[own].astype(np.float64))
        progress(sequences.stop, len(text.tokens), "learning how strongly rules fire")
    values, elsewhere = halves[0].means()
    shares = halves[1].shares(values, elsewhere)
    rises = (values - elsewhere[latents]).astype(np.float32)
    return Strengths(numbered, latents, rises, elsewhere.astype(np.float32), shares)


def cases(rule: Rule) -> list[Rule]:
    """Each of one conjunction, in the order of the rule."""
    found: list[Rule] = []
    for part in rule:
        own = next((atom for atom in part if atom.kind == "token"), None)
        single = [Atom("token", (token,)) for token in own.tokens] if own else []
        found += [(tuple(one if atom is own else atom for atom in part),) for one in single] or [(part,)]
    return list(dict.fromkeys(found))


class _Sums:
    """Of the rows of one half: how many, Σ z and Σ z² of each latent, and of each case its rows and Σ z there."""

    def __init__(self, latents: Int64[np.ndarray, " case"], d_sae: int):
        self.latents, self.rows = latents, 0
        self.total, self.squares = np.zeros((2, d_sae))
        self.n, self.in_case = np.zeros((2, len(latents)))

    def add(self, held: scipy.sparse.csr_matrix, z: scipy.sparse.csr_matrix) -> None:
        """held: [row, case], 1 where it holds; z: [row, d_sae], of the same rows."""
        row, case = held.nonzero()
        self.rows += z.shape[0]
        self.total += np.asarray(z.sum(0)).ravel()
        self.squares += np.asarray(z.power(2).sum(0)).ravel()
        self.n += np.bincount(case, minlength=len(self.n))
        self.in_case += np.bincount(case, np.asarray(z[row, self.latents[case]]).ravel(), len(self.n))

    def outside(self) -> tuple[Latents, Latents]:
        """At how many rows no case of a latent holds, and its activation there."""
        n_inside, inside = (np.bincount(self.latents, own, len(self.total)) for own in (self.n, self.in_case))
        return self.rows - n_inside, self.total - inside

    def means(self) -> tuple[Float64[np.ndarray, " case"], Latents]:
        """In each case, and where none holds; a case that does not occur is as if it did not hold."""
        n, activation = self.outside()
        elsewhere = activation / np.maximum(n, 1)
        return np.where(self.n > 0, self.in_case / np.maximum(self.n, 1), elsewhere[self.latents]), elsewhere

    def shares(self, values: Float64[np.ndarray, " case"], elsewhere: Latents) -> Latents:
        """1 − Σ (z − ẑ)² / Σ (z − z̄)², by Σ (z − ẑ)² = Σ z² − Σ ẑ (2 z − ẑ)."""
        n, activation = self.outside()
        told = np.bincount(self.latents, values * (2 * self.in_case - values * self.n), len(elsewhere))
        told = told + elsewhere * (2 * activation - elsewhere * n)
        variance = self.squares - self.total**2 / max(self.rows, 1)
        return 1 - ratio(self.squares - told, np.where(variance > 1e-12 * self.squares, variance, 0))
