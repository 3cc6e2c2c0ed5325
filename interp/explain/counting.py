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
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Bool, Float32, Int64
from numba import njit

from interp.explain.bitsets import cover, pack, popcount, transpose
from interp.explain.predicates import KINDS, MAX_ATOMS, MAX_PARTS, PLANES, Rule, Text
from interp.features.chunks import in_threads
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
    hit_rows, first_hit = np.concatenate([*sampled, np.zeros(0, np.int64)]), _begins(sampled)
    given = (latents, *_Numbered.of(proposed, text), hit_rows, first_hit)
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


class _Numbered(NamedTuple):
    """The rules of all units, one unit after the other, as places among the unit's atoms; −1 for none."""

    first_rule: Int64[np.ndarray, " unit_plus_1"]
    rules: Int64[np.ndarray, f"rule {MAX_PARTS} {MAX_ATOMS}"]
    first_atom: Int64[np.ndarray, " unit_plus_1"]
    planes: Int64[np.ndarray, " atom"]
    """Of PLANES; −1 for an atom of tokens."""
    which: Int64[np.ndarray, " atom"]
    reaches: Int64[np.ndarray, "atom 2"]
    first_token: Int64[np.ndarray, " atom_plus_1"]
    tokens: Int64[np.ndarray, " token"]

    @classmethod
    def of(cls, proposed: Sequence[Sequence[Rule]], text: Text) -> "_Numbered":
        own = [list(dict.fromkeys(a for rule in rules for part in rule for a in part)) for rules in proposed]
        first_rule = _begins(proposed)
        out = np.full((first_rule[-1], MAX_PARTS, MAX_ATOMS), -1)
        for first, rules, atoms in zip(first_rule, proposed, own, strict=False):
            place = {atom: i for i, atom in enumerate(atoms)}
            for number, rule in enumerate(rules):
                for side, part in enumerate(rule):
                    out[first + number, side, : len(part)] = [place[atom] for atom in part]
        atoms = [atom for some in own for atom in some]
        reaches = [KINDS[atom.kind].reach for atom in atoms]
        tokens = [text.tokens_of(atom) if reach else () for atom, reach in zip(atoms, reaches, strict=True)]
        planes = [-1 if reach else PLANES.index(atom.kind) for atom, reach in zip(atoms, reaches, strict=True)]
        return cls(
            first_rule,
            out,
            _begins(own),
            np.array(planes, np.int64),
            np.array([atom.which for atom in atoms], np.int64),
            np.array([reach or (0, 0) for reach in reaches], np.int64).reshape(-1, 2),
            _begins(tokens),
            np.array([token for some in tokens for token in some], np.int64),
        )


def _begins(lists: Sequence[Sequence[Any] | np.ndarray]) -> Int64[np.ndarray, " list_plus_1"]:
    """Where each list begins, with one behind the other."""
    return np.concatenate([[0], np.cumsum([len(each) for each in lists])]).astype(np.int64)


def _chunk_arrays(
    text: Text, half: Bool[np.ndarray, " seq"], counted: Bool[np.ndarray, " row"], n_latents: int, codes: CodeChunk
) -> tuple[Any, ...]:
    """Bits [plane, 64, word] of what holds; rows by token, and where each token begins; the rows of a sequence, and the
    first row; bits of the rows that count, and of those of the fit half; the firings by latent: where each latent's
    begin, their rows and slices."""
    sequences = slice(codes.start // text.n_ctx, codes.stop // text.n_ctx)
    by_row = text.planes(sequences)
    planes = np.stack([transpose(by_row, plane, np.arange(64)) for plane in range(len(PLANES))])
    tokens = text.tokens[sequences].reshape(-1)
    first = np.concatenate([[0], np.cumsum(np.bincount(tokens, minlength=len(text.vocabulary)))])
    bits = pack(counted[codes.start : codes.stop]), pack(np.repeat(half[sequences], text.n_ctx))
    shape = (codes.stop - codes.start, n_latents)
    fired = scipy.sparse.csr_matrix((codes.values.astype(float), codes.latents, codes.offsets), shape).tocsc()
    fired.eliminate_zeros()
    slices = np.clip(np.ceil(fired.data * N_SLICES) - 1, 0, N_SLICES - 1).astype(np.int64)
    order = np.argsort(tokens, kind="stable")
    return planes, order, first, text.n_ctx, codes.start, *bits, fired.indptr, fired.indices, slices


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
    units, latents, first_rule, rules, first_atom, planes, which, reaches, first_token, tokens, hit_rows, first_hit,
    bits, order, first, n_ctx, start, counted, fit, first_firing, fired, slices, holds, both, fires, hits,
):  # fmt: skip
    """Add the counts of some units in the chunk to those so far."""
    n_rows = len(order)
    for unit in units:
        atom_bits = np.zeros((first_atom[unit + 1] - first_atom[unit], len(fit)), np.uint64)
        for own in range(len(atom_bits)):
            atom = first_atom[unit] + own
            if planes[atom] >= 0:
                atom_bits[own] = bits[planes[atom], which[atom]]
            else:
                some = tokens[first_token[atom] : first_token[atom + 1]]
                _hold_tokens(some, reaches[atom, 0], reaches[atom, 1], first, order, n_ctx, atom_bits[own])
        firings = range(first_firing[latents[unit]], first_firing[latents[unit] + 1])
        inside = hit_rows[first_hit[unit] : first_hit[unit + 1]] - start
        for firing in firings:
            fires[1 - _bit(fit, fired[firing]), unit, slices[firing]] += 1
        for place in range(first_rule[unit + 1] - first_rule[unit]):
            held = np.zeros_like(fit)
            for part in rules[first_rule[unit] + place]:
                if part[0] >= 0:
                    held |= cover(atom_bits, part, counted)
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
