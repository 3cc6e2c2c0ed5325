"""The page of a planted store, and the browser that looks at it."""

import sys

import numpy as np
import pytest
import scipy.sparse
import torch

from interp.features.feature_store import FeatureStore
from interp.report import write_report
from tests.report.planted_page import D_SAE, N_CTX, N_SEQ, OTHER, SPLIT, VOCAB, planted_ranking


@pytest.fixture(scope="session")
def address(tmp_path_factory) -> str:
    """Latent j fires on token j, more strongly the later in the text; SPLIT fires on OTHER too."""
    folder = tmp_path_factory.mktemp("page")
    tokens = np.random.default_rng(0).integers(14, len(VOCAB), (N_SEQ, N_CTX))
    tokens[:, :14] = np.arange(14)
    at = np.flatnonzero(tokens.reshape(-1) < D_SAE)
    values = 1 + at / at.max()
    other = np.flatnonzero(tokens.reshape(-1) == OTHER)
    places = np.concatenate([at, other]), np.concatenate([tokens.reshape(-1)[at], np.full(len(other), SPLIT)])
    values = np.concatenate([values, np.full(len(other), 0.5)])
    z = scipy.sparse.csr_matrix((values, places), (N_SEQ * N_CTX, D_SAE), dtype=np.float32)
    labels = {"python": torch.from_numpy(tokens == 3), "latex": torch.from_numpy(tokens % 2 == 0)}
    g = torch.Generator().manual_seed(0)
    weights = {"W_dec": torch.randn(D_SAE, 8, generator=g), "W_U": torch.randn(8, len(VOCAB), generator=g)}
    store = FeatureStore.from_codes(
        torch.from_numpy(tokens).int(), z, folder / "store", vocab=VOCAB, labels=labels, **weights
    )
    with pytest.MonkeyPatch.context() as patch:
        # The F1 of the planted rules is not that of this text, so that tokens would name each latent.
        patch.setattr("interp.report.latent_facts.growing_lists", lambda counts: ())
        # Principal components are drawn as they are, and not stretched to the frame.
        patch.setattr("interp.report.latent_map.MIN_FOR_TSNE", 99)
        for module in ("interp.report.page_data", "interp.report.payloads"):
            patch.setattr(sys.modules[module], "LATENTS_PER_CHUNK", 8)
        return write_report(store, folder / "page", ranking=planted_ranking()).as_uri()


@pytest.fixture
def browser(chromium):
    chromium.size(1400, 900)
    return chromium
