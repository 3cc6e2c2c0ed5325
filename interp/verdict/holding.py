"""Where rules hold, in any text: whole sequences at a time.

In: a text, and the rules of each unit (a latent, or a sense of one). Out: `Numbered` and `TextBits`, which compiled
loops read; `first_that_hold`, the first rule of each unit that holds at each row, as `SparseCodes`.

Of some sequences the rows of each atom become one bitset (row i is bit i % 64 of word i // 64): classes and places are
turned around once for all rules, tokens are looked up in an index of the sequences; rules are ands and ors of words.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Int, Int64, UInt64
from numba import njit, types
from numba.extending import intrinsic

from interp.codes.sparse_codes import SparseCodes
from interp.verdict.predicates import KINDS, MAX_ATOMS, MAX_PARTS, PLANES, Rule, Text


class Numbered(NamedTuple):
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
    def of(cls, proposed: Sequence[Sequence[Rule]], text: Text) -> "Numbered":
        own = [list(dict.fromkeys(a for rule in rules for part in rule for a in part)) for rules in proposed]
        first_rule = begins(proposed)
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
            begins(own),
            np.array(planes, np.int64),
            np.array([atom.which for atom in atoms], np.int64),
            np.array([reach or (0, 0) for reach in reaches], np.int64).reshape(-1, 2),
            begins(tokens),
            np.array([token for some in tokens for token in some], np.int64),
        )


class TextBits(NamedTuple):
    """Of some sequences."""

    planes: UInt64[np.ndarray, "plane 64 word"]
    """The rows where each bit of a plane is set."""
    order: Int64[np.ndarray, " row"]
    """The rows by token."""
    first: Int64[np.ndarray, " d_vocab_plus_1"]
    """Where each token begins in `order`."""
    n_ctx: int

    @classmethod
    def of(cls, text: Text, sequences: slice) -> "TextBits":
        order, first = by_id(text.tokens[sequences].reshape(-1), len(text.vocabulary))
        return cls(transpose_all(text.planes(sequences)), order, first, text.n_ctx)


def begins(lists: Sequence[Sequence[Any] | np.ndarray]) -> Int64[np.ndarray, " list_plus_1"]:
    """Where each list begins, with one behind the other."""
    return np.concatenate([[0], np.cumsum([len(each) for each in lists])]).astype(np.int64)


def first_that_hold(text: Text, sequences: slice, rules: Numbered) -> SparseCodes:
    """1 where a rule holds and none before it of the same unit does: a row each position of the sequences, a column
    each rule, in the order of `rules`."""
    own = TextBits.of(text, sequences)
    counts, rows = _first_rows(rules, own)
    starts = np.concatenate([[0], np.cumsum(counts)])
    held = (np.ones(len(rows), np.float32), rows, starts)
    return SparseCodes.from_scipy(scipy.sparse.csc_matrix(held, (len(own.order), len(counts))).tocsr())


def n_words(n_rows: int) -> int:
    return -(-n_rows // 64)


def pack(mask: Bool[np.ndarray, " row"]) -> UInt64[np.ndarray, " word"]:
    padded = np.zeros(n_words(len(mask)) * 64, bool)
    padded[: len(mask)] = mask
    return np.packbits(padded, bitorder="little").view(np.uint64)


def by_id(
    ids: Int[np.ndarray, " row"], n_ids: int
) -> tuple[Int64[np.ndarray, " row"], Int64[np.ndarray, " id_plus_1"]]:
    """The rows by their id, and where each id begins among them; before the first one are the rows of −1."""
    return np.argsort(ids, kind="stable"), np.cumsum(np.bincount(ids + 1, minlength=n_ids + 1))


def transpose_all(planes: UInt64[np.ndarray, "row plane"]) -> UInt64[np.ndarray, "plane 64 word"]:
    return np.stack([transpose(planes, plane, np.arange(64)) for plane in range(planes.shape[1])])


@njit(cache=True, nogil=True)
def transpose(planes, plane, wanted):
    """[i, word]: the rows whose bit wanted[i] of the plane is set."""
    out = np.zeros((len(wanted), (len(planes) + 63) // 64), np.uint64)
    for start in range(0, len(planes), 64):
        own = planes[start : start + 64, plane].copy()
        for i in range(len(wanted)):
            held = np.uint64(0)
            for row in range(len(own)):
                held |= ((own[row] >> np.uint64(wanted[i])) & np.uint64(1)) << np.uint64(row)
            out[i, start >> 6] = held
    return out


@intrinsic
def popcount(typingctx, word):
    """How many bits of a uint64 are set."""
    return types.uint64(types.uint64), lambda context, builder, signature, args: builder.ctpop(args[0])


@njit(cache=True, nogil=True)
def cover(bits, members, within):
    """The rows `within` that are in each of the members' bits; −1 is none."""
    rows = within.copy()
    for member in members:
        if member >= 0:
            rows &= bits[member]
    return rows


@njit(cache=True, nogil=True)
def mark(rows, out):
    """Set the bits of some rows."""
    for row in rows:
        out[row >> 6] |= np.uint64(1) << np.uint64(row & 63)


@njit(cache=True, nogil=True)
def atom_bits(rules, text, unit):
    """The rows where each atom of a unit holds."""
    out = np.zeros((rules.first_atom[unit + 1] - rules.first_atom[unit], text.planes.shape[2]), np.uint64)
    for own in range(len(out)):
        atom = rules.first_atom[unit] + own
        if rules.planes[atom] >= 0:
            out[own] = text.planes[rules.planes[atom], rules.which[atom]]
        else:
            some = rules.tokens[rules.first_token[atom] : rules.first_token[atom + 1]]
            _hold_tokens(some, rules.reaches[atom], text, out[own])
    return out


@njit(cache=True, nogil=True)
def rule_bits(rule, atoms, within):
    """The rows `within` where a rule holds, given those of its unit's atoms."""
    held = np.zeros_like(within)
    for part in rule:
        if part[0] >= 0:
            held |= cover(atoms, part, within)
    return held


@njit(cache=True, nogil=True)
def _hold_tokens(tokens, reach, text, out):
    """The rows that have one of the tokens within reach before them."""
    for token in tokens:
        for place in range(text.first[token], text.first[token + 1]):
            row = text.order[place]
            last = min(row + reach[1], row - row % text.n_ctx + text.n_ctx - 1)
            for behind in range(row + reach[0], last + 1):
                out[behind >> 6] |= np.uint64(1) << np.uint64(behind & 63)


@njit(cache=True, nogil=True)
def _first_rows(rules, text):
    """Of each rule, one after the other: at how many rows it is the first of its unit that holds, and at which."""
    n_rows, n = len(text.order), 0
    counts, rows = np.zeros(len(rules.rules), np.int64), np.empty(n_rows, np.int32)
    for unit in range(len(rules.first_rule) - 1):
        atoms = atom_bits(rules, text, unit)
        left = np.full((n_rows + 63) // 64, ~np.uint64(0))
        if n_rows & 63:
            left[-1] = (np.uint64(1) << np.uint64(n_rows & 63)) - np.uint64(1)
        for number in range(rules.first_rule[unit], rules.first_rule[unit + 1]):
            held = rule_bits(rules.rules[number], atoms, left)
            if n + n_rows > len(rows):
                rows = np.concatenate((rows, np.empty(len(rows) + n_rows, np.int32)))  # twice the room
            before = n
            for word in range(len(held)):
                left[word] &= ~held[word]
                while held[word]:
                    others = held[word] & (held[word] - np.uint64(1))
                    rows[n] = 64 * word + np.int64(popcount((held[word] ^ others) - np.uint64(1)))
                    held[word] = others
                    n += 1
            counts[number] = n - before
    return counts, rows[:n]
