"""All that the page shows of a feature when it is opened, in files of `CHUNK` features each.

In: a FeatureStore and a range of latents. Out: JSON → gzip → base64 inside a script that calls `receive(name, text)`,
since a page on file:// may load scripts but fetch nothing.

An example is [interval (−1: the top list), row, place of the firing token, tokens, activations]:

    tokens        one character an id, code point = id + 93 (past the surrogates): 10 % smaller than digits
    activations   [place, value, place, value, …] of the tokens where the latent fires

What a page has only where the run has it (senses, evidence, a wider dictionary …) comes as `extras`.
"""

import base64
import gzip
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from interp.features.bins import merged_bins
from interp.features.feature_store import FeatureStore

CHUNK = 64
CHUNKS_AT_ONCE = 16
DIGITS = 4
N_TOP, N_PER_INTERVAL = 15, 5
N_LABELS, N_CONTEXT_TOKENS, N_BINS = 8, 6, 32
_TENS = np.array([10**i for i in range(16)], float)
_FIRST_CODE, _SURROGATES, _N_SURROGATES = 93, 0xD800, 0x800
FACTS = (
    "n_active", "density", "mean", "max", "n_sequences", "burstiness",
    "token_entropy", "n_tokens", "dec_norm", "enc_dec_cosine", "fvu_rise",
)  # fmt: skip

ABLATED = ("loss_change", "null_loss_change", "later_loss_change", "kl", "null_kl")
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
    """The latents start … stop − 1 as the page shows them, read together: each table is scanned once."""
    where = f"where latent >= {start} and latent < {stop}"
    tables = {name: store.sql(query.format(where=where)) for name, query in TABLES.items()}
    features = features.iloc[start:stop]
    facts = [name for name in FACTS if name in features]
    shown: dict[str, dict[int, Any]] = {
        "facts": dict(enumerate((dict(zip(facts, row, strict=True)) for row in _lines(features[facts])), start)),
        "logits": dict(enumerate(_logits(features), start)),
        "examples": _by_latent(tables["examples"], _examples(tables.pop("examples"))),
        "histogram": _histograms(tables.pop("histograms")),
        **{name: _by_latent(table, _lines(table.drop(columns="latent"))) for name, table in tables.items()},
    }
    none: dict[str, Any] = {"histogram": {"edges": [], "counts": []}}
    return {j: {name: by.get(j, none.get(name, [])) for name, by in shown.items()} for j in range(start, stop)}


def effects_of(table: pd.DataFrame | None) -> dict[int, dict[str, Any]]:
    """Each latent that was ablated with the changes of the loss, their intervals, and the tokens that it moves most."""
    effects = {}
    for row in () if table is None else table.dropna(subset=["loss_change"]).to_dict("records"):
        changes = {name: [number(row[f"{name}{end}"]) for end in ("", "_low", "_high")] for name in ABLATED}
        sides = {"likelier": ("likelier_tokens", "likelier"), "less_likely": ("less_likely_tokens", "less_likely")}
        moved = {
            side: [[int(token), number(nats)] for token, nats in zip(row[tokens], row[by], strict=True)]
            for side, (tokens, by) in sides.items()
        }
        effects[int(row["latent"])] = changes | moved | {"sequences": number(row["n_sequences"])}
    return effects


def encode(payload: Any) -> str:
    """JSON → gzip → base64; the same payload gives the same text."""
    return pack(json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":")))


def pack(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()  # 9 takes twice the time for 0.5 %


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


def numbers(values: np.ndarray, digits: int = DIGITS) -> list:
    """`number` of each. Those of common sizes together: each is a whole number, times or over a power of ten that is
    exact, and so rounded once, as text is where it is read; but what is near half of its last digit goes on its own."""
    size = np.abs(values, dtype=float)
    common = (size > 1e-8) & (size < 1e8)
    x = np.where(common, values, 0.5).astype(float)
    powers = digits - 1 - np.floor(np.log10(np.abs(x))).astype(int)
    tens, divides = _TENS[np.abs(powers)], powers > 0
    scaled = np.where(divides, x * tens, x / tens)
    common &= (np.abs(scaled - np.floor(scaled) - 0.5) > 1e-9) & (x != np.rint(x))
    rounded = np.where(divides, np.rint(scaled) / tens, np.rint(scaled) * tens).tolist()
    for at in np.flatnonzero(~common).tolist():
        rounded[at] = number(values[at], digits)
    return rounded


def _numbers_in(arrays: Sequence[Any], digits: int = DIGITS) -> list[list]:
    """`numbers` of each of some arrays."""
    ends = np.cumsum([0, *map(len, arrays)]).tolist()
    flat = numbers(np.concatenate([[], *arrays]), digits)
    return [flat[start:stop] for start, stop in pairwise(ends)]


def _lines(table: pd.DataFrame) -> list[tuple]:
    columns = (table[name].to_numpy() for name in table)
    return list(zip(*(numbers(x) if x.dtype.kind == "f" else x.tolist() for x in columns), strict=True))


def _slices(table: pd.DataFrame) -> dict[int, slice]:
    """Each latent with the slice of its rows, which follow each other."""
    latents = table["latent"].to_numpy()
    starts = np.flatnonzero(np.diff(latents, prepend=-1))
    cuts = zip(latents[starts].tolist(), pairwise([*starts.tolist(), len(latents)]), strict=True)
    return {latent: slice(*ends) for latent, ends in cuts}


def _by_latent(table: pd.DataFrame, rows: list) -> dict[int, list]:
    return {latent: rows[part] for latent, part in _slices(table).items()}


def _examples(table: pd.DataFrame) -> list[list]:
    tokens, values = (np.concatenate([np.zeros(0, int), *table[name]]) for name in ("tokens", "values"))
    ends = np.cumsum([0, *map(len, table["values"])])
    fires, text = np.flatnonzero(values), encode_tokens(tokens)
    sparse: list = [None] * (2 * len(fires))
    cuts = np.searchsorted(fires, ends)
    sparse[::2] = (fires - np.repeat(ends[:-1], np.diff(cuts))).tolist()
    sparse[1::2] = numbers(values[fires])
    interval, place = table["interval"].where(table["kind"] != "top", -1), table["row"] - table["start"]
    shown = zip(interval, table["row"], place, pairwise(ends.tolist()), pairwise((2 * cuts).tolist()), strict=True)
    return [[i, row, at, text[slice(*window)], sparse[slice(*fires)]] for i, row, at, window, fires in shown]


def _histograms(table: pd.DataFrame) -> dict[int, dict[str, list]]:
    low, high, n = (table[name].to_numpy() for name in ("low", "high", "n"))
    bins = {j: merged_bins(low[part], high[part], n[part], at_most=N_BINS) for j, part in _slices(table).items()}
    rounded = _numbers_in([edges for edges, _ in bins.values()], 3)
    return {j: {"edges": edges, "counts": bins[j][1].tolist()} for j, edges in zip(bins, rounded, strict=True)}


def _logits(features: pd.DataFrame) -> list[dict[str, list] | None]:
    """Tokens at both ends, and counts over the vocabulary between the ends; none of a scan that kept no counts."""

    def lists(name: str) -> list:
        cells = features[name] if name in features else [None] * len(features)
        return [cell if isinstance(cell, Sequence | np.ndarray) else None for cell in cells]

    def side(name: str) -> list:
        tokens, values = lists(f"{name}_logit_tokens"), lists(f"{name}_logits")
        cells = zip(tokens, values, _numbers_in([() if cell is None else cell for cell in values]), strict=True)
        return [
            None if t is None or v is None else [[int(i), x] for i, x in zip(t, rounded, strict=True)]
            for t, v, rounded in cells
        ]

    counts = [[] if cell is None else list(map(int, cell)) for cell in lists("logit_counts")]
    shown = zip(counts, side("top"), side("bottom"), strict=True)
    return [None if top is None or low is None else {"counts": n, "top": top, "bottom": low} for n, top, low in shown]
