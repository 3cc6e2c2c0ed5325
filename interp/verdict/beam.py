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
def mark(bits, row):
    """Set the bit of a row."""
    bits[row >> 6] |= np.uint64(1) << np.uint64(row & 63)


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
                _insert(best[which], best_members[which], lists[which, entry], list_members[which, entry])
        n_states = _next_states(atoms, rows, lists, list_members, states, members)
    return best_members.reshape(2 * n_best, MAX_ATOMS), best.reshape(2 * n_best, 4)[:, 3]


@njit(cache=True, nogil=True)
def _n_firings(a, b, rows):
    n = np.uint64(0)
    for word in range(rows.n_firing_words):
        n += popcount(a[word] & b[word])
    return np.float64(n)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _n_positions(a, b, rows):
    """The weights are such that their sums are exact, in any order (`search.WEIGHT_STEP`)."""
    n = 0.0
    for word in range(rows.n_firing_words, len(rows.weights)):
        n += rows.weights[word] * np.float64(popcount(a[word] & b[word]))
    return n


@njit(cache=True, nogil=True)
def _speaks_of(subject, members, atoms):
    for atom in members:
        if atom >= 0 and atoms.subject[atom] == subject:
            return True
    return False


@njit(cache=True, nogil=True)
def _expand(atoms, rows, state, members, depth, is_grown, covered, lists, list_members):
    """List each atom beside the members where it is good enough, and the sets that are grown for them."""
    left, scores = state & ~covered, np.empty(3)
    n_covered, holds_covered = _n_firings(covered, covered, rows), _n_positions(covered, covered, rows)
    price_so_far = ATOM_PRICE * depth
    for other in members[:depth]:
        price_so_far += item_price(rows.n_sampled) * atoms.items[other]
    n_kinds = len(atoms.most)
    n_single = atoms.first_of_kind[n_kinds]
    gain, holds = np.zeros(CAPACITY), np.zeros(CAPACITY)
    for kind in range(n_kinds + 1):
        # The predicates of each kind and the set that is grown of them; last, the sets that were grown before.
        first, last = (atoms.first_of_kind[kind], atoms.first_of_kind[kind + 1]) if kind < n_kinds else (n_single, 0)
        n_before = atoms.used[0]
        if kind == n_kinds:
            last = n_before
        if first == last or (kind < n_kinds and _speaks_of(atoms.subject[first], members, atoms)):
            continue
        for atom in range(first, last):
            if kind == n_kinds and _speaks_of(atoms.subject[atom], members, atoms):
                continue
            gain[atom] = _n_firings(left, atoms.bits[atom], rows)
            if gain[atom] < 2:
                continue
            price = price_so_far + item_price(rows.n_sampled) * atoms.items[atom]
            both = (n_covered + gain[atom]) * rows.firing_weight
            grows = is_grown and kind < n_kinds and atoms.most[kind] > 1
            if not grows and not _is_listed(both, max(holds_covered, both), price, rows, lists, scores):
                continue  # even if it held nowhere else
            is_known = depth == 0 and n_covered == 0
            holds[atom] = atoms.n_text[atom] if is_known else _n_positions(left, atoms.bits[atom], rows)
            total = max(holds_covered + holds[atom], both)
            if _is_listed(both, total, price, rows, lists, scores):
                _list(atom, members, depth, both, total, scores, lists, list_members)
        if is_grown and kind < n_kinds and atoms.most[kind] > 1:
            _grow(atoms, rows, kind, gain, holds, n_covered * rows.firing_weight, holds_covered)


@njit(cache=True, nogil=True)
def _list(atom, members, depth, both, holds, scores, lists, list_members):
    longer = members.copy()
    longer[depth] = atom
    for which in range(3):
        if scores[which] >= lists[which, -1, 0]:
            entry = np.array([scores[which], both, holds, scores[0]])
            _insert(lists[which], list_members[which], entry, longer)


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
def _grow(atoms, rows, kind, gain, holds, both, total):
    """Add the set of a kind's values with the best F₁, the surest first; both, total: of what is covered already.

    What the values hold together is taken to be the sum, as it is where a position has one value of the kind.
    """
    first, last = atoms.first_of_kind[kind], atoms.first_of_kind[kind + 1]
    usable = first + np.flatnonzero(gain[first:last] >= 2)
    if len(usable) < 2:
        return
    weighted = gain[usable] * rows.firing_weight
    positions = np.maximum(holds[usable], weighted)
    alone = np.argsort(-(both + weighted) / (rows.n_fire + total + positions), kind="mergesort")[: 2 * atoms.most[kind]]
    order = alone[np.argsort(-weighted[alone] / positions[alone], kind="mergesort")][: atoms.most[kind]]
    best, size = -np.inf, 1
    for n in range(len(order)):
        both += weighted[order[n]]
        total += positions[order[n]]
        score = 2 * both / (rows.n_fire + total) - item_price(rows.n_sampled) * atoms.items[first] * (n + 1)
        if score > best:
            best, size = score, n + 1
    n = atoms.used[0]
    if size < 2 or n == CAPACITY:
        return
    members = np.sort(usable[order[:size]])
    for other in range(atoms.first_of_kind[-1], n):
        if atoms.members[other, size - 1] >= 0 and np.all(atoms.members[other, :size] == members):
            if size == MAX_VALUES or atoms.members[other, size] < 0:
                return
    for place in range(size):
        atoms.members[n, place] = members[place]
        atoms.bits[n] |= atoms.bits[members[place]]
        atoms.n_text[n] += atoms.n_text[members[place]]
    atoms.kind[n], atoms.subject[n], atoms.items[n] = kind, atoms.subject[first], size * atoms.items[first]
    atoms.used[0] = n + 1
