"""Choose the predicates that the rules of one latent or sense may use, and read where they hold.

In: the predicates that hold at a sample of its firings, and a `Background`, which is a text. Out: `Candidates`, those
that predict firing best, and the `WeightedRows` at which they hold: at all of these firings, and at rows of the text.

The rows of the text are sampled most densely where it matters: ROWS_OF_BEST rows of each of the N_BEST best candidates,
and ROWS_ELSEWHERE of all rows. A row has the weight 1 / (its expected number of draws), so that every sum of weights is
an unbiased count (Horvitz & Thompson 1952).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt64
from numba import njit

from interp.statistics.bits import get_bit, set_bit
from interp.statistics.evenly_spread import spread_rows
from interp.statistics.sorting import largest_first
from interp.text.predicate_kinds import PREDICATE_KINDS, SUBJECT
from interp.text.predicates import Predicates
from interp.text.rules import most_values

N_BEST = 12
"""Candidates whose rows are sampled on their own."""
ROWS_OF_BEST = 96
"""Rows sampled for each of the N_BEST."""
ROWS_ELSEWHERE = 1 << 10
"""Rows sampled of the whole text."""
MIN_SHARE_OF_FIRINGS = 0.01
"""The least share of the sampled firings at which a candidate must hold."""
MIN_HITS = 2
"""The least number of sampled firings at which a candidate must hold."""
MIN_LIFT = 1.2
"""The least ratio of a candidate's frequency at firings to its frequency in the text."""
MAX_OF_SUBJECT = 32
"""Candidates of a kind that is about the token itself."""
MAX_OF_OTHERS = 12
"""Candidates of any other kind."""
MAX_CANDIDATES = 128
"""Candidates of all kinds together."""
_WEIGHT_STEPS = 1 << 22
"""Weights are rounded to steps, a power of two, so that any sum of them is exact, in whatever order."""


class Background(NamedTuple):
    """A text: the predicates that hold at some of its rows, the rows at which each predicate holds, and its kinds."""

    read_rows: Int64[np.ndarray, " row"]
    """These rows, ascending, as seq * n_ctx + pos."""
    holds: Int32[np.ndarray, "row slot"]
    rows: Int32[np.ndarray, " entry"]
    """The rows of predicate a are rows[offsets[a]:offsets[a + 1]], as indices into `holds`."""
    offsets: Int64[np.ndarray, " predicate_plus_1"]
    elsewhere: Int64[np.ndarray, " some"]
    """Rows that are spread evenly, as indices into `holds`."""
    scale: float
    """How many positions of the text each row stands for."""
    kind_offsets: Int64[np.ndarray, " kind_plus_1"]
    """The predicates of a kind are those from its offset to the next."""
    subject: Int64[np.ndarray, " kind"]
    """What it is about."""
    items: Float64[np.ndarray, " kind"]
    """Number of items that a predicate gives a reader to grasp."""
    most_values: Int64[np.ndarray, " kind"]
    """Largest number of values of an atom."""
    most_candidates: Int64[np.ndarray, " kind"]

    @classmethod
    def of(
        cls,
        predicates: Predicates,
        read_rows: Int64[np.ndarray, " row"],
        holds: Int32[np.ndarray, "row slot"],
        scale: float,
    ) -> "Background":
        """Invert what holds at some rows of a text, each of which stands for `scale` positions."""
        offsets, rows = _rows_by_predicate(holds, len(predicates.surprise))
        kinds = [PREDICATE_KINDS[name] for name in predicates.offsets]
        subjects = list(dict.fromkeys(kind.subject for kind in kinds))
        return cls(
            read_rows,
            holds,
            rows,
            offsets,
            elsewhere=spread_rows(len(holds), ROWS_ELSEWHERE),
            scale=float(scale),
            kind_offsets=np.array([*predicates.offsets.values(), len(predicates.surprise)]),
            subject=np.array([subjects.index(kind.subject) for kind in kinds]),
            items=np.array([kind.items for kind in kinds], float),
            most_values=np.array([most_values(name) for name in predicates.offsets]),
            most_candidates=np.array([MAX_OF_SUBJECT if kind.subject == SUBJECT else MAX_OF_OTHERS for kind in kinds]),
        )

    def at(self, predicates: Predicates, rows: Int64[np.ndarray, " row"]) -> Int32[np.ndarray, "row slot"]:
        """Return the predicates of rules that hold at each row. Rows that were read are not read again."""
        places = np.minimum(np.searchsorted(self.read_rows, rows), len(self.read_rows) - 1)
        is_read = self.read_rows[places] == rows
        holds = self.holds[places]
        if not is_read.all():
            holds[~is_read] = predicates.at(rows[~is_read], predicates.in_rules)
        return holds


class Candidates(NamedTuple):
    """The predicates that rules may use, ascending, so that those of a kind are next to one another."""

    numbers: Int64[np.ndarray, " candidate"]
    kind: Int64[np.ndarray, " candidate"]
    hits: Float64[np.ndarray, " candidate"]
    """Sampled firings at which each holds."""
    n_text: Float64[np.ndarray, " candidate"]
    """Positions of the text at which each holds."""
    f1: Float64[np.ndarray, " candidate"]


class WeightedRows(NamedTuple):
    """Some rows, and the candidates that hold at each."""

    weight: Float64[np.ndarray, " row"]
    """How many positions each stands for."""
    bits: UInt64[np.ndarray, "candidate word"]
    """The rows at which each candidate holds: row i is bit i % 64 of word i // 64."""
    offsets: Int64[np.ndarray, " row_plus_1"]
    """The candidates of row i are candidates[offsets[i]:offsets[i + 1]]."""
    candidates: Int64[np.ndarray, " entry"]


@njit(cache=True, nogil=True)
def choose_candidates(background, holds, firings, n_fire, scratch):
    """Return the candidates. Of each kind, those that predict firing best by F₁ come first.
    holds, firings: what holds at some rows, and the rows that are a sample of n_fire firings.
    scratch: a zero for each predicate, here and afterwards."""
    numbers = np.empty(len(firings) * holds.shape[1], np.int64)
    n_numbers = 0
    for firing in firings:
        for number in holds[firing]:
            if number >= 0:
                if scratch[number] == 0:
                    numbers[n_numbers] = number
                    n_numbers += 1
                scratch[number] += 1
    n_positions = len(background.holds) * background.scale
    least_hits = max(MIN_HITS, MIN_SHARE_OF_FIRINGS * len(firings))
    n_usable = 0
    for number in numbers[:n_numbers]:
        n_text = (background.offsets[number + 1] - background.offsets[number]) * background.scale
        is_telling = scratch[number] / len(firings) > MIN_LIFT * n_text / max(1.0, n_positions)
        if scratch[number] >= least_hits and is_telling:
            numbers[n_usable] = number
            n_usable += 1
        else:
            scratch[number] = 0
    usable = numbers[:n_usable]
    usable = usable[largest_first(-usable)]
    out = Candidates(usable, np.empty(n_usable, np.int64), np.empty(n_usable), np.empty(n_usable), np.empty(n_usable))
    kind = 0
    for candidate in range(n_usable):
        number = usable[candidate]
        while background.kind_offsets[kind + 1] <= number:
            kind += 1
        out.kind[candidate] = kind
        out.hits[candidate] = scratch[number]
        out.n_text[candidate] = (background.offsets[number + 1] - background.offsets[number]) * background.scale
        both = scratch[number] * n_fire / len(firings)
        out.f1[candidate] = 2 * both / (n_fire + max(out.n_text[candidate], both))
        scratch[number] = 0
    kept = _best_of_each_kind(out.kind, out.f1, background.most_candidates)
    return Candidates(usable[kept], out.kind[kept], out.hits[kept], out.n_text[kept], out.f1[kept])


@njit(cache=True, nogil=True)
def _best_of_each_kind(kind, f1, most):
    """Return, ascending, MAX_CANDIDATES of the candidates: those before which their kind has the smallest share of
    the `most` that it may have."""
    share = np.empty(len(kind))
    start = 0
    while start < len(kind):
        stop = start
        while stop < len(kind) and kind[stop] == kind[start]:
            stop += 1
        for better, candidate in enumerate(largest_first(f1[start:stop])):
            share[start + candidate] = better / most[kind[start]]
        start = stop
    kept = largest_first(-share)[:MAX_CANDIDATES]
    return kept[largest_first(-kept)]


@njit(cache=True, nogil=True)
def read_firings(candidates, holds, firings, scratch):
    """Return the candidates that hold at each firing, and all firings with weight 1.
    holds, firings, scratch: as in `choose_candidates`."""
    return _read_rows(candidates.numbers, holds, firings, scratch)


@njit(cache=True, nogil=True)
def sample_text(background, candidates, scratch):
    """Return the candidates that hold at a weighted sample of rows of the text. scratch: as in `choose_candidates`."""
    best = largest_first(candidates.f1)[:N_BEST]
    rows = np.empty(len(background.elsewhere) + len(best) * ROWS_OF_BEST, np.int64)
    n_rows = 0
    for row in background.elsewhere:
        rows[n_rows] = row
        n_rows += 1
    share_drawn = np.zeros(len(best))
    for number, candidate in enumerate(best):
        start = background.offsets[candidates.numbers[candidate]]
        size = background.offsets[candidates.numbers[candidate] + 1] - start
        drawn = min(size, ROWS_OF_BEST)
        share_drawn[number] = drawn / max(size, 1)
        for i in range(drawn):
            rows[n_rows + i] = background.rows[start + i * size // drawn]
        n_rows += drawn
    sample = _read_rows(candidates.numbers, background.holds, rows[:n_rows], scratch)
    total = 0.0
    for row in range(n_rows):
        times_drawn = len(background.elsewhere) / max(len(background.holds), 1)
        for number in range(len(best)):
            times_drawn += share_drawn[number] * get_bit(sample.bits[best[number]], row)
        sample.weight[row] = background.scale / times_drawn
        total += sample.weight[row]
    step = 2.0 ** np.ceil(np.log2(max(total, 1.0) / _WEIGHT_STEPS))
    for row in range(n_rows):
        sample.weight[row] = np.floor(sample.weight[row] / step + 0.5) * step
    return sample


@njit(cache=True, nogil=True)
def _read_rows(numbers, holds, rows, scratch):
    bits = np.zeros((len(numbers), (len(rows) + 63) // 64), np.uint64)
    offsets = np.zeros(len(rows) + 1, np.int64)
    found = np.empty(len(rows) * holds.shape[1], np.int64)
    end = 0
    for candidate in range(len(numbers)):
        scratch[numbers[candidate]] = candidate + 1
    for i in range(len(rows)):
        for number in holds[rows[i]]:
            if number >= 0 and scratch[number] > 0:
                found[end] = scratch[number] - 1
                set_bit(bits, found[end], i)
                end += 1
        offsets[i + 1] = end
    for number in numbers:
        scratch[number] = 0
    return WeightedRows(np.ones(len(rows)), bits, offsets, found[:end])


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
