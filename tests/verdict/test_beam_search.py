"""The compiled search for conjunctions against one by sets and dictionaries, on random predicates."""

from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest

from interp.text.predicate_kinds import PREDICATE_KINDS, SUBJECT
from interp.text.rules import MAX_ATOMS, most_values
from interp.verdict import candidates as limits
from interp.verdict.beam_search import ATOM_PRICE, BEAM_WIDTH, BETA_SQUARED, N_KEPT, PRICE_WEIGHTS, best_conjunctions
from interp.verdict.candidates import Background, choose_candidates, read_firings, sample_text

SIZES = {"token": 40, "shape": 6, "previous": 40, "next": 12, "repeats": 3}
"""Values of some kinds; the first two are about the same subject."""
KIND_OF = np.repeat(list(SIZES), list(SIZES.values())).tolist()
ITEM_PRICE = 0.01
N_ROWS, SCALE = 3000, 2.0


def world(seed):
    """Return what holds at each row of a text, and the rows where a latent fires: mostly at three tokens after some
    others, if they repeat some."""
    rng = np.random.default_rng(seed)
    values = np.stack([np.minimum(rng.zipf(1.4, N_ROWS) - 1, size - 1) for size in SIZES.values()], 1)
    values[:, 1] = np.where(rng.random(N_ROWS) < 0.9, values[:, 0] % 6, values[:, 1])
    holds = (values + np.cumsum([0, *SIZES.values()])[:-1]).astype(np.int32)
    holds[rng.random(holds.shape) < 0.1] = -1
    fires = np.isin(values[:, 0], (0, 1, 4)) & (values[:, 2] < 3) & (values[:, 4] < 2) & (rng.random(N_ROWS) < 0.8)
    return holds, np.flatnonzero(fires | (rng.random(N_ROWS) < 0.01))


def background_of(holds):
    offsets = dict(zip(SIZES, np.cumsum([0, *SIZES.values()]).tolist(), strict=False))
    predicates = SimpleNamespace(offsets=offsets, surprise=np.zeros(len(KIND_OF)))
    return Background.of(predicates, np.arange(len(holds)), holds, SCALE)


def scratch():
    return np.zeros(len(KIND_OF), np.int16)


def f_beta(beta, both, holds, n_fire):
    return (1 + BETA_SQUARED[beta]) * both / (BETA_SQUARED[beta] * n_fire + holds)


@pytest.mark.parametrize("seed", range(3))
def test_candidates_are_those_that_predict_firing_best(seed, monkeypatch):
    holds, firings = world(seed)
    n_fire = 2.5 * len(firings)
    found = choose_candidates(background_of(holds), holds, firings, n_fire, scratch())
    wanted = {}
    for number in range(len(KIND_OF)):
        hits, n_text = (holds[firings] == number).sum(), (holds == number).sum() * SCALE
        is_often = hits >= max(limits.MIN_HITS, limits.MIN_SHARE_OF_FIRINGS * len(firings))
        if is_often and hits / len(firings) > limits.MIN_LIFT * n_text / (N_ROWS * SCALE):
            both = hits * n_fire / len(firings)
            wanted[number] = hits, n_text, f_beta(0, both, max(n_text, both), n_fire)
    assert 5 < len(wanted) < limits.MAX_CANDIDATES and found.numbers.tolist() == sorted(wanted)
    np.testing.assert_allclose(np.stack([found.hits, found.n_text, found.f1], 1), list(wanted.values()))
    assert [list(SIZES)[kind] for kind in found.kind] == [KIND_OF[number] for number in wanted]


def test_of_each_kind_the_best_candidates_come_first():
    kind, f1 = np.repeat([0, 1], [200, 30]), np.random.default_rng(0).random(230)
    kept = limits._best_of_each_kind(kind, f1, np.array([32, 12]))
    assert len(kept) == limits.MAX_CANDIDATES and (np.diff(kept) > 0).all()
    for number, most in ((0, 32), (1, 12)):
        own = kept[kind[kept] == number]
        of_kind = np.flatnonzero(kind == number)
        assert set(own) == set(of_kind[np.argsort(-f1[of_kind])[: len(own)]])
        assert abs(len(own) / most - min(len(of_kind) / most, 128 / 44)) < 0.5, "in proportion, as far as there are any"


def test_the_sample_of_the_text_weighs_each_row_by_how_often_it_is_drawn(monkeypatch):
    monkeypatch.setattr(limits, "ROWS_ELSEWHERE", 100)
    holds, firings = world(1)
    background = background_of(holds)
    found = choose_candidates(background, holds, firings, float(len(firings)), scratch())
    text = sample_text(background, found, scratch())
    best = np.argsort(-found.f1, kind="stable")[: limits.N_BEST]
    n_text = np.array([(holds == found.numbers[candidate]).sum() for candidate in best])
    drawn = np.minimum(1, limits.ROWS_OF_BEST / n_text)
    for row in range(len(text.weight)):
        own = text.candidates[text.offsets[row] : text.offsets[row + 1]]
        bits = [candidate for candidate in range(len(found.numbers)) if text.bits[candidate, row // 64] >> row % 64 & 1]
        assert sorted(own) == bits
        times = 100 / N_ROWS + drawn[np.isin(best, own)].sum()
        assert text.weight[row] == pytest.approx(SCALE / times, abs=0.001), "rounded to steps"
    counts = np.bincount(text.candidates, np.repeat(text.weight, np.diff(text.offsets)), len(found.numbers))
    error = counts[best] / (n_text * SCALE) - 1
    assert np.abs(error).max() < 0.25, "it estimates how often each of them holds"


@pytest.mark.parametrize("seed", range(12))
def test_the_best_conjunctions_are_those_of_a_beam_over_sets(seed):
    holds, firings = world(seed)
    n_fire = 1.7 * len(firings)
    background = background_of(holds)
    found = choose_candidates(background, holds, firings, n_fire, scratch())
    at_firings = read_firings(found, holds, firings, scratch())
    in_text = sample_text(background, found, scratch())
    conjunctions, best = best_conjunctions(background, found, at_firings, in_text, n_fire, ITEM_PRICE)
    got = [
        tuple(sorted(tuple(found.numbers[atom[atom >= 0]].tolist()) for atom in conjunctions[index] if atom[0] >= 0))
        for index in best
    ]
    wanted = beam_over_sets(found, at_firings, in_text, n_fire)
    assert len(got) > 8 and max(map(len, got)) == MAX_ATOMS and any(len(atom) > 1 for rule in got for atom in rule)
    assert got == wanted


def beam_over_sets(found, firings, text, n_fire):
    """The definition. A conjunction is a tuple of tuples of predicates; where several score alike, the first counts."""
    rows_of = [
        {int(n): {row for row in range(len(rows.weight)) if c in rows.candidates[slice(*rows.offsets[row : row + 2])]}}
        for rows in (firings, text)
        for c, n in enumerate(found.numbers)
    ]
    half = len(rows_of) // 2
    at_firings = {number: rows for one in rows_of[:half] for number, rows in one.items()}
    in_text = {number: rows for one in rows_of[half:] for number, rows in one.items()}
    n_text = dict(zip(found.numbers.tolist(), found.n_text, strict=True))

    per_hit = n_fire / len(firings.weight)

    def price_of(state):
        return sum(ATOM_PRICE + sum(ITEM_PRICE * PREDICATE_KINDS[KIND_OF[n]].items for n in atom) for atom in state)

    def rows(where, conjunction):
        return set.intersection(*(set.union(*(where[number] for number in atom)) for atom in conjunction))

    def counts(state, number):
        hits = len(rows(at_firings, (*state, (number,))))
        holds = sum(text.weight[row] for row in rows(in_text, (*state, (number,)))) if state else n_text[number]
        return hits, max(holds, hits * per_hit)

    states, scored = [()], {}
    for _ in range(MAX_ATOMS):
        extensions = []
        for state in states:
            about = {PREDICATE_KINDS[KIND_OF[atom[0]]].subject for atom in state}
            by_kind = defaultdict(list)
            for number in found.numbers.tolist():
                hits, holds = counts(state, number)
                if hits >= limits.MIN_HITS and PREDICATE_KINDS[KIND_OF[number]].subject not in about:
                    by_kind[KIND_OF[number]].append((number, hits, holds))
            for kind, values in by_kind.items():
                price = ITEM_PRICE * PREDICATE_KINDS[kind].items
                extensions += [(state, (number,), hits, holds, price) for number, hits, holds in values]
                most = most_values(kind)
                together = sorted(values, key=lambda value: -value[1] / (n_fire + value[2]))[: 2 * most]
                together = sorted(together, key=lambda value: -value[1] / value[2])[:most]
                sums = [np.sum([value[1:] for value in together[: n + 1]], 0) for n in range(len(together))]
                worth = [
                    f_beta(0, hits * per_hit, holds, n_fire) - price * (n + 1) for n, (hits, holds) in enumerate(sums)
                ]
                n_best = 1 + int(np.argmax(worth))
                if n_best > 1:
                    atom = tuple(sorted(value[0] for value in together[:n_best]))
                    extensions.append((state, atom, *sums[n_best - 1], price * n_best))
        next_states = []
        scores = [
            [
                f_beta(beta, hits * per_hit, holds, n_fire) - PRICE_WEIGHTS[beta] * (price_of(state) + price)
                for beta in range(3)
            ]
            for state, _, hits, holds, price in extensions
        ]
        for beta in range(3):
            seen = []
            for index in sorted(range(len(extensions)), key=lambda i: -round(scores[i][beta], 10))[: 8 * BEAM_WIDTH]:
                state, atom, hits, holds, _ = extensions[index]
                if (hits, holds) not in seen and len(seen) < BEAM_WIDTH:
                    seen.append((hits, holds))
                    conjunction = tuple(sorted((*state, atom)))
                    if conjunction not in scored:
                        scored[conjunction] = scores[index]
                        next_states.append(conjunction)
        states = next_states
    return sorted(scored, key=lambda conjunction: -round(scored[conjunction][0], 10))[:N_KEPT]


def test_a_background_knows_what_a_search_must_know_of_each_kind():
    background = background_of(world(0)[0])
    subjects = [PREDICATE_KINDS[kind].subject for kind in SIZES]
    assert subjects[0] == subjects[1] == SUBJECT and background.subject[0] == background.subject[1]
    assert len(set(background.subject.tolist())) == len(set(subjects))
    assert background.most_candidates.tolist() == [limits.MAX_OF_SUBJECT] * 2 + [limits.MAX_OF_OTHERS] * 3
