"""Rules against a naive reading of the text, and planted rules that must be found."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from interp.codes.code_chunks import read_chunks
from interp.codes.code_store import CodeStore
from interp.codes.sparse_codes import SparseCodes
from interp.text.analysed_text import AnalysedText
from interp.text.positions import Positions
from interp.text.predicate_kinds import PREDICATE_KINDS, Kind, kinds_in
from interp.text.predicates import Predicates
from interp.text.rules import MAX_ATOMS, Atom
from interp.text.vocabulary import quoted_text
from interp.verdict.coded_text import CodedText
from interp.verdict.explanations import (
    ExplanationsOfText,
    Sense,
    _Scores,
    _shortest_that_pay,
    _without_each_part,
    explain,
)
from interp.verdict.rule_counts import RuleCounts, count_rules
from interp.verdict.rule_search import N_SAMPLED_FIRINGS, FitFirings, read_background
from tests.copied_text import N_CTX, copied_text
from tests.copied_text import counted as in_first_window
from tests.random_codes import hash_of

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


def read(tokens):
    return Predicates.count(tokens, len(WORDS), WORDS)


def values_everywhere(kind, text):
    """[row, value]"""
    return PREDICATE_KINDS[kind].values(Positions(text, np.arange(text.tokens.size))).reshape(text.tokens.size, -1)


def truth_of(atom, text):
    """Return where an atom holds, by whole arrays [seq, pos]."""
    tokens, reach = text.tokens, {"token": (0, 0), "previous": (1, 1), "before": (1, 8)}
    if atom.kind not in reach:
        return np.isin(values_everywhere(atom.kind, text), atom.values).any(1).reshape(tokens.shape)
    member, out = np.isin(tokens, atom.values), np.zeros(tokens.shape, bool)
    low, high = reach[atom.kind]
    for back in range(low, min(high, tokens.shape[1] - 1) + 1):
        out[:, back:] |= member[:, : tokens.shape[1] - back]
    return out


def truth(rule, text):
    return np.all([truth_of(atom, text) for atom in rule], axis=0).reshape(-1)


def atom(text, kind, *wanted):
    """Return the atom of a kind whose values are called so; tokens by their strings."""
    if kind in ("token", "previous", "before"):
        values = [WORDS.index(string) for string in wanted]
        return Atom(kind, tuple(values), tuple(text.token_name(value) for value in values))
    values, rows = np.unique(values_everywhere(kind, text)[:, 0], return_index=True)
    names = (PREDICATE_KINDS[kind].name(text, v, rows[[i]]) for i, v in enumerate(values))
    called = {
        name if isinstance(name, str) else quoted_text(name): int(v) for v, name in zip(values, names, strict=True)
    }
    return Atom(kind, tuple(called[name] for name in wanted), tuple((name,) for name in wanted))


def firing_where(fires):
    return SparseCodes.from_dense(torch.from_numpy(np.asarray(fires, np.float32)))


def fit_half(tokens):
    return torch.arange(len(tokens)) % 2 == 0


def explained(tokens, fires, *, vocab=WORDS, has_vocab=True, seed=0, **options) -> ExplanationsOfText:
    text = CodedText.from_codes(torch.from_numpy(tokens), firing_where(fires), vocab)
    text = replace(text, has_vocab=has_vocab)
    return explain(text, FitFirings.read(text, fit_half(tokens).numpy(), seed), **options)


def planted(text):
    def say(kind, *wanted):
        return atom(text, kind, *wanted)

    return {
        '"Delta"': (say("token", "Delta"),),
        '"alpha" or "gamma"': (say("token", "alpha", "gamma"),),
        'tokens after "("': (say("previous", "("),),
        '"if" or "def" after a newline': (say("token", "if", "def"), say("previous", "\n")),
        'tokens within 8 tokens after "THE"': (say("before", "THE"),),
        'tokens that end in "ng"': (say("last_2", 'tokens that end in "ng"'),),
        "tokens in a comment": (say("comment", "in a comment"),),
        "tokens in quotes": (say("quotes", "in quotes"),),
        '"Delta" in parentheses': (say("token", "Delta"), say("parentheses", "in parentheses")),
        "tokens three brackets deep": (say("brackets", "three brackets deep"),),
        '"gamma" one bracket deep': (say("token", "gamma"), say("brackets", "one bracket deep")),
        "tokens in quotes within quotes": (say("quotes", "in quotes within quotes"),),
        '"alpha" or "beta" in a string literal': (
            say("token", "alpha", "beta"),
            say("literal", "in a string literal"),
        ),
        '"beta" after "(" in a comment': (say("token", "beta"), say("previous", "("), say("comment", "in a comment")),
    }


def test_names_of_tokens_are_not_read_as_their_spelling():
    """The same strings, as names: rules say which tokens, and what of their places is known without strings."""
    tokens = random_text(np.random.default_rng(2))
    text = read(tokens).text
    rules = {words: rule for words, rule in planted(text).items() if " in a comment" in words or "ing" in words}
    fires = np.stack([truth(rule, text) for rule in rules.values()], 1)
    got = explained(tokens, fires, has_vocab=False).latents
    kinds = {atom.kind for rule in got.rules for atom in rule}
    assert (
        kinds and not any(PREDICATE_KINDS[kind].needs_strings for kind in kinds) and not set(rules) & set(got.phrases)
    )
    assert all("token " in phrase for phrase in got.phrases)
    parts = [Sense(0, np.flatnonzero(fires[:, 0])[:400], 1.0)]
    (rule,) = explained(tokens, fires[:, :1], has_vocab=False, senses=parts).senses.rules
    assert rule and not any(PREDICATE_KINDS[atom.kind].needs_strings for atom in rule)


def test_explain_finds_and_words_planted_rules():
    tokens = random_text(np.random.default_rng(2))
    text = read(tokens).text
    rules = planted(text)
    got = explained(tokens, np.stack([truth(rule, text) for rule in rules.values()], 1)).latents
    said = dict(zip(rules, got.phrases, strict=True))
    in_any_order = {words: sorted(re.findall(r'".*?"|\w+', words)) for words in (*said, *said.values())}
    assert {words: in_any_order[words] for words in said} == {words: in_any_order[got] for words, got in said.items()}
    assert (got.f1 == 1).all() and (got.precision == 1).all() and (got.recall == 1).all()
    held_out = np.repeat(~fit_half(tokens).numpy(), tokens.shape[1])
    assert got.n_examples.tolist() == [truth(rule, text)[held_out].sum() for rule in rules.values()]


def test_labels_are_used_where_given():
    tokens = random_text(np.random.default_rng(3))
    label = np.random.default_rng(4).random(tokens.shape) < 0.1
    fires = (label & (tokens == 3)).reshape(-1, 1)
    got = explained(tokens, fires, labels={"odd": torch.from_numpy(label)}).latents
    assert got.phrases == ['"Delta" in odd'] and got.f1 == 1
    assert "odd" not in explained(tokens, fires).latents.phrases[0]
    assert explained(tokens, fires, labels={"odd": label}).latents.phrases == got.phrases, "as an array"


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
    text, values = read(tokens).text, noisy_latents(rng, tokens)
    got = explained(tokens, values).latents
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
    monkeypatch.setattr("interp.codes.code_chunks.ROWS_PER_CHUNK", 1000)
    rng = np.random.default_rng(5)
    tokens = random_text(rng, 200, 40)
    fires = rng.random((tokens.size, 3)) < 0.05
    text, half = read(tokens).text, fit_half(tokens).numpy()
    present = {kind: np.unique(values_everywhere(kind, text)) for kind in kinds_in(text)}

    def drawn():
        kind = str(rng.choice(list(kinds_in(text))))
        values = present[kind][present[kind] >= 0]
        values = rng.choice(values, min(len(values), rng.integers(1, 4)), replace=False).tolist()
        return Atom(kind, tuple(values), tuple((str(value),) for value in values))

    rules = [[tuple(drawn() for _ in range(rng.integers(1, MAX_ATOMS + 1))) for _ in range(9)]]
    rules += [[], rules[0][:4]]
    counted = rng.random(tokens.size) < 0.8
    sampled = [np.sort(rng.choice(np.flatnonzero(counted), 50, replace=False)) for _ in rules]
    coded = replace(CodedText.from_codes(torch.from_numpy(tokens), firing_where(fires), WORDS), counted=counted)
    for part in (half, ~half, np.arange(len(tokens)) < 30):  # some chunks have none of the last
        counts = count_rules(coded, coded.predicates, part, rules, latents=np.array([2, 1, 0]), sampled=sampled)
        rows = np.repeat(part, tokens.shape[1]) & counted
        for unit, latent in enumerate((2, 1, 0)):
            for number, rule in enumerate(rules[unit]):
                says = truth(rule, text)
                assert counts.holds[unit, number] == (says & rows).sum()
                assert counts.both[unit, number].sum() == (says & rows & fires[:, latent]).sum()
                assert counts.hits[unit, number] == (says & rows)[sampled[unit]].sum()


@pytest.mark.parametrize(
    ("n_hits", "n_misses", "pays"),
    [(1, 3, False), (2, 0, False), (3, 0, True), (9, 9, False), (9, 3, True)],
    ids=["it costs", "below its price", "it pays", "within an error", "it pays in spite of errors"],
)
def test_a_value_that_does_not_pay_is_left_out_of_a_rule(n_hits, n_misses, pays):
    """A rule holds at 80 of 100 firings and at 20 other positions; its second value at some of both."""
    whole, first, second = (Atom("token", values, ()) for values in ((0, 1), (0,), (1,)))
    assert list(_without_each_part((whole,))) == [(second,), (first,)]
    hits = np.array([[80, n_hits, 80 - n_hits]])
    holds = np.array([[100, n_hits + n_misses, 100 - n_hits - n_misses]])
    counts = RuleCounts(holds, hits[:, :, None], np.array([[100]]), hits)
    scores = _Scores(counts, np.array([100]), np.array([100]), hits, hits / 100, hits / holds, 2 * hits / (100 + holds))
    assert _shortest_that_pay([[(whole,), (second,), (first,)]], scores) == (0 if pays else 2)


def test_each_part_of_a_rule_is_left_out_in_turn():
    token, after = Atom("token", (0, 1), ()), Atom("previous", (5,), ())
    ones = [atom._replace(values=(value,)) for atom, value in ((token, 1), (token, 0))]
    assert list(_without_each_part((token, after))) == [(after,), *((one, after) for one in ones), (token,)]
    assert list(_without_each_part((after,))) == []


def test_the_score_is_the_half_the_rule_was_not_chosen_on():
    tokens = random_text(np.random.default_rng(3))
    fit = np.repeat(fit_half(tokens).numpy(), tokens.shape[1])
    fires = np.where(fit, tokens.reshape(-1) == 0, tokens.reshape(-1) == 1)[:, None]
    got = explained(tokens, fires).latents
    assert got.phrases == ['"alpha"'] and got.f1_fit[0] == 1 and got.f1[0] == 0 and got.n_examples[0] == 0


def test_latents_that_hardly_fire_stay_unexplained():
    tokens = random_text(np.random.default_rng(4), 8)
    fires = np.zeros((tokens.size, 2), bool)
    fires[:2, 0] = True
    got = explained(tokens, fires).latents
    assert got.phrases == ["", ""] and np.isnan(got.f1).all() and got.rules == [(), ()]
    assert np.isnan(got.f1_by_interval).all() and got.n_examples.tolist() == [0, 0]


def test_the_same_seed_gives_the_same_rules_whatever_the_threads():
    rng = np.random.default_rng(6)
    tokens = random_text(rng)
    values = noisy_latents(rng, tokens)
    threads = torch.get_num_threads()
    try:
        runs = []
        for n in (1, 2):
            torch.set_num_threads(n)
            runs.append(explained(tokens, values, seed=1).latents)
    finally:
        torch.set_num_threads(threads)
    assert runs[0].phrases == runs[1].phrases and runs[0].f1.tobytes() == runs[1].f1.tobytes()


def test_a_long_text_is_searched_on_a_part_of_it(monkeypatch):
    monkeypatch.setattr("interp.verdict.rule_search.MAX_FIT_ROWS", 2000)
    tokens = random_text(np.random.default_rng(2))
    text = read(tokens).text
    rules = [planted(text)[words] for words in ('"alpha" or "gamma"', "tokens in a comment", '"Delta" in parentheses')]
    got = explained(tokens, np.stack([truth(rule, text) for rule in rules], 1)).latents
    assert got.phrases[1:] == ["tokens in a comment", '"Delta" in parentheses'] and (got.f1 == 1).all()


def test_a_background_reads_only_rows_that_it_has_not_read():
    tokens = random_text(np.random.default_rng(2), 100)
    predicates, half = read(tokens), fit_half(tokens).numpy()
    counted = np.random.default_rng(3).random(tokens.size) < 0.9
    background = read_background(predicates, half, counted)
    rows = np.random.default_rng(4).permutation(tokens.size)[:500]
    np.testing.assert_array_equal(background.at(predicates, rows), predicates.at(rows, predicates.in_rules))
    was_read = rows[counted[rows] & np.repeat(half, tokens.shape[1])[rows]]
    assert len(was_read) > 100
    np.testing.assert_array_equal(background.at(None, was_read), predicates.at(was_read, predicates.in_rules))


def senses_of(tokens, text, rng):
    """Return two latents, a sample of their firings by sense: one of "alpha" after a comma and "Delta" in comments, one
    of "beta" only."""
    first = truth((atom(text, "token", "alpha"), atom(text, "previous", ",")), text)
    second = truth((atom(text, "token", "Delta"), atom(text, "comment", "in a comment")), text)
    only = tokens.reshape(-1) == 1
    fires = np.stack([first | second, only], 1)
    rows = [rng.choice(np.flatnonzero(own), 120, replace=False) for own in fires.T]
    parts = [(0, rows[0][first[rows[0]]]), (0, rows[0][second[rows[0]]]), (1, rows[1])]
    return fires, [Sense(latent, rows, len(rows) / 120) for latent, rows in parts]


def test_each_sense_has_its_own_rule_and_scores_by_brute_force():
    rng = np.random.default_rng(8)
    tokens = random_text(rng)
    text = read(tokens).text
    fires, parts = senses_of(tokens, text, rng)
    got = explained(tokens, fires, senses=parts).senses
    assert got.phrases == ['"alpha" after a comma', '"Delta" in a comment', '"beta"']
    held_out = ~fit_half(tokens).numpy()
    everywhere = np.repeat(held_out, tokens.shape[1])
    for part, (latent, rows, share) in enumerate(parts):
        says = truth(got.rules[part], text)
        own = rows[held_out[rows // tokens.shape[1]]]
        recall = says[own].mean()
        of_sense = max(round(share * fires[everywhere, latent].sum()), len(own))
        n = min(of_sense, fires[says & everywhere, latent].sum() / recall)
        precision = recall * n / (says & everywhere).sum()
        assert got.n[part] == len(own) and got.recall[part] == pytest.approx(recall)
        assert got.precision[part] == pytest.approx(precision)
        assert got.f1[part] == pytest.approx(2 * precision * recall / (precision + recall))


def test_a_rule_that_holds_at_the_other_sense_as_well_is_half_wrong():
    """No rule can tell two halves of a token's occurrences apart."""
    rng = np.random.default_rng(8)
    tokens = random_text(rng)
    fires = (tokens == 1).reshape(-1, 1)
    first, second, of_none = np.split(rng.choice(np.flatnonzero(fires), 300, replace=False), [120, 240])
    got = explained(tokens, fires, senses=[Sense(0, first, 0.4), Sense(0, second, 0.4)]).senses
    assert got.phrases == ['"beta"', '"beta"'] and len(of_none) == 60
    assert got.recall == pytest.approx([1, 1]) and got.precision == pytest.approx([0.4, 0.4], abs=0.01)


def test_senses_with_few_rows_have_no_rule():
    tokens = random_text(np.random.default_rng(9), 64)

    def run(*parts):
        return explained(tokens, (tokens == 0).reshape(-1, 1), senses=parts).senses

    got = run(Sense(0, np.array([0, 1]), 1.0))
    assert got.phrases == [""] and np.isnan(got.f1[0]) and got.n.tolist() == [0]
    assert run().phrases == []


def test_a_kind_of_predicates_is_one_entry(monkeypatch):
    """A kind that a user writes is searched, counted, said and compared like any other."""

    def token_name(text, value, rows):
        return text.token_name(value)

    def parity_name(text, value, rows):
        return ["at odd places", "at even places"][value]

    def nearer(positions):
        return np.stack([positions.token(-back) for back in (1, 2, 3)], 1)

    def even(positions):
        return 1 - positions.position % 2

    words = "within 3 tokens after {}"
    nearer_kind = Kind(
        values=nearer, size=lambda text: len(WORDS), name=token_name, words=words, subject="tokens around"
    )
    monkeypatch.setitem(PREDICATE_KINDS, "nearer", nearer_kind)
    even_kind = Kind(values=even, size=lambda text: 2, name=parity_name, subject="parity")
    monkeypatch.setitem(PREDICATE_KINDS, "even", even_kind)
    tokens = random_text(np.random.default_rng(2))
    near = sum(np.roll(tokens == 14, back, 1) & (np.arange(24) >= back) for back in (1, 2, 3)) > 0
    fires = np.stack([near.reshape(-1), (np.arange(tokens.size) % 2 == 0) & (tokens.reshape(-1) == 0)], 1)
    got = explained(tokens, fires).latents
    assert got.phrases == ['tokens within 3 tokens after "THE"', '"alpha" at even places'] and (got.f1 == 1).all()
    predicates = read(tokens)
    shared = set(predicates.at(np.array([4]), predicates.compared)[0]) & set(
        predicates.at(np.array([26]), predicates.compared)[0]
    )
    assert {"even"} <= {predicates.kind_of(number) for number in shared if number >= 0}


def test_firings_of_the_fit_half_are_sampled_by_their_hash(monkeypatch):
    """The N_SAMPLED_FIRINGS smallest of all keys."""
    monkeypatch.setattr("interp.codes.code_chunks.ROWS_PER_CHUNK", 1000)
    rng = np.random.default_rng(21)
    fires = rng.random((5000, 4)) < [0, 0.05, 0.4, 1]
    half = rng.random(500) < 0.5
    sample = FitFirings(4, 10, half, 7)
    for chunk in read_chunks(firing_where(fires), 10):
        sample.add(chunk)
    fires &= np.repeat(half, 10)[:, None]
    np.testing.assert_array_equal(sample.count[:, 0], fires.sum(0))
    assert sample.count.max() > 2 * N_SAMPLED_FIRINGS
    for latent, sampled in enumerate(sample.rows[:, 0]):
        keys = {hash_of(7, row, latent): row for row in np.flatnonzero(fires[:, latent])}
        assert sorted(sampled[sampled >= 0]) == sorted(keys[key] for key in sorted(keys)[:N_SAMPLED_FIRINGS])


def test_rules_are_scored_on_each_window_once():
    """A latent that fires on copies in both halves is held to those that stand first."""
    rng = np.random.default_rng(2)
    tokens = copied_text(rng, n_seq=600)
    fires = np.isin(tokens, (3, 4)) & (rng.random(tokens.shape) < 0.8)
    fires[2::3] = fires[1::3]  # the copies fire alike
    half, names = torch.arange(600) % 2 == 0, [f"w{i}" for i in range(50)]
    found = explained(tokens, fires.reshape(-1, 1), vocab=names).latents
    held_out = in_first_window(tokens) & np.repeat(~half.numpy(), N_CTX)
    says = truth(found.rules[0], AnalysedText.read(tokens, 50, names))[held_out]
    fired = fires.reshape(-1)[held_out]
    assert found.n[0] == fired.sum() and found.n_examples[0] == (says & fired).sum()
    assert found.precision[0] == pytest.approx((says & fired).sum() / says.sum())
    assert found.recall[0] == pytest.approx((says & fired).sum() / fired.sum())


def test_rows_that_were_left_out_at_harvest_are_no_errors_of_a_rule(tmp_path):
    rng = np.random.default_rng(4)
    tokens = random_text(rng, n_seq=200)
    kept = np.tile(np.arange(tokens.shape[1]) >= tokens.shape[1] // 2, (len(tokens), 1))
    fires = (tokens == WORDS.index("Delta")) & kept
    codes = CodeStore.create(tmp_path / "codes", n_rows=tokens.size, d_sae=1)
    rows = torch.from_numpy(np.flatnonzero(kept))
    codes.write_file("0", rows, firing_where(fires.reshape(-1, 1)).take(rows))
    text = CodedText.from_codes(torch.from_numpy(tokens), codes, WORDS)
    rule = (atom(text.predicates.text, "token", "Delta"),)
    everywhere = np.ones(len(tokens), bool)
    counts = count_rules(
        text, text.predicates, everywhere, [[rule]], latents=np.array([0]), sampled=[np.zeros(0, np.int64)]
    )
    assert counts.holds.sum() == counts.both.sum() == fires.sum()


def test_rules_are_searched_among_the_rows_that_have_codes(tmp_path):
    """Padding also stands before padding: a latent at the end of the text says so, and so do few rows that can fire."""
    rng = np.random.default_rng(1)
    tokens = random_text(rng, n_seq=600)
    kept = np.arange(tokens.shape[1]) < rng.integers(2, 8, len(tokens))[:, None]
    tokens[~kept] = len(WORDS)
    fires = kept & (np.roll(tokens, -1, 1) == len(WORDS))
    codes = CodeStore.create(tmp_path / "codes", n_rows=tokens.size, d_sae=1)
    rows = torch.from_numpy(np.flatnonzero(kept))
    codes.write_file("0", rows, firing_where(fires.reshape(-1, 1)).take(rows))
    text = CodedText.from_codes(torch.from_numpy(tokens), codes, [*WORDS, "<pad>"])
    found = explain(text, FitFirings.read(text, fit_half(tokens).numpy())).latents
    assert found.phrases == ['tokens before "<pad>"'] and found.f1[0] == 1
