"""Name the latents of a scan: the table of names, which a run has too, and what it says of one firing.

In: `latent_words.LatentWords`. Out: one row for each latent, dead ones too, in the order of the latents:

    latent
    title         what it fires on, as text (`captions`)
    short         the same in few letters (`short_names`)
    named_by      what kind of description that is: label, words, tokens or rule (`naming.Kind`); "senses" of a latent
                  that is named by its senses; none where no description holds
    f1            that of what names it; the smaller one of its first two senses; NaN where it is not known
    tokens        the tokens on which it fires most often, the commonest first
    senses        [{short, tokens}] of each sense in few letters, with the tokens that it lists; a latent without senses
                  has one
    head          what its rule says first
    title_json, short_json, rule_json, measured_json
                  `captions.Caption.brief`, `short`, `rule` and `measured`, as JSON of segments (`display.segments`), by
                  which the page draws them

The page, `interp graph` and the figures read this table. Parquet: `Run.path_to("names")`.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from interp.checks.errors import DamagedError
from interp.display.segments import Token, to_text
from interp.effects.graph_nodes import GraphNodes
from interp.features.scan_checks import scan_identity
from interp.report.captions import caption_of
from interp.report.columns import values_of
from interp.report.latent_words import LatentWords
from interp.report.naming import MOST

COLUMNS = (
    "latent", "title", "short", "named_by", "f1", "tokens", "senses",
    "head", "title_json", "short_json", "rule_json", "measured_json",
)  # fmt: skip
_N_TOKENS = 3
"""Number of tokens that are listed."""


def name_latents(words: LatentWords) -> pd.DataFrame:
    """Return the table of names. `attrs["features"]` identifies the features (`scan_identity`)."""
    alone = [caption_of(latent) for latent in words.facts]
    n_called = Counter(one.text for one in alone)
    captions = [
        caption_of(latent, is_taken=True) if n_called[one.text] > 1 else one
        for latent, one in zip(words.facts, alone, strict=True)
    ]
    columns = {
        "latent": range(len(captions)),
        "title": [one.text for one in captions],
        "short": [one.short_text for one in captions],
        "named_by": [one.named_by for one in captions],
        "f1": pd.Series([one.f1 for one in captions], dtype=float),
        "tokens": words.commonest.tokens,
        "senses": [[{"short": short, "tokens": tokens} for short, tokens in one.senses] for one in captions],
        "head": [one.head for one in captions],
        "title_json": [_to_json_text(one.brief) for one in captions],
        "short_json": [_to_json_text(one.short) for one in captions],
        "rule_json": [_to_json_text(one.rule) for one in captions],
        "measured_json": [_to_json_text(one.measured) for one in captions],
    }
    table = pd.DataFrame(columns, columns=list(COLUMNS))
    table.attrs["features"] = scan_identity(words.features)
    return table


def read_names(file: str | Path) -> pd.DataFrame:
    """Read a table of names of `interp run`. Raises DamagedError for one of another version."""
    table = pd.read_parquet(file)
    if missing := [name for name in COLUMNS if name not in table]:
        raise DamagedError(
            f"{file} has no column {missing[0]}, as it is of another version: `interp run` makes it again"
        )
    return table


def segments_in(names: pd.DataFrame, column: str) -> list[list | None]:
    """Return what a column has as JSON; None where it has nothing."""
    return [None if cell is None else json.loads(cell) for cell in values_of(names, column)]


class LatentName(NamedTuple):
    title: str
    short: str
    named_by: str | None = None
    f1: float | None = None
    tokens: Sequence[str] = ()
    senses: Sequence[tuple[str, Sequence[str]]] = ()

    @property
    def is_sure(self) -> bool:
        """Whether the short name may be true of any firing: it neither lists tokens nor leaves out senses, and its F1
        is MOST or more."""
        is_list = any(tokens for _, tokens in self.senses)
        return self.named_by != "senses" and not is_list and (self.f1 or 0) >= MOST

    def at(self, token: str) -> str:
        """Return the name of the latent where it fires on this token: the senses that list it; else its commonest
        tokens, if it is one of them; else the short name, with "usually", if it does not hold there."""
        if senses := [each for each in self.senses if token in each[1]]:
            in_words = to_text([Token(token)])
            return "; ".join(words if in_words in words else _with_first(token, tokens) for words, tokens in senses)
        if self.is_sure:
            return self.short
        if token in self.tokens:
            return _with_first(token, self.tokens)
        return f"usually {self.short}"


def names_in(table: pd.DataFrame) -> list[LatentName]:
    """Return the name of each latent of a table of names."""
    columns = (values_of(table, column) for column in LatentName._fields)
    return [
        LatentName(title, short, named_by, f1, list(tokens), [(one["short"], list(one["tokens"])) for one in senses])
        for title, short, named_by, f1, tokens, senses in zip(*columns, strict=True)
    ]


def names_at_nodes(graph: GraphNodes, names: Mapping[str, Sequence[LatentName]]) -> dict[str, str]:
    """Return the name of each latent of a graph at its token, by its `node_ids`, where the names of its hook are
    given."""
    nodes = graph.nodes.assign(id=graph.node_ids()).query("type == 'latent'")
    places = nodes[["id", "dictionary", "latent", "position"]].itertuples(index=False)
    return {
        str(node): names[hook][latent].at(graph.tokens[position])
        for node, n, latent, position in places
        if (hook := graph.hook_names[n]) in names
    }


def _with_first(token: str, tokens: Sequence[str]) -> str:
    """List some of the tokens, this one first."""
    listed = [token, *(other for other in tokens if other != token)]
    more = " …" if len(listed) > _N_TOKENS else ""
    return ", ".join(to_text([Token(each)]) for each in listed[:_N_TOKENS]) + more


def _to_json_text(written: Any) -> str | None:
    return None if written is None else json.dumps(written, ensure_ascii=False, separators=(",", ":"))
