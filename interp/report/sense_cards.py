"""The senses of a latent as the page shows them: each with its rule and with firings in their context.

In: the ranking's column `senses`, a list a latent of {share, monosemanticity, by_chance, stability, rule, f1, n, rows,
following, promoted}. Out: for each latent what the page reads; an example is that of `payloads`: [sense, row, place of
the firing token, tokens, values]. The codes are read once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
from jaxtyping import Float

from interp.features.feature_store import FeatureStore
from interp.report.payloads import encode_tokens, number

if TYPE_CHECKING:
    import pandas as pd

N_EXAMPLES, N_FOLLOWING = 6, 8
BEFORE, AFTER = 20, 11
"""Tokens shown on both sides, within the sequence."""
NUMBERS = ("share", "f1", "n", "monosemanticity", "by_chance", "stability", "promoted")
ROWS_AT_ONCE = 1 << 16


def senses_of(store: FeatureStore, ranking: pd.DataFrame) -> dict[int, list[dict[str, Any]]]:
    """The senses of each latent that has more than one. Raises ValueError where one names a row that is not there."""
    if "senses" not in ranking:
        return {}
    given = {
        latent: list(senses)
        for latent, senses in zip(ranking.index.tolist(), ranking["senses"].tolist(), strict=True)
        if isinstance(senses, Sequence | np.ndarray) and len(senses) > 1
    }
    tokens = store.tokens.reshape(-1).numpy()
    acts = _activations(store, list(given))
    shown: dict[int, list[dict[str, Any]]] = {}
    for column, (latent, senses) in enumerate(given.items()):
        fires = acts[:, [column]].tocoo()
        own = dict(zip(fires.row.tolist(), fires.data.tolist(), strict=True))
        shown[latent] = [_sense(place, sense, own, tokens, store.n_ctx) for place, sense in enumerate(senses)]
    return shown


def _activations(store: FeatureStore, latents: list[int]) -> Float[scipy.sparse.csc_matrix, "row latent"]:
    starts = range(0, store.tokens.numel(), ROWS_AT_ONCE)
    return scipy.sparse.vstack(
        [store.codes[start : start + ROWS_AT_ONCE].scipy().tocsc()[:, latents] for start in starts], format="csc"
    )


def _sense(
    place: int, sense: Mapping[str, Any], own: Mapping[int, float], tokens: np.ndarray, n_ctx: int
) -> dict[str, Any]:
    rows = [int(row) for row in _of(sense, "rows")[:N_EXAMPLES]]
    if outside := [row for row in rows if not 0 <= row < len(tokens)]:
        raise ValueError(f"a sense has the row {outside[0]}, but the store has {len(tokens)} rows")
    return {name: number(sense.get(name)) for name in NUMBERS} | {
        "rule": str(sense.get("rule") or ""),
        "following": [int(token) for token in _of(sense, "following")[:N_FOLLOWING]],
        "examples": [_example(place, row, own, tokens, n_ctx) for row in rows],
    }


def _example(place: int, row: int, own: Mapping[int, float], tokens: np.ndarray, n_ctx: int) -> list:
    """own: row → the latent's activation there."""
    start = row - row % n_ctx
    start, stop = max(row - BEFORE, start), min(row + AFTER + 1, start + n_ctx)
    sparse = [x for at in range(start, stop) if own.get(at) for x in (at - start, number(own[at]))]
    return [place, row, row - start, encode_tokens(tokens[start:stop]), sparse]


def _of(sense: Mapping[str, Any], name: str) -> list:
    value = sense.get(name)
    return [] if value is None else list(value)
