"""Decoder cosines against similarity of contexts, where it is planted and where it is not."""

import numpy as np
import pytest
import torch

from analyses.claims.neighbourhoods import context_similarity, neighbourhoods
from interp.codes.sparse_codes import SparseCodes
from interp.features.feature_store import FeatureStore
from interp.features.scan_input import fit_half

N_SEQ, N_CTX, VOCAB, D, WIDTH = 64, 16, 24, 20, 10


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> FeatureStore:
    """Latent j fires on tokens j, j + 1 and j + 2; its direction is the mean of those of the tokens."""
    tokens = torch.randint(0, VOCAB, (N_SEQ, N_CTX), generator=torch.Generator().manual_seed(0))
    near = (tokens.flatten()[:, None] - torch.arange(D)).unsqueeze(-1)
    z = ((near >= 0) & (near < 3)).any(-1).float()
    of_token = torch.randn(VOCAB, WIDTH, generator=torch.Generator().manual_seed(1))
    W = torch.stack([of_token[j : j + 3].mean(0) for j in range(D)])
    return FeatureStore.from_codes(tokens, SparseCodes.from_dense(z), tmp_path_factory.mktemp("f"), W_dec=W)


def test_similar_directions_fire_in_similar_contexts_where_it_is_planted(features):
    found = neighbourhoods(features)
    assert len(found.pairs) == D * (D - 1) // 2 and (found.pairs.latent < found.pairs.other).all()
    assert found.rank_correlation.low > 0 and abs(found.null) < found.rank_correlation.value
    assert found.rank_correlation == neighbourhoods(features).rank_correlation
    unit = torch.nn.functional.normalize(features.W_dec, dim=1)
    row = found.pairs.iloc[7]
    assert row.cosine == pytest.approx(float(unit[int(row.latent)] @ unit[int(row.other)]), abs=1e-6)


def test_directions_at_random_have_no_such_neighbours(features, monkeypatch):
    random = torch.randn(D, WIDTH, generator=torch.Generator().manual_seed(5))
    monkeypatch.setitem(features.__dict__, "W_dec", random)
    found = neighbourhoods(features).rank_correlation
    assert found.low < 0 < found.high


def test_similarity_is_that_of_counts_in_opposite_halves(features):
    """Counted again from the tokens: of what stands at the firing token only, where all tokens are kept."""
    found = context_similarity(features, np.arange(D))
    tokens, fit = features.tokens.numpy(), fit_half(N_SEQ).numpy()
    share = np.bincount(tokens.reshape(-1), minlength=VOCAB) / tokens.size

    def contexts(latent: int, half: bool, offset: int) -> np.ndarray:
        v = np.zeros(VOCAB)
        for sequence in tokens[fit == half]:
            for position in range(N_CTX):
                at = position + offset
                if latent <= sequence[position] < latent + 3 and 0 <= at < N_CTX:
                    v[sequence[at]] += 1
        kept = features.sql(f'select token from tokens where latent={latent} and "offset"={offset}')["token"]
        v[~np.isin(np.arange(VOCAB), kept)] = 0
        v = v / np.sqrt(share)
        return v / max(np.linalg.norm(v), 1e-12)

    offsets = features.sql('select distinct "offset" from tokens')["offset"].tolist()
    for i, j in ((0, 1), (3, 9)):
        pairs = [(contexts(i, h, o) @ contexts(j, not h, o)) / 2 for o in offsets for h in (True, False)]
        assert found[i, j] == pytest.approx(sum(pairs) / len(offsets), abs=1e-6)


def test_mistakes_are_named(features, tmp_path):
    with pytest.raises(ValueError, match="min_fired=9000"):
        neighbourhoods(features, min_fired=9000)
    bare = FeatureStore.from_codes(features.tokens, features.codes[: N_SEQ * N_CTX], tmp_path)
    with pytest.raises(ValueError, match="no decoder"):
        neighbourhoods(bare)
