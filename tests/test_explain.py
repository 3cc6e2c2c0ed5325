"""Rules against a naive reading of the text, and planted rules that must be found."""

import re

import numpy as np
import pytest
import torch

from interp.codes.reading import read_chunks
from interp.codes.sparse_codes import SparseCodes
from interp.text.places import PLACES
from interp.verdict import explain
from interp.verdict.background import SAMPLE, FitSample
from interp.verdict.counting import count_rules
from interp.verdict.predicates import KINDS, PLANES, Atom, Kind, Text
from interp.verdict.search import merged
from tests.test_scores import hash_of

WORDS = [
    "alpha",
    "beta",
    "gamma",
    "Delta",
    "(",
    ")",
    "\n",
    "7",
    "42",
    "שלום",
    "אור",
    "⟨d7⟩⟨90⟩",
    "if",
    "def",
    "THE",
    ",",
]
WORDS += ["walking", "talking", "ringing", "singing", '"', " #", " = ", "'", "\n  "]
HEBREW = range(9, 12)


def random_text(rng, n_seq=1500, n_ctx=24):
    """Stretches of Hebrew in the other words, each sequence by itself."""
    hebrew = np.cumsum(rng.random((n_seq, n_ctx)) < 0.1, axis=1) % 2 == 1
    weights = np.array([0 if i in HEBREW else 3 if word in ",(\n" else 1 for i, word in enumerate(WORDS)])
    other = rng.choice(len(WORDS), size=hebrew.shape, p=weights / weights.sum())
    return np.where(hebrew, rng.integers(9, 12, size=hebrew.shape), other).astype(np.int32)


def truth_of(atom, text):
    """Where an atom holds, by whole arrays [seq, pos]."""
    tokens, reach = text.tokens, KINDS[atom.kind].reach
    if reach is None:
        bits = text.planes(slice(0, len(tokens)))[:, PLANES.index(atom.kind)]
        return ((bits >> np.uint64(atom.which)) & np.uint64(1)).astype(bool).reshape(tokens.shape)
    member, out = np.isin(tokens, text.tokens_of(atom)), np.zeros(tokens.shape, bool)
    low, high = {"after": (1, 1), "after2": (2, 2), "near": (1, 8), "far": (1, 32)}.get(atom.kind, (0, 0))
    for back in range(low, min(high, tokens.shape[1] - 1) + 1):
        out[:, back:] |= member[:, : tokens.shape[1] - back]
    return out


def truth(rule, text):
    return np.any([np.all([truth_of(atom, text) for atom in part], axis=0) for part in rule], axis=0).reshape(-1)


def firing_where(fires):
    return SparseCodes.from_dense(torch.from_numpy(np.asarray(fires, np.float32)))


def fit_half(tokens):
    return torch.arange(len(tokens)) % 2 == 0


def explained(tokens, fires, **options):
    maxima = np.asarray(fires).max(0).astype(np.float32)
    given = (torch.from_numpy(tokens), firing_where(fires), WORDS, fit_half(tokens))
    return explain(*given, maxima=maxima, **options).latents


def place(words):
    return Atom("place", which=[own.words for own in PLACES].index(words))


def class_of(text, called):
    return [name for name, _ in text.vocabulary.class_names].index(called)


def planted(text):
    hebrew, ing = class_of(text, "tokens in Hebrew script"), text.vocabulary.affixes.index(("ing", True))
    comma = (Atom("token", (0,)), Atom("after", (15,)))
    line = (Atom("token", (12,)), place("on an indented line"))
    return {
        '"Delta"': ((Atom("token", (3,)),),),
        '"alpha" or "gamma"': ((Atom("token", (0, 2)),),),
        'tokens after "("': ((Atom("after", (4,)),),),
        'tokens two after ")"': ((Atom("after2", (5,)),),),
        '"if" or "def" after a newline': ((Atom("token", (12, 13)), Atom("after", (6,))),),
        "tokens in Hebrew script": ((Atom("class", which=hebrew),),),
        "tokens inside Hebrew script": ((Atom("inside", which=hebrew),),),
        'tokens within 8 tokens after "THE"': ((Atom("near", (14,)),),),
        "a comma inside Hebrew script": ((Atom("token", (15,)), Atom("inside", which=hebrew)),),
        'tokens that end in "ing"': ((Atom("affix", which=ing),),),
        "tokens in a comment": ((place("in a comment"),),),
        "tokens in double quotes": ((place("in double quotes"),),),
        '"Delta" in parentheses': ((Atom("token", (3,)), place("in parentheses")),),
        "tokens three or more brackets deep": ((place("three or more brackets deep"),),),
        '"gamma" exactly one bracket deep': ((Atom("token", (2,)), place("exactly one bracket deep")),),
        "tokens two or more quotes deep": ((place("two or more quotes deep"),),),
        '"alpha" or "beta" in a string literal': ((Atom("token", (0, 1)), place("in a string literal")),),
        '"alpha" after a comma, or "if" on an indented line': (comma, line),
        '"alpha" after a comma, or "if" on an indented line, or "beta" in parentheses': (
            comma,
            line,
            (Atom("token", (1,)), place("in parentheses")),
        ),
        '"beta" after "(" in a comment': ((Atom("token", (1,)), Atom("after", (4,)), place("in a comment")),),
    }


def test_names_of_tokens_are_not_read_as_their_spelling():
    """The same strings, as names: rules say which tokens, and what of their places is known without strings."""
    tokens = random_text(np.random.default_rng(2))
    text, names = Text.read(tokens, WORDS), Text.read(tokens, WORDS, spelt=False)
    spelt = {
        "tokens in Hebrew script",
        "tokens inside Hebrew script",
        'tokens that end in "ing"',
        "tokens in a comment",
    }
    rules = [planted(text)[words] for words in sorted(spelt)]
    repeats = ((place("that repeat the token before"),),)
    fires = np.stack([truth(rule, text) for rule in [*rules, repeats]], 1)
    got = explained(tokens, fires, spelt=False)
    kinds = {atom.kind for rule in got.rules for part in rule for atom in part}
    assert not kinds & {"affix", "class", "after_class", "inside"} and not spelt & set(got.phrases)
    assert got.phrases[-1] == "tokens that repeat the token before" and got.f1[-1] == 1
    places = np.bitwise_or.reduce(names.planes(slice(None))[:, PLANES.index("place")])
    held = {own.words for i, own in enumerate(PLACES) if int(places) >> i & 1}
    assert held == {own.words for own in PLACES if own.group == "repeat" or "of a sequence" in own.words}
    parts = [(0, np.flatnonzero(fires[:, 0])[:400])]
    maxima = np.ones(1, np.float32)
    given = (torch.from_numpy(tokens), firing_where(fires[:, :1]), WORDS, fit_half(tokens), parts)
    (rule,) = explain(*given[:4], senses=parts, maxima=maxima, spelt=False).senses.rules
    assert rule and not {atom.kind for part in rule for atom in part} & {"affix", "class", "after_class", "inside"}


def test_planted_rules_are_found_and_said():
    tokens = random_text(np.random.default_rng(2))
    text = Text.read(tokens, WORDS)
    rules = planted(text)
    got = explained(tokens, np.stack([truth(rule, text) for rule in rules.values()], 1))
    said = dict(zip(rules, got.phrases, strict=True))
    in_any_order = {words: sorted(re.findall(r'".*?"|\w+', words)) for words in (*said, *said.values())}
    assert {words: in_any_order[words] for words in said} == {words: in_any_order[got] for words, got in said.items()}
    assert (got.f1 == 1).all() and (got.precision == 1).all() and (got.recall == 1).all()
    assert (got.f1_one[[len(rule) == 1 for rule in rules.values()]] == 1).all()
    assert (got.f1_one[[len(rule) > 1 for rule in rules.values()]] < 1).all()
    held_out = np.repeat(~fit_half(tokens).numpy(), tokens.shape[1])
    assert got.n_examples.tolist() == [truth(rule, text)[held_out].sum() for rule in rules.values()]


def test_labels_are_used_where_given():
    tokens = random_text(np.random.default_rng(3))
    label = np.random.default_rng(4).random(tokens.shape) < 0.1
    fires = (label | (tokens == 3)).reshape(-1, 1)
    got = explained(tokens, fires, labels={"odd": torch.from_numpy(label)})
    assert sorted(got.phrases[0].split(", or ")) == ['"Delta"', "tokens labelled odd"] and got.f1 == 1
    assert "odd" not in explained(tokens, fires).phrases[0]


def noisy_latents(rng, tokens):
    """Strengths of latents that rules predict in part, whatever rules they get."""
    flat, position = tokens.reshape(-1), np.arange(tokens.size) % tokens.shape[1]
    previous = np.where(position > 0, np.roll(flat, 1), -1)
    causes = [flat == 4, np.isin(flat, HEBREW), (flat == 0) & (previous == 4), np.isin(previous, (6, 7)), flat == -1]
    fires = np.stack([(cause & (rng.random(flat.size) < 0.7)) | (rng.random(flat.size) < 0.01) for cause in causes], 1)
    return fires * rng.random(fires.shape).astype(np.float32)


def test_scores_are_those_of_the_held_out_half_by_brute_force():
    rng = np.random.default_rng(1)
    tokens = random_text(rng)
    text, values = Text.read(tokens, WORDS), noisy_latents(rng, tokens)
    got = explained(tokens, values)
    held_out = np.repeat(~fit_half(tokens).numpy(), tokens.shape[1])
    for latent, rule in enumerate(got.rules):
        says, strength = truth(rule, text)[held_out], values[held_out, latent] / values[:, latent].max()
        fires = strength > 0
        both = (says & fires).sum()
        precision = both / says.sum()
        assert got.f1[latent] == pytest.approx(2 * both / (says.sum() + fires.sum()))
        assert got.precision[latent] == pytest.approx(precision)
        assert got.recall[latent] == pytest.approx(both / fires.sum())
        assert got.n_examples[latent] == both
        for s in range(5):
            in_slice = (strength > s / 5) & (strength <= (s + 1) / 5)
            recall = says[in_slice].mean()
            wanted = 2 * precision * recall / (precision + recall) if recall else 0
            assert got.f1_by_interval[latent, s] == pytest.approx(wanted)


def test_exact_counts_of_any_rule_are_those_of_brute_force(monkeypatch):
    """Random rules of all kinds, the text in several chunks."""
    monkeypatch.setattr("interp.codes.reading.ROWS_PER_CHUNK", 1000)
    rng = np.random.default_rng(5)
    tokens = random_text(rng, 200, 40)
    text, fires = Text.read(tokens, WORDS), rng.random((tokens.size, 3)) < 0.05
    half = fit_half(tokens).numpy()

    def atom():
        kind = str(rng.choice(list(KINDS)))
        if not text.names[kind] and KINDS[kind].reach:
            return Atom(kind, tuple(int(t) for t in rng.choice(len(WORDS), rng.integers(1, 4), replace=False)))
        return Atom(kind, which=int(rng.integers(0, len(text.names[kind])))) if text.names[kind] else atom()

    rules = [
        [tuple(tuple(atom() for _ in range(rng.integers(1, 4))) for _ in range(rng.integers(1, 4))) for _ in range(9)]
    ]
    rules += [[], rules[0][:4]]
    counted = rng.random(tokens.size) < 0.8
    sampled = [np.sort(rng.choice(np.flatnonzero(counted), 50, replace=False)) for _ in rules]
    counts = count_rules(
        text,
        firing_where(fires),
        half,
        counted,
        rules,
        np.array([2, 1, 0]),
        np.ones(3, np.float32),
        sampled,
        np.arange(3),
    )
    for unit, latent in enumerate((2, 1, 0)):
        for number, rule in enumerate(rules[unit]):
            says = truth(rule, text)
            for side, part in enumerate((half, ~half)):
                rows = np.repeat(part, tokens.shape[1]) & counted
                assert counts.holds[side, unit, number] == (says & rows).sum()
                assert counts.both[side, unit, number].sum() == (says & rows & fires[:, latent]).sum()
                assert counts.hits[side, unit, number] == (says & rows)[sampled[unit]].sum()


def test_the_score_is_the_half_the_rule_was_not_chosen_on():
    tokens = random_text(np.random.default_rng(3))
    fit = np.repeat(fit_half(tokens).numpy(), tokens.shape[1])
    fires = np.where(fit, tokens.reshape(-1) == 0, tokens.reshape(-1) == 1)[:, None]
    got = explained(tokens, fires)
    assert got.phrases == ['"alpha"'] and got.f1_fit[0] == 1 and got.f1[0] == 0 and got.n_examples[0] == 0


def test_latents_that_hardly_fire_stay_unexplained():
    tokens = random_text(np.random.default_rng(4), 8)
    fires = np.zeros((tokens.size, 2), bool)
    fires[:2, 0] = True
    got = explained(tokens, fires)
    assert got.phrases == ["", ""] and np.isnan(got.f1).all() and got.rules == [(), ()]
    assert np.isnan(got.f1_by_interval).all() and np.isnan(got.bits).all() and got.n_examples.tolist() == [0, 0]


def test_the_same_seed_gives_the_same_rules_whatever_the_threads():
    rng = np.random.default_rng(6)
    tokens = random_text(rng)
    values = noisy_latents(rng, tokens)
    threads = torch.get_num_threads()
    try:
        runs = []
        for n in (1, 2):
            torch.set_num_threads(n)
            runs.append(explained(tokens, values, seed=1))
    finally:
        torch.set_num_threads(threads)
    assert runs[0].phrases == runs[1].phrases and runs[0].f1.tobytes() == runs[1].f1.tobytes()


def test_a_long_text_is_searched_on_a_part_of_it(monkeypatch):
    monkeypatch.setattr("interp.verdict.background.MAX_ROWS", 2000)
    tokens = random_text(np.random.default_rng(2))
    text = Text.read(tokens, WORDS)
    rules = [planted(text)[words] for words in ('"alpha" or "gamma"', "tokens in a comment", '"Delta" in parentheses')]
    got = explained(tokens, np.stack([truth(rule, text) for rule in rules], 1))
    assert got.phrases[1:] == ["tokens in a comment", '"Delta" in parentheses'] and (got.f1 == 1).all()


def test_parts_that_differ_in_one_set_are_one():
    a, b, after = Atom("token", (1,)), Atom("token", (2,)), Atom("after", (3,))
    assert merged([(a,), (b,)]) == ((Atom("token", (1, 2)),),)
    assert merged([(a, after), (b, after), (a,)]) == ((Atom("token", (1, 2)), after), (a,))
    assert merged([(Atom("token", (1, 2, 3, 4, 5)),), (Atom("token", (6, 7, 8, 9)),)])[1:] != ()


def senses_of(tokens, text, rng):
    """Two latents, a sample of their firings by sense: one of "alpha" after a comma and "Delta" in comments, one of
    "beta" only."""
    first = truth(((Atom("token", (0,)), Atom("after", (15,))),), text)
    second, only = truth(((Atom("token", (3,)), place("in a comment")),), text), tokens.reshape(-1) == 1
    fires = np.stack([first | second, only], 1)
    rows = [rng.choice(np.flatnonzero(own), 120, replace=False) for own in fires.T]
    return fires, [(0, rows[0][first[rows[0]]]), (0, rows[0][second[rows[0]]]), (1, rows[1])]


def test_each_sense_has_its_own_rule_and_scores_by_brute_force():
    rng = np.random.default_rng(8)
    tokens = random_text(rng)
    text = Text.read(tokens, WORDS)
    fires, parts = senses_of(tokens, text, rng)
    maxima = np.ones(2, np.float32)
    given = (torch.from_numpy(tokens), firing_where(fires), WORDS, fit_half(tokens))
    got = explain(*given, senses=parts, maxima=maxima).senses
    assert got.phrases == ['"alpha" after a comma', '"Delta" in a comment', '"beta"']
    held_out = ~fit_half(tokens).numpy()
    for part, (latent, rows) in enumerate(parts):
        says = truth(got.rules[part], text)
        own = rows[held_out[rows // tokens.shape[1]]]
        everywhere = np.repeat(held_out, tokens.shape[1])
        precision, recall = fires[says & everywhere, latent].mean(), says[own].mean()
        assert got.n[part] == len(own) and got.recall[part] == pytest.approx(recall)
        assert got.precision[part] == pytest.approx(precision)
        assert got.f1[part] == pytest.approx(2 * precision * recall / (precision + recall))


def test_senses_with_few_rows_or_wrong_ones():
    tokens = random_text(np.random.default_rng(9), 64)
    codes, maxima = firing_where((tokens == 0).reshape(-1, 1)), np.ones(1, np.float32)

    def run(*parts):
        given = (torch.from_numpy(tokens), codes, WORDS, fit_half(tokens))
        return explain(*given, senses=parts, maxima=maxima).senses

    got = run((0, np.array([0, 1])))
    assert got.phrases == [""] and np.isnan(got.f1[0]) and got.n.tolist() == [0]
    assert run().phrases == []
    with pytest.raises(ValueError, match="latent 1: it must be in 0..0"):
        run((1, np.array([0])))
    with pytest.raises(ValueError, match="rows < 1536"):
        run((0, np.array([1536])))


def test_a_kind_of_predicates_is_one_entry(monkeypatch):
    """A window of another width, and a bit of a row, are searched, counted, said and measured like any other."""
    even = Kind(
        words="at {}",
        slot=60,
        bits=lambda text, which: np.broadcast_to(np.arange(text.n_ctx) % 2 == 0, text.tokens[which].shape).astype(
            np.uint64
        ),
        names=lambda text: ["even places"],
    )
    monkeypatch.setitem(KINDS, "nearer", Kind(words="within 3 tokens after {}", slot=10, reach=(1, 3)))
    monkeypatch.setitem(KINDS, "even", even)
    PLANES.append("even")
    try:
        tokens = random_text(np.random.default_rng(2))
        near = sum(np.roll(tokens == 14, back, 1) & (np.arange(24) >= back) for back in (1, 2, 3)) > 0
        fires = np.stack([near.reshape(-1), (np.arange(tokens.size) % 2 == 0) & (tokens.reshape(-1) == 0)], 1)
        got = explained(tokens, fires)
    finally:
        PLANES.remove("even")
    assert got.phrases == ['tokens within 3 tokens after "THE"', '"alpha" at even places'] and (got.f1 == 1).all()


def test_firings_of_the_fit_half_are_sampled_by_their_hash(monkeypatch):
    """The SAMPLE smallest of all keys."""
    monkeypatch.setattr("interp.codes.reading.ROWS_PER_CHUNK", 1000)
    rng = np.random.default_rng(21)
    fires = rng.random((5000, 4)) < [0, 0.05, 0.4, 1]
    half = rng.random(500) < 0.5
    sample = FitSample(4, 10, half, 7)
    for chunk in read_chunks(firing_where(fires), 10):
        sample.add(chunk)
    fires &= np.repeat(half, 10)[:, None]
    np.testing.assert_array_equal(sample.count, fires.sum(0))
    assert sample.count.max() > 2 * SAMPLE
    for latent, sampled in enumerate(sample.rows[:, 0]):
        keys = {hash_of(7, row, latent): row for row in np.flatnonzero(fires[:, latent])}
        assert sorted(sampled[sampled >= 0]) == sorted(keys[key] for key in sorted(keys)[:SAMPLE])
