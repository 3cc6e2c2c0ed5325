"""Exact counts of rules: where each holds, how many firings and how many sampled rows it hits, in both halves.

    holds = positions where the rule holds,   both = those where its latent fires too, by slices of the strength

One pass over codes and text, a chunk at a time. Per chunk the rows of each atom become one bitset: classes and places
are turned around once for all rules, tokens are looked up in an index of the chunk; rules are ands and ors of words.
Memory: a chunk, and the counts. Rules are spread over threads.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from numba import njit

from interp.explain.bitsets import n_words, popcount, transpose
from interp.explain.predicates import (
    AFFIX,
    AFTER,
    AFTER2,
    FAR,
    FAR_REACH,
    MAX_ATOMS,
    MAX_PARTS,
    N_PLANES,
    NEAR,
    REACH,
    Atom,
    Rule,
    Text,
)
from interp.monosemanticity.firings import CodeChunk, CodeSource, chunks

N_SLICES = 5
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Counts:
    """Half 0 is the one that rules are chosen on; units are latents, or senses of one."""

    holds: Int64[np.ndarray, "2 unit candidate"]
    both: Int64[np.ndarray, "2 unit candidate slice"]
    """Firings of strength in (s / 5, (s + 1) / 5] of the latent's maximum."""
    fires: Int64[np.ndarray, "2 unit slice"]
    hits: Int64[np.ndarray, "2 unit candidate"]
    """Of the unit's sampled rows."""

    @classmethod
    def empty(cls, n_units: int, n_candidates: int) -> "Counts":
        shape = (2, n_units, n_candidates)
        sizes = (shape, (*shape, N_SLICES), (2, n_units, N_SLICES), shape)
        return cls(*(np.zeros(size, np.int64) for size in sizes))

    def of(self, units: slice) -> "Counts":
        return Counts(self.holds[:, units], self.both[:, units], self.fires[:, units], self.hits[:, units])


@dataclass(frozen=True)
class RuleTable:
    """The rules of all units as arrays: of each unit the atoms they share, and the rules as places among them."""

    first_atom: Int64[np.ndarray, " unit_plus_1"]
    kinds: Int64[np.ndarray, " atom"]
    which: Int64[np.ndarray, " atom"]
    first_token: Int64[np.ndarray, " atom_plus_1"]
    tokens: Int64[np.ndarray, " item"]
    first_rule: Int64[np.ndarray, " unit_plus_1"]
    rules: Int64[np.ndarray, f"rule {MAX_PARTS} {MAX_ATOMS}"]
    """−1 for none."""

    @classmethod
    def of(cls, proposed: Sequence[Sequence[Rule]], text: Text) -> "RuleTable":
        atoms: list[Atom] = []
        first_atom, first_rule = [0], [0]
        rules = np.full((sum(map(len, proposed)), MAX_PARTS, MAX_ATOMS), -1)
        for own in proposed:
            place = {atom: i for i, atom in enumerate(dict.fromkeys(a for rule in own for part in rule for a in part))}
            for number, rule in enumerate(own, first_rule[-1]):
                for side, part in enumerate(rule):
                    rules[number, side, : len(part)] = [place[atom] for atom in part]
            atoms += place
            first_atom.append(len(atoms))
            first_rule.append(first_rule[-1] + len(own))
        affixes = text.vocabulary.affix_tokens
        lists = [
            affixes.indices[affixes.indptr[a.which] : affixes.indptr[a.which + 1]] if a.kind == AFFIX else a.tokens
            for a in atoms
        ]
        first_token = np.concatenate([[0], np.cumsum([len(tokens) for tokens in lists])]).astype(np.int64)
        tokens = np.array([token for tokens in lists for token in tokens], np.int64)
        kinds, which = np.array([a.kind for a in atoms], np.int64), np.array([a.which for a in atoms], np.int64)
        return cls(np.array(first_atom), kinds, which, first_token, tokens, np.array(first_rule), rules)

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        return (
            self.first_atom,
            self.kinds,
            self.which,
            self.first_token,
            self.tokens,
            self.first_rule,
            self.rules,
        )


def count_rules(
    text: Text,
    codes: CodeSource,
    half: Bool[np.ndarray, " seq"],
    proposed: Sequence[Sequence[Rule]],
    *,
    latents: Int64[np.ndarray, " unit"],
    maxima: Float32[np.ndarray, " d_sae"],
    sampled: Sequence[Int64[np.ndarray, " row"]] | None = None,
    progress: Progress | None = None,
) -> Counts:
    """Count the rules proposed for each unit over all codes.

    latents: whose firings each unit's rules are held against; sampled: ascending rows of each unit to count hits on.
    """
    table, counts = RuleTable.of(proposed, text).arrays, Counts.empty(len(proposed), max([1, *map(len, proposed)]))
    rows = sampled if sampled is not None else [np.zeros(0, np.int64)] * len(proposed)
    n_threads = torch.get_num_threads()
    edges = np.linspace(0, len(proposed), 8 * n_threads + 1).astype(int)
    with ThreadPoolExecutor(n_threads) as pool:
        for chunk in chunks(codes, maxima, text.n_ctx, progress, "scoring explanations"):
            arrays = (*table, *_chunk_arrays(text, half, chunk, codes.d_sae), *_sampled_in(chunk, rows), latents)
            results = (counts.holds, counts.both, counts.fires, counts.hits)
            jobs = [pool.submit(_count, edges[i], edges[i + 1], arrays, results) for i in range(len(edges) - 1)]
            for job in jobs:
                job.result()
    return counts


def _chunk_arrays(
    text: Text, half: Bool[np.ndarray, " seq"], chunk: CodeChunk, n_latents: int
) -> tuple[np.ndarray | int, ...]:
    """Bits of the chunk's rows, its tokens' places, and its firings by latent."""
    n_rows, n_ctx = len(chunk.offsets) - 1, text.n_ctx
    sequences = slice(chunk.start // n_ctx, (chunk.start + n_rows) // n_ctx)
    planes = text.planes(sequences)
    bits = np.zeros((N_PLANES, 64, n_words(n_rows)), np.uint64)
    for plane, n in enumerate(text.n_which[kind] for kind in range(N_PLANES)):
        transpose(planes, plane, np.arange(n), bits[plane])
    tokens = text.tokens[sequences].reshape(-1)
    order = np.argsort(tokens, kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(tokens, minlength=len(text.vocabulary)))])
    fit = np.repeat(half[sequences], n_ctx)
    return bits, order, first, n_ctx, fit, *_by_latent(chunk.offsets, chunk.latents, chunk.values, n_latents)


def _sampled_in(chunk: CodeChunk, rows: Sequence[Int64[np.ndarray, " row"]]) -> tuple[np.ndarray, np.ndarray]:
    """The units' sampled rows in the chunk, counted from its start, and where each unit's begin."""
    ends = [chunk.start, chunk.start + len(chunk.offsets) - 1]
    inside = [own[slice(*np.searchsorted(own, ends))] - chunk.start for own in rows]
    first = np.concatenate([[0], np.cumsum([len(own) for own in inside])]).astype(np.int64)
    return first, np.concatenate([*inside, np.zeros(0, np.int64)])


@njit(cache=True, nogil=True)
def _by_latent(offsets, latents, values, n_latents):
    """The chunk's firings by latent: first [latent + 1], rows and slices of strength."""
    first = np.zeros(n_latents + 1, np.int64)
    for entry in range(len(latents)):
        if values[entry] > 0:
            first[latents[entry] + 1] += 1
    first = np.cumsum(first)
    place, rows, slices = first.copy(), np.empty(first[-1], np.int64), np.empty(first[-1], np.int64)
    for row in range(len(offsets) - 1):
        for entry in range(offsets[row], offsets[row + 1]):
            if values[entry] > 0:
                at = place[latents[entry]]
                rows[at] = row
                slices[at] = min(N_SLICES - 1, max(0, int(np.ceil(values[entry] * N_SLICES)) - 1))
                place[latents[entry]] += 1
    return first, rows, slices


@njit(cache=True, nogil=True)
def _count(start, stop, arrays, results):
    first_atom, kinds, which, first_token, items, first_rule, rules = arrays[:7]
    plane_bits, order, first, n_ctx, fit, first_firing, rows, slices, first_sampled, sampled, latents = arrays[7:]
    holds, both, fires, hits = results
    n_words = plane_bits.shape[2]
    fit_bits = np.zeros(n_words, np.uint64)
    for row in range(len(fit)):
        fit_bits[row >> 6] |= np.uint64(fit[row]) << np.uint64(row & 63)
    held, part_bits = np.empty(n_words, np.uint64), np.empty(n_words, np.uint64)
    for unit in range(start, stop):
        low, high = first_firing[latents[unit]], first_firing[latents[unit] + 1]
        for firing in range(low, high):
            fires[0 if fit[rows[firing]] else 1, unit, slices[firing]] += 1
        n_atoms = first_atom[unit + 1] - first_atom[unit]
        atom_bits = np.zeros((n_atoms, n_words), np.uint64)
        for atom in range(n_atoms):
            at = first_atom[unit] + atom
            own = items[first_token[at] : first_token[at + 1]]
            _atom_bits(kinds[at], which[at], own, plane_bits, order, first, n_ctx, len(fit), atom_bits[atom])
        for place in range(first_rule[unit + 1] - first_rule[unit]):
            _hold(rules[first_rule[unit] + place], atom_bits, part_bits, held)
            for word in range(n_words):
                if held[word]:
                    in_fit = np.int64(popcount(held[word] & fit_bits[word]))
                    holds[0, unit, place] += in_fit
                    holds[1, unit, place] += np.int64(popcount(held[word])) - in_fit
            for firing in range(low, high):
                row = rows[firing]
                if (held[row >> 6] >> np.uint64(row & 63)) & np.uint64(1):
                    both[0 if fit[row] else 1, unit, place, slices[firing]] += 1
            for row in sampled[first_sampled[unit] : first_sampled[unit + 1]]:
                if (held[row >> 6] >> np.uint64(row & 63)) & np.uint64(1):
                    hits[0 if fit[row] else 1, unit, place] += 1


@njit(cache=True, nogil=True)
def _atom_bits(kind, which, items, plane_bits, order, first, n_ctx, n_rows, out):
    if kind < N_PLANES:
        out[:] = plane_bits[kind, which]
        return
    low, high = 0, 0
    if kind in (AFTER, NEAR, FAR):
        low, high = 1, 1
    if kind == AFTER2:
        low, high = 2, 2
    if kind == NEAR:
        high = REACH
    if kind == FAR:
        high = FAR_REACH
    for token in items:
        for place in range(first[token], first[token + 1]):
            row = order[place]
            last = min(row + high, row - row % n_ctx + n_ctx - 1)
            for behind in range(row + low, last + 1):
                out[behind >> 6] |= np.uint64(1) << np.uint64(behind & 63)


@njit(cache=True, nogil=True)
def _hold(rule, atom_bits, part_bits, held):
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
