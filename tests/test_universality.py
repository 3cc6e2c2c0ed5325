"""Activation correlations of two dictionaries, against dense numpy and planted twins."""

import numpy as np
import pytest
import torch

from interp.codes import CodeStore, SparseCodes
from interp.compare.across_models import ShiftedCodes, universality
from interp.compare.estimates import bootstrap
from interp.features.feature_store import FeatureStore
from interp.metrics.joint_sums import joint_sums

ROWS, D, WIDE = 600, 7, 11


def dense(seed: int, width: int, density: float = 0.2) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (generator.random((ROWS, width)) * (generator.random((ROWS, width)) < density)).astype(np.float32)


def codes(z: np.ndarray) -> SparseCodes:
    return SparseCodes.from_dense(torch.from_numpy(z))


@pytest.fixture
def planted() -> tuple[np.ndarray, np.ndarray]:
    """Latent 0 is the other's 3, 1 is a noisy 5, 2 fires thrice, 3 never."""
    ours, theirs = dense(0, D), dense(1, WIDE)
    theirs[:, 3] = 2 * ours[:, 0]
    theirs[:, 5] = ours[:, 1] * (np.random.default_rng(2).random(ROWS) < 0.8)
    ours[:, 2:4] = 0
    ours[:3, 2] = 1
    return ours, theirs


@pytest.mark.parametrize("buffer_mb", [256, 0])
def test_joint_sums_are_those_of_dense_codes(buffer_mb, monkeypatch):
    monkeypatch.setattr("interp.metrics.joint_sums.ROWS_PER_CHUNK", 77)
    a, b = dense(0, D), dense(1, WIDE)
    parts = list(joint_sums(codes(a), codes(b), [(0, 0), (1, 1), (2, 0)], buffer_mb))
    assert len(parts) == (1 if buffer_mb else D)
    found = [np.concatenate(each) for each in zip(*(part.products for part in parts), strict=True)]
    fires, other = (a > 0).astype(float), (b > 0).astype(float)
    for sums, expected in zip(found, (fires.T @ other, a.T @ b, (a**2).T @ other), strict=True):
        np.testing.assert_allclose(sums, expected, rtol=1e-5)
    np.testing.assert_allclose(parts[0].theirs, [other.sum(0), b.sum(0), (b**2).sum(0)], rtol=1e-5)


def test_correlations_and_their_null_are_numpys(planted, monkeypatch):
    monkeypatch.setattr("interp.metrics.joint_sums.ROWS_PER_CHUNK", 77)
    ours, theirs = planted
    found = universality(codes(ours), codes(theirs), seed=1)
    assert found.table["latent"].tolist() == [0, 1, 4, 5, 6] and ROWS // 4 <= found.shift <= 3 * ROWS // 4
    for name, z in (("correlation", theirs), ("null", np.roll(theirs, -found.shift, axis=0))):
        with np.errstate(invalid="ignore"):  # one never fires
            every = np.corrcoef(ours.T, z.T)[:D, D:][found.table["latent"]]
        np.testing.assert_allclose(found.table[name], every.max(1), atol=1e-6)
        if name == "correlation":
            assert (found.table["other"] == every.argmax(1)).all()
    assert found.table["other"].tolist()[:2] == [3, 5] and found.table["correlation"][0] == pytest.approx(1)
    assert found.median.low <= found.median.value <= found.median.high
    assert found.null.value < 0.2 < found.table["correlation"][1]


def test_stores_of_models_that_left_out_other_rows_are_compared_where_both_are(planted, tmp_path):
    ours, theirs = planted
    kept = np.random.default_rng(4).random(ROWS) < 0.7
    store = CodeStore.create(tmp_path, n_rows=ROWS, d_sae=WIDE)
    store.write_run("0", torch.from_numpy(np.flatnonzero(kept)), codes(theirs[kept]))
    store.finish()
    found = universality(codes(ours), store).table.set_index("latent")
    assert found.correlation[0] == pytest.approx(1) and found.fired[0] == (ours[kept, 0] > 0).sum()
    shifted = ShiftedCodes(store, 450)
    assert (shifted.present(100, 200).numpy() == np.roll(kept, -450)[100:200]).all()
    np.testing.assert_array_equal(shifted[100:200].dense(), np.roll(theirs * kept[:, None], -450, 0)[100:200])


def test_mistakes_are_named(planted, tmp_path):
    ours, theirs = planted
    with pytest.raises(ValueError, match="600 and 599 rows"):
        universality(codes(ours), codes(theirs[1:]))
    with pytest.raises(ValueError, match="min_fired=500"):
        universality(codes(ours), codes(theirs), min_fired=500)
    tokens = torch.arange(ROWS).reshape(30, 20) % 9
    a = FeatureStore.from_codes(tokens, codes(ours), tmp_path / "a")
    b = FeatureStore.from_codes((tokens + 1) % 9, codes(theirs), tmp_path / "b")
    with pytest.raises(ValueError, match="other tokens than"):
        universality(a, b)


def test_the_bootstrap_covers_the_mean_of_many_samples():
    generator = np.random.default_rng(0)
    found = [bootstrap(generator.normal(size=80)) for _ in range(100)]
    assert 88 <= sum(each.low <= 0 <= each.high for each in found) <= 100
    assert np.isnan(bootstrap(np.array([np.nan]))).all()
