"""Candidate rules of a latent, from a sample of its firings and the rows of `background`.

    1  Atoms that hold at enough of the firings: bits of rows, affixes, tokens near; token sets grow in the search.
    2  The best conjunctions (`beam`), then for a few of them the best one to join by "or", and a third to those.
    3  Each part of the best union is looked for anew with the others in place.

Estimates rank them; some two dozen go on to be counted exactly.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, UInt64

from interp.explain import beam
from interp.explain.background import Background, Universe
from interp.explain.bitsets import n_words, pack, transpose
from interp.explain.lookback import count_near_rows, near_bits
from interp.explain.predicates import (
    AFFIX,
    AFTER,
    AFTER2,
    FAR,
    FAR_REACH,
    MAX_CONTEXT_TOKENS,
    MAX_PARTS,
    MAX_TOKENS,
    N_PLANES,
    NEAR,
    REACH,
    TOKEN,
    Atom,
    Conjunction,
    Rule,
)

LEAST_SHARE, LEAST = 0.05, 3
"""Of the sampled firings, at which an atom must hold."""
MAX_FIXED = 200
AFFIXES, NEARS = 6, 6
ALONE, STARTS, JOINED = 6, 3, 3
"""Conjunctions kept of each kind; how many unions begin with, and how many are kept of each."""


def candidates(
    background: Background, firings: Int64[np.ndarray, " firing"], n_fire: float, most: int, joined_by_or: bool = True
) -> list[Rule]:
    """At most `most` rules, each once; firings: ascending rows of the fit half, a sample of n_fire."""
    universe = Universe.of(background, firings, n_fire)
    bench = _Bench.of(background, universe)
    alone, values = bench.search([], ALONE)
    rules: list[Parts] = [(members,) for members in alone]
    if joined_by_or and alone:
        best = [alone[i] for i in np.argsort(-values, kind="stable")[:STARTS]]
        joined = [pair for start in dict.fromkeys([*best, alone[-1]]) for pair in bench.join((start,), JOINED)]
        joined += [pair for _, parts in _best(joined)[:STARTS] for pair in bench.join(parts, JOINED)]
        unions = [parts for _, parts in _best(joined)]
        refined = [bench.refined(unions[0])] if unions else []
        rules = [*rules[:1], *refined, *rules[1:], *unions]
    return list(dict.fromkeys(bench.rule(parts) for parts in rules))[:most]


def _best(found: "list[tuple[float, Parts]]") -> "list[tuple[float, Parts]]":
    return sorted(found, key=lambda pair: -pair[0])


Members = tuple[int, ...]
Parts = tuple[Members, ...]


@dataclass(frozen=True)
class _Bench:
    """One latent's atoms and rows."""

    named: list[Atom]
    """The atoms that are no grown sets."""
    local_tokens: list[Int64[np.ndarray, " token"]]
    atoms: beam.Atoms
    rows: beam.Rows

    @classmethod
    def of(cls, background: Background, universe: Universe) -> "_Bench":
        text, rows = background.text, universe.rows
        named, bits = _fixed_atoms(background, universe)
        local_tokens, local = [], np.full((beam.GROWN_SLOTS, len(rows)), -1, np.int16)
        n_firings = universe.n_firing_words * 64
        for slot in range(beam.GROWN_SLOTS):
            tokens = text.before(rows, slot)
            own = np.unique(tokens[:n_firings])
            local_tokens.append(own[own >= 0])
            lookup = np.full(len(text.vocabulary) + 1, -1, np.int16)
            lookup[local_tokens[-1]] = np.arange(len(local_tokens[-1]))
            local[slot] = lookup[tokens]
        all_bits = np.zeros((beam.CAPACITY, len(universe.valid)), np.uint64)
        all_bits[: len(bits)] = bits
        slots, costs = np.zeros(beam.CAPACITY, np.int64), np.ones(beam.CAPACITY)
        slots[: len(named)], costs[: len(named)] = [a.slot for a in named], [a.cost for a in named]
        sets = np.full((beam.CAPACITY, MAX_TOKENS), -1, np.int16)
        n_local = np.array([len(own) for own in local_tokens])
        atoms = beam.Atoms(all_bits, slots, costs, sets, local, n_local, np.array([len(named)]))
        price = item_price(universe.n_fire)
        weights = (universe.firing_weight, float(universe.n_fire), price)
        return cls(
            named, local_tokens, atoms, beam.Rows(universe.valid, universe.weights, universe.n_firing_words, *weights)
        )

    def search(self, parts: "Parts | list", n_best: int) -> "tuple[list[Members], Float64[np.ndarray, ' found']]":
        """Conjunctions to join to the parts, by F₁, then those by F_½."""
        covered = np.zeros_like(self.rows.valid)
        for part in parts:
            covered |= beam.cover(self.atoms, np.array(part), self.rows.valid)
        found, values = beam.search(self.atoms, self.rows, covered, n_best)
        members = [tuple(sorted(int(atom) for atom in own if atom >= 0)) for own in found]
        known = np.array([bool(own) for own in members], bool)
        return [own for own in members if own], values[known]

    def join(self, parts: Parts, most: int) -> list[tuple[float, Parts]]:
        if len(parts) == MAX_PARTS:
            return []
        found, values = self.search(parts, most)
        fixed = sum(self._cost(part) for part in parts)
        price = self.rows.item_price * fixed + beam.PART_PRICE * len(parts)
        pairs = [(float(value) - price, (*parts, own)) for own, value in zip(found, values, strict=True)]
        return _best(pairs)[:most]

    def refined(self, parts: Parts) -> Parts:
        """The union with each part in turn replaced by the best one beside the others."""
        for place in range(len(parts)):
            others = parts[:place] + parts[place + 1 :]
            found, _ = self.search(others, 1)
            if found:
                parts = (*parts[:place], found[0], *parts[place + 1 :])
        return parts

    def rule(self, parts: Parts) -> Rule:
        return merged([self._conjunction(part) for part in parts])

    def _conjunction(self, members: Members) -> Conjunction:
        return tuple(sorted((self._atom(place) for place in members), key=lambda atom: (atom.slot, atom.kind)))

    def _atom(self, place: int) -> Atom:
        if place < len(self.named):
            return self.named[place]
        slot = int(self.atoms.slots[place])
        own = self.atoms.sets[place, : int(self.atoms.costs[place])]
        local = self.atoms.local[slot][: self.rows.n_firing_words * 64]
        by_count = own[np.argsort([-np.count_nonzero(local == token) for token in own], kind="stable")]
        tokens = tuple(int(token) for token in self.local_tokens[slot][by_count])
        return Atom((TOKEN, AFTER, AFTER2)[slot], tokens)

    def _cost(self, members: Members) -> float:
        return float(self.atoms.costs[list(members)].sum())


def merged(parts: list[Conjunction]) -> Rule:
    """The rule with parts joined that differ in one set of tokens only; each part once."""
    parts = list(dict.fromkeys(parts))
    for i, first in enumerate(parts):
        for j in range(i + 1, len(parts)):
            differ = [(a, b) for a, b in zip(first, parts[j], strict=False) if a != b]
            if len(first) == len(parts[j]) and len(differ) == 1 and differ[0][0].kind == differ[0][1].kind:
                a, b = differ[0]
                tokens = tuple(dict.fromkeys(a.tokens + b.tokens))
                if a.tokens and len(tokens) <= (MAX_TOKENS if a.kind == TOKEN else MAX_CONTEXT_TOKENS):
                    both = tuple(Atom(a.kind, tokens) if atom == a else atom for atom in first)
                    return merged([*parts[:i], both, *parts[i + 1 : j], *parts[j + 1 :]])
    return tuple(parts)


def item_price(n_fire: float) -> float:
    """F₁ that an item must add: more where few firings are, since one of them is 1 / n_fire."""
    return beam.ITEM_PRICE + 1 / max(n_fire, 1)


def _fixed_atoms(background: Background, universe: Universe) -> tuple[list[Atom], UInt64[np.ndarray, "atom word"]]:
    n_firings = int(np.count_nonzero(universe.rows[: universe.n_firing_words * 64] >= 0))
    least = max(LEAST, LEAST_SHARE * n_firings)
    own = universe.rows[: universe.n_own]
    planes = background.planes_of(own)
    named, bits = [], []
    for plane in range(N_PLANES):
        counts = ((planes[:n_firings, plane, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)).sum(0)
        wanted = np.flatnonzero(counts >= least)
        part = np.zeros((len(wanted), len(universe.valid)), np.uint64)
        transpose(planes, plane, wanted, part)
        part[:, n_words(len(own)) :] = background.elsewhere_bits[plane, wanted]
        named += [Atom(plane, which=int(which)) for which in wanted]
        bits.append(part)
    for atom, rows_of in (*_affixes(background, universe, n_firings, least), *_near(background, universe, least)):
        named.append(atom)
        bits.append(rows_of[None])
    return named[:MAX_FIXED], np.concatenate(bits)[:MAX_FIXED]


def _affixes(
    background: Background, universe: Universe, n_firings: int, least: float
) -> list[tuple[Atom, UInt64[np.ndarray, " word"]]]:
    """Those of the firings' tokens with the best estimated F₁."""
    text, token, scale = background.text, background.text.before(universe.rows, 0), universe.firing_weight
    seen = np.bincount(token[:n_firings], minlength=len(text.vocabulary)).astype(float)
    affixes = text.vocabulary.affix_tokens
    hits, tokens = affixes @ seen, affixes @ (seen > 0)
    f1 = 2 * hits * scale / (universe.n_fire + np.maximum(affixes @ background.counts, hits * scale))
    f1[(hits < least) | (tokens < 2)] = 0
    found = []
    lengths = np.array([len(affix) for affix, _ in text.vocabulary.affixes])
    for which in np.lexsort([-lengths, -f1])[:AFFIXES]:
        if f1[which] > 0:
            member = np.zeros(len(text.vocabulary) + 1, bool)  # the last for −1, no token
            member[affixes.indices[affixes.indptr[which] : affixes.indptr[which + 1]]] = True
            found.append((Atom(AFFIX, which=int(which)), pack(member[token])))
    return found


def _near(background: Background, universe: Universe, least: float) -> list[tuple[Atom, UInt64[np.ndarray, " word"]]]:
    """The tokens before the firings with the best estimated F₁, alone, and joined as long as F₁ rises."""
    text, flat = background.text, background.text.tokens.reshape(-1)
    firings = universe.rows[: universe.n_firing_words * 64]
    firings, found = firings[firings >= 0], []
    rows = beam.Rows(
        universe.valid, universe.weights, universe.n_firing_words, universe.firing_weight, universe.n_fire, 0
    )
    for kind, reach in ((NEAR, REACH), (FAR, FAR_REACH)):
        seen = count_near_rows(flat, len(text.vocabulary), text.n_ctx, firings, reach) * universe.firing_weight
        f1 = 2 * seen / (universe.n_fire + np.maximum(background.near[kind], seen))
        f1[seen < least * universe.firing_weight] = 0
        tokens = np.argsort(-f1, kind="stable")[:NEARS]
        tokens = tokens[f1[tokens] > 0]
        place = np.full(len(text.vocabulary), -1)
        place[tokens] = np.arange(len(tokens))
        bits = np.zeros((len(tokens), len(universe.valid)), np.uint64)
        near_bits(flat, text.n_ctx, universe.rows, reach, place, bits)
        found += [(Atom(kind, (int(token),)), own) for token, own in zip(tokens, bits, strict=True)]
        chosen, joined = _greedy_union(bits, rows)
        if len(chosen) > 1:
            found.append((Atom(kind, tuple(int(tokens[place]) for place in chosen)), joined))
    return found


def _greedy_union(
    bits: UInt64[np.ndarray, "set word"], rows: beam.Rows
) -> tuple[list[int], UInt64[np.ndarray, " word"]]:
    joined, best = np.zeros(len(rows.valid), np.uint64), 0.0
    chosen: list[int] = []
    while len(chosen) < MAX_CONTEXT_TOKENS:
        counts = [beam.measure(rows.valid, own, joined, rows) for own in bits]
        worth = [2 * both / (rows.n_fire + holds) for both, holds in counts]
        if not worth or max(worth) <= best + beam.ITEM_PRICE:
            break
        best = max(worth)
        chosen.append(int(np.argmax(worth)))
        joined = joined | (bits[chosen[-1]] & rows.valid)
    return chosen, joined
