"""The senses of a latent as the page shows them: each with its rule and with firings in their context.

In: the ranking's column `senses`, a list a latent of {share, monosemanticity, by_chance, stability, rule, f1, n, rows,
following, promoted}. Out: for each latent what the page reads; an example is that of `chunks`: [sense, row, place of
the firing token, tokens, values].

The activations around the rows are read in one pass over the codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from interp.features.feature_store import FeatureStore
from interp.report.payloads import encode_tokens, number

if TYPE_CHECKING:
    import pandas as pd

N_EXAMPLES, N_FOLLOWING = 6, 8
BEFORE, AFTER = 20, 11
"""Tokens shown on both sides, within the sequence."""
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
    rows = {
        latent: [[int(row) for row in list(_of(sense, "rows"))[:N_EXAMPLES]] for sense in senses]
        for latent, senses in given.items()
    }
    read = _Windows(store, rows)
    return {
        latent: [_sense(latent, place, sense, rows[latent][place], read) for place, sense in enumerate(senses)]
        for latent, senses in given.items()
    }


def _sense(latent: int, place: int, sense: Mapping[str, Any], rows: list[int], read: _Windows) -> dict[str, Any]:
    following = [int(token) for token in list(_of(sense, "following"))[:N_FOLLOWING]]
    return {
        "share": number(sense.get("share")),
        "rule": str(sense.get("rule") or ""),
        "f1": number(sense.get("f1")),
        "n": number(sense.get("n")),
        "following": following,
        "monosemanticity": number(sense.get("monosemanticity")),
        "by_chance": number(sense.get("by_chance")),
        "stability": number(sense.get("stability")),
        "promoted": number(sense.get("promoted")),
        "examples": [read.example(latent, row, place) for row in rows],
    }


def _of(sense: Mapping[str, Any], name: str) -> Any:
    value = sense.get(name)
    return () if value is None else value


class _Windows:
    """Activations of each latent in the windows around its rows."""

    def __init__(self, store: FeatureStore, rows: Mapping[int, list[list[int]]]):
        self.tokens = store.tokens.reshape(-1).numpy()
        self.n_ctx, n_rows = store.n_ctx, len(self.tokens)
        pairs = {(latent, row) for latent, groups in rows.items() for group in groups for row in group}
        if outside := [row for _, row in pairs if not 0 <= row < n_rows]:
            raise ValueError(f"a sense has the row {outside[0]}, but the store has {n_rows} rows")
        keys = [latent * n_rows + np.arange(*self._window(row)) for latent, row in pairs]
        self._n_rows = n_rows
        self._keys = np.unique(np.concatenate(keys)) if keys else np.empty(0, np.int64)
        self._values = np.zeros(len(self._keys), np.float32)
        if len(self._keys):
            self._read(store)

    def example(self, latent: int, row: int, place: int) -> list:
        start, stop = self._window(row)
        first, last = np.searchsorted(self._keys, [latent * self._n_rows + start, latent * self._n_rows + stop])
        values = self._values[first:last]
        sparse = [x for at in np.flatnonzero(values).tolist() for x in (at, number(values[at]))]
        return [place, row, row - start, encode_tokens(self.tokens[start:stop]), sparse]

    def _window(self, row: int) -> tuple[int, int]:
        start = row - row % self.n_ctx
        return max(row - BEFORE, start), min(row + AFTER + 1, start + self.n_ctx)

    def _read(self, store: FeatureStore) -> None:
        asked = np.zeros(store.d_sae, bool)
        asked[np.unique(self._keys // self._n_rows)] = True
        for start in range(0, self._n_rows, ROWS_AT_ONCE):
            codes = store.codes[start : start + ROWS_AT_ONCE]
            latents = codes.latents.numpy().astype(np.int64)
            kept = asked[latents]
            keys = latents[kept] * self._n_rows + start + codes.rows.numpy()[kept]
            at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
            found = self._keys[at] == keys
            self._values[at[found]] = codes.values.numpy()[kept][found]
