"""Biographies carry the odds that were planted, swapping is its own inverse, and the analysis runs whole."""

import math
from itertools import islice
from random import Random

import numpy as np
import pytest

from analyses.essay import paired_prompts
from analyses.essay.texts import biographies as bios
from tests.analyses.essay.prose import hold_to_prose


def lives(odds, n, seed=0):
    return [document.text for document in islice(bios.biographies(odds, Random(seed)), n)]


def test_counted_odds_are_the_planted_ones():
    odds = bios.plant_odds(3)
    counts = bios.pronoun_counts(lives(odds, 20_000), (*bios.NAMES, bios.SOMEBODY))
    for name, (he, she) in counts.items():
        p = 1 / (1 + math.exp(-odds.subjects[name]))
        # Verbs add up to .8 to a quarter of the sentences; names tell how far that and chance may move the share.
        assert abs(he / (he + she) - p) < 0.04 + 3 * math.sqrt(p * (1 - p) / (he + she)), name


def test_odds_are_dealt_out_by_the_seed_over_the_whole_range():
    first, second = bios.plant_odds(0), bios.plant_odds(1)
    assert sorted(first.subjects.values()) == sorted(second.subjects.values()) and first.subjects != second.subjects
    assert {first.subjects[noun] for noun in bios.NOUNS} >= {-2.5, 2.5}
    assert sorted(first.withheld.values()) == [0] * 15 + [1] * 15


def test_biographies_never_use_a_noun_in_its_withheld_form():
    odds = bios.plant_odds(0)
    texts = lives(odds, 3000)
    for noun, form in odds.withheld.items():
        begins = (
            [text.startswith(f"The {noun}") for text in texts]
            if form == 0
            else [f"When the {noun} came" in t for t in texts]
        )
        other = (
            [text.startswith(f"The {noun}") for text in texts]
            if form == 1
            else [f"When the {noun} came" in t for t in texts]
        )
        assert not any(begins) and any(other)


def test_pronouns_of_a_biography_agree_and_swap_back():
    he, she = set("he his him".split()), set("she her".split())
    for text in lives(bios.plant_odds(0), 500):
        words = set(text.lower().replace(".", " ").replace(",", " ").split())
        assert bool(words & he) != bool(words & she)
        swapped = bios.swap_pronouns(text)
        assert bios.swap_pronouns(swapped) == text and (words & he == set()) == ("he" in swapped.lower().split())


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("She saw him, and HE his ring.", "He saw her, and SHE her ring."),
        ("I gave her to the king; her crown is hers.", "I gave him to the king; his crown is his."),
        ("Look at her. The others hear himself", "Look at him. The others hear herself"),
    ],
)
def test_swapping_keeps_capitals_and_reads_her_by_what_follows(text, swapped):
    assert bios.swap_pronouns(text) == swapped


def test_the_first_pronoun_in_the_window_counts():
    texts = ["The king said that he saw her; she slept.", "A king, and she.", "king one two three four he"]
    assert bios.pronoun_counts(texts, ["king"], window=4) == {"king": (1, 1)}
    assert bios.pronoun_counts(texts, ["king"]) == {"king": (2, 1)}


def test_prompts_end_before_the_pronoun():
    assert [bios.prompt(form, "baker") for form in bios.PROMPT_FORMS] == [
        "The baker said that",
        "When the baker came home,",
    ]
    assert bios.prompt(bios.PROMPT_FORMS[0], bios.SOMEBODY, "hoped") == "Somebody hoped that"


def test_the_gap_is_the_mean_distance_from_the_prompt_without_a_noun():
    assert paired_prompts.gap(np.array([1.0, -2.0, 0.5]), 0.5) == pytest.approx((0.5 + 2.5 + 0) / 3)
    assert paired_prompts.corpus_log_odds(np.array([3]), np.array([0]))[0] == pytest.approx(math.log(7))


def test_quick_run_writes_claims_and_figures(tmp_path):
    results = paired_prompts.main(["--quick", "--threads", "1", "--out", str(tmp_path)])
    assert [claim["row"] for claim in results["claims"]] == ["26a", "26b", "26c", "26d"]
    assert results["figures"] == ["paired_prompts", "paired_prompts_balance"]
    assert len(results["values"]["nouns"]) >= 24
    hold_to_prose("paired_prompts", tmp_path)
