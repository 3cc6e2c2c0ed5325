"""Candidate rules for a latent, from a sample of its firings.

With n_fire firings in all, a share p of the sample where an atom holds, and n_atom positions where it holds at all,

    F1 ≈ 2 p n_fire / (n_fire + n_atom)

Token sets grow by the token on which the latent fires most surely, as long as the estimate rises: for F1 that order is
the best one. Two atoms are joined by the same estimate on the firings where the first holds, as if they were
independent over the text; the few best candidates go on to be measured exactly.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numba import njit

from interp.explain.predicates import (
    AFTER,
    AFTER_CLASS,
    CLASS,
    INSIDE,
    MAX_TOKENS,
    NEAR,
    REACH,
    TOKEN,
    Atom,
    Rule,
    Text,
)

CANDIDATES = 4
LENGTH_PRICE, PAIR_PRICE = 0.005, 0.02
"""What one more item to read, and a second atom, must add to F1."""


@dataclass(frozen=True)
class BaseCounts:
    """At how many positions each single atom holds, in one half of the text."""

    token: Int64[np.ndarray, " d_vocab"]
    after: Int64[np.ndarray, " d_vocab"]
    near: Int64[np.ndarray, " d_vocab"]
    of_class: Int64[np.ndarray, " class"]
    after_class: Int64[np.ndarray, " class"]
    inside: Int64[np.ndarray, " class"]
    n_rows: int

    @classmethod
    def count(cls, text: Text, half: Bool[np.ndarray, " seq"]) -> "BaseCounts":
        n_vocab, n_classes = len(text.classes), len(text.class_names)
        token, after, near, inside = _count(text.tokens, text.n_ctx, half, text.inside, n_vocab, n_classes)
        member = _bits(text.classes, n_classes).T.astype(np.int64)  # class d_vocab
        return cls(token, after, near, member @ token, member @ after, inside, int(half.sum()) * text.n_ctx)

    def of(self, atom: Atom) -> int:
        by_token = {TOKEN: self.token, AFTER: self.after, NEAR: self.near}
        by_class = {CLASS: self.of_class, AFTER_CLASS: self.after_class, INSIDE: self.inside}
        if atom.kind in by_token:
            return int(by_token[atom.kind][list(atom.tokens)].sum())
        return int(by_class[atom.kind][atom.of_class])


class Sample(NamedTuple):
    """What the atoms see at sampled firings of one latent; −1 for a token beyond the sequence's edge."""

    token: Int64[np.ndarray, " firing"]
    previous: Int64[np.ndarray, " firing"]
    near: Int64[np.ndarray, "firing reach"]
    of_class: Bool[np.ndarray, "firing class"]
    after_class: Bool[np.ndarray, "firing class"]
    inside: Bool[np.ndarray, "firing class"]

    def where(self, mask: Bool[np.ndarray, " firing"]) -> "Sample":
        return Sample(*(part[mask] for part in self))


def look(text: Text, rows: Int64[np.ndarray, " firing"]) -> Sample:
    """The sample at `rows`. A token that stands before a firing more than once counts once in `near`."""
    back = rows[:, None] - np.arange(1, REACH + 1)
    before = np.where(np.arange(1, REACH + 1) <= (rows % text.n_ctx)[:, None], text.tokens[np.maximum(back, 0)], -1)
    near = np.sort(before, axis=1)
    near[:, 1:][near[:, 1:] == near[:, :-1]] = -1
    token, previous, n_classes = text.tokens[rows], before[:, 0], len(text.class_names)
    after_class = _bits(text.classes[previous], n_classes) & (previous >= 0)[:, None]
    return Sample(
        token, previous, near, _bits(text.classes[token], n_classes), after_class, _bits(text.inside[rows], n_classes)
    )


def candidates(sample: Sample, n_fire: int, base: BaseCounts) -> list[Rule]:
    """The CANDIDATES rules with the best estimated F1, less a price for their length."""
    singles = _atoms(sample, len(sample.token), n_fire, base, 1.0, _SINGLE)
    ranked: list[tuple[float, Rule]] = [(score, (atom,)) for score, atom in singles]
    for _, first in _anchors(singles, sample, n_fire, base):
        chosen = sample.where(_holds(sample, first))
        rarity = base.of(first) / base.n_rows
        for score, second in _atoms(chosen, len(sample.token), n_fire, base, rarity, _SECOND[first.kind]):
            ranked.append((score - LENGTH_PRICE * first.length - PAIR_PRICE, (first, second)))
    ranked.sort(key=lambda pair: -pair[0])
    return [rule for _, rule in ranked[:CANDIDATES]]


def price(rule: Rule) -> float:
    """F1 that the rule must be worth more than a shorter one."""
    return LENGTH_PRICE * sum(atom.length for atom in rule) + PAIR_PRICE * (len(rule) - 1)


_SINGLE = (TOKEN, AFTER, NEAR, CLASS, AFTER_CLASS, INSIDE)
_SECOND = {TOKEN: (AFTER, NEAR, AFTER_CLASS, INSIDE), AFTER: (NEAR, INSIDE)}
"""Second atoms that add to a first one: not on the same token, nor joined in the other order already."""


def _anchors(
    singles: list[tuple[float, Atom]], sample: Sample, n_fire: int, base: BaseCounts
) -> list[tuple[float, Atom]]:
    """First atoms of pairs: token sets, since the positions of their tokens can be listed. Beside the best set, the
    frequent tokens as such: precision may come from the second atom."""
    anchors = [(score, atom) for score, atom in singles if atom.kind in (TOKEN, AFTER)]
    tokens, counts = np.unique(sample.token, return_counts=True)
    frequent = tokens[np.argsort(-counts, kind="stable")][:MAX_TOKENS]
    covered = np.isin(
        sample.token, frequent[: max(1, np.sum(np.sort(counts)[::-1][:MAX_TOKENS] > len(sample.token) / 50))]
    )
    wide = Atom(TOKEN, tuple(int(token) for token in np.unique(sample.token[covered])))
    if wide.tokens and all(set(wide.tokens) != set(atom.tokens) for _, atom in anchors):
        anchors.append((0.0, wide))
    return anchors


def _atoms(
    sample: Sample, n_sample: int, n_fire: int, base: BaseCounts, rarity: float, kinds: tuple[int, ...]
) -> list[tuple[float, Atom]]:
    """The best atom of each kind with its estimated F1, less its price.

    rarity: the share of all positions that is in question at all.
    """
    found: list[tuple[float, Atom]] = []
    if len(sample.token) == 0:
        return found
    scale = n_fire / n_sample
    tokens = {TOKEN: sample.token, AFTER: sample.previous, NEAR: sample.near.reshape(-1)}
    by_token = {TOKEN: base.token, AFTER: base.after, NEAR: base.near}
    classes = {CLASS: sample.of_class, AFTER_CLASS: sample.after_class, INSIDE: sample.inside}
    by_class = {CLASS: base.of_class, AFTER_CLASS: base.after_class, INSIDE: base.inside}
    for kind in kinds:
        if kind in tokens:
            grown = _grow(tokens[kind], by_token[kind], scale, n_fire, rarity, 1 if kind == NEAR else MAX_TOKENS)
            if grown:
                found.append((grown[0], Atom(kind, grown[1])))
            continue
        both = classes[kind].sum(0) * scale
        score = 2 * both / (n_fire + np.maximum(by_class[kind] * rarity, both))
        best = int(np.argmax(score))
        if score[best] > 0:
            found.append((float(score[best]) - LENGTH_PRICE, Atom(kind, of_class=best)))
    return found


def _grow(
    seen: Int64[np.ndarray, " place"],
    total: Int64[np.ndarray, " d_vocab"],
    scale: float,
    n_fire: int,
    rarity: float,
    most: int,
) -> tuple[float, tuple[int, ...]] | None:
    """The token set with the best F1, surest tokens first; singletons by their own F1 where `most` is 1."""
    tokens, counts = np.unique(seen[seen >= 0], return_counts=True)
    if len(tokens) == 0:
        return None
    both = counts * scale
    positions = np.maximum(total[tokens] * rarity, both)
    if most == 1:
        score: Float64[np.ndarray, " n"] = 2 * both / (n_fire + positions) - LENGTH_PRICE
        best = int(np.argmax(score))
        return float(score[best]), (int(tokens[best]),)
    # A token seen once may be chance; where all were, they are all there is.
    usable = np.flatnonzero(counts >= min(2, counts.max()))
    gain = 2 * both[usable] / (n_fire + positions[usable])
    usable = usable[np.argsort(-gain, kind="stable")][: 2 * most]
    order = usable[np.argsort(-both[usable] / positions[usable], kind="stable")][:most]
    lengths = np.arange(1, len(order) + 1)
    score = 2 * np.cumsum(both[order]) / (n_fire + np.cumsum(positions[order])) - LENGTH_PRICE * lengths
    best = int(np.argmax(score))
    single = int(np.argmax(2 * both[usable] / (n_fire + positions[usable])))
    alone = float(2 * both[usable[single]] / (n_fire + positions[usable[single]])) - LENGTH_PRICE
    if alone > score[best]:
        return alone, (int(tokens[usable[single]]),)
    chosen = order[: best + 1]
    by_count = chosen[np.argsort(-counts[chosen], kind="stable")]
    return float(score[best]), tuple(int(token) for token in tokens[by_count])


def _holds(sample: Sample, atom: Atom) -> Bool[np.ndarray, " firing"]:
    seen = sample.token if atom.kind == TOKEN else sample.previous
    return np.isin(seen, atom.tokens)


def _bits(bits: np.ndarray, n: int) -> Bool[np.ndarray, "item n"]:
    return ((bits[:, None] >> np.arange(n, dtype=np.uint64)) & np.uint64(1)).astype(bool)


@njit(cache=True, nogil=True)
def _count(tokens, n_ctx, half, inside, n_vocab, n_classes):
    """Positions of the half where TOKEN, AFTER, NEAR hold for each token, and INSIDE for each class."""
    token, after, near = np.zeros(n_vocab, np.int64), np.zeros(n_vocab, np.int64), np.zeros(n_vocab, np.int64)
    in_class, covered = np.zeros(n_classes, np.int64), np.zeros(n_vocab, np.int64)
    for sequence in range(len(half)):
        if not half[sequence]:
            continue
        start = sequence * n_ctx
        for row in range(start, start + n_ctx):
            this = tokens[row]
            token[this] += 1
            for c in range(n_classes):
                in_class[c] += np.int64((inside[row] >> np.uint64(c)) & np.uint64(1))
            if row + 1 < start + n_ctx:
                after[this] += 1
                first, last = max(row + 1, covered[this]), min(row + REACH, start + n_ctx - 1)
                near[this] += last + 1 - first
                covered[this] = last + 1
    return token, after, near, in_class
