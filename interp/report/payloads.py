"""All that the page shows of a feature when it is opened, in files of `CHUNK` features each.

In: a FeatureStore and a range of latents. Out: JSON → gzip → base64 inside a script that calls `receive(name, text)`,
since a page on file:// may load scripts but fetch nothing.

An example is [interval (−1: the top list), row, place of the firing token, tokens, activations]:

    tokens        one character an id, code point = id + 93 (past the surrogates): 10 % smaller than digits
    activations   [place, value, place, value, …] of the tokens where the latent fires

A sense of a latent has its rule and examples of its own, with its place in the place of the interval (`senses_of`).
What a page has only where the run has it (senses, evidence, a wider dictionary …) comes as `extras`.
"""

import base64
import gzip
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.features.feature_store import FeatureStore
from interp.figures.one_latent import merged_bins

CHUNK = 64
CHUNKS_AT_ONCE = 16
DIGITS = 4
N_TOP, N_PER_INTERVAL = 15, 5
N_LABELS, N_CONTEXT_TOKENS, N_BINS = 8, 6, 32
_FIRST_CODE, _SURROGATES, _N_SURROGATES = 93, 0xD800, 0x800
FACTS = (
    "n_active", "density", "mean", "max", "n_sequences", "burstiness",
    "token_entropy", "n_tokens", "dec_norm", "enc_dec_cosine", "fvu_rise",
)  # fmt: skip

ABLATED = ("loss_change", "later_loss_change", "kl")
N_SENSE_EXAMPLES, N_FOLLOWING = 6, 8
BEFORE, AFTER = 20, 11
"""Tokens shown on both sides, within the sequence."""
SENSE_NUMBERS = ("share", "f1", "n", "monosemanticity", "by_chance", "stability", "promoted")
ROWS_AT_ONCE = 1 << 16

_BEST = "(f1 is null or isnan(f1)), f1 desc, label"
_SHOWN = f"(kind = 'top' and rank < {N_TOP} or kind = 'interval' and rank < {N_PER_INTERVAL})"
TABLES = {
    "examples": f"""
        select latent, kind, interval, "row", start, tokens, "values" from examples {{where}} and {_SHOWN}
        order by latent, kind desc, case kind when 'top' then 0 else interval end, rank""",
    "histograms": "select latent, low, high, n from histograms {where} order by latent, bin",
    "intervals": "select latent, low, high, n from intervals {where} order by latent, interval",
    "neighbours": "select latent, other, cosine from neighbours {where} order by latent, rank",
    "coactivations": "select latent, other, jaccard, lift from coactivations {where} order by latent, rank",
    "labels": f"""
        select latent, label, f1, precision, recall, correlation from labels {{where}}
        qualify row_number() over (partition by latent order by {_BEST}) <= {N_LABELS} order by latent, {_BEST}""",
    "tokens": f"""
        select latent, "offset", token, n from tokens {{where}} and "offset" between -1 and 1
        qualify row_number() over (partition by latent, "offset" order by n desc, token) <= {N_CONTEXT_TOKENS}
        order by latent, "offset", n desc, token""",
}
"""What is read of each latent, its rows in the order in which the page shows them."""


def payloads(
    store: FeatureStore, features: pd.DataFrame, extras: Mapping[str, Mapping[int, Any]]
) -> Iterator[tuple[str, dict]]:
    """Name and contents of each chunk file. features: one row a latent, by latent; extras: name → latent → what the
    page shows under this name; a latent that lacks an entry has None."""
    step = CHUNK * CHUNKS_AT_ONCE
    for start in range(0, store.d_sae, step):
        block = _block(store, features, start, min(start + step, store.d_sae))
        for first in range(start, min(start + step, store.d_sae), CHUNK):
            latents = range(first, min(first + CHUNK, store.d_sae))
            chunk = {str(j): block[j] | {name: by.get(j) for name, by in extras.items()} for j in latents}
            yield f"features-{first // CHUNK:04d}", chunk


def _block(store: FeatureStore, features: pd.DataFrame, start: int, stop: int) -> dict[int, dict[str, Any]]:
    """What the page shows of the latents start … stop − 1, read together: each table is scanned once."""
    where = f"where latent >= {start} and latent < {stop}"
    tables = {name: _grouped(store.sql(query.format(where=where))) for name, query in TABLES.items()}
    examples, histograms = tables.pop("examples"), tables.pop("histograms")
    block = {}
    for latent, row in zip(range(start, stop), features.iloc[start:stop].to_dict(orient="records"), strict=True):
        block[latent] = {
            "facts": {name: number(row[name]) for name in FACTS if name in row},
            "logits": _logits(row),
            "examples": [_example(*fields) for fields in examples.get(latent, [])],
            "histogram": _histogram(histograms.get(latent, [])),
        }
        for name, table in tables.items():
            block[latent][name] = [[number(value) for value in fields] for fields in table.get(latent, [])]
    return block


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


def effects_of(table: pd.DataFrame | None) -> dict[int, dict[str, Any]]:
    """Of each latent that was ablated: changes of the loss with their intervals, and the tokens that it moves most."""
    found = {}
    for row in () if table is None else table.dropna(subset=["loss_change"]).to_dict("records"):
        changes = {name: [number(row[f"{name}{end}"]) for end in ("", "_low", "_high")] for name in ABLATED}
        sides = {"likelier": ("likelier_tokens", "likelier"), "less_likely": ("less_likely_tokens", "less_likely")}
        moved = {
            side: [[int(token), number(nats)] for token, nats in zip(row[tokens], row[by], strict=True)]
            for side, (tokens, by) in sides.items()
        }
        found[int(row["latent"])] = changes | moved | {"sequences": number(row["n_sequences"])}
    return found


def encode(payload: Any) -> str:
    """JSON → gzip → base64; the same payload gives the same text."""
    return pack(json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":")))


def pack(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def encode_tokens(tokens: Sequence[int] | np.ndarray) -> str:
    """One character a token id. Code points start past the quote and the backslash and step over the surrogates."""
    codes = np.asarray(tokens, dtype="<u4") + _FIRST_CODE
    return np.where(codes < _SURROGATES, codes, codes + _N_SURROGATES).astype("<u4").tobytes().decode("utf-32-le")


def number(value: Any, digits: int = DIGITS) -> float | int | str | None:
    """A JSON number of `digits` significant digits; integers stay exact, None and non-finite values become null."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    value = float(value)
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 1e15 else float(f"{value:.{digits}g}")


def _example(kind: str, interval: int, row: int, start: int, tokens: Any, values: Any) -> list:
    values = np.asarray(values)
    fires = np.flatnonzero(values)
    sparse = [x for place in fires.tolist() for x in (place, number(values[place]))]
    return [-1 if kind == "top" else int(interval), int(row), int(row) - int(start), encode_tokens(tokens), sparse]


def _histogram(bins: list[tuple]) -> dict[str, list]:
    if not bins:
        return {"edges": [], "counts": []}
    edges, counts = merged_bins(*zip(*bins, strict=True), at_most=N_BINS)
    return {"edges": [number(edge, 3) for edge in edges], "counts": counts.tolist()}


def _logits(row: dict[Any, Any]) -> dict[str, list] | None:
    """Tokens at both ends, and counts over the vocabulary between the ends; none of a scan that kept no counts."""
    counts = row.get("logit_counts")
    sides = {"counts": counts.tolist() if isinstance(counts, np.ndarray) else []}
    for side in ("top", "bottom"):
        tokens, values = row.get(f"{side}_logit_tokens"), row.get(f"{side}_logits")
        if not isinstance(tokens, Sequence | np.ndarray) or not isinstance(values, Sequence | np.ndarray):
            return None
        sides[side] = [[int(token), number(value)] for token, value in zip(tokens, values, strict=True)]
    return sides


def _grouped(table: pd.DataFrame) -> dict[int, list[tuple]]:
    """Rows of each latent, without the latent, which is the first column."""
    groups: dict[int, list[tuple]] = {}
    for latent, *fields in zip(*(table[column].tolist() for column in table.columns), strict=True):
        groups.setdefault(latent, []).append(tuple(fields))
    return groups


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
    return [int(row) for row in _of(sense, "rows")[:N_SENSE_EXAMPLES]]


def _window(row: int, n_ctx: int) -> tuple[int, int]:
    """The rows shown around one, within its sequence."""
    start = row - row % n_ctx
    return max(row - BEFORE, start), min(row + AFTER + 1, start + n_ctx)


def _sense(
    place: int, sense: Mapping[str, Any], own: Mapping[int, float], tokens: np.ndarray, n_ctx: int
) -> dict[str, Any]:
    return {name: number(sense.get(name)) for name in SENSE_NUMBERS} | {
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
