"""Read the names of latents from a page that was written, as text, for displays that have no page beside them.

In: the folder of a page. Out: for each latent, what it fires on in a few words, as its own page says it (`captions`),
and the same in short, as its map says it (`short_names`); and where it fires on a known token, what it fires on there.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from interp.display.segments import (
    LIKE,
    SEPARATORS,
    CharacterPart,
    Segment,
    Segments,
    Token,
    TokenGroup,
    TokenList,
    to_text,
)
from interp.effects.graph_nodes import GraphNodes
from interp.report.json_text import unpack
from interp.report.naming import MOST
from interp.report.short_names import short_name

_N_TOKENS = 3
"""Number of tokens that are listed."""


class LatentName(NamedTuple):
    whole: str
    short: str
    senses: Sequence[tuple[str, Sequence[str]]] = ()
    """Each sense in short, with the tokens that it lists; a latent without senses has one."""
    tokens: Sequence[str] = ()
    """The tokens on which it fires most, the commonest first."""
    is_sure: bool = True
    """Whether the short name may be true of any firing: it neither lists tokens nor leaves out senses, and its F1 is
    MOST or more."""

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


def _with_first(token: str, tokens: Sequence[str]) -> str:
    """List some of the tokens, this one first."""
    return _listing([token, *(other for other in tokens if other != token)])


def _listing(tokens: Sequence[str]) -> str:
    more = " …" if len(tokens) > _N_TOKENS else ""
    return ", ".join(to_text([Token(each)]) for each in tokens[:_N_TOKENS]) + more


def names_of_page(folder: str | Path) -> list[LatentName]:
    """Return the name of each latent of the page in a folder."""
    script = (Path(folder) / "data" / "table.js").read_text(encoding="utf-16")
    columns = json.loads(unpack(json.loads(script[script.index(",") + 1 : script.rindex(")")])))["columns"]
    rows = zip(*(columns[name] for name in ("text", "short", "brief", "rule", "tokens", "f1")), strict=True)
    return [_name_of(*row) for row in rows]


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


def _name_of(
    whole: str, short: list, brief: list | None, rule: list, tokens: Sequence[str], f1: float | None
) -> LatentName:
    """Make the name of a latent from the JSON of its row of the table."""
    parts = {kind: content for part in brief or () if isinstance(part, dict) for kind, content in part.items()}
    in_short = short[0]["sense"][1] + short[1:] if isinstance(short[0], dict) else short
    name = LatentName(whole, to_text(_segments(in_short)), tokens=tokens)
    if "senses" in parts:
        rules = [rule for rule, *_ in (*parts["senses"], *parts.get("more_senses", ()))]
        senses = [(to_text(short_name([_segments(rule)])), list(_listed(rule, rule))) for rule in rules]
        return name._replace(senses=senses, is_sure=False)
    listed = list(_listed(brief or rule, rule))
    return name._replace(senses=[(name.short, listed)], is_sure=not listed and (f1 or 0) >= MOST)


def _listed(segments: list, rule: list) -> Iterator[str]:
    """Yield the tokens that a name lists, up to where it says something else."""
    for one in segments:
        if isinstance(one, list):
            yield one[0]
        elif isinstance(one, dict):
            kind, content = next(iter(one.items()))
            if kind == "rule":
                yield from _listed(content or rule, rule)
            elif kind == "groups":
                yield from (token for _, tokens, *_ in content for token, *_ in tokens)
        elif one not in (*SEPARATORS, LIKE):
            return


def _segments(written: list) -> Segments:
    return list(map(_segment, written))


def _segment(one: Any) -> Segment:
    if isinstance(one, str):
        return one
    if isinstance(one, dict):
        groups = ((name, tuple(map(_token, tokens)), n_shown) for name, tokens, n_shown, *_ in one["groups"])
        return TokenList(tuple(TokenGroup(*group) for group in groups))
    return _token(one)


def _token(written: list) -> Token:
    text, *drawn_by = written
    pieces = drawn_by[0] if drawn_by and isinstance(drawn_by[0], list) else []  # else it is drawn by its name
    return Token(text, tuple(piece if isinstance(piece, str) else CharacterPart(*piece) for piece in pieces))
