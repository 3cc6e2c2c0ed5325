"""Candidate rules of a latent, or of one of its senses, from a sample of its firings and a sample of the text.

    1  The predicates that the firings share (`text.surprise`), of each kind those that tell best where it fires.
    2  A beam search for conjunctions of them. Beside the predicates stand, of each kind, those values together that
       tell most: the values whose rows are surest to be firings come first, as long as F₁ rises.

A conjunction that holds at `both` of n_fire firings and at `holds` positions of the text is ranked by

    F_β = (1 + β²) both / (β² n_fire + holds)     β = 1, ½, 2, each less a price for length

so that sure conjunctions and wide ones are not lost before another atom makes them good. The best go on to be counted
exactly (`counting`); here `both` and `holds` are estimated, from a sample of the firings and from rows of the text that
are densest where it counts: STARTS predicates with ROWS_OF_START of their rows each, and ELSEWHERE rows of all. A row
weighs 1 / (how many times it is drawn on average), which makes every sum right on average (Horvitz & Thompson 1952).
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int16, Int32, Int64
from numba import njit

from interp.codes.reading import CodeChunk
from interp.codes.sampling import FiringSampler
from interp.text.kinds import KINDS
from interp.text.surprise import Predicates, rows_of_each
from interp.verdict.rules import MAX_ATOMS, SUBJECT, Atom, Rule, most_values

SAMPLE = 256
"""Firings of a latent that propose rules."""
MAX_ROWS = 1 << 19
"""A longer text is sampled: sequences spread over it."""
ELSEWHERE = 1 << 10
STARTS, ROWS_OF_START = 12, 96
MIN_FIRINGS = 5
"""With fewer, no rule is proposed."""
MIN_SHARE, MIN_HITS, MIN_LIFT = 0.01, 2, 1.2
"""A predicate must hold at this share of the sampled firings and at so many, and so much oftener than in the text."""
OF_SUBJECT, OF_KIND, MOST = 32, 12, 128
"""Predicates of a kind that are tried, where it is about the token itself and elsewhere; and of all kinds."""
WIDTH = 5
"""Conjunctions of each list that go on."""
KEPT = 10
"""Candidates by F₁, and by F_½."""
ITEM_PRICE, ATOM_PRICE = 0.003, 0.01
"""One more item to read, and a further atom, must add so much to F₁."""
BETA_SQUARED, PRICED = np.array([1, 0.25, 4]), np.array([1, 0.1, 0.1])

Alternatives = tuple[int, ...]
"""Predicates of one kind, any of which may hold, by their number among the candidates."""


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
    holds: Int32[np.ndarray, "row place"]
    where: Int32[np.ndarray, " entry"]
    """Numbers of the rows, by predicate."""
    first: Int64[np.ndarray, " predicate_plus_1"]
    """Where each predicate begins in `where`."""
    scale: float
    """Positions of the fit half for each row."""
    unused: list[Int16[np.ndarray, " predicate"]] = field(default_factory=list)
    """Arrays of −1, one for each search at work: it writes in the numbers of its candidates, and clears them again."""

    @classmethod
    def of(
        cls, predicates: Predicates, half: Bool[np.ndarray, " seq"], counted: Bool[np.ndarray, " row"]
    ) -> "Background":
        """half: the sequences that rules are chosen on; counted: the rows that count at all."""
        n_ctx, sequences = predicates.corpus.tokens.shape[1], np.flatnonzero(half)
        kept = sequences[:: max(1, -(-len(sequences) * n_ctx // MAX_ROWS))]
        rows = (kept[:, None] * n_ctx + np.arange(n_ctx)).reshape(-1)
        holds = predicates.at(rows[counted[rows]], predicates.in_rules)
        first = np.zeros(len(predicates.surprise) + 1, np.int64)
        return cls(predicates, holds, _where(holds, first), first, len(sequences) / max(1, len(kept)))

    @property
    def n(self) -> float:
        """Positions of the fit half."""
        return len(self.holds) * self.scale


class CandidatePredicates(NamedTuple):
    """The predicates of which the rules of one latent or sense may be made, by number."""

    numbers: Int64[np.ndarray, " predicate"]
    hits: Int64[np.ndarray, " predicate"]
    """Sampled firings at which each holds."""
    example: Int64[np.ndarray, " predicate"]
    """One of them."""
    kind: Int64[np.ndarray, " predicate"]
    n_text: Float64[np.ndarray, " predicate"]
    """Positions of the text at which each holds."""
    f1: Float64[np.ndarray, " predicate"]

    @classmethod
    def of(
        cls, background: Background, holds: Int32[np.ndarray, "firing place"], n_fire: float
    ) -> "CandidatePredicates":
        predicates = background.predicates
        numbers, first, firings = rows_of_each(holds)
        hits, example = np.diff(first), firings[first[1:] - 1]
        n_text = (background.first[numbers + 1] - background.first[numbers]) * background.scale
        both = hits * n_fire / len(holds)
        f1 = 2 * both / (n_fire + np.maximum(n_text, both))
        is_often = hits >= max(MIN_HITS, MIN_SHARE * len(holds))
        is_telling = hits / len(holds) > MIN_LIFT * n_text / max(1.0, background.n)
        kind = predicates.kinds_of(numbers)
        usable = np.flatnonzero(is_often & is_telling)
        order = usable[np.lexsort((-f1[usable], kind[usable]))]
        most = np.array([OF_SUBJECT if KINDS[name].speaks_of == SUBJECT else OF_KIND for name in predicates.first])
        order = order[np.argsort(_number_in_group(kind[order]) / most[kind[order]], kind="stable")][:MOST]
        kept = np.sort(order)
        return cls(numbers[kept], hits[kept], example[kept], kind[kept], n_text[kept], f1[kept])


class Conjunctions(NamedTuple):
    """Some that may go on, each a state of the beam and what is added to it."""

    state: Int64[np.ndarray, " some"]
    added: list[Alternatives]
    both: Float64[np.ndarray, " some"]
    holds: Float64[np.ndarray, " some"]
    items: Float64[np.ndarray, " some"]
    """Items that the reader of what is added has to take in (`text.kinds.Kind.items`)."""


def item_price(n_firings: int) -> float:
    """F₁ that an item must add: more where few firings are looked at, since one of them is 1 / n_firings."""
    return ITEM_PRICE + 1 / max(n_firings, 1)


def candidates(
    background: Background,
    holds: Int32[np.ndarray, "firing place"],
    rows: Int64[np.ndarray, " firing"],
    n_fire: float,
) -> list[Rule]:
    """Some rules, each once. holds: the predicates at `rows`, a sample of n_fire firings."""
    if len(holds) < MIN_FIRINGS:
        return []
    shared = CandidatePredicates.of(background, holds, n_fire)
    found = _Beam(background, shared, holds, n_fire).run()
    words = {
        part: _said(background.predicates, shared, rows, part) for part in {part for parts in found for part in parts}
    }
    return [tuple(words[part] for part in parts) for parts in found]


class _Beam:
    """A search among the predicates that the firings of one latent or sense share."""

    def __init__(self, background: Background, shared: CandidatePredicates, holds: np.ndarray, n_fire: float):
        kinds = list(background.predicates.first)
        subjects = list(dict.fromkeys(KINDS[name].speaks_of for name in kinds))
        self.shared, self.n_fire, self.per_firing = shared, n_fire, n_fire / len(holds)
        self.price = item_price(len(holds))
        self.subject = np.array([subjects.index(KINDS[name].speaks_of) for name in kinds])[shared.kind]
        self.items = np.array([KINDS[name].items for name in kinds])[shared.kind]
        self.most = np.array([most_values(name) for name in kinds])[shared.kind]
        self.at_firings, self.in_text, self.weight = _sampled(background, shared, holds)

    def run(self) -> list[tuple[Alternatives, ...]]:
        """The best conjunctions by F₁, then by F_½."""
        states: list[tuple[Alternatives, ...]] = [()]
        found: dict[tuple[Alternatives, ...], tuple[float, float]] = {}
        for depth in range(MAX_ATOMS):
            some = self._extended(states)
            spent = np.array([sum(self.items[part[0]] * len(part) for part in parts) for parts in states])
            price = self.price * (spent[some.state] + some.items) + ATOM_PRICE * depth
            scores = (1 + BETA_SQUARED) * some.both[:, None] / (
                BETA_SQUARED * self.n_fire + some.holds[:, None]
            ) - PRICED * price[:, None]
            listed = [at for column in scores.T for at in _best_unlike(column, some)]
            going: dict[tuple[Alternatives, ...], None] = {}
            for at in listed:
                parts = tuple(sorted((*states[some.state[at]], some.added[at])))
                found.setdefault(parts, (scores[at, 0], scores[at, 1]))
                going[parts] = None
            states = list(going)
            if not states:
                break
        best = [sorted(found, key=lambda parts: -found[parts][which])[:KEPT] for which in range(2)]
        return list(dict.fromkeys([*best[0], *best[1]]))

    def _extended(self, states: list[tuple[Alternatives, ...]]) -> Conjunctions:
        """Each state with one more predicate, or with several of one kind."""
        shared, shape = self.shared, (len(states), len(self.shared.numbers))
        if states == [()]:
            both, holds = shared.hits[None] * self.per_firing, shared.n_text[None].copy()
        else:
            both = _covered(self.at_firings, states) @ self.at_firings * self.per_firing
            holds = (_covered(self.in_text, states) * self.weight) @ self.in_text
        holds = np.maximum(holds, both)
        spoken_of = np.zeros(shape, bool)
        for number, parts in enumerate(states):
            for part in parts:
                spoken_of[number] |= self.subject == self.subject[part[0]]
        state, at = np.nonzero((both >= MIN_HITS * self.per_firing) & ~spoken_of)
        single = Conjunctions(
            state, [(candidate,) for candidate in at.tolist()], both[state, at], holds[state, at], self.items[at]
        )
        together = self._together(state, at, single.both, single.holds)
        return Conjunctions(
            np.append(single.state, together.state),
            single.added + together.added,
            np.append(single.both, together.both),
            np.append(single.holds, together.holds),
            np.append(single.items, together.items),
        )

    def _together(self, state: np.ndarray, at: np.ndarray, both: np.ndarray, holds: np.ndarray) -> Conjunctions:
        """Find the values of each state and kind that are best together. What they hold at together is taken to be the
        sum, as it is where a position has one value of the kind."""
        group = state * (self.shared.kind.max(initial=0) + 1) + self.shared.kind[at]
        order = np.lexsort((-both / (self.n_fire + holds), group))
        order = order[_number_in_group(group[order]) < 2 * self.most[at[order]]]
        order = order[np.lexsort((-both[order] / holds[order], group[order]))]
        order = order[_number_in_group(group[order]) < self.most[at[order]]]
        group, at, state = group[order], at[order], state[order]
        number = _number_in_group(group)
        first = np.arange(len(order)) - number
        both, holds = (
            np.cumsum(values[order]) - np.append(0, np.cumsum(values[order]))[first] for values in (both, holds)
        )
        items = self.items[at] * (number + 1)
        best = np.lexsort((-(2 * both / (self.n_fire + holds) - self.price * items), group))
        best = best[_number_in_group(group[best]) == 0]
        best = best[number[best] > 0]
        added = [tuple(sorted(at[start : end + 1].tolist())) for start, end in zip(first[best], best, strict=True)]
        return Conjunctions(state[best], added, both[best], holds[best], items[best])


def _best_unlike(score: np.ndarray, some: Conjunctions) -> list[int]:
    """The WIDTH best, of those with equal counts only the first: they are taken to hold at the same rows."""
    chosen: dict[tuple[float, float], int] = {}
    for at in np.argsort(-score, kind="stable")[: 8 * WIDTH].tolist():
        if len(chosen) < WIDTH:
            chosen.setdefault((some.both[at], some.holds[at]), at)
    return list(chosen.values())


def _covered(
    has: Float32[np.ndarray, "row predicate"], states: list[tuple[Alternatives, ...]]
) -> Float32[np.ndarray, "state row"]:
    out = np.ones((len(states), len(has)), np.float32)
    for state, parts in zip(out, states, strict=True):
        for part in parts:
            state *= has[:, part[0]] if len(part) == 1 else has[:, list(part)].max(1)
    return out


def _sampled(
    background: Background, shared: CandidatePredicates, holds: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which predicates hold at the firings, and at rows of the text, [row, predicate]; and the weight of these rows."""
    n_rows, first = len(background.holds), background.first
    starts = np.argsort(-shared.f1, kind="stable")[:STARTS]
    begin = first[shared.numbers[starts]]
    size = first[shared.numbers[starts] + 1] - begin
    taken = np.minimum(size, ROWS_OF_START)
    spread = [background.where[b + np.arange(t) * s // t] for b, s, t in zip(begin, size, taken, strict=True) if t]
    elsewhere = np.unique(np.linspace(0, max(n_rows - 1, 0), ELSEWHERE).astype(np.int64))[:n_rows]
    rows = np.sort(np.concatenate([*spread, elsewhere]))  # read fastest in their order
    try:
        candidate_of = background.unused.pop()  # of another search, in this thread or another
    except IndexError:
        candidate_of = np.full(len(first) - 1, -1, np.int16)
    candidate_of[shared.numbers] = np.arange(len(shared.numbers))
    at_firings = _has(holds, np.arange(len(holds)), candidate_of, len(shared.numbers))
    in_text = _has(background.holds, rows, candidate_of, len(shared.numbers))
    candidate_of[shared.numbers] = -1
    background.unused.append(candidate_of)
    drawn = (taken / np.maximum(size, 1)) @ in_text[:, starts].T + len(elsewhere) / max(n_rows, 1)
    weight = background.scale / drawn
    # In steps of a power of two, so that float32 holds any sum of them exactly, in whatever order.
    step = 2.0 ** np.ceil(np.log2(max(weight.sum(), 1) / (1 << 22)))
    return at_firings, in_text, (np.round(weight / step) * step).astype(np.float32)


def _said(predicates: Predicates, shared: CandidatePredicates, rows: np.ndarray, part: Alternatives) -> Atom:
    """The predicates in words, those first that hold at most firings."""
    members = sorted(part, key=lambda at: -shared.hits[at])
    kind = predicates.kind_of(int(shared.numbers[members[0]]))
    numbers = shared.numbers[members].tolist()
    names = [predicates.name(number, rows[shared.example[at]]) for number, at in zip(numbers, members, strict=True)]
    return Atom(kind, tuple(number - predicates.first[kind] for number in numbers), tuple(names))


def _number_in_group(group: np.ndarray) -> Int64[np.ndarray, " entry"]:
    """Number each entry within its group, from 0; the groups are sorted."""
    return np.arange(len(group)) - np.searchsorted(group, group)


@njit(cache=True, nogil=True)
def _where(holds, first):
    """The rows where each predicate holds, ascending, one predicate after the other; `first`: where each begins."""
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
def _has(holds, rows, candidate_of, n):
    """[row, predicate], 1 where it holds."""
    out = np.zeros((len(rows), n), np.float32)
    for i in range(len(rows)):
        for number in holds[rows[i]]:
            if number >= 0 and candidate_of[number] >= 0:
                out[i, candidate_of[number]] = 1
    return out
