"""Candidate rules of a latent, or of one of its senses, from a sample of its firings and a sample of the text.

    1  The predicates that the firings share (`text.surprise`), of each kind those that tell best where it fires.
    2  The best conjunctions of them (`beam`); for a few of these the best ones to join by "or".

Estimates rank them; some two dozen go on to be counted exactly (`counting`). They are tried on rows that are densest
where it counts:

    stratum            rows                                                              weight of a row
    firings            a sample of the latent's own                                      n_fire / sampled
    predicate a        where a holds, for the best START predicates                      n(a) / sampled, 1 for a rare a
    elsewhere          a uniform sample, the same for all latents                        rows / sampled

The sums of weights over the last two, each row in one of them only, estimate at how many positions a rule holds; the
first estimates how many firings it hits. Memory: the predicates of MAX_ROWS rows, twice.
"""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int16, Int32, Int64, UInt64
from numba import njit

from interp.codes.reading import CodeChunk
from interp.codes.sampling import FiringSampler
from interp.text.kinds import KINDS
from interp.text.surprise import Predicates, rows_of_each
from interp.verdict import beam
from interp.verdict.beam import CAPACITY, set_bit
from interp.verdict.rules import MAX_VALUES, SUBJECT, Atom, Rule, merged, most_values

SAMPLE = 256
"""Firings of a latent that propose rules."""
MAX_ROWS = 1 << 19
"""A longer text is sampled: sequences spread over it."""
ELSEWHERE = 1 << 13
STARTS, ROWS_OF_START = 12, 192
MIN_FIRINGS = 5
"""With fewer, no rule is proposed."""
MIN_SHARE, MIN_HITS, MIN_LIFT = 0.01, 2, 1.2
"""A predicate must hold at this share of the sampled firings and at so many, and so much oftener than in the text."""
OF_SUBJECT, OF_KIND = 32, 12
"""Predicates of a kind that are tried, where it is about the token itself and elsewhere."""
ALONE, BEGUN, JOINED = 5, 2, 3
"""Conjunctions kept of each list; with how many pairs begin, and how many pairs are kept of each."""
CANDIDATES = 24

Members = tuple[int, ...]
"""Places of the atoms of a conjunction."""
Parts = tuple[Members, ...]


class FitSample(FiringSampler):
    """SAMPLE firings of each latent, and how many it has, in the fit half of the sequences. A listener."""

    def __init__(self, d_sae: int, n_ctx: int, half: Bool[np.ndarray, " seq"], seed: int):
        super().__init__(d_sae, 1, SAMPLE, seed, 1)
        self._fit = np.repeat(half, n_ctx)

    def add(self, chunk: CodeChunk) -> None:
        fit = np.repeat(self._fit[chunk.start : chunk.stop], np.diff(chunk.offsets))
        super().add(replace(chunk, values=chunk.values * fit))


@dataclass(frozen=True)
class Background:
    """Rows of the fit half, with what holds at each and where each predicate holds."""

    predicates: Predicates
    rows: Int64[np.ndarray, " row"]
    holds: Int32[np.ndarray, "row place"]
    where: Int32[np.ndarray, " entry"]
    """Places in `rows`, by predicate."""
    first: Int64[np.ndarray, " predicate_plus_1"]
    """Where each predicate begins in `where`."""
    scale: float
    """Positions of the fit half for each row."""
    elsewhere: tuple[int, Int32[np.ndarray, " entry"], Int64[np.ndarray, " predicate_plus_1"]]
    """How many rows the uniform sample has, and where each predicate holds there, as `where` and `first`."""
    places: list[Int16[np.ndarray, " predicate"]] = field(default_factory=list)
    """Arrays of −1 that no search is using: in it each notes the places of its predicates, and takes them back."""

    @classmethod
    def of(
        cls, predicates: Predicates, half: Bool[np.ndarray, " seq"], counted: Bool[np.ndarray, " row"]
    ) -> "Background":
        """half: the sequences that rules are chosen on; counted: the rows that count at all."""
        n_ctx, sequences = predicates.corpus.tokens.shape[1], np.flatnonzero(half)
        kept = sequences[:: max(1, -(-len(sequences) * n_ctx // MAX_ROWS))]
        rows = (kept[:, None] * n_ctx + np.arange(n_ctx)).reshape(-1)
        rows = rows[counted[rows]]
        holds = predicates.at(rows, predicates.in_rules)
        where, first = where_each_holds(holds, len(predicates.surprise))
        elsewhere = np.unique(np.linspace(0, max(len(rows) - 1, 0), ELSEWHERE).astype(np.int64))[: len(rows)]
        scale = len(sequences) / max(1, len(kept))
        sampled = len(elsewhere), *where_each_holds(holds[elsewhere], len(predicates.surprise))
        return cls(predicates, rows, holds, where, first, scale, sampled)


class Universe(NamedTuple):
    """The rows of one search as bits, each stratum from a new word on."""

    valid: UInt64[np.ndarray, " word"]
    weights: UInt64[np.ndarray, " word"]
    """Weight of each row, in steps of `beam.WEIGHT_STEP`."""
    n_firing_words: int
    first_elsewhere: int
    """The word from which on rows are of the uniform sample, all of one weight."""
    n_sampled: int
    firing_weight: float
    n_fire: float


def candidates(
    background: Background,
    holds: Int32[np.ndarray, "firing place"],
    rows: Int64[np.ndarray, " firing"],
    n_fire: float,
    *,
    joined_by_or: bool,
) -> list[Rule]:
    """Up to CANDIDATES rules, each once. holds: the predicates at `rows`, a sample of n_fire firings."""
    if len(holds) < MIN_FIRINGS:
        return []
    search = _Search(background, holds, rows, n_fire)
    alone = search.conjunctions((), ALONE)
    rules: list[Parts] = [(members,) for _, members in alone]
    most = 1 - beam.PART_PRICE - beam.item_price(len(holds))  # of what leaves room for another part
    if joined_by_or and alone and alone[0][0] < most:
        begun = dict.fromkeys(members for _, members in [*_best(alone)[:BEGUN], alone[-1]])
        pairs = _best([pair for members in begun for pair in search.pairs(members)])
        rules = [*rules[:2], *(parts for _, parts in pairs), *rules[2:]]
    return list(dict.fromkeys(search.rule(parts) for parts in rules))[:CANDIDATES]


def _best(scored: list[tuple[float, Any]]) -> list[tuple[float, Any]]:
    return sorted(scored, key=lambda pair: -pair[0])


class _Search:
    """The atoms and rows of one latent or sense."""

    def __init__(self, background: Background, holds: np.ndarray, rows: np.ndarray, n_fire: float):
        self.background, self.kinds = background, list(background.predicates.first)
        self._said: dict[int, Atom] = {}
        numbers, self.counts, example, kind, n_text, f1 = _shared_best(background, holds, n_fire)
        self.numbers, self.rows = numbers, rows[example]
        starts = numbers[np.argsort(-f1, kind="stable")[:STARTS]]
        try:
            place_of = background.places.pop()  # of another search, in this thread or another
        except IndexError:
            place_of = np.full(len(background.predicates.surprise), -1, np.int16)
        bits, valid, weights, n_firing_words, first_elsewhere = _universe(
            numbers,
            starts,
            holds,
            background.holds,
            background.where,
            background.first,
            background.scale,
            background.elsewhere,
            len(background.rows) * background.scale / max(1, background.elsewhere[0]),
            place_of,
        )
        background.places.append(place_of)
        weights = np.round(weights / beam.WEIGHT_STEP).astype(np.uint64)
        per_firing = n_fire / len(holds)
        self.universe = Universe(valid, weights, n_firing_words, first_elsewhere, len(holds), per_firing, n_fire)
        subjects = list(dict.fromkeys(KINDS[name].speaks_of for name in self.kinds))
        subject = np.array([subjects.index(KINDS[name].speaks_of) for name in self.kinds])
        items = np.array([KINDS[name].items for name in self.kinds])
        n_sets = CAPACITY - len(numbers)
        self.atoms = beam.Atoms(
            bits=bits,
            kind=np.append(kind, np.zeros(n_sets, np.int64)),
            subject=np.append(subject[kind], np.zeros(n_sets, np.int64)),
            items=np.append(items[kind], np.zeros(n_sets)),
            n_text=np.append(n_text, np.zeros(n_sets)),
            members=np.full((CAPACITY, MAX_VALUES), -1, np.int16),
            first_of_kind=np.searchsorted(kind, np.arange(len(self.kinds) + 1)),
            most=np.array([most_values(name) for name in self.kinds]),
            used=np.array([len(numbers)]),
        )
        self.atoms.members[: len(numbers), 0] = np.arange(len(numbers))

    def conjunctions(self, other: Members, n_best: int) -> list[tuple[float, Members]]:
        """The conjunctions to join to the other one, if any, best by F₁, then by F_½, and what each is worth."""
        valid = self.universe.valid
        covered = beam.cover(self.atoms.bits, np.array(other), valid) if other else np.zeros_like(valid)
        best, values = beam.best_conjunctions(self.atoms, self.universe, covered, n_best)
        members = (tuple(sorted(atom for atom in row if atom >= 0)) for row in best.tolist())
        return [(value, atoms) for value, atoms in zip(values.tolist(), members, strict=True) if atoms]

    def pairs(self, part: Members) -> list[tuple[float, Parts]]:
        """The part with another one, and what that is worth."""
        price = beam.item_price(self.universe.n_sampled) * float(self.atoms.items[list(part)].sum()) + beam.PART_PRICE
        return _best([(value - price, (part, other)) for value, other in self.conjunctions(part, JOINED)])[:JOINED]

    def rule(self, parts: Parts) -> Rule:
        return merged(tuple(self._atom(place) for place in part) for part in parts)

    def _atom(self, place: int) -> Atom:
        if place not in self._said:
            self._said[place] = self._say(place)
        return self._said[place]

    def _say(self, place: int) -> Atom:
        kind = self.kinds[self.atoms.kind[place]]
        members = self.atoms.members[place]
        members = members[members >= 0]
        members = members[np.argsort(-self.counts[members], kind="stable")]
        predicates, numbers = self.background.predicates, self.numbers[members].tolist()
        names = [predicates.name(number, row) for number, row in zip(numbers, self.rows[members], strict=True)]
        return Atom(kind, tuple(number - predicates.first[kind] for number in numbers), tuple(names))


def _shared_best(background: Background, holds: np.ndarray, n_fire: float) -> tuple[np.ndarray, ...]:
    """The predicates that firings share, of each kind those that tell best where the latent fires: numbers, ascending;
    firings at which each holds; one of these; the kind; positions of the text at which each holds; its F₁."""
    predicates = background.predicates
    numbers, first, firings = rows_of_each(holds)
    hits, example = np.diff(first), firings[first[1:] - 1]
    n_text = (background.first[numbers + 1] - background.first[numbers]) * background.scale
    both = hits * n_fire / len(holds)
    f1 = 2 * both / (n_fire + np.maximum(n_text, both))
    is_often = hits >= max(MIN_HITS, MIN_SHARE * len(holds))
    is_telling = hits / len(holds) > MIN_LIFT * n_text / max(1.0, len(background.rows) * background.scale)
    kind = np.searchsorted(list(predicates.first.values()), numbers, side="right") - 1
    usable = np.flatnonzero(is_often & is_telling)
    order = usable[np.lexsort((-f1[usable], kind[usable]))]
    place_in_kind = np.arange(len(order)) - np.searchsorted(kind[order], kind[order])
    most = np.array([OF_SUBJECT if KINDS[name].speaks_of == SUBJECT else OF_KIND for name in predicates.first])
    order = order[np.argsort(place_in_kind / most[kind[order]], kind="stable")][: CAPACITY // 2]
    kept = np.sort(order)
    return numbers[kept], hits[kept], example[kept], kind[kept], n_text[kept], f1[kept]


def where_each_holds(
    holds: Int32[np.ndarray, "row place"], n_predicates: int
) -> tuple[Int32[np.ndarray, " entry"], Int64[np.ndarray, " predicate_plus_1"]]:
    """The rows where each predicate holds, ascending, one predicate after the other; and where each begins."""
    first = np.zeros(n_predicates + 1, np.int64)
    return _where(holds, first), first


@njit(cache=True, nogil=True)
def _where(holds, first):
    for row in range(len(holds)):
        for number in holds[row]:
            if number >= 0:
                first[number + 1] += 1
    first[:] = np.cumsum(first)
    out, end = np.empty(first[-1], np.int32), first[:-1].copy()
    for row in range(len(holds)):
        for number in holds[row]:
            if number >= 0:
                out[end[number]] = row
                end[number] += 1
    return out


@njit(cache=True, nogil=True)
def _universe(numbers, starts, firing_holds, text_holds, where, first, scale, elsewhere, elsewhere_weight, place_of):
    """The rows of each stratum, each stratum from a new word on: the bits of each predicate, those of the rows that
    count, the weights by word, and how many words are of firings. elsewhere: how many rows, and where each predicate
    holds there, as `where` and `first` are of all rows."""
    n_starts, rank = len(starts), np.full(len(numbers), len(starts))
    for place in range(len(numbers)):
        place_of[numbers[place]] = place
    for stratum in range(n_starts):
        rank[place_of[starts[stratum]]] = stratum
    sizes = np.array([first[start + 1] - first[start] for start in starts], np.int64)
    taken = np.minimum(sizes, ROWS_OF_START)
    n_firing_words, n_elsewhere = (len(firing_holds) + 63) // 64, elsewhere[0]
    last = n_firing_words + np.sum((taken + 63) // 64)
    words = last + (n_elsewhere + 63) // 64
    bits, valid, weights = np.zeros((CAPACITY, words), np.uint64), np.zeros((1, words), np.uint64), np.zeros(words)
    for row in range(len(firing_holds)):
        set_bit(valid, 0, row)
        for number in firing_holds[row]:
            if number >= 0 and place_of[number] >= 0:
                set_bit(bits, place_of[number], row)
    word = n_firing_words
    for stratum in range(n_starts):
        n = taken[stratum]
        for i in range(n):
            row = where[first[starts[stratum]] + i * sizes[stratum] // n]
            lowest = n_starts
            for number in text_holds[row]:
                if number >= 0 and place_of[number] >= 0:
                    set_bit(bits, place_of[number], 64 * word + i)
                    lowest = min(lowest, rank[place_of[number]])
            if lowest == stratum:  # it belongs to no earlier stratum
                set_bit(valid, 0, 64 * word + i)
        weights[word : word + (n + 63) // 64] = scale * sizes[stratum] / max(n, 1)
        word += (n + 63) // 64
    weights[last:] = elsewhere_weight
    for row in range(n_elsewhere):
        set_bit(valid, 0, 64 * last + row)
    for place in range(len(numbers)):
        for row in elsewhere[1][elsewhere[2][numbers[place]] : elsewhere[2][numbers[place] + 1]]:
            set_bit(bits, place, 64 * last + row)
            if rank[place] < n_starts:
                valid[0, last + (row >> 6)] &= ~(np.uint64(1) << np.uint64(row & 63))
    for number in numbers:
        place_of[number] = -1
    return bits, valid[0], weights, n_firing_words, last
