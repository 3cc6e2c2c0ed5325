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
from interp.explain.predicates import KINDS, MAX_ATOMS, MAX_PARTS, PLANES, Atom, Rule, Text
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
    counts, rules = Counts(*(np.zeros(size, np.int64) for size in sizes)), _rules(proposed, text)
    n_threads = torch.get_num_threads()
    edges = np.linspace(0, len(proposed), 8 * n_threads + 1).astype(int)
    with ThreadPoolExecutor(n_threads) as pool:
        for part in chunks(codes, maxima, text.n_ctx, progress, "scoring explanations"):
            chunk = _chunk(text, half, part, codes.d_sae, sampled)
            jobs = [
                pool.submit(_count, *ends, rules, chunk, latents, counts)
                for ends in zip(edges, edges[1:], strict=False)
            ]
            for job in jobs:
                job.result()
    return counts


class _Rules(NamedTuple):
    """The rules of all units as arrays: of each unit the atoms they share, and the rules as places among them."""

    first_atom: Int64[np.ndarray, " unit_plus_1"]
    plane: Int64[np.ndarray, " atom"]
    """−1 for an atom that looks for tokens."""
    which: Int64[np.ndarray, " atom"]
    reach: Int64[np.ndarray, "atom 2"]
    first_token: Int64[np.ndarray, " atom_plus_1"]
    tokens: Int64[np.ndarray, " item"]
    first_rule: Int64[np.ndarray, " unit_plus_1"]
    rules: Int64[np.ndarray, f"rule {MAX_PARTS} {MAX_ATOMS}"]
    """−1 for none."""


def _rules(proposed: Sequence[Sequence[Rule]], text: Text) -> _Rules:
    atoms: list[Atom] = []
    n_atoms, n_rules = [], [len(own) for own in proposed]
    rules = np.full((sum(n_rules), MAX_PARTS, MAX_ATOMS), -1)
    numbers = iter(range(len(rules)))
    for own in proposed:
        place = {atom: i for i, atom in enumerate(dict.fromkeys(a for rule in own for part in rule for a in part))}
        for rule in own:
            number = next(numbers)
            for side, part in enumerate(rule):
                rules[number, side, : len(part)] = [place[atom] for atom in part]
        atoms += place
        n_atoms.append(len(place))
    planes = np.array([PLANES.index(atom.kind) if atom.kind in PLANES else -1 for atom in atoms], np.int64)
    which = np.array([atom.which for atom in atoms], np.int64)
    reach = np.array([KINDS[atom.kind].reach or (0, 0) for atom in atoms], np.int64).reshape(-1, 2)
    lists = [text.tokens_of(atom) for atom in atoms]
    tokens = np.array([token for own in lists for token in own], np.int64)
    return _Rules(_offsets(n_atoms), planes, which, reach, _offsets(map(len, lists)), tokens, _offsets(n_rules), rules)


class _Chunk(NamedTuple):
    """Bits of the chunk's rows, its tokens' places, its firings by latent, and the sampled rows of each unit."""

    planes: UInt64[np.ndarray, "plane 64 word"]
    order: Int64[np.ndarray, " row"]
    """Rows by token."""
    first: Int64[np.ndarray, " d_vocab_plus_1"]
    n_ctx: int
    fit: UInt64[np.ndarray, " word"]
    first_firing: Int64[np.ndarray, " d_sae_plus_1"]
    rows: Int64[np.ndarray, " firing"]
    slices: Int64[np.ndarray, " firing"]
    first_sampled: Int64[np.ndarray, " unit_plus_1"]
    sampled: Int64[np.ndarray, " sampled"]


def _chunk(
    text: Text,
    half: Bool[np.ndarray, " seq"],
    chunk: CodeChunk,
    n_latents: int,
    sampled: Sequence[Int64[np.ndarray, " row"]],
) -> _Chunk:
    n_rows, n_ctx = len(chunk.offsets) - 1, text.n_ctx
    sequences = slice(chunk.start // n_ctx, (chunk.start + n_rows) // n_ctx)
    by_row, planes = text.planes(sequences), np.zeros((len(PLANES), 64, n_words(n_rows)), np.uint64)
    for plane, kind in enumerate(PLANES):
        transpose(by_row, plane, np.arange(len(text.names[kind])), planes[plane])
    tokens = text.tokens[sequences].reshape(-1)
    first = _offsets(np.bincount(tokens, minlength=len(text.vocabulary)))
    fit = pack(np.repeat(half[sequences], n_ctx))
    shape = (n_rows, n_latents)
    fired = scipy.sparse.csr_matrix((chunk.values.astype(float), chunk.latents, chunk.offsets), shape).tocsc()
    fired.eliminate_zeros()
    slices = np.clip(np.ceil(fired.data * N_SLICES) - 1, 0, N_SLICES - 1).astype(np.int64)
    firings = (fired.indptr.astype(np.int64), fired.indices.astype(np.int64), slices)
    inside = [own[slice(*np.searchsorted(own, [chunk.start, chunk.start + n_rows]))] - chunk.start for own in sampled]
    rows = np.concatenate([*inside, np.zeros(0, np.int64)])
    order = np.argsort(tokens, kind="stable")
    return _Chunk(planes, order, first, n_ctx, fit, *firings, _offsets(map(len, inside)), rows)


def _offsets(sizes) -> Int64[np.ndarray, " n_plus_1"]:
    return np.concatenate([[0], np.cumsum(np.fromiter(sizes, np.int64))]).astype(np.int64)


@njit(cache=True, nogil=True)
def _count(start, stop, rules, chunk, latents, counts):
    n_words = len(chunk.fit)
    held, part_bits = np.empty(n_words, np.uint64), np.empty(n_words, np.uint64)
    for unit in range(start, stop):
        low, high = chunk.first_firing[latents[unit]], chunk.first_firing[latents[unit] + 1]
        for firing in range(low, high):
            counts.fires[_side(chunk.fit, chunk.rows[firing]), unit, chunk.slices[firing]] += 1
        first_atom = rules.first_atom[unit]
        atom_bits = np.zeros((rules.first_atom[unit + 1] - first_atom, n_words), np.uint64)
        for atom in range(len(atom_bits)):
            _hold_atom(rules, first_atom + atom, chunk, atom_bits[atom])
        first_rule = rules.first_rule[unit]
        for place in range(rules.first_rule[unit + 1] - first_rule):
            _hold_rule(rules.rules[first_rule + place], atom_bits, part_bits, held)
            for word in range(n_words):
                in_fit = popcount(held[word] & chunk.fit[word])
                counts.holds[0, unit, place] += np.int64(in_fit)
                counts.holds[1, unit, place] += np.int64(popcount(held[word]) - in_fit)
            for firing in range(low, high):
                row = chunk.rows[firing]
                if _has(held, row):
                    counts.both[_side(chunk.fit, row), unit, place, chunk.slices[firing]] += 1
            for row in chunk.sampled[chunk.first_sampled[unit] : chunk.first_sampled[unit + 1]]:
                if _has(held, row):
                    counts.hits[_side(chunk.fit, row), unit, place] += 1


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
        for place in range(chunk.first[token], chunk.first[token + 1]):
            row = chunk.order[place]
            last = min(row + high, row - row % chunk.n_ctx + chunk.n_ctx - 1)
            for behind in range(row + low, last + 1):
                out[behind >> 6] |= np.uint64(1) << np.uint64(behind & 63)


@njit(cache=True, nogil=True)
def _hold_rule(rule, atom_bits, part_bits, held):
    """The rows where the rule holds: ors of ands."""
    held[:] = np.uint64(0)
    for part in rule:
        if part[0] < 0:
            break
        part_bits[:] = atom_bits[part[0]]
        for atom in part[1:]:
            if atom >= 0:
                part_bits &= atom_bits[atom]
        held |= part_bits
