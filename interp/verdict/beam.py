"""Beam search for the conjunction that adds most to a rule; `rows` are those of a `search.Universe`.

With the rows C that the rule covers already, and those X of a conjunction, the set of rows S = C ∪ X counts

    both(S) = firing_weight |S ∩ firings|,   holds(S) = Σ weights,   F_β(S) = (1 + β²) both / (β² n_fire + holds)

At each depth the best conjunctions by F₁ less a price for length, by F_½ and by F₂ go on, so that sure and wide ones
are not lost before another atom makes them good. The atoms are predicates, and sets of values of one kind that are
grown for what each conjunction leaves open: the values on whose rows a firing is surest come first, as long as F₁
rises; for F₁ that order is the best one.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int16, Int64, UInt64
from numba import njit, types
from numba.extending import intrinsic

from interp.verdict.rules import MAX_ATOMS, MAX_VALUES

WIDTH, GROWN_FOR = 5, 5
"""Conjunctions of each list that go on, and those of all for which sets are grown."""
CAPACITY = 512
"""Atoms: at most half of them predicates, the others sets."""
WEIGHT_STEP = 2.0**-20
"""Weights are counted in it, so that their sums are exact in any order, up to 2^33 rows."""
ITEM_PRICE, ATOM_PRICE, PART_PRICE = 0.003, 0.01, 0.02
"""One more item to read, a further atom, and a further part must add so much to F₁."""


class Atoms(NamedTuple):
    """The atoms of one search: the predicates, those of a kind side by side, then the sets."""

    bits: UInt64[np.ndarray, "atom word"]
    """The rows where each holds."""
    kind: Int64[np.ndarray, " atom"]
    subject: Int64[np.ndarray, " atom"]
    """The place of what each speaks of; a conjunction has one atom of each at most."""
    items: Float64[np.ndarray, " atom"]
    """Items that a reader has to take in (`text.kinds.Kind.items`)."""
    n_text: Float64[np.ndarray, " atom"]
    """Positions of the text where each holds."""
    members: Int16[np.ndarray, "atom value"]
    """The predicates of a set; −1 ends."""
    first_of_kind: Int64[np.ndarray, " kind_plus_1"]
    most: Int64[np.ndarray, " kind"]
    """Values that a set of the kind may have."""
    used: Int64[np.ndarray, " one"]
    """How many atoms there are."""


@intrinsic
def popcount(typingctx, word):
    """How many bits of a uint64 are set."""
    return types.uint64(types.uint64), lambda context, builder, signature, args: builder.ctpop(args[0])


@njit(cache=True, nogil=True)
def set_bit(bits, which, row):
    """Set the bit of a row in one of the lists of bits."""
    bits[which, row >> 6] |= np.uint64(1) << np.uint64(row & 63)


@njit(cache=True, nogil=True)
def cover(bits, members, within):
    """The rows `within` that are in each of the members' bits; −1 is none."""
    rows = within.copy()
    for member in members:
        if member >= 0:
            rows &= bits[member]
    return rows


@njit(cache=True, nogil=True)
def item_price(n_firings):
    """F₁ that an item must add: more where few firings are looked at, since one of them is 1 / n_firings."""
    return ITEM_PRICE + 1 / max(n_firings, 1)


@njit(cache=True, nogil=True)
def best_conjunctions(atoms, rows, covered, n_best):
    """The n_best conjunctions by F₁, then the n_best by F_½: places of atoms [2 n_best, MAX_ATOMS], −1 where there is
    none, and their F₁ less their price [2 n_best], −inf likewise."""
    states, members = np.empty((3 * WIDTH, len(rows.valid)), np.uint64), np.full((3 * WIDTH, MAX_ATOMS), -1, np.int64)
    states[0] = rows.valid
    n_states = 1
    best, best_members = np.full((2, n_best, 4), -np.inf), np.full((2, n_best, MAX_ATOMS), -1, np.int64)
    for depth in range(MAX_ATOMS):
        lists, list_members = np.full((3, WIDTH, 4), -np.inf), np.full((3, WIDTH, MAX_ATOMS), -1, np.int64)
        for state in range(n_states):
            is_grown = state < GROWN_FOR
            _expand(atoms, rows, states[state], members[state], depth, is_grown, covered, lists, list_members)
        for which in range(2):
            for entry in range(WIDTH):
                score, both, holds, f1 = lists[which, entry]
                _insert(best, best_members, which, (score, both, holds, f1), list_members[which, entry])
        n_states = _next_states(atoms, rows, lists, list_members, states, members)
    return best_members.reshape(2 * n_best, MAX_ATOMS), best.reshape(2 * n_best, 4)[:, 3]


@njit(cache=True, nogil=True)
def _expand(atoms, rows, state, members, depth, is_grown, covered, lists, list_members):
    """List each atom beside the members where it is good enough, and the sets that are grown for them.

    Counts are made in place: what is handed to a function costs more than counting the firings.
    """
    bits, subject, weights = atoms.bits, atoms.subject, rows.weights
    # Unsigned, so that a word may be found without asking whether its place is negative.
    of_text, elsewhere, end = np.uint64(rows.n_firing_words), np.uint64(rows.first_elsewhere), np.uint64(len(covered))
    left, spoken_of, per_item = state & ~covered, subject[members[:depth]], item_price(rows.n_sampled)
    n_covered, n = 0.0, np.uint64(0)
    for word in range(of_text):
        n_covered += np.float64(popcount(covered[word]))
    for word in range(of_text, end):
        n += weights[word] * popcount(covered[word])
    holds_covered = WEIGHT_STEP * np.float64(n)
    price_so_far = ATOM_PRICE * depth
    for other in members[:depth]:
        price_so_far += per_item * atoms.items[other]
    n_single = atoms.first_of_kind[-1]
    gain, holds = np.zeros((2, CAPACITY))
    for is_set in (False, True):
        first, last = (n_single, atoms.used[0]) if is_set else (0, n_single)
        for atom in range(first, last):
            is_spoken_of = False
            for place in range(depth):
                is_spoken_of |= spoken_of[place] == subject[atom]
            if is_spoken_of:
                continue
            n = np.uint64(0)
            for word in range(of_text):
                n += popcount(left[word] & bits[atom, word])
            gain[atom] = n
            if n < 2:
                continue
            price = price_so_far + per_item * atoms.items[atom]
            both = (n_covered + gain[atom]) * rows.firing_weight
            scores = _scores(both, max(holds_covered, both), price, rows.n_fire)
            is_listed = scores[0] >= lists[0, -1, 0] or scores[1] >= lists[1, -1, 0] or scores[2] >= lists[2, -1, 0]
            if not is_listed and (is_set or not is_grown):
                continue  # even if it held nowhere else
            if depth == 0 and n_covered == 0:
                holds[atom] = atoms.n_text[atom]
            else:
                n, n_elsewhere = np.uint64(0), np.uint64(0)
                for word in range(of_text, elsewhere):
                    n += weights[word] * popcount(left[word] & bits[atom, word])
                for word in range(elsewhere, end):
                    n_elsewhere += popcount(left[word] & bits[atom, word])
                holds[atom] = WEIGHT_STEP * np.float64(n + weights[-1] * n_elsewhere)
            total = max(holds_covered + holds[atom], both)
            scores = _scores(both, total, price, rows.n_fire)
            for which in range(3):
                if scores[which] >= lists[which, -1, 0]:
                    members[depth] = atom
                    _insert(lists, list_members, which, (scores[which], both, total, scores[0]), members)
                    members[depth] = -1
        if is_grown and not is_set:
            _grow(atoms, rows, gain, holds, n_covered * rows.firing_weight, holds_covered)


@njit(cache=True, nogil=True)
def _scores(both, holds, price, n_fire):
    """F₁, F_½ and F₂ less a price: by what each list is sorted."""
    return (
        2 * both / (n_fire + holds) - price,
        1.25 * both / (0.25 * n_fire + holds) - 0.1 * price,
        5 * both / (4 * n_fire + holds) - 0.1 * price,
    )


@njit(cache=True, nogil=True)
def _insert(lists, list_members, which, entry, members):
    """Keep a list sorted, and of those that count the same (both, holds) the best one."""
    place = lists.shape[1] - 1
    for other in range(lists.shape[1]):
        if lists[which, other, 1] == entry[1] and lists[which, other, 2] == entry[2]:
            place = other
            break
    if entry[0] <= lists[which, place, 0]:
        return
    while place > 0 and lists[which, place - 1, 0] < entry[0]:
        for column in range(len(entry)):
            lists[which, place, column] = lists[which, place - 1, column]
        for column in range(len(members)):
            list_members[which, place, column] = list_members[which, place - 1, column]
        place -= 1
    for column in range(len(entry)):
        lists[which, place, column] = entry[column]
    for column in range(len(members)):
        list_members[which, place, column] = members[column]


@njit(cache=True, nogil=True)
def _next_states(atoms, rows, lists, list_members, states, members):
    """Make the lists' conjunctions the states, each once, the best of each list first."""
    n = 0
    for entry in range(WIDTH):
        for which in range(3):
            candidate, is_known = list_members[which, entry], lists[which, entry, 0] == -np.inf
            for other in range(n):
                is_known = is_known or np.all(members[other] == candidate)
            if not is_known:
                members[n] = candidate
                states[n] = cover(atoms.bits, candidate, rows.valid)
                n += 1
    return n


@njit(cache=True, nogil=True)
def _grow(atoms, rows, gain, holds, both_covered, holds_covered):
    """Add the set of each kind's values with the best F₁, the surest first; both, holds: of what is covered already.

    What the values hold together is taken to be the sum, as it is where a position has one value of the kind.
    """
    alone, sure = np.empty((2, CAPACITY))
    usable, per_item = np.empty(CAPACITY, np.int64), item_price(rows.n_sampled)
    for kind in range(len(atoms.most)):
        first, most, n = atoms.first_of_kind[kind], atoms.most[kind], 0
        for atom in range(first, atoms.first_of_kind[kind + 1]):
            if gain[atom] >= 2:
                weighted = gain[atom] * rows.firing_weight
                holds[atom] = max(holds[atom], weighted)
                alone[atom] = (both_covered + weighted) / (rows.n_fire + holds_covered + holds[atom])
                sure[atom] = weighted / holds[atom]
                usable[n] = atom
                n += 1
        if n < 2:
            continue
        _sort(usable, n, alone)
        n = min(n, 2 * most)
        _sort(usable, n, sure)
        both, total, best, size = both_covered, holds_covered, -np.inf, 0
        for place in range(min(n, most)):
            both += gain[usable[place]] * rows.firing_weight
            total += holds[usable[place]]
            score = 2 * both / (rows.n_fire + total) - per_item * atoms.items[first] * (place + 1)
            if score > best:
                best, size = score, place + 1
        if size > 1:
            _add_set(atoms, kind, np.sort(usable[:size]))


@njit(cache=True, nogil=True)
def _sort(places, n, value):
    """Sort the first n places by value, the largest first, equal ones as they were."""
    for i in range(1, n):
        place, to = places[i], i
        while to > 0 and value[places[to - 1]] < value[place]:
            places[to] = places[to - 1]
            to -= 1
        places[to] = place


@njit(cache=True, nogil=True)
def _add_set(atoms, kind, members):
    """Unless it is there already, or there is no room."""
    n, size = atoms.used[0], len(members)
    for other in range(atoms.first_of_kind[-1], n):
        same = atoms.kind[other] == kind and (size == MAX_VALUES or atoms.members[other, size] < 0)
        for place in range(size):
            same = same and atoms.members[other, place] == members[place]
        if same:
            return
    if n == CAPACITY:
        return
    for place, member in enumerate(members):
        atoms.members[n, place] = member
        atoms.bits[n] |= atoms.bits[member]
        atoms.n_text[n] += atoms.n_text[member]
    first = members[0]
    atoms.kind[n], atoms.subject[n], atoms.items[n] = kind, atoms.subject[first], size * atoms.items[first]
    atoms.used[0] = n + 1
