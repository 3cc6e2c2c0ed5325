"""Rules against a naive reading of the text, and planted rules that must be found."""

import numpy as np
import pytest
import torch

from interp.codes import SparseCodes
from interp.explain import explain
from interp.explain.predicates import (
    AFTER,
    AFTER_CLASS,
    CLASS,
    INSIDE,
    INSIDE_LEAST,
    NEAR,
    REACH,
    TOKEN,
    Atom,
    Text,
    plain_strings,
    token_classes,
)
from interp.explain.search import BaseCounts

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


def random_text(rng, n_seq=256, n_ctx=24):
    """Stretches of Hebrew in the other words, each sequence by itself."""
    hebrew = np.cumsum(rng.random((n_seq, n_ctx)) < 0.1, axis=1) % 2 == 1
    other = rng.choice([i for i in range(len(WORDS)) if i not in (9, 10, 11)], size=hebrew.shape)
    return np.where(hebrew, rng.integers(9, 12, size=hebrew.shape), other).astype(np.int32)


def naive(atom, text, row):
    position, tokens = row % text.n_ctx, text.tokens
    before = tokens[row - min(REACH, position) : row]

    def member(token):
        return bool(int(text.classes[token]) >> atom.of_class & 1)

    return {
        TOKEN: lambda: tokens[row] in atom.tokens,
        CLASS: lambda: member(tokens[row]),
        AFTER: lambda: position > 0 and tokens[row - 1] in atom.tokens,
        AFTER_CLASS: lambda: position > 0 and member(tokens[row - 1]),
        NEAR: lambda: atom.tokens[0] in before,
        INSIDE: lambda: sum(member(token) for token in before) >= INSIDE_LEAST,
    }[atom.kind]()


def firing_where(truth):
    return SparseCodes.from_dense(torch.from_numpy(truth.astype(np.float32)))


def explained(tokens, truth, fit=None):
    fit = torch.arange(len(tokens)) % 2 == 0 if fit is None else fit
    return explain(
        torch.from_numpy(tokens), firing_where(truth), WORDS, fit, maxima=np.ones(truth.shape[1], np.float32)
    )


def class_of(text, called):
    return [name for name, _ in text.class_names].index(called)


def test_base_counts_are_those_of_a_naive_reading():
    text = Text.read(random_text(np.random.default_rng(0), 20), WORDS)
    half = np.arange(20) % 2 == 0
    base = BaseCounts.count(text, half)
    hebrew = class_of(text, "tokens in Hebrew script")
    atoms = [Atom(kind, (3,)) for kind in (TOKEN, AFTER, NEAR)] + [Atom(TOKEN, (1, 9))]
    atoms += [Atom(kind, of_class=hebrew) for kind in (CLASS, AFTER_CLASS, INSIDE)]
    for atom in atoms:
        rows = [row for row in range(text.tokens.size) if half[row // text.n_ctx]]
        assert base.of(atom) == sum(naive(atom, text, row) for row in rows), atom


def test_scores_of_explanations_are_those_of_a_naive_reading():
    """Noisy latents, whatever rules they get: single atoms and pairs."""
    rng = np.random.default_rng(1)
    tokens = random_text(rng)
    text = Text.read(tokens, WORDS)
    flat = text.tokens
    previous = np.roll(flat, 1)
    first = np.arange(flat.size) % text.n_ctx == 0
    causes = [
        flat == 4,
        np.isin(flat, (9, 10, 11)),
        (flat == 0) & (previous == 4) & ~first,
        np.isin(previous, (6, 7)) & ~first,
    ]
    truth = np.stack([(cause & (rng.random(flat.size) < 0.7)) | (rng.random(flat.size) < 0.01) for cause in causes], 1)
    got = explained(tokens, truth)
    held_out = (np.arange(flat.size) // text.n_ctx) % 2 == 1
    assert {len(rule) for rule in got.rules} == {1, 2}
    for latent, rule in enumerate(got.rules):
        says = np.array([all(naive(atom, text, row) for atom in rule) for row in range(flat.size)])[held_out]
        fires = truth[held_out, latent]
        both = (says & fires).sum()
        assert got.f1[latent] == pytest.approx(2 * both / (says.sum() + fires.sum()))
        assert got.precision[latent] == pytest.approx(both / says.sum())
        assert got.recall[latent] == pytest.approx(both / fires.sum())


def test_planted_rules_are_found_and_said():
    tokens = random_text(np.random.default_rng(2))
    text = Text.read(tokens, WORDS)
    hebrew, numbers = (class_of(text, called) for called in ("tokens in Hebrew script", "numbers"))
    planted = {
        '"Delta"': (Atom(TOKEN, (3,)),),
        '"alpha" or "gamma"': (Atom(TOKEN, (0, 2)),),
        'tokens after "("': (Atom(AFTER, (4,)),),
        '"if" or "def" after a newline': (Atom(TOKEN, (12, 13)), Atom(AFTER, (6,))),
        "tokens in Hebrew script": (Atom(CLASS, of_class=hebrew),),
        "tokens inside Hebrew script": (Atom(INSIDE, of_class=hebrew),),
        'tokens within 8 tokens after "THE"': (Atom(NEAR, (14,)),),
        '"," inside Hebrew script': (Atom(TOKEN, (15,)), Atom(INSIDE, of_class=hebrew)),
        "numbers": (Atom(CLASS, of_class=numbers),),
    }
    rows = range(text.tokens.size)
    truth = np.array([[all(naive(a, text, row) for a in rule) for rule in planted.values()] for row in rows])
    got = explained(tokens, truth)
    same = {frozenset(said.replace('"def" or "if"', '"if" or "def"').split()) for said in got.phrases}
    wanted = dict(zip(planted, got.phrases, strict=True))
    # Sets that cover the same tokens may be said either way: two numbers are a set and a class.
    assert sum(frozenset(phrase.split()) in same for phrase in planted) >= len(planted) - 1, wanted
    assert (got.f1 > 0.95).all(), dict(zip(got.phrases, got.f1, strict=True))


def test_the_score_is_the_half_the_rule_was_not_chosen_on():
    tokens = random_text(np.random.default_rng(3))
    fit = np.arange(len(tokens)) % 2 == 0
    truth = np.where(np.repeat(fit, tokens.shape[1]), tokens.reshape(-1) == 0, tokens.reshape(-1) == 1)[:, None]
    got = explained(tokens, truth)
    assert got.phrases == ['"alpha"'] and got.f1_fit[0] == 1 and got.f1[0] == 0


def test_latents_that_hardly_fire_stay_unexplained():
    tokens = random_text(np.random.default_rng(4), 8)
    truth = np.zeros((tokens.size, 2), bool)
    truth[:2, 0] = True
    got = explained(tokens, truth)
    assert got.phrases == ["", ""] and np.isnan(got.f1).all() and got.rules == [(), ()]


@pytest.mark.parametrize(
    ("string", "called"),
    [
        ("⟨d7⟩", "tokens in Hebrew script"),
        ("αβ", "tokens in Greek script"),
        ("日本", "tokens in Chinese script"),
        ("a3", "hex digits"),
        ("GATTACA", "strings of A, C, G, T"),
        ("xQ9z", "letters mixed with digits or capitals"),
        ("\n", "a newline"),
        ("    ", "indentation"),
        ("<div", "markup"),
        ("([", "brackets"),
    ],
)
def test_token_classes(string, called):
    names, bits = token_classes([string, "plain"])
    place = [name for name, _ in names].index(called)
    assert int(bits[0]) >> place & 1 and not int(bits[1]) >> place & 1


def test_marks_for_spaces_are_read_as_spaces_only_where_they_are_marks():
    assert plain_strings(["Ġthe", "Ċ", "a"]) == [" the", "\n", "a"]
    assert plain_strings(["a"] * 100 + ["Ġ"])[-1] == "Ġ"


def test_odd_characters_are_shown_safely():
    text = Text.read(np.zeros((1, 4), np.int32), ["\x1b", '"', "\n"])
    assert text.phrase((Atom(TOKEN, (0,)),)) == '"\\x1b"'
    assert text.phrase((Atom(AFTER, (2,)),)) == "tokens after a newline"
