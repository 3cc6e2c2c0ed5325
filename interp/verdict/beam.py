"""Beam search for the conjunction that adds most to a rule; `rows` are those of a `background.Universe`.

With the rows C that the rule covers already, and those X of a conjunction, the set of rows S = C ∪ X counts

    both(S) = firing_weight |S ∩ firings|,   holds(S) = Σ weights,   F_β(S) = (1 + β²) both / (β² n_fire + holds)

At each depth the best conjunctions by F₁ less a price for length, by F_½ and by F₂ go on, so that sure and wide ones
are not lost before another atom makes them good. Token sets are grown for what each of them leaves open: the tokens
on whose rows a firing is surest come first, as long as F₁ rises; for F₁ that order is the best one.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int16, Int64, UInt64
from numba import njit

from interp.verdict.holding import cover, mark, popcount
from interp.verdict.predicates import MAX_ATOMS, MAX_CONTEXT_TOKENS, MAX_TOKENS

WIDTH = 6
"""Conjunctions of each kind that go on."""
GROWN_FOR = 6
CAPACITY = 320
ITEM_PRICE, ATOM_PRICE, PART_PRICE = 0.003, 0.01, 0.02
"""What one more item to read, a further atom, and a further part must add to F₁."""


class Atoms(NamedTuple):
    """The atoms of one latent's search; room is left for the sets that are grown."""

    bits: UInt64[np.ndarray, "atom word"]
    slots: Int64[np.ndarray, " atom"]
    costs: Float64[np.ndarray, " atom"]
    """Items to read."""
    sets: Int16[np.ndarray, "atom item"]
    """Of grown sets: local ids of tokens; −1 ends."""
    local: Int16[np.ndarray, "slot row"]
    """Local ids (places among the firings' distinct tokens in that slot) of x_t, x_{t−1}, x_{t−2}; −1 for others."""
    known: UInt64[np.ndarray, "slot word"]
    """The rows that have one."""
    order: Int64[np.ndarray, "slot row"]
    """The rows by local id."""
    first: Int64[np.ndarray, "slot id_plus_1"]
    """Where each id begins in `order`."""
    n_local: Int64[np.ndarray, " slot"]
    used: Int64[np.ndarray, " one"]
    """How many atoms there are."""


@njit(cache=True, nogil=True)
def item_price(n_fire):
    """F₁ that an item must add: more where few firings are, since one of them is 1 / n_fire."""
    return ITEM_PRICE + 1 / max(n_fire, 1)


@njit(cache=True, nogil=True)
def search(atoms, rows, covered, n_best):
    """The n_best conjunctions by F₁, then the n_best by F_½: places of atoms [2 n_best, MAX_ATOMS], −1 where there is
    none, and their F₁ less their price [2 n_best], −inf likewise."""
    base = measure(covered, covered, covered, rows)
    states, members = np.empty((3 * WIDTH, len(rows.valid)), np.uint64), np.full((3 * WIDTH, MAX_ATOMS), -1, np.int64)
    states[0] = rows.valid
    n_states = 1
    best, best_members = np.full((2, n_best, 4), -np.inf), np.full((2, n_best, MAX_ATOMS), -1, np.int64)
    for depth in range(MAX_ATOMS):
        for state in range(min(n_states, GROWN_FOR)):
            for slot in range(len(atoms.n_local)):
                if atoms.n_local[slot] > 0 and not _speaks_of(slot, members[state], atoms):
                    _grow(atoms, rows, slot, states[state], covered, base, depth == 0)
        lists, list_members = np.full((3, WIDTH, 4), -np.inf), np.full((3, WIDTH, MAX_ATOMS), -1, np.int64)
        for state in range(n_states):
            _expand(atoms, rows, states[state], members[state], depth, covered, lists, list_members)
        for kind in range(2):
            for entry in range(WIDTH):
                _insert(best[kind], best_members[kind], lists[kind, entry], list_members[kind, entry])
        n_states = _next_states(atoms, rows, lists, list_members, states, members)
    return best_members.reshape(2 * n_best, MAX_ATOMS), best.reshape(2 * n_best, 4)[:, 3]


@njit(cache=True, nogil=True)
def measure(state, atom, covered, rows):
    """both and holds of (state ∩ atom) ∪ covered."""
    found = (state & atom) | covered
    both = np.float64(_n_firings(found, found, rows)) * rows.firing_weight
    return both, max(_n_positions(found, found, rows), both)


@njit(cache=True, nogil=True)
def _n_firings(state, atom, rows):
    n = np.uint64(0)
    for word in range(rows.n_firing_words):
        n += popcount(state[word] & atom[word])
    return n


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _n_positions(state, atom, rows):
    """The weights are such that their sums are exact, in any order (`background.WEIGHT_STEP`)."""
    n = 0.0
    for word in range(rows.n_firing_words, len(rows.weights)):
        n += rows.weights[word] * np.float64(popcount(state[word] & atom[word]))
    return n


@njit(cache=True, nogil=True)
def _speaks_of(slot, members, atoms):
    for atom in members:
        if atom >= 0 and atoms.slots[atom] == slot:
            return True
    return False


@njit(cache=True, nogil=True)
def _expand(atoms, rows, state, members, depth, covered, lists, list_members):
    """Each atom beside the members, where it may be good enough to be listed."""
    left, n_covered = state & ~covered, _n_firings(covered, covered, rows)
    holds_covered, scores = _n_positions(covered, covered, rows), np.empty(3)
    for atom in range(atoms.used[0]):
        if _speaks_of(atoms.slots[atom], members, atoms):
            continue
        bits = atoms.bits[atom]
        gain = _n_firings(left, bits, rows)
        if gain < 2:
            continue
        cost = atoms.costs[atom]
        for other in members[:depth]:
            cost += atoms.costs[other]
        price = item_price(rows.n_fire) * cost + ATOM_PRICE * depth
        both = np.float64(n_covered + gain) * rows.firing_weight
        if not _is_listed(both, max(holds_covered, both), price, rows, lists, scores):
            continue  # even if it held nowhere else
        holds = max(holds_covered + _n_positions(left, bits, rows), both)
        if not _is_listed(both, holds, price, rows, lists, scores):
            continue
        own = members.copy()
        own[depth] = atom
        for kind in range(3):
            if scores[kind] >= lists[kind, -1, 0]:
                _insert(lists[kind], list_members[kind], np.array([scores[kind], both, holds, scores[0]]), own)


@njit(cache=True, nogil=True)
def _is_listed(both, holds, price, rows, lists, scores):
    """Whether a conjunction gets into a list; `scores` becomes by what each sorts it."""
    scores[0] = 2 * both / (rows.n_fire + holds) - price
    scores[1] = 1.25 * both / (0.25 * rows.n_fire + holds) - 0.1 * price
    scores[2] = 5 * both / (4 * rows.n_fire + holds) - 0.1 * price
    return scores[0] >= lists[0, -1, 0] or scores[1] >= lists[1, -1, 0] or scores[2] >= lists[2, -1, 0]


@njit(cache=True, nogil=True)
def _insert(entries, entry_members, entry, members):
    """Keep the list sorted, and of those that count the same (both, holds) the best one."""
    last = len(entries) - 1
    for place in range(len(entries)):
        if entries[place, 1] == entry[1] and entries[place, 2] == entry[2]:
            last = place
            break
    if entry[0] <= entries[last, 0]:
        return
    place = last
    while place > 0 and entries[place - 1, 0] < entry[0]:
        entries[place], entry_members[place] = entries[place - 1], entry_members[place - 1]
        place -= 1
    entries[place], entry_members[place] = entry, members


@njit(cache=True, nogil=True)
def _next_states(atoms, rows, lists, list_members, states, members):
    """The lists' conjunctions, each once, the best of each list first."""
    n = 0
    for entry in range(WIDTH):
        for kind in range(3):
            own, known = list_members[kind, entry], lists[kind, entry, 0] == -np.inf
            for other in range(n):
                known = known or np.all(members[other] == own)
            if not known:
                members[n] = own
                states[n] = cover(atoms.bits, own, rows.valid)
                n += 1
    return n


@njit(cache=True, nogil=True)
def _histogram(local, known, left, rows, n_local):
    """Weighted firings and positions of each token on the rows that are left."""
    hits, positions = np.zeros(n_local), np.zeros(n_local)
    for word in range(len(known)):
        found = left[word] & known[word]
        while found:
            token = local[64 * word + np.int64(popcount((found & -found) - np.uint64(1)))]  # of the lowest set bit
            found &= found - np.uint64(1)
            if word < rows.n_firing_words:
                hits[token] += 1
            else:
                positions[token] += rows.weights[word]
    return hits, np.maximum(positions, hits * rows.firing_weight)


@njit(cache=True, nogil=True)
def _grow(atoms, rows, slot, state, covered, base, is_root):
    """Add the set with the best F₁, surest tokens first; at the root also the commonest ones, alone and together."""
    left = state & ~covered
    hits, positions = _histogram(atoms.local[slot], atoms.known[slot], left, rows, atoms.n_local[slot])
    size_limit = MAX_CONTEXT_TOKENS if slot else MAX_TOKENS
    usable = np.flatnonzero(hits >= max(1.0, min(2.0, hits.max())))
    if len(usable) == 0:
        return
    both, holds = base[0] + hits[usable] * rows.firing_weight, base[1] + positions[usable]
    usable = usable[np.argsort(-both / (rows.n_fire + holds), kind="mergesort")]
    if is_root:
        for token in usable[:4]:
            _add(atoms, rows, slot, np.array([token]))
        _add(atoms, rows, slot, usable[np.argsort(-hits[usable], kind="mergesort")][:size_limit])
    usable = usable[: 2 * size_limit]
    order = usable[np.argsort(-hits[usable] / positions[usable], kind="mergesort")][:size_limit]
    best, size, both_so_far, holds_so_far = -np.inf, 1, base[0], base[1]
    for n in range(len(order)):
        both_so_far += hits[order[n]] * rows.firing_weight
        holds_so_far += positions[order[n]]
        score = 2 * both_so_far / (rows.n_fire + holds_so_far) - item_price(rows.n_fire) * (n + 1)
        if score > best:
            best, size = score, n + 1
    _add(atoms, rows, slot, order[:size])
    _add(atoms, rows, slot, usable[:1])


@njit(cache=True, nogil=True)
def _add(atoms, rows, slot, tokens):
    """The set as a further atom, unless it is there already or no room is left."""
    n = atoms.used[0]
    if n == len(atoms.slots):
        return
    tokens = np.sort(tokens)
    for atom in range(n):
        if atoms.slots[atom] == slot and atoms.costs[atom] == len(tokens):
            if np.all(atoms.sets[atom, : len(tokens)] == tokens):
                return
    atoms.sets[n, : len(tokens)] = tokens
    atoms.slots[n], atoms.costs[n], atoms.used[0] = slot, len(tokens), n + 1
    for token in tokens:
        mark(atoms.order[slot, atoms.first[slot, token] : atoms.first[slot, token + 1]], atoms.bits[n])
