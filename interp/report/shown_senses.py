"""The senses of each latent that has more than one, as the page shows them.

A sense has its rule and examples of its own, which are as those of `payloads`, with the sense's place in the place of
the interval.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.features.feature_store import FeatureStore
from interp.report.payloads import encode_tokens, number

N_EXAMPLES, N_FOLLOWING = 6, 8
BEFORE, AFTER = 20, 11
"""Tokens shown on both sides, within the sequence."""
NUMBERS = ("share", "f1", "n", "monosemanticity", "by_chance", "stability", "promoted")
ROWS_AT_ONCE = 1 << 16


def senses_of(store: FeatureStore, ranking: pd.DataFrame) -> dict[int, list[dict[str, Any]]]:
    """The senses of each latent that has more than one. Raises ValueError where one names a row that is not there."""
    if "senses" not in ranking:
        return {}
    cells = zip(ranking.index.tolist(), ranking["senses"].tolist(), strict=True)
    given = {j: list(own) for j, own in cells if isinstance(own, Sequence | np.ndarray) and len(own) > 1}
    n_rows = store.meta["n_sequences"] * store.n_ctx
    for senses in given.values():
        for row in (row for sense in senses for row in _rows(sense) if not 0 <= row < n_rows):
            raise ValueError(f"a sense has the row {row}, but the store has {n_rows} rows")
    tokens, acts = store.tokens.reshape(-1).numpy(), _activations(store, given)
    return {
        latent: [_sense(place, sense, acts[latent], tokens, store.n_ctx) for place, sense in enumerate(senses)]
        for latent, senses in given.items()
    }


def _activations(store: FeatureStore, given: Mapping[int, Sequence[Mapping[str, Any]]]) -> dict[int, dict[int, float]]:
    """Of each latent its activations by row, where it fires in the windows of its senses' examples."""
    latents, n_rows = np.array(list(given), np.int64), store.meta["n_sequences"] * store.n_ctx
    found: dict[int, dict[int, float]] = {latent: {} for latent in given}
    shown = [_window(row, store.n_ctx) for senses in given.values() for sense in senses for row in _rows(sense)]
    wanted = np.unique(np.concatenate([np.arange(*window) for window in shown])) if shown else np.zeros(0, np.int64)
    for start in range(0, n_rows, ROWS_AT_ONCE):
        stop = min(start + ROWS_AT_ONCE, n_rows)
        rows = wanted[slice(*np.searchsorted(wanted, [start, stop]))]
        if len(rows):
            acts = store.codes[start:stop].scipy()[rows - start].tocsc()[:, latents].tocoo()
            for row, column, value in zip(rows[acts.row].tolist(), acts.col.tolist(), acts.data.tolist(), strict=True):
                found[int(latents[column])][row] = value
    return found


def _rows(sense: Mapping[str, Any]) -> list[int]:
    return [int(row) for row in _of(sense, "rows")[:N_EXAMPLES]]


def _window(row: int, n_ctx: int) -> tuple[int, int]:
    """The rows shown around one, within its sequence."""
    start = row - row % n_ctx
    return max(row - BEFORE, start), min(row + AFTER + 1, start + n_ctx)


def _sense(
    place: int, sense: Mapping[str, Any], own: Mapping[int, float], tokens: np.ndarray, n_ctx: int
) -> dict[str, Any]:
    return {name: number(sense.get(name)) for name in NUMBERS} | {
        "rule": str(sense.get("rule") or ""),
        "following": [int(token) for token in _of(sense, "following")[:N_FOLLOWING]],
        "examples": [_sense_example(place, row, own, tokens, n_ctx) for row in _rows(sense)],
    }


def _sense_example(place: int, row: int, own: Mapping[int, float], tokens: np.ndarray, n_ctx: int) -> list:
    """own: row → the latent's activation there."""
    start, stop = _window(row, n_ctx)
    sparse = [x for at in range(start, stop) if own.get(at) for x in (at - start, number(own[at]))]
    return [place, row, row - start, encode_tokens(tokens[start:stop]), sparse]


def _of(sense: Mapping[str, Any], name: str) -> list:
    value = sense.get(name)
    return [] if value is None else list(value)
