"""Would a latent split at a greater width? The latents of a wider dictionary that resemble each one.

In: a feature store and a wider dictionary: itself, a feature store of it, or the folder of either. Out: for each latent
[other, cosine, share, words], most similar first:

    cosine = W_dec[j] · W_dec'[other] of unit rows, at least MIN_COSINE
    share  = |firings of both| / |firings of j|, where the wider one has codes, which are of the same tokens; else None

Several that resemble it, each with a part of its firings, are what a split looks like (feature splitting, Bricken et
al. 2023); one with most of them is the same feature again.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from interp.activations.hooks import UNNAMED, check_own_hook, own_hook
from interp.codes.sparse_codes import Dictionary
from interp.features.feature_store import FeatureStore
from interp.features.scan import check_table
from interp.report.columns import top_tokens
from interp.report.payloads import number
from interp.storage.files import ratio

MIN_COSINE = 0.5
N_ALIKE = 8
N_TOKENS = 4
ROWS_READ = 1 << 19
"""Rows over which firings together are counted: the first of the text."""
ROWS_AT_ONCE = 1 << 15


class Wider(NamedTuple):
    d_sae: int
    resembling: dict[int, list[list[Any]]]
    """Latent → rows of [other, cosine, share, words]."""


def wider_of(store: FeatureStore, source: Any) -> Wider:
    """What each latent of `store` resembles in `source`. A run folder has explanations for its latents, a scan the
    tokens that they fire on most.

    Raises ValueError where one of the two has no decoder, where they read activations of other widths or of another
    hook, and for a scan of other tokens.
    """
    wider = _opened(source)
    words = _words(wider, source) if isinstance(wider, FeatureStore) else {}
    _check_same_place(store, wider)
    if store.W_dec is None or wider.W_dec is None:
        raise ValueError("a wider dictionary is compared by decoder directions (W_dec), which one of the two lacks")
    widths = wider.W_dec.shape[1], store.W_dec.shape[1]
    if widths[0] != widths[1]:
        raise ValueError(f"the wider dictionary reads activations of width {widths[0]}, this one of {widths[1]}")
    together = _together(store, wider) if isinstance(wider, FeatureStore) else None
    resembling: dict[int, list[list[Any]]] = {}
    for latent, other, cosine in _pairs(store.W_dec, wider.W_dec.detach().cpu()):
        share = None if together is None else number(float(together[latent, other]))
        resembling.setdefault(latent, []).append([other, number(cosine, 3), share, str(words.get(other, ""))])
    return Wider(len(wider.W_dec), resembling)


def _opened(source: Any) -> FeatureStore | Dictionary:
    """A feature store, a dictionary, or what the folder holds: a run's `features`, a feature store, an SAE."""
    if not isinstance(source, str | Path):
        return source
    path = Path(source)
    if any((path / name).is_file() for name in ("features/meta.json", "meta.json")):
        return FeatureStore.open(path)
    from interp.sae import load_sae

    if not (path / "cfg.json").is_file():
        raise ValueError(f"{path} is no wider dictionary: give a run folder, a feature store or an SAE's folder")
    return load_sae(path)


def _words(wider: FeatureStore, source: Any) -> Mapping[int, Any]:
    ranking = Path(source) / "ranking/ranking.parquet" if isinstance(source, str | Path) else None
    if ranking is None or not ranking.is_file():
        return {j: ", ".join(f"“{text}”" for text in texts) for j, texts in top_tokens(wider, N_TOKENS).items()}
    table = pd.read_parquet(ranking)
    check_table(wider, table, f"the ranking in {source}")
    return dict(zip(table["latent"].tolist(), table["explanation"].tolist(), strict=True))


def _check_same_place(store: FeatureStore, wider: FeatureStore | Dictionary) -> None:
    """A dictionary from elsewhere may call the hook by another name: a warning."""
    scanned, ours = isinstance(wider, FeatureStore), store.meta.get("hook_name")
    theirs = wider.meta.get("hook_name") if isinstance(wider, FeatureStore) else own_hook(wider)
    if ours and theirs and ours != theirs and (scanned or getattr(wider, "config", None) is not None):
        raise ValueError(f"the wider dictionary reads {theirs}, {store.path} is of {ours}: give one of that hook")
    if not isinstance(wider, FeatureStore):
        return check_own_hook(wider, ours or UNNAMED, (), store.path)
    if store.tokens.shape != wider.tokens.shape or not torch.equal(store.tokens, wider.tokens):
        what = f"the wider dictionary in {wider.path} was scanned over other tokens than {store.path}"
        raise ValueError(f"{what}: scan it over the same, or give its SAE, of which only the directions are compared")


def _pairs(W_dec: Float[Tensor, "d_sae d_in"], other: Float[Tensor, "d_wide d_in"]) -> Iterator[tuple[int, int, float]]:
    rows, others = (torch.nn.functional.normalize(W.float(), dim=1) for W in (W_dec, other))
    for start in range(0, len(rows), 2048):
        cosines, at = (rows[start : start + 2048] @ others.T).topk(min(N_ALIKE, len(others)), dim=1)
        for latent, place in (cosines >= MIN_COSINE).nonzero().tolist():
            yield start + latent, int(at[latent, place]), float(cosines[latent, place])


def _together(store: FeatureStore, wider: FeatureStore) -> Float64[scipy.sparse.csr_matrix, "d_sae d_wide"]:
    """Share of each latent's firings on which each wider one fires too."""
    both = scipy.sparse.csr_matrix((store.d_sae, wider.d_sae), dtype=np.float64)
    counts = np.zeros(store.d_sae)
    for start in range(0, min(ROWS_READ, store.tokens.numel()), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        narrow, wide = ((each.codes[rows].scipy() != 0).astype(np.float64) for each in (store, wider))
        both = both + narrow.T @ wide
        counts += np.asarray(narrow.sum(0)).ravel()
    return scipy.sparse.csr_matrix(scipy.sparse.diags(ratio(1.0, counts, empty=0.0)) @ both)
