"""What two dictionaries share: correlations against dense numpy and planted twins."""

import numpy as np
import pytest
import torch

from interp.codes.code_store import CodeStore
from interp.codes.sparse_codes import SparseCodes
from interp.compare.latent_splitting import splitting
from interp.compare.latent_universality import universality
from interp.compare.shifted_codes import ShiftedCodes
from interp.features.feature_store import FeatureStore
from interp.features.latent_matches import joint_sums
from interp.statistics.estimates import bootstrap

ROWS, D, WIDE = 600, 7, 11


def dense(seed: int, width: int, density: float = 0.2) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (generator.random((ROWS, width)) * (generator.random((ROWS, width)) < density)).astype(np.float32)


def codes(z: np.ndarray) -> SparseCodes:
    return SparseCodes.from_dense(torch.from_numpy(z))


@pytest.fixture
def planted() -> tuple[np.ndarray, np.ndarray]:
    """Latent 0 is the other's 3, 1 is a noisy 5, 2 fires three times, 3 never."""
    ours, theirs = dense(0, D), dense(1, WIDE)
    theirs[:, 3] = 2 * ours[:, 0]
    theirs[:, 5] = ours[:, 1] * (np.random.default_rng(2).random(ROWS) < 0.8)
    ours[:, 2:4] = 0
    ours[:3, 2] = 1
    return ours, theirs


@pytest.mark.parametrize("buffer_mb", [256, 0])
def test_joint_sums_are_those_of_dense_codes(buffer_mb, monkeypatch):
    monkeypatch.setattr("interp.codes.code_chunks.ROWS_PER_CHUNK", 77)
    monkeypatch.setattr("interp.features.latent_matches.BUFFER_MB", buffer_mb)
    a, b = dense(0, D), dense(1, WIDE)
    parts = list(joint_sums(codes(a), codes(b), [(0, 0), (1, 1), (2, 0)]))
    assert len(parts) == (1 if buffer_mb else D)
    found = [np.concatenate(each) for each in zip(*(part.products for part in parts), strict=True)]
    fires, other = (a > 0).astype(float), (b > 0).astype(float)
    for sums, expected in zip(found, (fires.T @ other, a.T @ b, (a**2).T @ other), strict=True):
        np.testing.assert_allclose(sums, expected, rtol=1e-5)
    np.testing.assert_allclose(parts[0].theirs, [other.sum(0), b.sum(0), (b**2).sum(0)], rtol=1e-5)


def test_correlations_and_their_null_match_numpy(planted, monkeypatch):
    monkeypatch.setattr("interp.codes.code_chunks.ROWS_PER_CHUNK", 77)
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


def test_stores_with_different_rows_left_out_are_compared_on_common_rows(planted, tmp_path):
    ours, theirs = planted
    kept = np.random.default_rng(4).random(ROWS) < 0.7
    store = CodeStore.create(tmp_path, n_rows=ROWS, d_sae=WIDE)
    store.write_file("0", torch.from_numpy(np.flatnonzero(kept)), codes(theirs[kept]))
    store.finish()
    found = universality(codes(ours), store).table.set_index("latent")
    assert found.correlation[0] == pytest.approx(1) and found.fired[0] == (ours[kept, 0] > 0).sum()
    expected = np.zeros_like(theirs)
    expected[kept] = np.roll(theirs[kept], -300, 0)
    shifted = ShiftedCodes(store, 300)
    for start, stop in ((0, ROWS), (100, 200), (0, 1), (70, 70), (ROWS - 9, ROWS)):
        assert (shifted.present(start, stop).numpy() == kept[start:stop]).all()
        np.testing.assert_array_equal(shifted[start:stop].dense(), expected[start:stop])


def test_the_null_has_as_many_rows_as_what_it_stands_beside_where_text_is_padded(tmp_path, monkeypatch):
    """Latents that fire at random are as alike by chance as on shifted text; half of the rows are padding, which
    alternates with text, so shifted rows could all meet padding."""
    monkeypatch.setattr("interp.compare.latent_splitting.MIN_COSINE_OF_PARENT", 0.4)
    generator = np.random.default_rng(0)
    stores = []
    for name, width in (("ours", 40), ("theirs", 50)):
        z = generator.random((ROWS, width)) * (generator.random((ROWS, width)) < 0.05)
        store = CodeStore.create(tmp_path / name, n_rows=2 * ROWS, d_sae=width)
        store.write_file("0", torch.arange(0, 2 * ROWS, 2), codes(z.astype(np.float32)))
        stores.append(store)
    for seed in range(2):
        found = universality(*stores, seed=seed)
        assert found.null.low < found.median.value < found.null.high
        split = splitting(*stores, seed=seed)
        assert 0.2 < split.share_with_parent < 0.95 and split.null == pytest.approx(split.share_with_parent, abs=0.25)


def test_mistakes_are_named(planted, tmp_path):
    ours, theirs = planted
    with pytest.raises(ValueError, match="600 and 599 rows"):
        universality(codes(ours), codes(theirs[1:]))
    with pytest.raises(ValueError, match="no latent fires on 10 rows, but at most on"):
        universality(codes(ours[:9]), codes(theirs[:9]))
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
