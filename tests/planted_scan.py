"""Scans of planted codes: fixtures that a test imports by their names."""

import numpy as np
import pytest
import torch

from interp.codes.sparse_codes import SparseCodes
from interp.features.feature_store import FeatureStore
from interp.features.scan_config import ScanConfig

N_SEQ, N_CTX, VOCAB, D = 64, 16, 30, 12
ROWS = N_SEQ * N_CTX


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, VOCAB, (N_SEQ, N_CTX), generator=torch.Generator().manual_seed(0)).int()


@pytest.fixture(scope="module")
def z(tokens):
    """Dense codes of 12 latents: 0 fires on token 3; 1 anywhere; 2 after token 5; 3 never; 4.. at random, sparsely."""
    generator = np.random.default_rng(0)
    fires = generator.random((ROWS, D)) < 0.1
    flat = tokens.flatten().numpy()
    fires[:, 0] = flat == 3
    fires[:, 2] = np.append(False, flat[:-1] == 5) & (np.arange(ROWS) % N_CTX > 0)
    fires[:, 3] = False
    return (fires * generator.lognormal(0, 0.5, fires.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def labels(tokens):
    return {"three": tokens == 3, "low": tokens < 15, "all": tokens >= 0, "none": tokens < 0}


@pytest.fixture(scope="module")
def features(tokens, z, labels, tmp_path_factory):
    generator = torch.Generator().manual_seed(1)
    W_dec, W_U = torch.randn(D, 6, generator=generator), torch.randn(6, VOCAB, generator=generator)
    return scan(z, tokens, tmp_path_factory.mktemp("features"), W_dec=W_dec, W_U=W_U, labels=labels)


def scan(z, tokens, out, **options):
    codes = SparseCodes.from_dense(torch.from_numpy(np.asarray(z, np.float32)))
    return FeatureStore.from_codes(tokens, codes, out, **{"config": ScanConfig(n_logits=3)} | options)


@pytest.fixture(scope="module")
def bigrams(tmp_path_factory):
    """Return text where token t is followed by t + 1, mostly. Latents fire on 3; 3 and 20; 3; 3, and promote what
    follows; what follows each; 25; anything but what follows."""
    generator = np.random.default_rng(0)
    text = np.zeros((N_SEQ, N_CTX), np.int32)
    text[:, 0] = generator.integers(0, VOCAB, N_SEQ)
    for i in range(1, N_CTX):
        jump = generator.random(N_SEQ) < 0.3
        text[:, i] = np.where(jump, generator.integers(0, VOCAB, N_SEQ), (text[:, i - 1] + 1) % VOCAB)
    flat = text.reshape(-1)
    fires = np.stack([flat == 3, (flat == 3) | (flat == 20), flat == 3, flat == 3], 1)
    W_dec = torch.zeros(4, VOCAB)
    W_dec[0, 4] = W_dec[1, 4] = W_dec[1, 21] = W_dec[2, 25] = 1
    W_dec[3] = torch.randn(VOCAB, generator=torch.Generator().manual_seed(0)) * 0.1
    W_dec[3, 4] = 0
    settings = ScanConfig(n_logits=2)
    out = tmp_path_factory.mktemp("bigrams")
    return scan(fires, torch.from_numpy(text), out, W_dec=W_dec, W_U=torch.eye(VOCAB), config=settings)


@pytest.fixture(scope="module")
def twin(features, tokens, z, tmp_path_factory):
    """Return the same latents in another order, louder, with noise; two are lost, three unrelated ones are new."""
    generator = np.random.default_rng(1)
    order = generator.permutation(D)[: D - 2]
    noise = (generator.random((ROWS, 3)) < 0.1) * generator.random((ROWS, 3))
    theirs = np.concatenate([2 * z[:, order] * (generator.random((ROWS, D - 2)) < 0.9), noise], 1)
    W_dec = torch.cat([features.W_dec[order] * 3, torch.randn(3, 6, generator=torch.Generator().manual_seed(7))])
    return scan(theirs, tokens, tmp_path_factory.mktemp("twin"), W_dec=W_dec), order, theirs
