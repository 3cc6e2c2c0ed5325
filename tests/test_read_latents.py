"""Latents that readers judged: their folder is read as it is written, and the verdict is held against it."""

import json

import numpy as np
import pandas as pd
import pytest

from analyses.scorecard.judged import READ, claimed, fit_to
from analyses.scorecard.read_latents import agreement, read_latents, read_sources
from interp.verdict.calibration import Calibration
from interp.verdict.similarity import NAMES

N_SEQ, N_CTX, WORDS = 400, 64, 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve latents of one rare word each, and twelve of three such words; the readers saw which."""
    path, rng = tmp_path_factory.mktemp("readings"), np.random.default_rng(0)
    tokens = rng.integers(WORDS, size=N_SEQ * N_CTX)
    rows, entries = [], []
    for latent in range(24):
        words = rng.choice(WORDS, 1 if latent < 12 else 3, replace=False)
        fires = np.flatnonzero(np.isin(tokens, words))
        entries += [("mine", latent, row, value) for row, value in zip(fires, rng.gamma(2, 1, len(fires)), strict=True)]
        p, n = (90, 1) if latent < 12 else (10, 3)
        rows.append(("mine", latent, "random", "own", p, p - 5, n, n, "words", "words"))
    both = [f"{name}_{reader}" for name in ("p_one", "n_meanings", "meaning") for reader in (1, 2)]
    pd.DataFrame(rows, columns=["source", "latent", "draw", "text_of", *both]).to_csv(
        path / "readings.csv", index=False
    )
    pd.DataFrame(entries, columns=["source", "latent", "row", "value"]).to_parquet(path / "codes.parquet")
    pd.DataFrame({"token": tokens}).to_parquet(path / "tokens-own.parquet")
    vocab = [f" {chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{i}" for i in range(WORDS)]
    (path / "vocab-own.json").write_text(json.dumps({"n_ctx": N_CTX, "vocab": vocab}))
    return path


def test_what_readers_say_is_held_against_the_verdict(folder):
    assert read_sources(folder) == ["mine"]
    judged = read_latents(folder, "mine", Calibration.load())
    assert set(judged.family) == {READ + "mine"} and judged.tested.all()
    assert list(judged.is_one) == [True] * 12 + [False] * 12 and set(judged.true_senses[12:]) == {3}
    found = agreement(judged).set_index("source").loc["all"]
    assert found.auroc > 0.95 and found.readers == 0.5 and abs(found.verdict - 0.5) < 0.15
    assert found.n_senses == 12 and found.senses > 0.6


def test_read_latents_are_fitted_like_any_others(folder):
    statistics = read_latents(folder, "mine")
    assert "monosemanticity" not in statistics and len(claimed(statistics)) == 24
    fitted = fit_to(statistics)
    p = fitted.probability(statistics[list(NAMES)].to_numpy(), np.zeros((24, 2, 2))).one
    assert p[:12].min() > p[12:].max()
