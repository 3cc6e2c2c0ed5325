"""Exact counts of rules: where each holds, how many firings and how many sampled rows it hits, in both halves.

    holds = positions where the rule holds,   both = those where its latent fires too, by slices of the strength

One pass over codes and text, a chunk at a time. Per chunk the rows of each atom become one bitset: classes and places
are turned around once for all rules, tokens are looked up in an index of the chunk; rules are ands and ors of words.
Memory: a chunk, and the counts. Rules are spread over threads.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Bool, Float32, Int64, UInt64
from numba import njit

from interp.explain.bitsets import n_words, pack, popcount, transpose
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
    proposed: Sequence[Sequence[Rule]],
    latents: Int64[np.ndarray, " unit"],
    maxima: Float32[np.ndarray, " d_sae"],
    sampled: Sequence[Int64[np.ndarray, " row"]],
    progress: Progress = no_progress,
) -> Counts:
    """Count the rules proposed for each unit over all codes.

    latents: whose firings each unit's rules are held against; sampled: ascending rows of each unit to count hits on.
    """
    shape = (2, len(proposed), max([1, *map(len, proposed)]))
    sizes = (shape, (*shape, N_SLICES), (2, len(proposed), N_SLICES), shape)
    counts, rules = Counts(*(np.zeros(size, np.int64) for size in sizes)), [_Rules.of(own, text) for own in proposed]
    n_threads = torch.get_num_threads()
    with ThreadPoolExecutor(n_threads) as pool:
        for part in chunks(codes, maxima, text.n_ctx, progress, "scoring explanations"):
            chunk, fired = _Chunk.of(text, half, part), _by_latent(part, codes.d_sae)

            def count(units: Int64[np.ndarray, " unit"], part=part, chunk=chunk, fired=fired) -> None:
                for unit in units:
                    own = slice(*fired.indptr[latents[unit] : latents[unit] + 2])
                    here = slice(*np.searchsorted(sampled[unit], [part.start, part.stop]))
                    rows = (fired.indices[own], fired.data[own], sampled[unit][here] - part.start)
                    _count(rules[unit], chunk, *rows, *(values[:, unit] for values in counts))

            list(pool.map(count, np.array_split(np.arange(len(proposed)), 8 * n_threads)))
    return counts


class _Rules(NamedTuple):
    """The rules of one unit as arrays: the atoms they share, and the rules as places among them."""

    plane: Int64[np.ndarray, " atom"]
    """−1 for an atom that looks for tokens."""
    which: Int64[np.ndarray, " atom"]
    reach: Int64[np.ndarray, "atom 2"]
    first_token: Int64[np.ndarray, " atom_plus_1"]
    tokens: Int64[np.ndarray, " item"]
    parts: Int64[np.ndarray, f"rule {MAX_PARTS} {MAX_ATOMS}"]
    """−1 for none."""

    @classmethod
    def of(cls, rules: Sequence[Rule], text: Text) -> "_Rules":
        atoms = list(dict.fromkeys(atom for rule in rules for part in rule for atom in part))
        parts = np.full((len(rules), MAX_PARTS, MAX_ATOMS), -1)
        for number, rule in enumerate(rules):
            for side, part in enumerate(rule):
                parts[number, side, : len(part)] = [atoms.index(atom) for atom in part]
        planes = np.array([PLANES.index(atom.kind) if atom.kind in PLANES else -1 for atom in atoms], np.int64)
        which = np.array([atom.which for atom in atoms], np.int64)
        reach = np.array([KINDS[atom.kind].reach or (0, 0) for atom in atoms], np.int64).reshape(-1, 2)
        tokens = [np.asarray(text.tokens_of(atom), np.int64) for atom in atoms]
        return cls(
            planes,
            which,
            reach,
            _offsets([len(own) for own in tokens]),
            np.concatenate([[], *tokens]).astype(np.int64),
            parts,
        )


class _Chunk(NamedTuple):
    """A chunk of the text: the bits of its rows, and where its tokens are."""

    planes: UInt64[np.ndarray, "plane 64 word"]
    order: Int64[np.ndarray, " row"]
    """Rows by token."""
    first: Int64[np.ndarray, " d_vocab_plus_1"]
    n_ctx: int
    fit: UInt64[np.ndarray, " word"]

    @classmethod
    def of(cls, text: Text, half: Bool[np.ndarray, " seq"], chunk: CodeChunk) -> "_Chunk":
        sequences = slice(chunk.start // text.n_ctx, chunk.stop // text.n_ctx)
        tokens, by_row = text.tokens[sequences].reshape(-1), text.planes(sequences)
        planes = np.zeros((len(PLANES), 64, n_words(len(tokens))), np.uint64)
        for plane, kind in enumerate(PLANES):
            transpose(by_row, plane, np.arange(len(text.names[kind])), planes[plane])
        first = _offsets(np.bincount(tokens, minlength=len(text.vocabulary)))
        return cls(
            planes, np.argsort(tokens, kind="stable"), first, text.n_ctx, pack(np.repeat(half[sequences], text.n_ctx))
        )


def _by_latent(chunk: CodeChunk, d_sae: int) -> scipy.sparse.csc_matrix:
    """The chunk's firings by latent: rows, and as data the slices of their strengths."""
    shape = (len(chunk.offsets) - 1, d_sae)
    fired = scipy.sparse.csr_matrix((chunk.values.astype(float), chunk.latents, chunk.offsets), shape).tocsc()
    fired.eliminate_zeros()
    fired.data = np.clip(np.ceil(fired.data * N_SLICES) - 1, 0, N_SLICES - 1).astype(np.int64)
    return fired


def _offsets(sizes: Sequence[int] | Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n_plus_1"]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


@njit(cache=True, nogil=True)
def _count(rules, chunk, rows, slices, sampled, holds, both, fires, hits):
    n_words = len(chunk.fit)
    held, part_bits = np.empty(n_words, np.uint64), np.empty(n_words, np.uint64)
    for firing in range(len(rows)):
        fires[_side(chunk.fit, rows[firing]), slices[firing]] += 1
    atom_bits = np.zeros((len(rules.plane), n_words), np.uint64)
    for atom in range(len(atom_bits)):
        _hold_atom(rules, atom, chunk, atom_bits[atom])
    for place in range(len(rules.parts)):
        _hold_rule(rules.parts[place], atom_bits, part_bits, held)
        for word in range(n_words):
            in_fit = popcount(held[word] & chunk.fit[word])
            holds[0, place] += np.int64(in_fit)
            holds[1, place] += np.int64(popcount(held[word]) - in_fit)
        for firing in range(len(rows)):
            if _has(held, rows[firing]):
                both[_side(chunk.fit, rows[firing]), place, slices[firing]] += 1
        for row in sampled:
            if _has(held, row):
                hits[_side(chunk.fit, row), place] += 1


@njit(cache=True, nogil=True)
def _has(bits, row):
    return (bits[row >> 6] >> np.uint64(row & 63)) & np.uint64(1) == np.uint64(1)


@njit(cache=True, nogil=True)
def _side(fit, row):
    return 0 if _has(fit, row) else 1


@njit(cache=True, nogil=True)
def _hold_atom(rules, atom, chunk, out):
    if rules.plane[atom] >= 0:
        out[:] = chunk.planes[rules.plane[atom], rules.which[atom]]
        return
    low, high = rules.reach[atom]
    for token in rules.tokens[rules.first_token[atom] : rules.first_token[atom + 1]]:
        for row in chunk.order[chunk.first[token] : chunk.first[token + 1]]:
            last = min(row + high, row - row % chunk.n_ctx + chunk.n_ctx - 1)
            for behind in range(row + low, last + 1):
                out[behind >> 6] |= np.uint64(1) << np.uint64(behind & 63)


@njit(cache=True, nogil=True)
def _hold_rule(parts, atom_bits, part_bits, held):
    """The rows where the rule holds: ors of ands."""
    held[:] = np.uint64(0)
    for part in parts:
        if part[0] < 0:
            break
        part_bits[:] = atom_bits[part[0]]
        for atom in part[1:]:
            if atom >= 0:
                part_bits &= atom_bits[atom]
        held |= part_bits
