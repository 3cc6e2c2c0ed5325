"""Real text with lemmas, on a tiny stand-in for two Bibles: synonyms, words with several meanings, shared latents."""

import numpy as np
import pytest
import scipy.sparse

from interp.benchmark.judged import Counted, above_null, counted, cross_lingual
from interp.benchmark.lemma_text import Sense, Synonyms, lemma_text, synonyms
from interp.cli import main
from interp.codes import SparseCodes
from interp.monosemanticity.verdicts import wilson
from interp.pipeline.learned_world import Sizes, passages, real_text, sizes_for
from models.verses import MODULES, SWORD, read_verses

WORDS = {
    "H1": ("land", "tierra"), "H2": ("land", "tierra"), "H3": ("right", "derecha"), "H4": ("right", "justo"),
    "H5": ("david", "david"), "H6": ("king", "rey"),
}  # fmt: skip


def verses_of(n, seed=0):
    """n verses of five lemmas in English and the same in Spanish, each noun after an article."""
    drawn = np.random.default_rng(seed).choice(list(WORDS), size=(n, 5))
    return [
        [[pair for lemma in verse for pair in ((the, ""), (WORDS[lemma][language], str(lemma)))] for verse in drawn]
        for language, the in enumerate(("the", "la"))
    ]


@pytest.fixture(scope="module")
def languages():
    return verses_of(600)


@pytest.fixture(scope="module")
def joined(languages):
    return synonyms(languages)


def test_lemmas_that_two_languages_translate_alike_are_joined_and_those_of_one_word_are_not(languages, joined):
    assert joined == Synonyms(dict.fromkeys(("H1", "H2"), "H1+H2"), {})
    alone = dict.fromkeys(("H1", "H2"), "H1+H2") | dict.fromkeys(("H3", "H4"), "H3+H4")
    assert synonyms(languages[:1]) == Synonyms(alone, {})
    assert synonyms([[[("land", "H1")]]]) == Synonyms({}, {})


def test_lemmas_of_one_word_are_joined_there_if_the_other_language_has_one_word_for_them():
    """H1 is *see*, H2 *see* or *know*; *lie* is two things."""
    english = ["see see lie lie", "see know lie lie", "see know lie lie"] * 20
    spanish = ["ver ver yacer mentir", "ver saber yacer mentir", "mirar saber yacer mentir"] * 20
    languages = [
        [list(zip(verse.split(), ("H1", "H2", "H3", "H4"), strict=True)) for verse in own] for own in (english, spanish)
    ]
    found = synonyms(languages)
    assert found == Synonyms({}, {Sense(0, "see", "H2"): "H1", Sense(1, "ver", "H2"): "H1"})
    text = lemma_text(languages, 20, 24, joined=found)
    word = np.array(text.vocab)[text.tokens]
    assert len(set(text.meanings[word == " see"])) == 1 and len(set(text.meanings[word == " lie"])) == 2


def test_a_word_of_one_meaning_has_it_where_it_carries_none(languages, joined):
    bare = [[(word, lemma if i % 3 else "") for i, (word, lemma) in enumerate(verse)] for verse in languages[0]]
    text = lemma_text([bare, languages[1]], 80, 32, joined=joined)
    factors = {factor.name: factor for factor in text.of_meanings(80).factors}
    assert set(factors) == {f"lemma {name}" for name in ("H1+H2", "H3", "H4", "H5", "H6")}
    words = np.array(text.vocab)[text.tokens.reshape(-1)]
    assert set(words[factors["lemma H1+H2"].rows]) == {" land", " tierra"}
    assert len(factors["lemma H1+H2"].rows) == np.isin(words, [" land", " tierra"]).sum()
    assert len(factors["lemma H3"].rows) < np.isin(words, [" right", " derecha"]).sum()
    first = text.first(40)
    assert first.tokens.shape == (40, 32) and all(120 <= len(f.rows) <= 320 for f in first.factors)


def codes_of(masks):
    return SparseCodes.from_scipy(
        scipy.sparse.csr_matrix(np.stack([mask.reshape(-1) for mask in masks], 1).astype("f"))
    )


def test_a_latent_is_cross_lingual_if_one_meaning_has_its_mass_in_both_languages(languages):
    text = lemma_text(languages, 80, 32)
    word = np.array(text.vocab)[text.tokens]
    king, rey, david, justo = (word == f" {w}" for w in ("king", "rey", "david", "justo"))
    codes = codes_of([king | rey, king, david, king | justo, king | rey | david, 0 * king])
    found = cross_lingual(codes, text)
    joined = found.meaning >= 0
    assert joined.tolist() == [True, False, False, False, True, False]
    assert set(word[text.meanings == found.meaning[0]]) == {" king", " rey"}
    share = (king.sum() / (king | rey).sum(), rey.sum() / (king | rey).sum())
    assert found.shares[:, 0] == pytest.approx(share)
    assert counted([found, found])[:2] == (10, 4)
    with pytest.raises(ValueError, match="need two"):
        cross_lingual(codes, lemma_text(languages[:1], 80, 32))


def test_the_difference_from_the_null_has_newcombes_interval():
    """The example of his table II, a: 56/70 against 48/80."""
    own, null = Counted(70, 56, *wilson(56, 70)), Counted(80, 48, *wilson(48, 80))
    assert above_null(own, null) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def test_shuffled_verses_are_the_same_ones_away_from_their_translations(languages):
    sizes = Sizes(n_seq=80, judged=40, n_ctx=32)
    own, other = (passages(languages, Synonyms({}, {}), 0, sizes, shuffled=shuffled) for shuffled in (False, True))

    def english(text):
        return text.tokens[text.languages == 0], np.array(text.vocab)

    (ids, words), (other_ids, other_words) = english(own), english(other)
    assert (words[ids] == other_words[other_ids]).all()
    pairs = [
        [carried[spoken == language] for language in (0, 1)]
        for carried, spoken in ((t.meanings.reshape(-1), t.languages.reshape(-1)) for t in (own, other))
    ]
    assert (pairs[0][0] == pairs[0][1]).all() and (pairs[1][0] != pairs[1][1]).mean() > 0.3


@pytest.fixture(scope="module")
def real(languages):
    sizes = Sizes(n_seq=180, judged=128, n_ctx=64, d_sae=16, d_mlp=8, model_tokens=2000, sae_tokens=2000, d_model=16)
    return real_text(languages, 1, 12, sizes)


def test_a_model_of_the_verses_is_judged_beside_its_nulls(real):
    assert len(real.planted) == 12 and set(real.joined.lemmas) == {"H1", "H2"}
    assert real.learnt.basis.unique().tolist() == ["dictionary", "neurons", "untrained", "untrained neurons"]
    assert 0 <= real.cross.n_cross <= real.cross.n <= 16 and 0 < real.null.n <= 16


def test_the_command_prints_planted_and_learnt_latents_and_those_that_languages_share(real, monkeypatch, capsys):
    monkeypatch.setattr("models.verses.read_verses", lambda language: [])
    monkeypatch.setattr("interp.pipeline.learned_world.real_text", lambda *_: real)
    monkeypatch.setattr("interp.benchmark.scores.REPLICATES", 10)
    assert main(["scorecard", "--family", "bible"]) == 0
    said = capsys.readouterr().out
    assert "2 numbers translated alike count as 1 meanings" in said and "untrained neurons" in said
    assert f"{real.cross.n_cross} of {real.cross.n}" in said and "more than with shuffled verses" in said


@pytest.mark.skipif(not SWORD.is_dir(), reason="the packages sword-text-kjv and sword-text-sparv are not installed")
def test_both_bibles_are_parallel_and_their_gods_are_one():
    languages = [read_verses(language)[::4] for language in MODULES]
    joined = synonyms(languages)
    assert joined.lemmas["H0430"] == joined.lemmas["G2316"] and "H0875" not in joined.lemmas
    assert len(joined.senses) > 100 and Sense(0, "well", "H0875") not in joined.senses
    text = passages(languages, joined, 0, sizes_for(300)._replace(n_seq=256))
    assert len(text.factors) > 20 and 0.4 < text.languages.mean() < 0.6
