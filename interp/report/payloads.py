"""Gather all that the page shows of an open feature: name → list over the features, in files of `LATENTS_PER_CHUNK`.

In: a FeatureStore and a range of latents. Out: JSON, gzipped and written as text in a script that calls `receive(name,
text)`, since a page on file:// may load scripts but fetch nothing.

The examples are those of `contexts`. Parts that only some runs have (senses, evidence, a wider dictionary …) come as
`extras`.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from interp.codes.code_chunks import read_chunks
from interp.features.bins import merge_bins
from interp.features.examples import rows_around
from interp.features.feature_store import FeatureStore
from interp.features.firing_statistics import bin_edges
from interp.report.contexts import Contexts, encode_examples
from interp.report.json_text import N_DIGITS, columns_of, encode_tokens, number, numbers

LATENTS_PER_CHUNK = 64
CHUNKS_AT_ONCE = 64
N_LABELS, N_CONTEXT_TOKENS, N_FIRED_TOKENS, N_BINS = 8, 6, 20, 32
LEAST_COUNTED = 0.5
"""Least share of the activation of a latent's senses that its firings on the tokens of these must be to be counted."""
SNIPPET_BEFORE, SNIPPET_AFTER, N_BARS = 24, 24, 20
FACT_COLUMNS = (
    "n_active", "density", "mean", "max", "n_sequences", "burstiness",
    "token_entropy", "n_tokens", "dec_norm", "enc_dec_cosine", "fvu_rise",
)  # fmt: skip

_BEST = "(f1 is null or isnan(f1)), f1 desc, label"
TABLE_QUERIES = {
    "examples": """
        select latent, case kind when 'top' then -1 else interval end as kind, "row" from examples {where}
        order by latent, 2, rank""",
    "histograms": "select latent, low, high, n from histograms {where} order by latent, bin",
    "intervals": "select latent, low, high, n from intervals {where} order by latent, interval",
    "neighbours": "select latent, other, cosine from neighbours {where} order by latent, rank",
    "coactivations": "select latent, other, jaccard, lift from coactivations {where} order by latent, rank",
    "labels": f"""
        select latent, label, firing_share, f1, precision, recall, correlation from labels {{where}}
        qualify row_number() over (partition by latent order by {_BEST}) <= {N_LABELS} order by latent, {_BEST}""",
    "tokens": f"""
        select latent, "offset", token, n from tokens {{where}} and "offset" between -1 and 1
        qualify row_number() over (partition by latent, "offset" order by n desc, token)
            <= if("offset" = 0, {N_FIRED_TOKENS}, {N_CONTEXT_TOKENS})
        order by latent, "offset", n desc, token""",
}
"""The queries for each latent's rows, in the order in which the page shows them."""
TWO_DIGIT_TABLES = ("labels", "neighbours")
"""Tables whose numbers lie between −1 and 1. The page shows two digits of them."""


Senses = Mapping[int, Sequence[Mapping[str, Any]]]
"""Latent → its senses, each with its rule, its examples and the `tokens` that tell it from the others
(`verdict_evidence.senses_of`)."""


def payloads(
    features: FeatureStore,
    table: pd.DataFrame,
    contexts: Contexts,
    extras: Mapping[str, Mapping[int, Any]],
    label_names: Mapping[str, str],
) -> Iterator[tuple[str, dict]]:
    """Yield the name and contents of each chunk file.
    table: one row for each latent, in the order of the latents.
    extras: name → latent → the page's data under this name; a latent without an entry has None. For each name, a chunk
    has `columns_of` the latents' values.
    label_names: what each label is called."""
    step = LATENTS_PER_CHUNK * CHUNKS_AT_ONCE
    missing: dict[str, Any] = {
        "histogram": {"edges": [], "counts": []},
        "examples": encode_examples([], features.n_ctx),
    }
    for start in range(0, features.d_sae, step):
        block = _block(features, table, contexts, label_names, start, min(start + step, features.d_sae))
        for first in range(start, min(start + step, features.d_sae), LATENTS_PER_CHUNK):
            latents = range(first, min(first + LATENTS_PER_CHUNK, features.d_sae))
            chunk = {
                name: [value_of.get(j, missing.get(name, [])) for j in latents] for name, value_of in block.items()
            }
            chunk |= {name: [value_of.get(j) for j in latents] for name, value_of in extras.items()}
            yield (
                f"features-{first // LATENTS_PER_CHUNK:04d}",
                {name: columns_of(values) for name, values in chunk.items()},
            )


def _block(
    features: FeatureStore,
    table: pd.DataFrame,
    contexts: Contexts,
    label_names: Mapping[str, str],
    start: int,
    stop: int,
) -> dict[str, dict[int, Any]]:
    """Return name → latent → the page's data, for the latents start … stop − 1. Scans each table once."""
    where = f"where latent >= {start} and latent < {stop}"
    tables = {name: features.sql(query.format(where=where)) for name, query in TABLE_QUERIES.items()}
    tables["labels"]["label"] = tables["labels"]["label"].map(label_names)
    examples = tables.pop("examples")
    table = table.iloc[start:stop]
    facts = [name for name in FACT_COLUMNS if name in table]
    examples_by_latent = _by_latent(examples, contexts.examples(examples["kind"], examples["latent"], examples["row"]))
    return {
        "facts": dict(enumerate((dict(zip(facts, row, strict=True)) for row in _lines(table[facts])), start)),
        "logits": dict(enumerate(_logits(table), start)),
        "examples": {j: encode_examples(rows, features.n_ctx) for j, rows in examples_by_latent.items()},
        "histogram": _histograms(tables.pop("histograms")),
        **{
            name: _by_latent(table, _lines(table.drop(columns="latent"), 2 if name in TWO_DIGIT_TABLES else N_DIGITS))
            for name, table in tables.items()
        },
    }


def row_evidence(features: FeatureStore, senses: Senses) -> dict[str, Any]:
    """Return the table's non-numeric data for each latent: the tokens around its strongest firing, with the place of
    the firing token among them; its histogram of activations as digits, which are the square roots of its counts,
    scaled to at most 9, and where its first bin begins; and, if it has several senses, the strongest firing of each."""
    strongest = features.sql("select latent, \"row\" from examples where kind = 'top' and rank = 0")
    snippets: list = [None] * features.d_sae
    for latent, snippet in zip(
        strongest["latent"].tolist(), _snippets(features, strongest["row"].tolist()), strict=True
    ):
        snippets[latent] = snippet
    evidence_of_senses: dict[int, list[list | None]] = {}
    for latent, senses_of_latent in senses.items():
        rows = [one["strongest"][0] for one in senses_of_latent if one["strongest"]]
        of_senses = iter(_snippets(features, rows))
        evidence_of_senses[latent] = [next(of_senses) if one["strongest"] else None for one in senses_of_latent]
    table = features.sql(TABLE_QUERIES["histograms"].format(where=""))
    low, high, n = (table[name].to_numpy() for name in ("low", "high", "n"))
    digits = [""] * features.d_sae
    firsts: list = [None] * features.d_sae
    for latent, part in _slices(table).items():
        edges, counts = merge_bins(low[part], high[part], n[part], at_most=N_BARS)
        heights = np.sqrt(counts)
        firsts[latent] = number(edges[0], 2)
        digits[latent] = "".join(map(str, np.ceil(9 * heights / heights.max()).astype(int)))
    return {"snippets": snippets, "histograms": digits, "firsts": firsts, "senses": evidence_of_senses}


def _snippets(features: FeatureStore, rows: Sequence[int]) -> Iterator[list]:
    """Yield for each row the tokens around it, coded, and its place among them; or the row, if it is not text: there
    may be more rows than characters that code tokens."""
    if not features.has_text:
        yield from ([row] for row in rows)
        return
    tokens = features.tokens.reshape(-1).numpy()
    starts, stops = rows_around(np.array(rows, np.int64), features.n_ctx, SNIPPET_BEFORE, SNIPPET_AFTER)
    for row, start, stop in zip(rows, starts.tolist(), stops.tolist(), strict=True):
        yield [encode_tokens(tokens[start:stop]), row - start]


def sense_counts(features: FeatureStore, senses: Senses) -> dict[int, list[list[int]]]:
    """Return, for each latent, the firings of each of its senses in the bins of its histogram. The token of a firing
    tells its sense (`verdict_evidence.senses_of`). Firings on other tokens are not counted, and none of a latent whose
    senses are not told by tokens: those counted are less than LEAST_COUNTED. Reads the codes once."""
    parts = []
    for firings in _firings_of_senses(features, senses):
        firings["bin"] = np.searchsorted(bin_edges()[:-1], firings["value"], side="right") - 1  # the last has no end
        parts.append(firings.groupby(["latent", "sense", "bin"]).size())
    counted = pd.concat(parts).groupby(level=[0, 1, 2]).sum() if parts else pd.Series(dtype=int)
    spans = features.sql("""
        select latent, min(bin) as first, max(bin) as last, sum(n) as n from histograms group by latent""")
    counts: dict[int, list[list[int]]] = {}
    for latent, first, last, n_active in spans[spans["latent"].isin(list(senses))].itertuples(index=False, name=None):
        n_counted = counted.loc[latent].sum() if latent in counted.index else 0
        if n_counted < LEAST_COUNTED * n_active * sum(one.get("share") or 0 for one in senses[latent]):
            continue
        lows, highs = bin_edges()[first : last + 1], bin_edges()[first + 1 : last + 2]
        in_bins = np.zeros((len(senses[latent]), len(lows)), np.int64)
        if latent in counted.index:
            for (sense, at), n in counted.loc[latent].items():
                in_bins[sense, at - first] = n
        counts[latent] = [merge_bins(lows, highs, n, at_most=N_BINS)[1].tolist() for n in in_bins]
    return counts


def sense_tokens(features: FeatureStore, senses: Senses) -> dict[int, list[list[tuple[int, int, int]]]]:
    """Return, for each sense of each latent, the commonest tokens before, on and after its firings, as [offset, token,
    count]. The table `tokens` has the same for all firings of a latent. The sense of a firing is that of
    `sense_counts`. Reads the codes once."""
    tokens = features.tokens.reshape(-1).numpy()
    keys = ["latent", "sense", "offset", "token"]
    parts = []
    for firings in _firings_of_senses(features, senses):
        rows, place = firings["row"].to_numpy(), firings["row"].to_numpy() % features.n_ctx
        for offset in (-1, 0, 1):
            is_inside = (place + offset >= 0) & (place + offset < features.n_ctx)
            around = firings.loc[is_inside, ["latent", "sense"]].assign(
                offset=offset, token=tokens[rows[is_inside] + offset]
            )
            parts.append(around.groupby(keys).size())
    tokens_of_senses: dict[int, list[list[tuple[int, int, int]]]] = {
        latent: [[] for _ in senses_of_latent] for latent, senses_of_latent in senses.items()
    }
    if not parts:
        return tokens_of_senses
    counted = pd.concat(parts).groupby(level=keys).sum().rename("n").reset_index()
    counted = counted.sort_values(
        ["latent", "sense", "offset", "n", "token"], ascending=[True, True, True, False, True]
    )
    for latent, sense, *row in counted.groupby(keys[:3]).head(N_CONTEXT_TOKENS).itertuples(index=False, name=None):
        tokens_of_senses[latent][sense].append(tuple(row))
    return tokens_of_senses


def _firings_of_senses(features: FeatureStore, senses: Senses) -> Iterator[pd.DataFrame]:
    """Yield the firings whose token tells their sense: latent, sense, row and value, chunk by chunk of the codes."""
    tokens = features.tokens.reshape(-1).numpy()
    sense_of_token = pd.DataFrame(
        (
            (latent, token, k)
            for latent, parts in senses.items()
            for k, one in enumerate(parts)
            for token in one["tokens"]
        ),
        columns=["latent", "token", "sense"],
    )
    wanted = np.isin(np.arange(features.d_sae), sense_of_token["latent"])
    for chunk in read_chunks(features.codes) if senses else ():
        part = chunk.of_latents(wanted)
        firings = pd.DataFrame(
            {"latent": part.latents, "token": tokens[part.rows], "row": part.rows, "value": part.activations}
        )
        yield firings.merge(sense_of_token, on=["latent", "token"])


def _numbers_in(arrays: Sequence[Any], digits: int = N_DIGITS) -> list[list]:
    """Return `numbers` of each array."""
    ends = np.cumsum([0, *map(len, arrays)]).tolist()
    flat = numbers(np.concatenate([[], *arrays]), digits)
    return [flat[start:stop] for start, stop in pairwise(ends)]


def _lines(table: pd.DataFrame, digits: int = N_DIGITS) -> list[tuple]:
    columns = (table[name].to_numpy() for name in table)
    return list(zip(*(numbers(x, digits) if x.dtype.kind == "f" else x.tolist() for x in columns), strict=True))


def _slices(table: pd.DataFrame) -> dict[int, slice]:
    """Return each latent with the slice of its rows, which are contiguous."""
    latents = table["latent"].to_numpy()
    starts = np.flatnonzero(np.diff(latents, prepend=-1))
    cuts = zip(latents[starts].tolist(), pairwise([*starts.tolist(), len(latents)]), strict=True)
    return {latent: slice(*ends) for latent, ends in cuts}


def _by_latent(table: pd.DataFrame, rows: list) -> dict[int, list]:
    return {latent: rows[part] for latent, part in _slices(table).items()}


def _histograms(table: pd.DataFrame) -> dict[int, dict[str, list]]:
    low, high, n = (table[name].to_numpy() for name in ("low", "high", "n"))
    bins = {j: merge_bins(low[part], high[part], n[part], at_most=N_BINS) for j, part in _slices(table).items()}
    rounded = _numbers_in([edges for edges, _ in bins.values()], 3)
    return {j: {"edges": edges, "counts": bins[j][1].tolist()} for j, edges in zip(bins, rounded, strict=True)}


def _logits(table: pd.DataFrame) -> list[dict[str, list] | None]:
    """Return the tokens at both ends, and counts over the vocabulary between them. There are none if the scan kept no
    counts."""

    def lists(name: str) -> list:
        cells = table[name] if name in table else [None] * len(table)
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
