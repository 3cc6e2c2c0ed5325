"""Exact counts of rules: where each holds, how many firings and how many sampled rows it hits, in both halves.

    holds = positions where the rule holds,   both = those where its latent fires too, by slices of the strength

A row whose window stands in an earlier sequence counts for none of them (`features.repeats`): it would count twice, or
in both halves. One pass over codes and text, a chunk at a time. Per chunk the rows of each atom become one bitset:
classes and places are turned around once for all rules, tokens are looked up in an index of the chunk; rules are ands
and ors of words. Memory: a chunk, and the counts. Units are spread over threads.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Bool, Float32, Int64
from numba import njit

from interp.explain.bitsets import cover, pack, popcount, transpose
from interp.explain.predicates import KINDS, MAX_ATOMS, MAX_PARTS, PLANES, Rule, Text
from interp.files import Progress, no_progress
from interp.monosemanticity.firings import CodeChunk, CodeSource, chunks

N_SLICES = 5


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
    numbered = [_Numbered.of(rules, text) for rules in proposed]

    def count(chunk: _Chunk, units: Int64[np.ndarray, " some"]) -> None:
        for unit in units:
            found = (*chunk.firings(latents[unit]), chunk.inside(sampled[unit]))
            given = (*numbered[unit], *chunk.arrays, *found, *(values[:, unit] for values in counts))
            _count(*given)

    threads = torch.get_num_threads()
    spans = np.array_split(units, 8 * threads)
    with ThreadPoolExecutor(threads) as pool:
        for part in chunks(codes, maxima, text.n_ctx, progress, "scoring explanations", counted):
            for _ in pool.map(partial(count, _Chunk(text, half, counted, part, codes.d_sae)), spans):
                pass
    return counts


class _Numbered(NamedTuple):
    """The atoms of one unit's rules, each once, and the rules as places among them; −1 for none."""

    rules: Int64[np.ndarray, f"rule {MAX_PARTS} {MAX_ATOMS}"]
    planes: Int64[np.ndarray, " atom"]
    """Of PLANES; −1 for an atom of tokens."""
    which: Int64[np.ndarray, " atom"]
    reaches: Int64[np.ndarray, "atom 2"]
    first: Int64[np.ndarray, " atom_plus_1"]
    """Where each atom's tokens begin."""
    tokens: Int64[np.ndarray, " token"]

    @classmethod
    def of(cls, rules: Sequence[Rule], text: Text) -> "_Numbered":
        place = {atom: i for i, atom in enumerate(dict.fromkeys(a for rule in rules for part in rule for a in part))}
        out = np.full((len(rules), MAX_PARTS, MAX_ATOMS), -1)
        for number, rule in enumerate(rules):
            for side, part in enumerate(rule):
                out[number, side, : len(part)] = [place[atom] for atom in part]
        reaches = [KINDS[atom.kind].reach for atom in place]
        tokens = [text.tokens_of(atom) if reach else () for atom, reach in zip(place, reaches, strict=True)]
        return cls(
            out,
            np.array(
                [-1 if reach else PLANES.index(atom.kind) for atom, reach in zip(place, reaches, strict=True)], int
            ),
            np.array([atom.which for atom in place], int),
            np.array([reach or (0, 0) for reach in reaches], int).reshape(-1, 2),
            np.concatenate([[0], np.cumsum([len(own) for own in tokens])]).astype(int),
            np.array([token for own in tokens for token in own], int),
        )


class _Chunk:
    """The rows of a chunk as bits, its tokens' places, and its firings by latent."""

    def __init__(
        self,
        text: Text,
        half: Bool[np.ndarray, " seq"],
        counted: Bool[np.ndarray, " row"],
        codes: CodeChunk,
        n_latents: int,
    ):
        sequences = slice(codes.start // text.n_ctx, codes.stop // text.n_ctx)
        self._edges = (codes.start, codes.stop)
        by_row = text.planes(sequences)
        planes = np.stack([transpose(by_row, plane, np.arange(64)) for plane in range(len(PLANES))])
        tokens = text.tokens[sequences].reshape(-1)
        order = np.argsort(tokens, kind="stable")
        first = np.concatenate([[0], np.cumsum(np.bincount(tokens, minlength=len(text.vocabulary)))])
        counts = counted[codes.start : codes.stop]
        in_fit = np.repeat(half[sequences], text.n_ctx)
        self.arrays = (planes, order, first, text.n_ctx, pack(counts), pack(in_fit))
        """Bits [plane, 64, word] of what holds; rows by token, and where each token begins; the rows that count, and
        those of the fit half."""
        shape = (codes.stop - codes.start, n_latents)
        self._fired = scipy.sparse.csr_matrix((codes.values.astype(float), codes.latents, codes.offsets), shape).tocsc()
        self._fired.eliminate_zeros()
        self._slices = np.clip(np.ceil(self._fired.data * N_SLICES) - 1, 0, N_SLICES - 1).astype(np.int64)

    def firings(self, latent: int) -> tuple[Int64[np.ndarray, " firing"], Int64[np.ndarray, " firing"]]:
        """Rows and slices."""
        own = slice(*self._fired.indptr[latent : latent + 2])
        return self._fired.indices[own].astype(np.int64), self._slices[own]

    def inside(self, rows: Int64[np.ndarray, " row"]) -> Int64[np.ndarray, " row"]:
        """Those of the ascending rows that are in the chunk."""
        return rows[slice(*np.searchsorted(rows, self._edges))] - self._edges[0]


@njit(cache=True, nogil=True)
def _bit(bits, row):
    return np.int64((bits[row >> 6] >> np.uint64(row & 63)) & np.uint64(1))


@njit(cache=True, nogil=True)
def _hold_tokens(tokens, low, high, first, order, n_ctx, out):
    """The rows that have one of the tokens among those `low` to `high` before."""
    for token in tokens:
        for place in range(first[token], first[token + 1]):
            row = order[place]
            last = min(row + high, row - row % n_ctx + n_ctx - 1)
            for behind in range(row + low, last + 1):
                out[behind >> 6] |= np.uint64(1) << np.uint64(behind & 63)


@njit(cache=True, nogil=True)
def _count(
    rules, planes, which, reaches, starts, tokens, bits, order, first, n_ctx, counted, fit, rows, slices, sampled,
    holds, both, fires, hits,
):  # fmt: skip
    """Add one unit's counts in the chunk to those so far."""
    atom_bits = np.zeros((len(planes), len(fit)), np.uint64)
    for atom, plane in enumerate(planes):
        if plane >= 0:
            atom_bits[atom] = bits[plane, which[atom]]
        else:
            own = tokens[starts[atom] : starts[atom + 1]]
            _hold_tokens(own, reaches[atom, 0], reaches[atom, 1], first, order, n_ctx, atom_bits[atom])
    for firing, row in enumerate(rows):
        fires[1 - _bit(fit, row), slices[firing]] += 1
    for place, rule in enumerate(rules):
        held = np.zeros_like(fit)
        for part in rule:
            if part[0] >= 0:
                held |= cover(atom_bits, part, counted)
        for word in range(len(fit)):
            in_fit = popcount(held[word] & fit[word])
            holds[0, place] += np.int64(in_fit)
            holds[1, place] += np.int64(popcount(held[word]) - in_fit)
        for firing, row in enumerate(rows):
            both[1 - _bit(fit, row), place, slices[firing]] += _bit(held, row)
        for row in sampled:
            hits[1 - _bit(fit, row), place] += _bit(held, row)
