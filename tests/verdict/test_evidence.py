"""The evidence of latents: how firings are weighed, and what is counted at all."""

import numpy as np
import pytest
import torch

from interp.codes.code_store import CodeStore
from interp.codes.sparse_codes import SparseCodes
from interp.verdict.calibration import Calibration
from interp.verdict.coded_text import CodedText
from interp.verdict.evidence import collect_evidence
from interp.verdict.firing_comparison import COMPARING, FULL_FIRINGS, WEIGHT_EXPONENT, firing_weights
from interp.verdict.ranking import rank_codes
from interp.verdict.similarity import STATISTIC_NAMES
from tests.copied_text import copied_text, counted


def test_tenths_with_few_firings_weigh_less_and_strong_firings_more():
    weights = firing_weights(np.repeat([0, 5, 9], [12, 12, 2]))
    assert weights.sum() == pytest.approx(1)
    totals = [weights[:12].sum(), weights[12:24].sum(), weights[24:].sum()]
    np.testing.assert_allclose(
        np.array(totals) / totals[1], np.array([0.5 / 5.5, 1, 9.5 / 5.5]) ** WEIGHT_EXPONENT * [1, 1, 2 / FULL_FIRINGS]
    )


def test_evidence_without_any_firing_is_not_testable():
    codes = SparseCodes.from_dense(torch.zeros(64, 3))
    tokens = torch.arange(64, dtype=torch.int32).reshape(8, 8) % 5
    evidence = collect_evidence(CodedText.from_codes(tokens, codes), Calibration.load())
    assert not evidence.testable.any() and np.isnan(evidence.null(STATISTIC_NAMES[0]).z).all()
    assert (evidence.observed.n_senses == 0).all()


def test_the_progress_of_a_comparison_reaches_its_end():
    tokens = torch.from_numpy(np.random.default_rng(0).integers(5, size=(40, 16)).astype(np.int32))
    told = []
    codes = SparseCodes.from_dense((tokens == 3).reshape(-1, 1).float())
    collect_evidence(CodedText.from_codes(tokens, codes), Calibration.load(), progress=lambda *step: told.append(step))
    assert told[-1] == (1, 1, COMPARING)


def test_evidence_is_of_each_window_once():
    """The evidence is that of codes silent on repeated text, except for how often and on which words a latent fires."""
    rng = np.random.default_rng(3)
    tokens = copied_text(rng, n_seq=240)
    z = np.stack([np.isin(tokens, rng.choice(50, 3)).reshape(-1) for _ in range(12)], 1) * rng.random((tokens.size, 12))
    z = z.astype(np.float32) / z.max(0).astype(np.float32)
    z[np.arange(12), np.arange(12)] = 1  # the largest values are in the first sequence, whose windows count
    silent = z * counted(tokens)[:, None]
    tables = [
        rank_codes(torch.from_numpy(tokens), SparseCodes.from_dense(torch.from_numpy(each))) for each in (z, silent)
    ]
    assert (tables[0]["n_active"] > tables[1]["n_active"]).all()
    for name in ("latent", "monosemanticity", "ci_low", "ci_high", "n_senses", "concentration"):
        np.testing.assert_array_equal(tables[0][name], tables[1][name])


def test_density_is_the_share_of_the_rows_that_were_encoded(tmp_path):
    """A latent that fires on six of ten rows is dense, although two thirds of the text are padding."""
    tokens = torch.from_numpy(np.random.default_rng(0).integers(5, size=(60, 30)).astype(np.int32))
    kept = torch.arange(10) + 30 * torch.arange(60)[:, None]
    codes = CodeStore.create(tmp_path / "codes", n_rows=tokens.numel(), d_sae=1)
    codes.write_file("0", kept.flatten(), SparseCodes.from_dense((kept.flatten() % 10 < 6).float()[:, None]))
    [row] = rank_codes(tokens, codes).to_dict(orient="records")
    assert row["density"] == pytest.approx(0.6) and row["verdict"] == "dense"


def test_firings_without_meaning_are_within_their_null_in_padded_text(tmp_path):
    """No firing is moved into the padding, whose tokens are all alike."""
    rng = np.random.default_rng(1)
    tokens = rng.integers(1, 300, (200, 64)).astype(np.int32)
    kept = np.arange(64) < rng.integers(8, 40, 200)[:, None]
    tokens[~kept] = 0
    z = torch.from_numpy((rng.random((tokens.size, 12)) < 0.05) * rng.random((tokens.size, 12))).float()
    rows = torch.from_numpy(np.flatnonzero(kept))
    codes = CodeStore.create(tmp_path / "codes", n_rows=tokens.size, d_sae=12)
    codes.write_file("0", rows, SparseCodes.from_dense(z[rows]))
    text = CodedText.from_codes(torch.from_numpy(tokens), codes, [f" w{i}" for i in range(300)])
    evidence = collect_evidence(text, Calibration.load())
    assert all(abs(evidence.null(name).z.mean()) < 1 for name in STATISTIC_NAMES)
    # What holds at all tokens beside padding is not rare: nothing makes these firings alike.
    assert evidence.probability.one.max() < 0.05 and evidence.statistic("evenness").max() < 0.2


def test_firings_without_meaning_are_within_their_null_in_copied_text():
    """No firing is moved into the copies, which are alike by themselves and are no evidence."""
    rng = np.random.default_rng(2)
    tokens = rng.zipf(1.3, (300, 64)).clip(1, 299).astype(np.int32)
    tokens[rng.choice(np.arange(5, 300), 240, replace=False)] = tokens[rng.integers(0, 5, 240)]
    z = torch.from_numpy((rng.random((tokens.size, 12)) < 0.05) * rng.random((tokens.size, 12))).float()
    codes = SparseCodes.from_dense(z)
    text = CodedText.from_codes(torch.from_numpy(tokens), codes, [f" w{i}" for i in range(300)])
    evidence = collect_evidence(text, Calibration.load())
    assert all(abs(evidence.null(name).z.mean()) < 1 for name in STATISTIC_NAMES)
    # Nor do copies make what they hold common, beside which all else seems rare.
    assert evidence.probability.one.max() < 0.01


def test_token_ids_may_have_a_small_dtype():
    tokens = torch.from_numpy(np.random.default_rng(0).integers(5, size=(40, 16)))
    codes, dtypes = (
        SparseCodes.from_dense((tokens == 3).reshape(-1, 1).float()),
        (torch.int64, torch.uint8, torch.int16),
    )
    large, *small = (rank_codes(tokens.to(dtype), codes, vocab=list("abcde"))["concentration"] for dtype in dtypes)
    assert large.notna().all() and all(large.equals(each) for each in small)
