"""Search for rules of a latent, or of one of its senses, in a sample of its firings and a sample of the text.

    1  Take the predicates that the firings share (`text.predicates`): of each kind, those that predict firing best.
    2  Search for conjunctions of them with a beam. A conjunction may also take several values of one kind, any of which
       may hold: values are added in order of precision, as long as F₁ rises.

A conjunction that holds at `both` of n_fire firings and at `holds` positions of the text is ranked by

    F_β = (1 + β²) both / (β² n_fire + holds)     β = 1, ½, 2, each less a price for length

so that both precise and wide conjunctions survive until another atom improves them. The best conjunctions are then
counted exactly (`counting`). Here `both` and `holds` are estimates. They come from a sample of the firings, and from
rows of the text that are sampled most densely where it matters: ROWS_OF_BEST rows of each of the N_BEST best
predicates, and ROWS_ELSEWHERE of all rows. A row has the weight 1 / (its expected number of draws), so that every sum
is unbiased (Horvitz & Thompson 1952).
"""

import threading
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int16, Int32, Int64
from numba import njit

from interp.codes.code_chunks import CodeChunk
from interp.codes.sampling import FiringSampler
from interp.runtime.processes import ALONE, Processes, part_of
from interp.statistics.spacing import rows_of, spread_rows, spread_sequences
from interp.text.kinds import PREDICATE_KINDS
from interp.text.predicates import Predicates, rows_of_predicates
from interp.verdict.coded_text import CodedText
from interp.verdict.rules import MAX_ATOMS, SUBJECT, Atom, Rule, most_values

N_SAMPLED_FIRINGS = 256
"""Firings of a latent from which rules are proposed."""
MAX_FIT_ROWS = 1 << 19
"""Largest number of rows of the text that are read. Of a longer text, evenly spread sequences are read."""
N_BEST = 12
"""Predicates whose rows are sampled on their own."""
ROWS_OF_BEST = 96
"""Rows sampled for each of the N_BEST predicates."""
ROWS_ELSEWHERE = 1 << 10
"""Rows sampled of the whole text."""
MIN_FIRINGS_FOR_RULE = 5
"""With fewer firings, no rule is proposed."""
MIN_SHARE_OF_FIRINGS = 0.01
"""The least share of the sampled firings at which a predicate must hold."""
MIN_HITS = 2
"""The least number of sampled firings at which a predicate must hold."""
MIN_LIFT = 1.2
"""The least ratio of a predicate's frequency at firings to its frequency in the text."""
MAX_OF_SUBJECT = 32
"""Predicates that are tried of a kind that is about the token itself."""
MAX_OF_OTHERS = 12
"""Predicates that are tried of any other kind."""
MAX_PREDICATES = 128
"""Predicates that are tried of all kinds together."""
BEAM_WIDTH = 5
"""Conjunctions that the beam keeps by each F_β."""
N_KEPT = 10
"""Candidates that are counted, by F₁ and by F_½."""
ITEM_PRICE = 0.003
"""The least increase of F₁ for a further item to read."""
ATOM_PRICE = 0.01
"""The least increase of F₁ for a further atom."""
BETA_SQUARED = np.array([1, 0.25, 4])
PRICE_WEIGHTS = np.array([1, 0.1, 0.1])
"""The weight of the price of length in the ranking by each F_β."""

Alternatives = tuple[int, ...]
"""Predicates of one kind, any of which may hold, as indices into `CandidatePredicates`."""
Conjunction = tuple[Alternatives, ...]
"""All of these must hold, ascending."""


class FitSample(FiringSampler):
    """Sample N_SAMPLED_FIRINGS of each latent in the fit half of the sequences, and count all. `add` is a listener
    (`evidence`)."""

    def __init__(self, d_sae: int, n_ctx: int, half: Bool[np.ndarray, " seq"], seed: int):
        super().__init__(d_sae, 1, N_SAMPLED_FIRINGS, seed, 1)
        self.half = half
        """The sequences of the fit half."""
        self._fit = np.repeat(half, n_ctx)

    @classmethod
    def read(cls, text: CodedText, half: Bool[np.ndarray, " seq"], seed: int = 0) -> "FitSample":
        """Draw the sample in a separate pass over the codes."""
        sample = cls(text.d_sae, text.n_ctx, half, seed)
        for chunk in text.read_chunks(text.n_ctx):
            sample.add(chunk)
        return sample

    def add(self, chunk: CodeChunk) -> None:
        fit = np.repeat(self._fit[chunk.start : chunk.stop], np.diff(chunk.offsets))
        super().add(replace(chunk, values=chunk.values * fit))


@dataclass(frozen=True)
class Background:
    """Rows of the fit half, with the predicates that hold at each, and the rows at which each predicate holds."""

    predicates: Predicates
    holds: Int32[np.ndarray, "row slot"]
    rows: Int32[np.ndarray, " entry"]
    """The rows of predicate a are rows[offsets[a]:offsets[a + 1]], as indices into `holds`."""
    offsets: Int64[np.ndarray, " predicate_plus_1"]
    scale: float
    """How many positions of the fit half each row stands for."""
    scratch: threading.local = field(default_factory=threading.local)
    """One array per thread, `candidate_of`: the index of each predicate among the candidates, or −1. It is reused
    because it is too large to allocate for each latent."""

    @classmethod
    def of(
        cls,
        predicates: Predicates,
        half: Bool[np.ndarray, " seq"],
        counted: Bool[np.ndarray, " row"],
        team: Processes = ALONE,
    ) -> "Background":
        """Read the fit half.
        half: marks its sequences.
        counted: marks the rows that count as evidence.
        team: processes that each read a part of the rows."""
        n_ctx = predicates.text.tokens.shape[1]
        sequences = np.flatnonzero(half)
        kept = spread_sequences(sequences, n_ctx, MAX_FIT_ROWS)
        rows = rows_of(kept, n_ctx)
        rows = rows[counted[rows]]
        own_rows = rows[part_of(len(rows), team.rank, team.count)]
        parts = team.gather_results(lambda: predicates.at(own_rows, predicates.in_rules))
        holds = np.concatenate([part for part in parts if len(part)] or parts)
        offsets, rows_by_predicate = _rows_by_predicate(holds, len(predicates.surprise))
        return cls(predicates, holds, rows_by_predicate, offsets, len(sequences) / max(1, len(kept)))

    @property
    def n(self) -> float:
        """Positions of the fit half."""
        return len(self.holds) * self.scale

    def lookup(self, numbers: Int64[np.ndarray, " candidate"]) -> Int16[np.ndarray, " predicate"]:
        """Return the index in `numbers` of each predicate, and −1 for all others. Reset the array with `clear`."""
        if not hasattr(self.scratch, "candidate_of"):
            self.scratch.candidate_of = np.full(len(self.offsets) - 1, -1, np.int16)
        self.scratch.candidate_of[numbers] = np.arange(len(numbers))
        return self.scratch.candidate_of

    def clear(self, numbers: Int64[np.ndarray, " candidate"]) -> None:
        self.scratch.candidate_of[numbers] = -1


class CandidatePredicates(NamedTuple):
    """The predicates that the rules of one latent or sense may use, ascending."""

    numbers: Int64[np.ndarray, " predicate"]
    hits: Int64[np.ndarray, " predicate"]
    """Sampled firings at which each holds."""
    example: Int64[np.ndarray, " predicate"]
    """A firing at which it holds."""
    kind: Int64[np.ndarray, " predicate"]
    """The kind of each, as an index into `Predicates.offsets`."""
    n_text: Float64[np.ndarray, " predicate"]
    """Positions of the text at which each holds."""
    f1: Float64[np.ndarray, " predicate"]

    @classmethod
    def of(
        cls, background: Background, holds: Int32[np.ndarray, "firing slot"], n_fire: float
    ) -> "CandidatePredicates":
        predicates = background.predicates
        numbers, offsets, firings = rows_of_predicates(holds)
        hits = np.diff(offsets)
        example = firings[offsets[1:] - 1]
        n_text = (background.offsets[numbers + 1] - background.offsets[numbers]) * background.scale
        both = hits * n_fire / len(holds)
        f1 = 2 * both / (n_fire + np.maximum(n_text, both))
        is_often = hits >= max(MIN_HITS, MIN_SHARE_OF_FIRINGS * len(holds))
        is_telling = hits / len(holds) > MIN_LIFT * n_text / max(1.0, background.n)
        kind = predicates.kinds_of(numbers)
        usable = np.flatnonzero(is_often & is_telling)
        order = usable[np.lexsort((-f1[usable], kind[usable]))]
        is_of_subject = [PREDICATE_KINDS[name].subject == SUBJECT for name in predicates.offsets]
        most = np.where(is_of_subject, MAX_OF_SUBJECT, MAX_OF_OTHERS)
        order = order[np.argsort(_number_in_group(kind[order]) / most[kind[order]], kind="stable")][:MAX_PREDICATES]
        kept = np.sort(order)
        return cls(numbers[kept], hits[kept], example[kept], kind[kept], n_text[kept], f1[kept])


class Extensions(NamedTuple):
    """Conjunctions that the beam may take next: each extends one of its states by an atom."""

    state: Int64[np.ndarray, " some"]
    """The index of the state."""
    added: list[Alternatives]
    both: Float64[np.ndarray, " some"]
    holds: Float64[np.ndarray, " some"]
    items: Float64[np.ndarray, " some"]
    """Number of items that the added atom gives a reader to grasp (`text.kinds.Kind.items`)."""


def item_price(n_firings: int) -> float:
    """Return the increase of F₁ that an item must bring. It is larger for few firings, as a single firing changes F₁ by
    about 1 / n_firings."""
    return ITEM_PRICE + 1 / max(n_firings, 1)


def propose_rules(
    background: Background,
    holds: Int32[np.ndarray, "firing slot"],
    rows: Int64[np.ndarray, " firing"],
    n_fire: float,
) -> list[Rule]:
    """Propose some distinct rules.
    holds: the predicates at `rows`, a sample of n_fire firings."""
    if len(holds) < MIN_FIRINGS_FOR_RULE:
        return []
    shared = CandidatePredicates.of(background, holds, n_fire)
    conjunctions = _Beam(background, shared, holds, n_fire).run()
    atoms = {
        alternatives: _atom(background.predicates, shared, rows, alternatives)
        for alternatives in {alternatives for conjunction in conjunctions for alternatives in conjunction}
    }
    return [tuple(atoms[alternatives] for alternatives in conjunction) for conjunction in conjunctions]


class _Beam:
    """A search among the predicates that the firings of one latent or sense share."""

    def __init__(self, background: Background, shared: CandidatePredicates, holds: np.ndarray, n_fire: float):
        kinds = list(background.predicates.offsets)
        subjects = list(dict.fromkeys(PREDICATE_KINDS[name].subject for name in kinds))
        self.shared = shared
        self.n_fire = n_fire
        self.fires_per_sample = n_fire / len(holds)
        self.price = item_price(len(holds))
        self.subject = np.array([subjects.index(PREDICATE_KINDS[name].subject) for name in kinds])[shared.kind]
        self.items = np.array([PREDICATE_KINDS[name].items for name in kinds])[shared.kind]
        self.most = np.array([most_values(name) for name in kinds])[shared.kind]
        self.holds_at_firings, self.holds_in_text, self.weight = _sample_rows(background, shared, holds)

    def run(self) -> list[Conjunction]:
        """Return the best conjunctions by F₁, then by F_½."""
        states: list[Conjunction] = [()]
        scored: dict[Conjunction, tuple[float, float]] = {}
        for depth in range(MAX_ATOMS):
            extensions = self._extensions(states)
            items_of_state = np.array([sum(self.items[part[0]] * len(part) for part in state) for state in states])
            price = self.price * (items_of_state[extensions.state] + extensions.items) + ATOM_PRICE * depth
            scores = (1 + BETA_SQUARED) * extensions.both[:, None] / (
                BETA_SQUARED * self.n_fire + extensions.holds[:, None]
            ) - PRICE_WEIGHTS * price[:, None]
            next_states: dict[Conjunction, None] = {}
            for score in scores.T:
                for index in _best_distinct(score, extensions):
                    conjunction = tuple(sorted((*states[extensions.state[index]], extensions.added[index])))
                    scored.setdefault(conjunction, (scores[index, 0], scores[index, 1]))
                    next_states[conjunction] = None
            states = list(next_states)
            if not states:
                break
        best = [sorted(scored, key=lambda conjunction: -scored[conjunction][which])[:N_KEPT] for which in range(2)]
        return list(dict.fromkeys([*best[0], *best[1]]))

    def _extensions(self, states: list[Conjunction]) -> Extensions:
        """Extend each state by one more predicate, or by several of one kind."""
        if states == [()]:
            both = self.shared.hits[None] * self.fires_per_sample
            holds = self.shared.n_text[None].copy()
        else:
            both = _mark_covered(self.holds_at_firings, states) @ self.holds_at_firings * self.fires_per_sample
            holds = (_mark_covered(self.holds_in_text, states) * self.weight) @ self.holds_in_text
        holds = np.maximum(holds, both)
        spoken_of = np.zeros((len(states), len(self.shared.numbers)), bool)
        for number, conjunction in enumerate(states):
            for part in conjunction:
                spoken_of[number] |= self.subject == self.subject[part[0]]
        state, candidate = np.nonzero((both >= MIN_HITS * self.fires_per_sample) & ~spoken_of)
        single = Extensions(
            state,
            [(number,) for number in candidate.tolist()],
            both[state, candidate],
            holds[state, candidate],
            self.items[candidate],
        )
        together = self._together(state, candidate, single.both, single.holds)
        return Extensions(
            np.append(single.state, together.state),
            single.added + together.added,
            np.append(single.both, together.both),
            np.append(single.holds, together.holds),
            np.append(single.items, together.items),
        )

    def _together(self, state: np.ndarray, candidate: np.ndarray, both: np.ndarray, holds: np.ndarray) -> Extensions:
        """Find, for each state and kind, the values that are best together. Their joint count is computed as a sum,
        which is exact if a position has one value of the kind."""
        group = state * (self.shared.kind.max(initial=0) + 1) + self.shared.kind[candidate]
        most = self.most[candidate]
        # The values that are best alone, by F₁: twice as many as an atom may have.
        best_f1 = _first_of_groups(np.lexsort((-both / (self.n_fire + holds), group)), group, 2 * most)
        # Among these, the values with the highest precision.
        best_precision = best_f1[np.lexsort((-both[best_f1] / holds[best_f1], group[best_f1]))]
        kept = _first_of_groups(best_precision, group, most)
        group, candidate, state = group[kept], candidate[kept], state[kept]
        # The sums over the first value of a group, over the first two, and so on.
        number = _number_in_group(group)
        first = np.arange(len(kept)) - number
        both, holds = (
            np.cumsum(values[kept]) - np.append(0, np.cumsum(values[kept]))[first] for values in (both, holds)
        )
        items = self.items[candidate] * (number + 1)
        # The best number of values; a single one is already among the candidates.
        worth = 2 * both / (self.n_fire + holds) - self.price * items
        best = _first_of_groups(np.lexsort((-worth, group)), group, np.ones(len(kept)))
        best = best[number[best] > 0]
        added = [
            tuple(sorted(candidate[start : end + 1].tolist())) for start, end in zip(first[best], best, strict=True)
        ]
        return Extensions(state[best], added, both[best], holds[best], items[best])


def _first_of_groups(
    order: Int64[np.ndarray, " some"], group: Int64[np.ndarray, " entry"], most: np.ndarray
) -> Int64[np.ndarray, " fewer"]:
    """Keep the first `most` entries of each group. In `order`, the entries of a group follow one another."""
    return order[_number_in_group(group[order]) < most[order]]


def _number_in_group(group: np.ndarray) -> Int64[np.ndarray, " entry"]:
    """Number each entry within its group, from 0; the groups are sorted."""
    return np.arange(len(group)) - np.searchsorted(group, group)


def _best_distinct(score: np.ndarray, extensions: Extensions) -> list[int]:
    """Find the BEAM_WIDTH best extensions. Of several with equal counts only the first is kept, as they probably
    hold at the same rows."""
    chosen: dict[tuple[float, float], int] = {}
    for index in np.argsort(-score, kind="stable")[: 8 * BEAM_WIDTH].tolist():
        if len(chosen) < BEAM_WIDTH:
            chosen.setdefault((extensions.both[index], extensions.holds[index]), index)
    return list(chosen.values())


def _mark_covered(
    has: Float32[np.ndarray, "row predicate"], states: list[Conjunction]
) -> Float32[np.ndarray, "state row"]:
    """Mark with 1 the rows at which each state holds."""
    out = np.ones((len(states), len(has)), np.float32)
    for covered, state in zip(out, states, strict=True):
        for part in state:
            covered *= has[:, part[0]] if len(part) == 1 else has[:, list(part)].max(1)
    return out


def _sample_rows(
    background: Background, shared: CandidatePredicates, holds: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which predicates hold at the firings and at rows of the text, [row, predicate], and the weight of these
    rows."""
    n_rows = len(background.holds)
    best = np.argsort(-shared.f1, kind="stable")[:N_BEST]
    starts = background.offsets[shared.numbers[best]]
    sizes = background.offsets[shared.numbers[best] + 1] - starts
    drawn = np.minimum(sizes, ROWS_OF_BEST)
    rows_of_best = [
        background.rows[start + np.arange(n) * size // n]
        for start, size, n in zip(starts, sizes, drawn, strict=True)
        if n
    ]
    elsewhere = spread_rows(n_rows, ROWS_ELSEWHERE)
    rows = np.sort(np.concatenate([*rows_of_best, elsewhere]))  # read fastest in their order
    candidate_of = background.lookup(shared.numbers)
    holds_at_firings = _mark_candidates(holds, np.arange(len(holds)), candidate_of, len(shared.numbers))
    holds_in_text = _mark_candidates(background.holds, rows, candidate_of, len(shared.numbers))
    background.clear(shared.numbers)
    times_drawn = (drawn / np.maximum(sizes, 1)) @ holds_in_text[:, best].T + len(elsewhere) / max(n_rows, 1)
    weight = background.scale / times_drawn
    # In steps of a power of two, so that float32 holds any sum of them exactly, in whatever order.
    step = 2.0 ** np.ceil(np.log2(max(weight.sum(), 1) / (1 << 22)))
    return holds_at_firings, holds_in_text, (np.round(weight / step) * step).astype(np.float32)


def _atom(predicates: Predicates, shared: CandidatePredicates, rows: np.ndarray, alternatives: Alternatives) -> Atom:
    """Return the predicates as an atom, ordered by the number of firings at which they hold."""
    members = sorted(alternatives, key=lambda index: -shared.hits[index])
    numbers = shared.numbers[members].tolist()
    kind = predicates.kind_of(numbers[0])
    values = tuple(number - predicates.offsets[kind] for number in numbers)
    names = [
        predicates.name(number, rows[shared.example[index]]) for number, index in zip(numbers, members, strict=True)
    ]
    return Atom(kind, values, tuple(names))


@njit(cache=True, nogil=True)
def _rows_by_predicate(holds, n_predicates):
    """Return the offsets of each predicate's rows, and all rows, one predicate after the other."""
    offsets = np.zeros(n_predicates + 1, np.int64)
    for row in range(len(holds)):
        for number in holds[row]:
            if number >= 0:
                offsets[number + 1] += 1
    offsets = np.cumsum(offsets)
    rows = np.empty(offsets[-1], np.int32)
    end = offsets[:-1].copy()
    for row in range(len(holds)):
        for number in holds[row]:
            if number >= 0:
                rows[end[number]] = row
                end[number] += 1
    return offsets, rows


@njit(cache=True, nogil=True)
def _mark_candidates(holds, rows, candidate_of, n):
    """Mark which candidates hold at each row: 1 in [row, candidate]."""
    out = np.zeros((len(rows), n), np.float32)
    for i in range(len(rows)):
        for number in holds[rows[i]]:
            if number >= 0 and candidate_of[number] >= 0:
                out[i, candidate_of[number]] = 1
    return out
