"""Count exactly where rules hold, over some sequences of a text and their codes.

    holds = positions where the rule holds,   both = those where its latent fires as well, by interval of strength

The text is read one chunk at a time. Each predicate that a rule names has the list of the rows where it holds or, if it
is common, one bit per row (row i is bit i % 64 of word i // 64). A row whose window occurs in an earlier sequence is
not counted (`features.examples`), because it would count twice, or in both halves. Nor is a row that was left out at
harvest, because no latent can fire there. Memory: the predicates of a chunk, and the counts.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Bool, Int32, Int64, UInt64
from numba import njit

from interp.codes.code_chunks import CodeChunk
from interp.codes.offsets import offsets_from_lengths
from interp.features.examples import N_INTERVALS
from interp.runtime.progress import Progress, no_progress
from interp.runtime.threads import compute_ahead, map_in_threads
from interp.statistics.bits import bit_count, get_bit, set_bit
from interp.text.predicates import Predicates
from interp.text.rules import MAX_ATOMS, Rule
from interp.verdict.candidates import Background
from interp.verdict.coded_text import CodedText

MAX_ROWS_PER_HIT = 64
"""If a predicate holds at more than one in this many rows, its rows are kept as bits, because a list would be
longer."""


class RuleCounts(NamedTuple):
    """Counts of each unit, which is a latent or a sense of one."""

    holds: Int64[np.ndarray, "unit candidate"]
    both: Int64[np.ndarray, "unit candidate interval"]
    """Firings where the rule holds, by their strength: entry s counts those in (s / 5, (s + 1) / 5] of the latent's
    maximum."""
    fires: Int64[np.ndarray, "unit interval"]
    """All firings, by the same intervals of strength."""
    hits: Int64[np.ndarray, "unit candidate"]
    """The unit's sampled rows at which the rule holds."""

    @classmethod
    def zeros(cls, n_units: int, n_candidates: int) -> "RuleCounts":
        return cls(
            holds=np.zeros((n_units, n_candidates), np.int64),
            both=np.zeros((n_units, n_candidates, N_INTERVALS), np.int64),
            fires=np.zeros((n_units, N_INTERVALS), np.int64),
            hits=np.zeros((n_units, n_candidates), np.int64),
        )


class NumberedRules(NamedTuple):
    """The rules of all units as arrays, concatenated by unit.

    The rules of unit u are rules[rule_offsets[u]:rule_offsets[u + 1]], and its atoms begin at atom_offsets[u]. The
    values of atom a are values[value_offsets[a]:value_offsets[a + 1]].
    """

    rule_offsets: Int64[np.ndarray, " unit_plus_1"]
    rules: Int64[np.ndarray, f"rule {MAX_ATOMS}"]
    """Indices among the atoms of the unit; −1 for none."""
    atom_offsets: Int64[np.ndarray, " unit_plus_1"]
    value_offsets: Int64[np.ndarray, " atom_plus_1"]
    values: Int64[np.ndarray, " value"]
    """Indices among `numbers`."""
    numbers: Int64[np.ndarray, " predicate"]
    """The predicates that the rules name, ascending."""

    @classmethod
    def of(cls, proposed: Sequence[Sequence[Rule]], predicates: Predicates) -> "NumberedRules":
        """Number the rules proposed for each unit."""
        atoms = [list(dict.fromkeys(atom for rule in rules for atom in rule)) for rules in proposed]
        rule_offsets = offsets_from_lengths([len(rules) for rules in proposed])
        rules = np.full((rule_offsets[-1], MAX_ATOMS), -1)
        for start, rules_of_unit, atoms_of_unit in zip(rule_offsets, proposed, atoms, strict=False):
            index_of = {atom: i for i, atom in enumerate(atoms_of_unit)}
            for number, rule in enumerate(rules_of_unit, start):
                rules[number, : len(rule)] = [index_of[atom] for atom in rule]
        all_atoms = [atom for atoms_of_unit in atoms for atom in atoms_of_unit]
        named = [predicates.offsets[atom.kind] + value for atom in all_atoms for value in atom.values]
        numbers, values = np.unique(np.array(named, np.int64), return_inverse=True)
        value_offsets = offsets_from_lengths([len(atom.values) for atom in all_atoms])
        atom_offsets = offsets_from_lengths([len(atoms_of_unit) for atoms_of_unit in atoms])
        return cls(rule_offsets, rules, atom_offsets, value_offsets, values.astype(np.int64), numbers)


class TextBits(NamedTuple):
    """The rows of a chunk of text where each predicate of some rules holds."""

    offsets: Int64[np.ndarray, " predicate_plus_1"]
    rows: Int32[np.ndarray, " entry"]
    """The rows of predicate a are rows[offsets[a]:offsets[a + 1]]. A common predicate has none here."""
    bits: UInt64[np.ndarray, "common word"]
    bits_of: Int32[np.ndarray, " predicate"]
    """Its index in `bits`; −1 for a predicate that is not common."""
    n_rows: int

    @classmethod
    def read(cls, predicates: Predicates, rows: Int64[np.ndarray, " row"], rules: NumberedRules) -> "TextBits":
        kinds = np.unique(predicates.kinds_of(rules.numbers))
        holds = predicates.at(rows, [list(predicates.offsets)[kind] for kind in kinds])
        return cls.of(holds, rules, len(predicates.surprise))

    @classmethod
    def of(cls, holds: Int32[np.ndarray, "row slot"], rules: NumberedRules, n_predicates: int) -> "TextBits":
        """holds: the predicates at each row, of which those of the rules are kept."""
        lookup = np.full(n_predicates + 1, -1, np.int32)  # the last for −1, no predicate
        lookup[rules.numbers] = np.arange(len(rules.numbers))
        offsets, rows_listed, bits, bits_of = _text_bits(holds, lookup, len(rules.numbers))
        return cls(offsets, rows_listed, bits, bits_of, len(holds))


class _Chunk(NamedTuple):
    """The rows of a chunk of the text and of the codes that count, as `_count` reads them; they are numbered from
    0."""

    text: TextBits
    start: int
    """The first row of the chunk."""
    number_of: Int64[np.ndarray, " row_of_chunk"]
    """The number of each row of the chunk; −1 if it does not count."""
    firing_offsets: Int32[np.ndarray, " d_sae_plus_1"]
    """The firings of latent j are fired[firing_offsets[j]:firing_offsets[j + 1]]."""
    fired: Int32[np.ndarray, " firing"]
    intervals: Int64[np.ndarray, " firing"]
    """The interval of each firing's strength."""


def count_rules(
    text: CodedText,
    predicates: Predicates,
    sequences: Bool[np.ndarray, " seq"],
    proposed: Sequence[Sequence[Rule]],
    *,
    latents: Int64[np.ndarray, " unit"],
    sampled: Sequence[Int64[np.ndarray, " row"]],
    progress: Progress = no_progress,
    note: str = "",
    background: Background | None = None,
) -> RuleCounts:
    """Count the rules proposed for each unit in some sequences.

    predicates: predicates of the text, with labels if rules name them.
    sequences: marks those in which they are counted.
    latents: for each unit, the latent whose firings its rules are compared with.
    sampled: for each unit, the rows on which hits are counted.
    note: the name of this step in progress reports.
    background: rows that were read already, if any.

    Each process of `text.world` has units of its own, and counts those of all processes in its part of the text.
    """
    world = text.world
    units_of_each = world.gather_results(lambda: (proposed, latents, sampled))
    first = sum(len(latents_of_one) for _, latents_of_one, _ in units_of_each[: world.rank])
    own_units = slice(first, first + len(latents))
    proposed, latents, sampled = (
        [rules for rules_of_one, _, _ in units_of_each for rules in rules_of_one],
        np.concatenate([latents_of_one for _, latents_of_one, _ in units_of_each]),
        [rows for _, _, rows_of_one in units_of_each for rows in rows_of_one],
    )
    rules = NumberedRules.of(proposed, predicates)
    counts = RuleCounts.zeros(len(latents), int(np.diff(rules.rule_offsets).max(initial=1)))
    n_ctx = text.n_ctx
    hit_rows = np.concatenate([*sampled, np.zeros(0, np.int64)])
    hit_offsets = offsets_from_lengths([len(rows) for rows in sampled])
    is_read = np.zeros(text.d_sae, bool)
    is_read[[latent for latent, rules_of_unit in zip(latents, proposed, strict=True) if rules_of_unit]] = True

    def read(chunk: CodeChunk) -> _Chunk:
        of_chunk = slice(chunk.start, chunk.stop)
        counts_here = np.repeat(sequences[chunk.start // n_ctx : chunk.stop // n_ctx], n_ctx)
        counts_here &= text.counted[of_chunk] & text.encoded[of_chunk]
        rows = chunk.start + np.flatnonzero(counts_here)
        codes = chunk.of_latents(is_read)
        entries = codes.values.astype(float), codes.latents, codes.offsets
        firings = scipy.sparse.csr_matrix(entries, (len(counts_here), codes.d_sae))[counts_here].tocsc()
        if background is None:
            bits = TextBits.read(predicates, rows, rules)
        else:
            bits = TextBits.of(background.at(predicates, rows), rules, len(predicates.surprise))
        return _Chunk(
            text=bits,
            start=chunk.start,
            number_of=np.where(counts_here, np.cumsum(counts_here) - 1, -1),
            firing_offsets=firings.indptr,
            fired=firings.indices,
            intervals=np.clip(np.ceil(firings.data * N_INTERVALS) - 1, 0, N_INTERVALS - 1).astype(np.int64),
        )

    def count(chunk: _Chunk, span: Int64[np.ndarray, " some"]) -> None:
        _count(span, latents, rules, hit_rows, hit_offsets, chunk, counts)

    def count_part() -> None:
        spans = np.array_split(np.arange(len(latents)), 8 * torch.get_num_threads())
        chunks = text.read_chunks(n_ctx, progress, note, part=(world.rank, world.count))
        for chunk in compute_ahead(read, chunks, 1):
            map_in_threads(spans, partial(count, chunk))

    world.all_do(count_part)
    return RuleCounts(*(world.sum_(torch.from_numpy(counted)).numpy()[own_units] for counted in counts))


@njit(cache=True, nogil=True)
def _text_bits(holds, lookup, n):
    n_rows = len(holds)
    n_words = (len(holds) + 63) // 64
    offsets = np.zeros(n + 1, np.int64)
    for row in range(n_rows):
        for number in holds[row]:
            if lookup[number] >= 0:
                offsets[lookup[number] + 1] += 1
    common = np.flatnonzero(offsets[1:] > n_rows // MAX_ROWS_PER_HIT)
    bits = np.zeros((len(common), n_words), np.uint64)
    bits_of = np.full(n, -1, np.int32)
    for number in range(len(common)):
        bits_of[common[number]] = number
        offsets[common[number] + 1] = 0
    offsets = np.cumsum(offsets)
    rows = np.empty(offsets[-1], np.int32)
    end = offsets[:-1].copy()
    for row in range(n_rows):
        for number in holds[row]:
            index = lookup[number]
            if index >= 0 and bits_of[index] >= 0:
                set_bit(bits, bits_of[index], row)
            elif index >= 0:
                rows[end[index]] = row
                end[index] += 1
    return offsets, rows, bits, bits_of


@njit(cache=True, nogil=True)
def atom_bits(rules, text, unit):
    """Return the rows where each atom of a unit holds, as bits."""
    n_words = (text.n_rows + 63) // 64
    out = np.zeros((rules.atom_offsets[unit + 1] - rules.atom_offsets[unit], n_words), np.uint64)
    for index in range(len(out)):
        atom = rules.atom_offsets[unit] + index
        for value in rules.values[rules.value_offsets[atom] : rules.value_offsets[atom + 1]]:
            if text.bits_of[value] >= 0:
                out[index] |= text.bits[text.bits_of[value]]
            else:
                for row in text.rows[text.offsets[value] : text.offsets[value + 1]]:
                    set_bit(out, index, row)
    return out


@njit(cache=True, nogil=True)
def rule_bits(rule, atoms, within):
    """Return, as bits, those of the rows `within` at which a rule holds, given the bits of its unit's atoms."""
    rows = within.copy()
    for atom in rule:
        if atom >= 0:
            rows &= atoms[atom]
    return rows


@njit(cache=True, nogil=True)
def _count(units, latents, rules, hit_rows, hit_offsets, chunk, counts):
    """Add the counts of some units in the chunk to `counts`."""
    everywhere = np.full((chunk.text.n_rows + 63) // 64, ~np.uint64(0))
    for unit in units:
        atoms = atom_bits(rules, chunk.text, unit)
        firings = range(chunk.firing_offsets[latents[unit]], chunk.firing_offsets[latents[unit] + 1])
        sampled = hit_rows[hit_offsets[unit] : hit_offsets[unit + 1]] - chunk.start
        for firing in firings:
            counts.fires[unit, chunk.intervals[firing]] += 1
        for number in range(rules.rule_offsets[unit + 1] - rules.rule_offsets[unit]):
            bits = rule_bits(rules.rules[rules.rule_offsets[unit] + number], atoms, everywhere)
            for word in bits:
                counts.holds[unit, number] += np.int64(bit_count(word))
            for firing in firings:
                counts.both[unit, number, chunk.intervals[firing]] += get_bit(bits, chunk.fired[firing])
            for row in sampled:
                if 0 <= row < len(chunk.number_of) and chunk.number_of[row] >= 0:
                    counts.hits[unit, number] += get_bit(bits, chunk.number_of[row])
