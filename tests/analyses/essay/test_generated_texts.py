"""Distances of n-grams against the definition written out; words against texts where they can be counted."""

import math

import pytest
import torch

from analyses.essay.texts.generated import ngram_distance, word_share, words_of


def test_the_distance_is_the_root_of_the_divergence_written_out():
    """P: ab, ba, ab → ab ⅔, ba ⅓.  Q: aa → 1."""
    p, q = torch.tensor([[0, 1, 0, 1]]), torch.tensor([[0, 0]])
    assert ngram_distance(p, q, 2) == pytest.approx(1.0)
    q = torch.tensor([[0, 1], [0, 0]])  # ab ½, aa ½
    m = {"ab": 7 / 12, "ba": 1 / 6, "aa": 1 / 4}
    kl_p = 2 / 3 * math.log2(2 / 3 / m["ab"]) + 1 / 3 * math.log2(1 / 3 / m["ba"])
    kl_q = 1 / 2 * math.log2(1 / 2 / m["ab"]) + 1 / 2 * math.log2(1 / 2 / m["aa"])
    assert ngram_distance(p, q, 2) == pytest.approx(math.sqrt((kl_p + kl_q) / 2))
    assert ngram_distance(q, p, 2) == pytest.approx(ngram_distance(p, q, 2)) and ngram_distance(p, p, 2) == 0


def test_runs_do_not_cross_sequences_and_n_counts():
    p = torch.tensor([[0, 1], [1, 0]])
    assert ngram_distance(p, torch.tensor([[0, 1], [1, 0], [0, 1], [1, 0]]), 2) == 0
    assert ngram_distance(p, torch.tensor([[0, 1, 1, 0]]), 2, n=1) == 0
    assert ngram_distance(torch.tensor([[0, 1, 2]]), torch.tensor([[0, 1, 3]]), 4, n=3) == 1


def test_words_are_runs_of_three_letters_or_more():
    words = words_of(["'Tis the Question: o'er it", "no"])
    assert words == {"tis", "the", "question", "o'er"}
    assert word_share(["x the quxx o'er it QUESTION y"], words) == pytest.approx(3 / 4)


def test_words_cut_off_at_an_end_do_not_count():
    assert word_share(["estion the que"], {"the"}) == 1
    assert math.isnan(word_share(["the"], {"the"}))
