"""Candidate rules of a latent, from a sample of its firings and the rows of `background`.

    1  Atoms that hold at enough of the firings: bits of rows, affixes, tokens near; token sets grow in the search.
    2  The best conjunctions (`beam`), then for a few of them the best one to join by "or", and a third to those.
    3  Each part of the best union is looked for anew with the others in place.

Estimates rank them; some two dozen go on to be counted exactly.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64, Int64, UInt64

from interp.explain import beam
from interp.explain.background import Background, Universe
from interp.explain.bitsets import count_window, n_words, pack, transpose, window_bits
from interp.explain.predicates import (
    GROWN,
    KINDS,
    MAX_CONTEXT_TOKENS,
    MAX_PARTS,
    MAX_TOKENS,
    PLANES,
    Atom,
    Conjunction,
    Rule,
)

MIN_SHARE, MIN_HITS = 0.05, 3
"""Of the sampled firings, at which an atom must hold."""
MAX_FIXED = 200
MAX_NAMED = 6
"""Sets, and tokens near, of each kind."""
ALONE, STARTS, JOINED = 6, 3, 3
"""Conjunctions kept of each kind; how many unions begin with, and how many are kept of each."""

Members = tuple[int, ...]
"""Places of the atoms of a conjunction."""
Parts = tuple[Members, ...]
Found = tuple[Atom, UInt64[np.ndarray, " word"]]


def candidates(
    background: Background, firings: Int64[np.ndarray, " firing"], n_fire: float, most: int, joined_by_or: bool = True
) -> list[Rule]:
    """At most `most` rules, each once; firings: ascending rows of the fit half, a sample of n_fire."""
    search = _Search(background, Universe.of(background, firings, n_fire))
    alone, values = search.conjunctions((), ALONE)
    rules: list[Parts] = [(members,) for members in alone]
    if joined_by_or and alone:
        best = [alone[i] for i in np.argsort(-values, kind="stable")[:STARTS]]
        joined = [pair for start in dict.fromkeys([*best, alone[-1]]) for pair in search.unions((start,))]
        joined += [pair for _, parts in _best(joined)[:STARTS] for pair in search.unions(parts)]
        unions = [parts for _, parts in _best(joined)]
        refined = [search.refined(unions[0])] if unions else []
        rules = [*rules[:1], *refined, *rules[1:], *unions]
    return list(dict.fromkeys(search.rule(parts) for parts in rules))[:most]


def merged(parts: list[Conjunction]) -> Rule:
    """The rule with parts joined that differ in one set of tokens only; each part once."""
    parts = list(dict.fromkeys(parts))
    for i, first in enumerate(parts):
        for j in range(i + 1, len(parts)):
            differ = [(a, b) for a, b in zip(first, parts[j], strict=False) if a != b]
            if len(first) == len(parts[j]) and len(differ) == 1 and differ[0][0].kind == differ[0][1].kind:
                a, b = differ[0]
                tokens = tuple(dict.fromkeys(a.tokens + b.tokens))
                if a.tokens and len(tokens) <= (MAX_CONTEXT_TOKENS if a.slot else MAX_TOKENS):
                    both = tuple(Atom(a.kind, tokens) if atom == a else atom for atom in first)
                    return merged([*parts[:i], both, *parts[i + 1 : j], *parts[j + 1 :]])
    return tuple(parts)


def _best(found: list[tuple[float, Parts]]) -> list[tuple[float, Parts]]:
    return sorted(found, key=lambda pair: -pair[0])


class _Search:
    """One latent's atoms and rows: first the named atoms, behind them the token sets that grow."""

    def __init__(self, background: Background, universe: Universe):
        found = [*_plane_atoms(background, universe), *_sets(background, universe), *_windows(background, universe)]
        found = found[:MAX_FIXED]
        self.rows, self.named = universe.sums, [atom for atom, _ in found]
        text, n = background.text, len(found)
        self.tokens: list[Int64[np.ndarray, " token"]] = []
        """Of each slot, the tokens of the firings: what local ids stand for."""
        local = np.full((len(GROWN), len(universe.rows)), -1, np.int16)
        for slot in range(len(GROWN)):
            tokens = text.before(universe.rows, slot)
            own = np.unique(tokens[: self.rows.n_firing_words * 64])
            self.tokens.append(own[own >= 0])
            lookup = np.full(len(text.vocabulary) + 1, -1, np.int16)  # the last for −1, no token
            lookup[self.tokens[-1]] = np.arange(len(self.tokens[-1]))
            local[slot] = lookup[tokens]
        bits = np.zeros((beam.CAPACITY, len(self.rows.valid)), np.uint64)
        slots, costs = np.zeros(beam.CAPACITY, np.int64), np.ones(beam.CAPACITY)
        for place, (atom, own_bits) in enumerate(found):
            bits[place], slots[place], costs[place] = own_bits, atom.slot, atom.cost
        sets = np.full((beam.CAPACITY, MAX_TOKENS), -1, np.int16)
        n_local = np.array([len(own) for own in self.tokens])
        self.atoms = beam.Atoms(bits, slots, costs, sets, local, n_local, np.array([n]))

    def conjunctions(self, parts: Parts, n_best: int) -> tuple[list[Members], Float64[np.ndarray, " found"]]:
        """Those to join to the parts, by F₁, then those by F_½."""
        covered = np.zeros_like(self.rows.valid)
        for part in parts:
            covered |= beam.cover(self.atoms, np.array(part), self.rows.valid)
        found, values = beam.search(self.atoms, self.rows, covered, n_best)
        members = [tuple(sorted(int(atom) for atom in own if atom >= 0)) for own in found]
        known = np.array([bool(own) for own in members], bool)
        return [own for own in members if own], values[known]

    def unions(self, parts: Parts) -> list[tuple[float, Parts]]:
        """The parts with one more, and what that is worth."""
        if len(parts) == MAX_PARTS:
            return []
        found, values = self.conjunctions(parts, JOINED)
        fixed = sum(float(self.atoms.costs[list(part)].sum()) for part in parts)
        price = self.rows.item_price * fixed + beam.PART_PRICE * len(parts)
        pairs = [(float(value) - price, (*parts, own)) for own, value in zip(found, values, strict=True)]
        return _best(pairs)[:JOINED]

    def refined(self, parts: Parts) -> Parts:
        """The union with each part in turn replaced by the best one beside the others."""
        for place in range(len(parts)):
            others = parts[:place] + parts[place + 1 :]
            found, _ = self.conjunctions(others, 1)
            if found:
                parts = (*parts[:place], found[0], *parts[place + 1 :])
        return parts

    def rule(self, parts: Parts) -> Rule:
        atoms = [[self._atom(place) for place in part] for part in parts]
        return merged([tuple(sorted(part, key=lambda atom: atom.slot)) for part in atoms])

    def _atom(self, place: int) -> Atom:
        if place < len(self.named):
            return self.named[place]
        slot = int(self.atoms.slots[place])
        own = self.atoms.sets[place, : int(self.atoms.costs[place])]
        local = self.atoms.local[slot][: self.rows.n_firing_words * 64]
        by_count = own[np.argsort([-np.count_nonzero(local == token) for token in own], kind="stable")]
        return Atom(GROWN[slot], tuple(int(token) for token in self.tokens[slot][by_count]))


def _min_hits(universe: Universe) -> float:
    return max(MIN_HITS, MIN_SHARE * len(universe.firings))


def _plane_atoms(background: Background, universe: Universe) -> Iterator[Found]:
    """The bits that enough firings have."""
    own, n_firings = universe.rows[: universe.n_own], len(universe.firings)
    planes = background.planes_of(own)
    for plane, kind in enumerate(PLANES):
        counts = ((planes[:n_firings, plane, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)).sum(0)
        wanted = np.flatnonzero(counts >= _min_hits(universe))
        bits = np.zeros((len(wanted), len(universe.sums.valid)), np.uint64)
        transpose(planes, plane, wanted, bits)
        bits[:, n_words(len(own)) :] = background.elsewhere_bits[plane, wanted]
        yield from ((Atom(kind, which=int(which)), rows) for which, rows in zip(wanted, bits, strict=True))


def _sets(background: Background, universe: Universe) -> Iterator[Found]:
    """Of the named sets of tokens those with the best estimated F₁, each with two tokens of the firings or more."""
    text = background.text
    for name, kind in KINDS.items():
        if kind.sets is None or kind.reach is None:
            continue
        sets, (low, high) = kind.sets(text), kind.reach
        seen = _seen(background, universe, kind.reach)
        f1 = _estimated_f1(universe, sets @ seen, sets @ background.counts[kind.reach])
        f1[sets @ (seen > 0).astype(float) < 2] = 0
        window = [text.before(universe.rows, back) for back in range(low, high + 1)]
        for which in np.argsort(-f1, kind="stable")[:MAX_NAMED]:
            if f1[which] > 0:
                member = np.zeros(len(text.vocabulary) + 1, bool)  # the last for −1, no token
                member[text.tokens_of(Atom(name, which=which))] = True
                yield Atom(name, which=int(which)), pack(np.any([member[tokens] for tokens in window], 0))


def _windows(background: Background, universe: Universe) -> Iterator[Found]:
    """The tokens before the firings with the best estimated F₁, alone, and joined as long as F₁ rises."""
    text, flat = background.text, background.text.tokens.reshape(-1)
    for name, kind in KINDS.items():
        if not kind.is_window or kind.reach is None:
            continue
        seen = _seen(background, universe, kind.reach)
        f1 = _estimated_f1(universe, seen, background.counts[kind.reach])
        tokens = np.argsort(-f1, kind="stable")[:MAX_NAMED]
        tokens = tokens[f1[tokens] > 0]
        place = np.full(len(text.vocabulary), -1)
        place[tokens] = np.arange(len(tokens))
        bits = np.zeros((len(tokens), len(universe.sums.valid)), np.uint64)
        window_bits(flat, text.n_ctx, universe.rows, *kind.reach, place, bits)
        yield from ((Atom(name, (int(token),)), own) for token, own in zip(tokens, bits, strict=True))
        chosen = _greedy_union(bits, universe.sums)
        if len(chosen) > 1:
            yield Atom(name, tuple(int(token) for token in tokens[chosen])), np.bitwise_or.reduce(bits[chosen])


def _seen(background: Background, universe: Universe, reach: tuple[int, int]) -> Float64[np.ndarray, " d_vocab"]:
    """At how many sampled firings each token is within reach."""
    text = background.text
    flat, n_vocab = text.tokens.reshape(-1), len(text.vocabulary)
    return count_window(flat, n_vocab, text.n_ctx, universe.firings, *reach).astype(float)


def _estimated_f1(
    universe: Universe, hits: Float64[np.ndarray, " own"], holds: Float64[np.ndarray, " own"]
) -> Float64[np.ndarray, " own"]:
    """hits: of the sampled firings; holds: in the fit half. 0 where too few are hit."""
    both = hits * universe.sums.firing_weight
    f1 = 2 * both / (universe.sums.n_fire + np.maximum(holds, both))
    return np.where(hits < _min_hits(universe), 0, f1)


def _greedy_union(bits: UInt64[np.ndarray, "set word"], rows: beam.Rows) -> list[int]:
    joined, best = np.zeros(len(rows.valid), np.uint64), 0.0
    chosen: list[int] = []
    while len(chosen) < MAX_CONTEXT_TOKENS:
        counts = [beam.measure(rows.valid, own, joined, rows) for own in bits]
        worth = [2 * both / (rows.n_fire + holds) for both, holds in counts]
        if not worth or max(worth) <= best + beam.ITEM_PRICE:
            break
        best = max(worth)
        chosen.append(int(np.argmax(worth)))
        joined |= bits[chosen[-1]] & rows.valid
    return chosen
