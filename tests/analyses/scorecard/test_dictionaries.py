"""The scorecard's measures, each against dictionaries of which the answer is known."""

import json

import numpy as np
import pytest
import scipy.sparse
import torch

from analyses import result_tables
from analyses.scorecard.dictionaries import __main__ as card
from analyses.scorecard.dictionaries import subject
from analyses.scorecard.dictionaries.absorption import (
    ABSORBERS,
    ABSORBING,
    ALONG,
    SHARE,
    Words,
    absorbed,
    absorption,
    spelling,
)
from analyses.scorecard.dictionaries.probing import Pieces, Tasks, baselines, pooled, probing, random_features
from analyses.scorecard.dictionaries.structure import pursuit, random_rows, structure
from analyses.scorecard.dictionaries.subject import NULLS
from interp.sae import SAE
from interp.sae.architectures.thresholds import Threshold


def relu_sae(W_enc, W_dec, threshold: float = 0.0) -> SAE:
    """z = ReLU(x W_enc − threshold)"""
    d_sae = len(W_dec)
    zero = torch.zeros(W_dec.shape[1])
    return SAE(
        W_enc=W_enc,
        W_dec=W_dec,
        b_enc=torch.full((d_sae,), -threshold),
        b_dec=zero,
        encoder=Threshold(torch.zeros(d_sae)),
    )


LETTERS, PER_LETTER = "abcdef", 40


def spelt(absorbing: float) -> tuple[Words, SAE]:
    """Return words whose activation is a direction of their first letter and one of their own, and a dictionary that
    has a latent for each; of a share of the words, the last of each letter, the word's latent writes the letter too,
    and the letter's is silent there. One more latent fires at every word, and writes the first letter."""
    n = len(LETTERS) * PER_LETTER
    basis = torch.eye(len(LETTERS) + n + 1)
    letter_of = torch.arange(n) // PER_LETTER
    letters, own = basis[: len(LETTERS)], basis[len(LETTERS) : -1]
    x = 2 * letters[letter_of] + own + 3 * basis[-1]
    taken = torch.arange(n) % PER_LETTER >= round((1 - absorbing) * PER_LETTER)
    W_enc, W_dec = basis.clone(), basis.clone()
    W_dec[-1] += letters[0]
    for word in taken.nonzero()[:, 0]:
        letter = letter_of[word]
        W_enc[
            len(LETTERS) + word, letter
        ] = -4.0  # [d_in, d_sae]: the word's direction keeps the letter's latent silent
        W_dec[len(LETTERS) + word] += 2 * letters[letter]
    return Words(x, [f"{LETTERS[int(letter)]}{i}" for i, letter in enumerate(letter_of)]), relu_sae(W_enc, W_dec)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_as_many_words_are_absorbed_as_were_planted(share):
    words, sae = spelt(share)
    read = spelling(words, seed=0)
    assert read.accuracy == 1 and read.spelt == list(range(len(LETTERS)))
    found = absorption(sae, words, read)
    planted = np.mean(
        [
            np.mean([i % PER_LETTER >= round((1 - share) * PER_LETTER) for i in read.test if read.letters[i] == letter])
            for letter in read.spelt
        ]
    )
    assert found["full"] == pytest.approx(planted) and found["fraction"] == pytest.approx(planted)
    assert all(row["main"] == [letter] for letter, row in enumerate(found["letters"].values()))
    for row in found["letters"].values():
        assert all(latent == len(LETTERS) + words.words.index(word) for word, latent in row["examples"])


def test_a_model_that_cannot_spell_is_not_measured():
    words, sae = spelt(0.5)
    generator = torch.Generator().manual_seed(0)
    noise = Words(torch.randn(words.x.shape, generator=generator), words.words)
    read = spelling(noise, seed=0)
    assert read.accuracy < 0.5 and absorption(sae, noise, read) == {"letters": {}}


def test_absorption_is_what_a_loop_in_double_precision_finds():
    generator = torch.Generator().manual_seed(1)
    z = (torch.randn(200, 12, generator=generator) - 0.3).relu()
    W_dec, off = torch.randn(12, 5, generator=generator), torch.randn(200, 5, generator=generator)
    p, x = torch.nn.functional.normalize(torch.randn(5, generator=generator), dim=0), (z - z.mean(0)) @ W_dec + off
    main, usual = (W_dec @ p).topk(3).indices[1:].tolist(), z.mean(0)
    full, fraction, top = absorbed(z, usual, W_dec, p, x, main)
    kinds = set()
    for i in range(200):
        along = [float(row.double() @ p.double()) for row in W_dec]
        cosine = [a / float(row.double().norm()) for a, row in zip(along, W_dec, strict=True)]
        gives = [float(z[i, j].double() - usual[j].double()) * along[j] for j in range(12)]
        target, of_main = float(x[i].double() @ p.double()), sum(gives[j] for j in main)
        best = max((j for j in range(12) if z[i, j] > 0), key=gives.__getitem__)
        silent = all(z[i, j] == 0 for j in main)
        is_full = silent and target > 0 and cosine[best] >= ALONG and gives[best] >= SHARE * target
        others = [max(gives[j], 0) for j in range(12) if j not in main and cosine[j] >= ABSORBING]
        largest = sum(sorted(others)[-ABSORBERS:])
        if target <= 0 or of_main >= target or largest < SHARE * target:
            expected = 0.0
        elif of_main <= 0:
            expected = 1.0
        else:
            took = min(largest, target - of_main)
            expected = took / (took + of_main)
        assert bool(full[i]) == is_full and int(top[i]) == best
        assert float(fraction[i]) == pytest.approx(expected, abs=1e-5)
        kinds.add((is_full, 0 < expected < 1, expected == 1))
    assert kinds >= {(False, False, False), (False, True, False), (True, False, True)}, "none, a part, and all of it"


def pieces(seed: int, n: int = 300, d: int = 8) -> Pieces:
    """Return two rows a piece; label "one" says that direction 0 is up, "five" that two of directions 1 to 5 are, at
    least; no token tells either."""
    generator = torch.Generator().manual_seed(seed)
    up = torch.rand(n, d, generator=generator) < 0.3
    x = (4.0 * up - 1).repeat_interleave(2, 0) + 0.3 * torch.randn(2 * n, d, generator=generator)
    tokens = torch.randint(5, (2 * n,), generator=generator).numpy()
    of_row = torch.arange(n).repeat_interleave(2)
    counts = scipy.sparse.coo_matrix((np.ones(2 * n, np.float32), (of_row.numpy(), tokens)), shape=(n, 5)).tocsr()
    marked = {"one": up[:, 0].numpy(), "five": (up[:, 1:6].sum(1) >= 2).numpy(), "rare": np.arange(n) < 3}
    return Pieces(x, of_row, counts, marked, dict.fromkeys(marked, np.ones(n, bool)))


def test_probing_finds_a_label_by_its_planted_latents():
    tasks = Tasks(pieces(0), pieces(1))
    assert tasks.labels == ["one", "five"] == tasks.hard
    found = probing(relu_sae(torch.eye(8), torch.eye(8)), tasks, seed=0)
    one, five = found["tasks"]["one"], found["tasks"]["five"]
    assert one[0] == pytest.approx(1) and five[0] < 0.8 and five[1] > 0.97
    assert found["k=1"] == pytest.approx((one[0] + five[0]) / 2)
    beside = baselines(tasks, seed=0)
    assert beside["activations"]["k=5"] > 0.97 and abs(beside["token counts"]["k=5"] - 0.5) < 0.15


def test_pooled_latents_are_means_over_the_rows_of_a_piece():
    text, sae = pieces(2, n=7), relu_sae(torch.eye(8), torch.eye(8))
    expected = sae.encode(text.x).view(7, 2, 8).mean(1)
    torch.testing.assert_close(torch.from_numpy(pooled(sae, text).toarray()), expected)


def test_random_dictionary_fires_as_often_as_the_compared_one():
    x = pieces(3).x
    sae = relu_sae(torch.cat([torch.eye(8), -torch.eye(8)], 1), torch.eye(8).repeat(2, 1), threshold=0.5)
    silent = relu_sae(torch.eye(8), torch.eye(8), threshold=1e6)
    for like in (sae, silent):
        random = random_features(like, x, seed=0)
        torch.testing.assert_close((random.encode(x) > 0).sum(0), (like.encode(x) > 0).sum(0))
    assert not torch.equal(random_features(sae, x, 0).W_dec, random_features(sae, x, 1).W_dec)


def test_directions_that_were_made_of_others_are_found():
    atoms, x = torch.eye(64), torch.eye(64)
    pairs = torch.nn.functional.normalize(atoms[:16] + atoms[16:32], dim=1)
    explained = pursuit(torch.cat([atoms, pairs]))
    torch.testing.assert_close(explained[64:, 1], torch.ones(16))
    torch.testing.assert_close(explained[:32, 0], torch.full((32,), 0.5))  # the pair alone, since nothing is subtracted
    torch.testing.assert_close(explained[32:64], torch.zeros(32, 4))
    made = torch.cat([atoms, pairs, atoms[:8]])
    with_twins = structure(relu_sae(made.T, made), x, seed=0)
    assert with_twins["twins"] == pytest.approx(16 / 88) and with_twins["rows"] == 88
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(500, 128, generator=generator) * torch.linspace(0.2, 2, 128)
    assert abs(structure(relu_sae(drawn.T, drawn), drawn, seed=1)["composed"]) < 0.005, "no more than second moments"
    mixed = random_rows(drawn, 0)
    assert not torch.isclose(mixed @ drawn.T, mixed.norm(dim=1) * drawn.norm(dim=1), rtol=0.2).any()


def test_noise_is_what_rows_and_columns_do_not_explain():
    generator = np.random.default_rng(0)
    values = np.array([[1.0], [5.0], [2.0]]) + np.arange(4.0)
    assert card.noise(values.tolist())[0] == pytest.approx(0, abs=1e-12)
    noisy = values + 0.1 * generator.standard_normal((2000, 3, 4))
    deviations, smallest = np.array([card.noise(each.tolist()) for each in noisy]).T
    assert np.sqrt(np.square(deviations).mean()) == pytest.approx(0.1, rel=0.03)
    assert np.median(smallest / deviations) == pytest.approx((2.446912 + 0.905703) * np.sqrt(2 / 4), rel=1e-5)
    assert np.isnan(card.noise([[1.0, 2.0]])).all()


@pytest.mark.parametrize(("values", "gap"), [((0.3, 0.5), 0.1), ((0.1, 0.0), 0.1), ((0.1, 0.4), 0.0)])
def test_a_null_among_the_trained_dictionaries_is_not_separated_from_them(values, gap):
    nulls = {name: [0.2] for name in NULLS}
    numbers = {
        "values": {"one": {"FVU": [values[0]]}, "two": {"FVU": [values[1]]}} | {n: {"FVU": v} for n, v in nulls.items()}
    }
    (claim,) = card.claims({"run": numbers | {"smallest difference": {"FVU": 0.01}}})
    assert all(each["gap"] == pytest.approx(gap) for each in claim.numbers.values()) and claim.holds == (gap > 0)


def test_the_scorecard_measures_what_is_trained_and_what_is_named(tiny_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(subject, "TRAINED", {"interp TopK": [6e-3], "interp frozen decoder": [6e-3]})
    words = [str(tiny_run.path), "--out", str(tmp_path), "--threads", "1", "--d-sae", "48", "--tokens", "2000"]
    words += ["--batch", "256", "--test-tokens", "1000", "--seeds", "2", "--k", "4", "--characters", "30000"]
    results = card.main([*words, "--dictionaries", str(tiny_run.folder("sae"))])
    named = f"{tiny_run.path.name}/sae"
    found = results["values"][tiny_run.path.name]
    values = found["values"]
    assert set(values) == {"interp TopK", "interp frozen decoder", named, "random features", *card.BESIDE}
    assert all(len(values[name]["FVU"]) == 2 and values[name]["L0"][0] > 0 for name in ("interp TopK", named))
    assert found["texts"]["spelling"][0]["letters"] < 5 and "fraction" not in values[named], "a tiny model cannot spell"
    assert found["smallest difference"]["FVU"] > 0 and found["noise"]["composed"] >= 0
    assert json.loads((tmp_path / "results.json").read_text())["claims"][0]["row"] == "FVU"
    assert "FVU separates" in capsys.readouterr().out
    assert "the model cannot spell" in result_tables.dictionaries(results)
    assert "separate trained dictionaries from both nulls" in result_tables.dictionaries_in_short(results)


def test_what_cannot_be_measured_is_refused_in_a_line(tiny_run, tmp_path, capsys):
    for words, message in (
        ([str(tmp_path)], "is not a run folder"),
        ([str(tiny_run.path), "--no-training"], "name --dictionaries"),
        ([str(tiny_run.path), "--k", "4", "8"], "2 numbers for 1 runs"),
    ):
        with pytest.raises(SystemExit) as end:
            card.main(words)
        assert end.value.code == 2 and message in capsys.readouterr().err
