"""Matchings of two decoders, against scipy."""

import numpy as np
import pytest
import scipy.optimize
import torch

from interp.compare.latent_stability import stability

D_IN = 16


def rows(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, D_IN, generator=torch.Generator().manual_seed(seed))


def test_a_permuted_dictionary_is_found_again_and_random_rows_are_not():
    ours, order = rows(60, 0), torch.randperm(60, generator=torch.Generator().manual_seed(1))
    same = stability(ours, -3 * ours[order])  # directions up to sign and length
    assert (order[same.table["other"].tolist()] == torch.arange(60)).all()
    assert same.mcc.value == pytest.approx(1) == same.share.value and same.chance < 0.7
    random = stability(ours, rows(60, 2))
    assert random.mcc.value == pytest.approx(random.chance, abs=0.04) and random.share.low <= random.chance_share + 0.1


def test_half_a_dictionary_is_found_in_half_of_another():
    ours, theirs = rows(40, 0), rows(50, 1)
    theirs[5:25] = ours[:20] + 0.1 * rows(20, 3)
    found = stability(ours, theirs, threshold=0.9)
    assert 0.5 <= found.share.value <= 0.55 and found.share.low < 0.5 < found.share.high
    planted = found.table.set_index("latent").loc[:19]
    assert (planted["other"] == planted.index + 5).mean() > 0.9


@pytest.mark.parametrize("n, m", [(9, 9), (7, 12), (12, 7)])
def test_pairs_are_scipys(n, m):
    a, b = rows(n, 0), rows(m, 1)
    cosine = np.abs(_cosines(a, b))
    own, other = scipy.optimize.linear_sum_assignment(-cosine)
    found = stability(a, b)
    assert dict(zip(found.table["latent"], found.table["other"], strict=True)) == dict(zip(own, other, strict=True))
    np.testing.assert_allclose(found.table["cosine"], cosine[own, other], rtol=1e-5)
    assert found.mcc.value == pytest.approx(cosine[own, other].mean()) and len(found.table) == min(n, m)


def _cosines(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    return (a.numpy() / np.linalg.norm(a, axis=1)[:, None]) @ (b.numpy() / np.linalg.norm(b, axis=1)[:, None]).T


def test_mistakes_in_decoders_are_named():
    with pytest.raises(ValueError, match="16 and 5 wide"):
        stability(rows(4, 0), torch.ones(4, 5))
    with pytest.raises(ValueError, match="4 and 0 rows"):
        stability(rows(4, 0), torch.ones(0, D_IN))
    with pytest.raises(ValueError, match="threshold=7"):
        stability(rows(4, 0), rows(4, 1), threshold=7)
