"""Candidate rules of a latent, from a sample of its firings and the rows of `background`.

    1  Atoms that hold at enough of the firings: bits of rows, affixes, tokens near; token sets grow in the search.
    2  The best conjunctions (`beam`), then for a few of them the best one to join by "or", and a third to those.
    3  Each part of the best union is looked for anew with the others in place.

Estimates rank them; some two dozen go on to be counted exactly.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt64
from numba import njit

from interp.verdict import beam
from interp.verdict.background import Background, Universe
from interp.verdict.holding import by_id, cover, mark, pack, transpose
from interp.verdict.predicates import GROWN, KINDS, MAX_CONTEXT_TOKENS, MAX_PARTS, MAX_TOKENS, PLANES, Atom, Rule

MIN_FIRINGS = 5
"""With fewer, no rule is proposed."""
MIN_SHARE, MIN_HITS = 0.05, 3
"""Of the sampled firings, at which an atom must hold."""
MAX_FIXED = 200
MAX_NAMED = 6
"""Sets, and tokens near, of each kind."""
CANDIDATES = 24
ALONE, STARTS, JOINED = 6, 3, 3
"""Conjunctions kept of each kind; how many unions begin with, and how many are kept of each."""

Members = tuple[int, ...]
"""Places of the atoms of a conjunction."""
Parts = tuple[Members, ...]
Found = tuple[Atom, UInt64[np.ndarray, " word"]]


def candidates(
    background: Background, firings: Int64[np.ndarray, " firing"], n_fire: float, *, joined_by_or: bool
) -> list[Rule]:
    """Up to CANDIDATES rules, each once; firings: ascending rows of the fit half, a sample of n_fire."""
    if len(firings) < MIN_FIRINGS:
        return []
    search = _Search(background, firings, n_fire)
    alone = search.conjunctions((), ALONE)
    rules: list[Parts] = [(members,) for _, members in alone]
    if joined_by_or and alone:
        starts = dict.fromkeys((members,) for _, members in [*_best(alone)[:STARTS], alone[-1]])
        joined = [pair for start in starts for pair in search.unions(start)]
        joined += [pair for _, parts in _best(joined)[:STARTS] for pair in search.unions(parts)]
        unions = [parts for _, parts in _best(joined)]
        refined = [search.refined(unions[0])] if unions else []
        rules = [*rules[:1], *refined, *rules[1:], *unions]
    return list(dict.fromkeys(search.rule(parts) for parts in rules))[:CANDIDATES]


def merged(rule: Iterable[tuple[Atom, ...]]) -> Rule:
    """With those parts joined that differ in one set of tokens only; each part once."""
    parts = list(dict.fromkeys(rule))
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


def _best(found: list[tuple[float, Any]]) -> list[tuple[float, Any]]:
    return sorted(found, key=lambda pair: -pair[0])


class _Search:
    """One latent's atoms and rows: first the named atoms, behind them the token sets that grow."""

    def __init__(self, background: Background, firings: Int64[np.ndarray, " firing"], n_fire: float):
        self.rows, text = Universe.of(background, firings, n_fire), background.text
        found = [*_plane_atoms(background, self.rows), *_token_atoms(background, self.rows)][:MAX_FIXED]
        self.named = {place: atom for place, (atom, _) in enumerate(found)}
        own = [np.unique(before, return_counts=True) for before in self.rows.before[:, : len(firings)]]
        self.tokens = [tokens[tokens >= 0] for tokens, _ in own]
        """Of each slot, the tokens of the firings: what local ids stand for."""
        self.counts = [counts[tokens >= 0] for tokens, counts in own]
        lookup = np.full((len(GROWN), len(text.vocabulary) + 1), -1, np.int16)  # the last for −1, no token
        for slot, tokens in enumerate(self.tokens):
            lookup[slot, tokens] = np.arange(len(tokens))
        local = np.stack([own[before] for own, before in zip(lookup, self.rows.before, strict=True)])
        order, first = zip(*(by_id(own, max(map(len, self.tokens))) for own in local), strict=True)
        self.atoms = beam.Atoms(
            bits=np.zeros((beam.CAPACITY, len(self.rows.valid)), np.uint64),
            slots=np.zeros(beam.CAPACITY, np.int64),
            costs=np.ones(beam.CAPACITY),
            sets=np.full((beam.CAPACITY, MAX_TOKENS), -1, np.int16),
            local=local,
            known=np.stack([pack(own >= 0) for own in local]),
            order=np.stack(order),
            first=np.stack(first),
            n_local=np.array([len(tokens) for tokens in self.tokens]),
            used=np.array([len(found)]),
        )
        for place, (atom, bits) in enumerate(found):
            self.atoms.bits[place], self.atoms.slots[place], self.atoms.costs[place] = bits, atom.slot, atom.cost

    def conjunctions(self, parts: Parts, n_best: int) -> list[tuple[float, Members]]:
        """Those to join to the parts, by F₁, then those by F_½, and what each is worth."""
        covered = np.zeros_like(self.rows.valid)
        for part in parts:
            covered |= cover(self.atoms.bits, np.array(part), self.rows.valid)
        found, values = beam.search(self.atoms, self.rows, covered, n_best)
        members = (tuple(sorted(atom for atom in own if atom >= 0)) for own in found.tolist())
        return [(value, own) for value, own in zip(values.tolist(), members, strict=True) if own]

    def unions(self, parts: Parts) -> list[tuple[float, Parts]]:
        """The parts with one more, and what that is worth."""
        if len(parts) == MAX_PARTS:
            return []
        fixed = sum(float(self.atoms.costs[list(part)].sum()) for part in parts)
        price = beam.item_price(self.rows.n_fire) * fixed + beam.PART_PRICE * len(parts)
        return _best([(value - price, (*parts, own)) for value, own in self.conjunctions(parts, JOINED)])[:JOINED]

    def refined(self, parts: Parts) -> Parts:
        """The union with each part in turn replaced by the best one beside the others."""
        for place in range(len(parts)):
            others = parts[:place] + parts[place + 1 :]
            for _, found in self.conjunctions(others, 1)[:1]:
                parts = (*parts[:place], found, *parts[place + 1 :])
        return parts

    def rule(self, parts: Parts) -> Rule:
        atoms = [[self._atom(place) for place in part] for part in parts]
        return merged([tuple(sorted(part, key=lambda atom: atom.slot)) for part in atoms])

    def _atom(self, place: int) -> Atom:
        if place not in self.named:
            slot = int(self.atoms.slots[place])
            own = self.atoms.sets[place, : int(self.atoms.costs[place])]
            by_count = own[np.argsort(-self.counts[slot][own], kind="stable")]
            self.named[place] = Atom(GROWN[slot], tuple(self.tokens[slot][by_count].tolist()))
        return self.named[place]


def _min_hits(universe: Universe) -> float:
    return max(MIN_HITS, MIN_SHARE * len(universe.firings))


def _plane_atoms(background: Background, universe: Universe) -> Iterator[Found]:
    """The bits that enough firings have."""
    planes, n_firings = background.planes_of(universe.rows[: universe.n_own]), len(universe.firings)
    for plane, kind in enumerate(PLANES):
        counts = ((planes[:n_firings, plane, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)).sum(0)
        wanted = np.flatnonzero(counts >= _min_hits(universe))
        bits = np.hstack([transpose(planes, plane, wanted), background.elsewhere_bits[plane, wanted]])
        yield from ((Atom(kind, which=int(which)), rows) for which, rows in zip(wanted, bits, strict=True))


def _token_atoms(background: Background, universe: Universe) -> Iterator[Found]:
    """Of the named sets of tokens, and of the tokens of a window, those with the best estimated F₁; the latter also
    joined as long as F₁ rises. A set has two tokens of the firings or more."""
    text = background.text
    for name, kind in KINDS.items():
        if kind.reach is None or name in GROWN:
            continue
        best = _best_sets(background, universe, name, kind.reach)
        atoms = [Atom(name, which=which) if kind.sets else Atom(name, (which,)) for which in best]
        members, own = np.zeros(len(text.vocabulary), np.uint64), universe.n_own
        bits, near = np.zeros((len(atoms), len(universe.valid)), np.uint64), background.elsewhere_within[name]
        for number, atom in enumerate(atoms):
            members[np.array(text.tokens_of(atom))] |= np.uint64(1 << number)
            mark(near.indices[near.indptr[best[number]] : near.indptr[best[number] + 1]], bits[number, own // 64 :])
        _window_bits(text.tokens.reshape(-1), text.n_ctx, universe.rows[:own], *kind.reach, members, bits)
        yield from zip(atoms, bits, strict=True)
        chosen = [] if kind.sets else _greedy_union(bits, universe)
        if len(chosen) > 1:
            yield Atom(name, tuple(best[place] for place in chosen)), np.bitwise_or.reduce(bits[chosen])


def _best_sets(background: Background, universe: Universe, name: str, reach: tuple[int, int]) -> list[int]:
    """The kind's tokens, or named sets of tokens, that enough firings have, by their estimated F₁."""
    hits, enough = background.seen(universe.firings, reach), _min_hits(universe)
    if name in background.sets:
        tokens = np.flatnonzero(hits)
        having = background.sets[name][tokens]
        hits = having.T @ hits[tokens]
        hits[having.getnnz(0) < 2] = 0
    which = np.flatnonzero(hits >= enough)
    both = hits[which] * universe.firing_weight
    f1 = 2 * both / (universe.n_fire + np.maximum(background.holds[name][which], both))
    return which[np.argsort(-f1, kind="stable")[:MAX_NAMED]].tolist()


def _greedy_union(bits: UInt64[np.ndarray, "set word"], rows: Universe) -> list[int]:
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


@njit(cache=True, nogil=True)
def _window_bits(tokens, n_ctx, rows, low, high, sets, out):
    """out[s]: the rows that have a token with bit s of its `sets` set among those `low` to `high` before."""
    for i in range(len(rows)):
        found = np.uint64(0)
        for back in range(low, min(high, rows[i] % n_ctx) + 1 if rows[i] >= 0 else 0):
            found |= sets[tokens[rows[i] - back]]
        for number in range(len(out) if found else 0):
            out[number, i >> 6] |= ((found >> np.uint64(number)) & np.uint64(1)) << np.uint64(i & 63)
