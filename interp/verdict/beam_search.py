"""Search among predicates for conjunctions that predict firing, with a beam.

In: the predicates that may be used, and the rows at which they hold: all sampled firings, and a weighted sample of the
text (`candidates`). Out: the best conjunctions, as an array.

A conjunction has up to MAX_ATOMS atoms, and an atom up to MAX_VALUES candidates of one kind, any of which may hold. In
an array [atom, value] of indices of candidates, −1 stands for none; the atoms are ascending, and so are the values of
each. A conjunction that holds at `both` of n_fire firings and at `holds` positions of the text is ranked by

    F_β = (1 + β²) both / (β² n_fire + holds)     β = 1, ½, 2, each less a price for length

so that both precise and wide conjunctions survive until another atom improves them.

Everything is compiled and releases the interpreter's lock, so latents are searched in parallel. Cost: half a
millisecond per latent. Memory: a bit for each candidate and row.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64
from numba import njit

from interp.statistics.bits import lowest_bit
from interp.statistics.sorting import largest_first
from interp.text.rules import MAX_ATOMS, MAX_VALUES
from interp.verdict.candidates import MIN_HITS

BEAM_WIDTH = 5
"""Conjunctions that the beam keeps by each F_β."""
N_KEPT = 10
"""Conjunctions that are returned, the best by F₁ less the price."""
ATOM_PRICE = 0.01
"""The least increase of F₁ for a further atom."""
BETA_SQUARED = (1.0, 0.25, 4.0)
PRICE_WEIGHTS = (1.0, 0.1, 0.1)
"""The weight of the price of length in the ranking by each F_β."""
_TRIED_OF_EQUAL = 8 * BEAM_WIDTH
"""How many of the best extensions are tried until BEAM_WIDTH with different counts are found."""


class _Extensions(NamedTuple):
    """Conjunctions that the beam may take next: each extends one of its states by an atom."""

    state: Int64[np.ndarray, " some"]
    added: Int64[np.ndarray, f"some {MAX_VALUES}"]
    hits: Float64[np.ndarray, " some"]
    """Sampled firings at which they hold."""
    holds: Float64[np.ndarray, " some"]
    score: Float64[np.ndarray, "some beta"]


@njit(cache=True, nogil=True)
def best_conjunctions(background, candidates, firings, text, n_fire, item_price):
    """Return conjunctions [conjunction, atom, value], and the indices of the best.
    n_fire: the number of all firings, of which `firings` are a sample.
    item_price: the least increase of F₁ for a further item to read."""
    size = 1 + MAX_ATOMS * len(BETA_SQUARED) * BEAM_WIDTH
    found = np.full((size, MAX_ATOMS, MAX_VALUES), -1)
    scores = np.empty((size, len(BETA_SQUARED)))
    first, end = 0, 1  # the states are found[first:end]; to begin with, the empty conjunction
    for _depth in range(MAX_ATOMS):
        n_found = end
        extensions = _extend(found[first:end], background, candidates, firings, text, n_fire, item_price)
        for beta in range(len(BETA_SQUARED)):
            for index in _best_distinct(beta, extensions):
                _join(found[first + extensions.state[index]], extensions.added[index], found[n_found])
                for each in range(len(BETA_SQUARED)):
                    scores[n_found, each] = extensions.score[index, each]
                if not _is_among(found[end:n_found], found[n_found]):
                    n_found += 1
        first, end = end, n_found
    return found, 1 + largest_first(scores[1:end, 0])[:N_KEPT]


@njit(cache=True, nogil=True)
def _extend(states, background, candidates, firings, text, n_fire, item_price):
    """Extend each state by one more predicate, or by several of one kind."""
    n = len(candidates.numbers)
    size = 2 * len(states) * n
    out = _Extensions(
        np.empty(size, np.int64),
        np.full((size, MAX_VALUES), -1),
        np.empty(size),
        np.empty(size),
        np.empty((size, len(BETA_SQUARED))),
    )
    n_out = 0
    fires_per_hit = n_fire / len(firings.weight)
    for number in range(len(states)):
        state = states[number]
        hits, holds, usable = _counts_with_state(state, background, candidates, firings, text, fires_per_hit)
        price_of_state = 0.0
        for atom in state:
            if atom[0] >= 0:
                price_of_state += ATOM_PRICE
            for candidate in atom:
                if candidate >= 0:
                    price_of_state += item_price * background.items[candidates.kind[candidate]]
        start = 0
        while start < n:
            kind = candidates.kind[start]
            price = item_price * background.items[kind]
            of_kind = np.empty(n, np.int64)
            n_of_kind = 0
            while start < n and candidates.kind[start] == kind:
                if usable[start]:
                    of_kind[n_of_kind] = start
                    n_of_kind += 1
                    _write_extension(out, n_out, number, of_kind[n_of_kind - 1 : n_of_kind], hits, holds)
                    _write_scores(out, n_out, n_fire, fires_per_hit, price_of_state + price)
                    n_out += 1
                start += 1
            together = _best_together(
                of_kind[:n_of_kind], hits * fires_per_hit, holds, background.most_values[kind], n_fire, price
            )
            if len(together) > 1:
                _write_extension(out, n_out, number, together, hits, holds)
                _write_scores(out, n_out, n_fire, fires_per_hit, price_of_state + price * len(together))
                n_out += 1
    return _Extensions(out.state[:n_out], out.added[:n_out], out.hits[:n_out], out.holds[:n_out], out.score[:n_out])


@njit(cache=True, nogil=True)
def _counts_with_state(state, background, candidates, firings, text, fires_per_hit):
    """Count for each candidate at how many sampled firings the state and the candidate hold, and estimate at how many
    positions of the text. Also returns whether it may extend the state."""
    n = len(candidates.numbers)
    if state[0, 0] < 0:
        hits, holds = candidates.hits.copy(), candidates.n_text.copy()
    else:
        hits, holds = _counts_within(firings, state), _counts_within(text, state)
    usable = np.empty(n, np.bool_)
    for candidate in range(n):
        usable[candidate] = hits[candidate] >= MIN_HITS
        for atom in state:
            if atom[0] >= 0:
                subject = background.subject[candidates.kind[atom[0]]]
                usable[candidate] &= subject != background.subject[candidates.kind[candidate]]
        holds[candidate] = max(holds[candidate], hits[candidate] * fires_per_hit)
    return hits, holds, usable


@njit(cache=True, nogil=True)
def _counts_within(rows, state):
    """Return the weight of the rows at which the state and each candidate hold."""
    counts = np.zeros(len(rows.bits))
    for word in range(rows.bits.shape[1]):
        covered = ~np.uint64(0)
        for atom in state:
            if atom[0] >= 0:
                any_value = np.uint64(0)
                for candidate in atom:
                    if candidate >= 0:
                        any_value |= rows.bits[candidate, word]
                covered &= any_value
        while covered:
            row = 64 * word + np.int64(lowest_bit(covered))
            for entry in range(rows.offsets[row], rows.offsets[row + 1]):
                counts[rows.candidates[entry]] += rows.weight[row]
            covered &= covered - np.uint64(1)
    return counts


@njit(cache=True, nogil=True)
def _best_together(of_kind, both, holds, most, n_fire, price):
    """Return the values of one kind that are best together, ascending: in order of precision, as long as F₁ less their
    price rises. Their joint count is computed as a sum, which is exact if a position has one value of the kind.
    most: the largest number of values."""
    score = np.empty(len(of_kind))
    for i in range(len(of_kind)):
        score[i] = both[of_kind[i]] / (n_fire + holds[of_kind[i]])
    best = of_kind[largest_first(score)[: 2 * most]]  # by F₁ alone, twice as many as an atom may have
    for i in range(len(best)):
        score[i] = both[best[i]] / holds[best[i]]
    best = best[largest_first(score[: len(best)])[:most]]
    n_best = 0
    worth = total_both = total_holds = 0.0
    for i in range(len(best)):
        total_both += both[best[i]]
        total_holds += holds[best[i]]
        worth_with = 2 * total_both / (n_fire + total_holds) - price * (i + 1)
        if i == 0 or worth_with > worth:
            worth = worth_with
            n_best = i + 1
    best = best[:n_best]
    return best[largest_first(-best)]


@njit(cache=True, nogil=True)
def _write_extension(out, index, state, added, hits, holds):
    out.state[index] = state
    out.hits[index] = out.holds[index] = 0
    for i in range(len(added)):
        out.added[index, i] = added[i]
        out.hits[index] += hits[added[i]]
        out.holds[index] += holds[added[i]]


@njit(cache=True, nogil=True)
def _write_scores(out, index, n_fire, fires_per_hit, price):
    for beta, squared in enumerate(BETA_SQUARED):
        score = (1 + squared) * fires_per_hit * out.hits[index] / (squared * n_fire + out.holds[index])
        out.score[index, beta] = score - PRICE_WEIGHTS[beta] * price


@njit(cache=True, nogil=True)
def _best_distinct(beta, extensions):
    """Find the BEAM_WIDTH best extensions by one F_β. Of several with equal counts only the first is kept, as they
    probably hold at the same rows."""
    chosen = np.empty(BEAM_WIDTH, np.int64)
    n_chosen = 0
    n = len(extensions.state)
    is_left = np.ones(n, np.bool_)
    for _ in range(min(n, _TRIED_OF_EQUAL)):
        best = -1
        for index in range(n):
            if is_left[index] and (best < 0 or extensions.score[index, beta] > extensions.score[best, beta]):
                best = index
        is_left[best] = False
        is_new = True
        for other in chosen[:n_chosen]:
            has_same_counts = (
                extensions.hits[other] == extensions.hits[best] and extensions.holds[other] == extensions.holds[best]
            )
            is_new &= not has_same_counts
        if is_new:
            chosen[n_chosen] = best
            n_chosen += 1
        if n_chosen == BEAM_WIDTH:
            break
    return chosen[:n_chosen]


@njit(cache=True, nogil=True)
def _join(state, added, out):
    """Write a state with one more atom, in ascending order."""
    place = 0
    while place < MAX_ATOMS and 0 <= state[place, 0] < added[0]:
        place += 1
    for atom in range(MAX_ATOMS):
        for value in range(MAX_VALUES):
            if atom == place:
                out[atom, value] = added[value]
            else:
                out[atom, value] = state[atom - (atom > place), value]


@njit(cache=True, nogil=True)
def _is_among(conjunctions, conjunction):
    for other in conjunctions:
        is_same = True
        for atom in range(MAX_ATOMS):
            for value in range(MAX_VALUES):
                is_same &= other[atom, value] == conjunction[atom, value]
        if is_same:
            return True
    return False
