"""The page of an attribution graph: one HTML file that contains its style, code and data, and works offline from
file://.

It draws the strongest paths to a next token. Beside them it has a card of each latent, with its name, the tokens that
it raises and the texts that it fires on most, and lists the measured effects that contradict what is attributed. Corpus
text in it is data, never markup: JSON that cannot close its script, drawn as text. The page runs no script but its own
(the modules in `page`, which begin in `main.js`).
"""

import base64
import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.display.cards import script_json
from interp.display.scripts import join_scripts
from interp.effects.graph_files import graph_json
from interp.effects.graph_nodes import GraphNodes, row_shares, total_influence
from interp.effects.supernodes import find_supernodes
from interp.features.feature_store import FeatureStore
from interp.storage.files import write_text

_EXAMPLES, _LOGITS = 5, 5
_DEPENDS_ON = 12
"""Number of nodes on which the page says that a next token depends most (`page/effects.js`)."""


def write_graph_page(path: str | Path, content: Mapping[str, Any], *, title: str) -> None:
    """Write the page. content: its data, which must be JSON."""
    folder = files("interp.effects") / "page"
    page, style = ((folder / f"page.{end}").read_text(encoding="utf-8") for end in ("html", "css"))
    code, data = join_scripts(folder, "main.js"), script_json(content)
    allowed = f"sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}"
    parts = {"hash": allowed, "title": html.escape(title), "style": style, "data": data, "code": code}
    write_text(path, re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], page))


def page_content(
    graph: GraphNodes,
    shown: GraphNodes,
    *,
    name: str,
    effects: pd.DataFrame | None,
    features: Mapping[str, FeatureStore],
    rankings: Mapping[str, pd.DataFrame],
    names: Mapping[str, Sequence[tuple[str, str]]],
    names_here: Mapping[str, str],
    pages: Mapping[str, str],
    scores: pd.DataFrame | None,
) -> dict[str, Any]:
    """Return the data of the page of a graph.

    shown: the part of the graph that is drawn.
    effects: the measured effects of the whole graph. features, rankings, names, pages: by hook. names_here: by node.
    scores: a table shown as it is."""
    cards = latent_cards(shown, features, rankings, names, pages)
    names_of_nodes = {node: cards.get(node.rpartition("_")[0], {}).get("name") for node in shown.node_ids()}
    labels = {node: name for node, name in names_of_nodes.items() if name}
    here = {node: names_here[node] for node in shown.node_ids() if node in names_here}
    shorts = {node: cards[node.rpartition("_")[0]]["short"] for node in labels}
    content = graph_json(shown, name, find_supernodes(shown, shorts | here), labels)
    page: dict[str, Any] = {
        "graph": content,
        "shares": link_shares(graph, content["links"]),
        "n_nodes": int((~graph.nodes["type"].isin(["bias", "rest"])).sum()),
        "origins": origins(graph),
        "cards": cards,
        "here": here,
        "effects": [],
        "disagreements": [],
        "scores": [],
    }
    if effects is not None:
        ids = np.array(graph.node_ids())
        edges = effects.assign(source=ids[effects["source"]], target=ids[effects["target"]])
        edges = edges[edges[["source", "target"]].isin(shown.node_ids()).all(axis=1)]
        page["effects"] = json_records(edges)
        unit = graph.nodes["activation"].where(graph.nodes["type"] == "latent", 1.0)  # logits are read in nats
        shares = edges[["attributed", "measured"]].div(unit[effects["target"][edges.index]].to_numpy(), axis=0)
        page["disagreements"] = disagreements(shares.reset_index(drop=True).dropna()).index.tolist()
    if scores is not None:
        page["scores"] = json_records(scores)
    return page


def largest_effects(graph: GraphNodes, effects: pd.DataFrame) -> list[int]:
    """Return the latents with the largest measured effect on each next token: those that the page says it depends
    on."""
    on_logits = effects[(graph.nodes["type"] == "logit").to_numpy()[effects["target"]]]
    size = on_logits["measured"].dropna().abs().sort_values(ascending=False, kind="stable")
    return sorted(set(on_logits.loc[size.index].groupby("target").head(_DEPENDS_ON)["source"]))


def json_records(table: pd.DataFrame) -> list[dict[Any, Any]]:
    """Return the rows of a table, with None for what JSON lacks: NaN, and −∞, the logarithm of a probability of 0."""
    finite = table.replace([np.inf, -np.inf], np.nan)
    return finite.astype(object).where(finite.notna(), None).to_dict("records")


def link_shares(graph: GraphNodes, links: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the share of each link in all that its target reads in the graph, apart from biases.

    links: some edges of the graph, by the names of their nodes."""
    shares = row_shares(_sizes(graph))
    number = {name: node for node, name in enumerate(graph.node_ids())}
    return [float(shares[number[link["target"]], number[link["source"]]]) for link in links]


def origins(graph: GraphNodes) -> dict[str, dict[str, float]]:
    """Return where the influence on each logit begins: the shares of tokens, of errors, and of the rest."""
    sizes, ids, node_type = _sizes(graph), graph.node_ids(), graph.nodes["type"]
    latents = np.flatnonzero(node_type == "latent")
    begun = {}
    for logit in np.flatnonzero(node_type == "logit"):
        of_logit = total_influence(row_shares(sizes[[logit]])[0], sizes[latents], latents)
        begins = {"tokens": "embedding", "errors": "error", "rest": "rest"}
        begun[ids[logit]] = {name: float(of_logit[node_type == kind].sum()) for name, kind in begins.items()}
    return begun


def _sizes(graph: GraphNodes) -> Float[np.ndarray, "target source"]:
    """Return the sizes of edges, without those of biases."""
    return np.abs(graph.edges) * (graph.nodes["type"] != "bias").to_numpy()


def latent_cards(
    graph: GraphNodes,
    features: Mapping[str, FeatureStore],
    rankings: Mapping[str, pd.DataFrame],
    names: Mapping[str, Sequence[tuple[str, str]]],
    pages: Mapping[str, str],
) -> dict[str, dict[str, Any]]:
    """Make the card of each latent, by "layer_latent". features, rankings, names, pages: of some hooks; of others cards
    are empty. A latent without a name has its rule as its name, or else the token that it fires on most."""
    cards = dict[str, dict[str, Any]]()
    for (hook, latents), layer in zip(graph.latents().items(), graph.layers, strict=False):
        rules = rankings[hook].set_index("latent")["explanation"].to_dict() if hook in rankings else {}
        stored_features = features[hook].several(latents) if hook in features else {}
        for latent in latents:
            feature: Any = stored_features.get(latent)
            rule = str(rules.get(latent) or "")
            fires = feature is not None and feature.facts["n_active"] > 0
            if not rule and fires:
                rule = f'"{feature.vocab[feature.facts["top_token"]]}"'
            name, short = names[hook][latent] if hook in names else (rule, rule)
            card = cards[f"{layer}_{latent}"] = {"name": name, "short": short, "logits": [], "examples": []}
            if hook in pages:
                card["page"] = f"{pages[hook]}#feature/{latent}"
            if fires:
                card["max"] = float(feature.facts["max"])
            if feature is not None:
                top_logits = feature.facts["top_logit_tokens"][:_LOGITS] if feature.has_logits else ()
                card["logits"] = [feature.vocab[token] for token in top_logits]
                card["examples"] = [
                    _example(row, feature.vocab) for row in feature.examples.head(_EXAMPLES).itertuples()
                ]
    return cards


def disagreements(effects: pd.DataFrame) -> pd.DataFrame:
    """Keep the pairs whose measured effect has another sign, or differs by a factor of two; the largest difference
    first."""
    ratio = effects["measured"] / effects["attributed"]
    differing = effects[~(ratio.between(0.5, 2) | (effects["measured"] == effects["attributed"]))]
    gap = (differing["measured"] - differing["attributed"]).abs()
    return differing.loc[gap.sort_values(ascending=False, kind="stable").index]


def _example(row: Any, vocab: Sequence[str]) -> dict[str, Any]:
    """Show the text around a firing, each token with its share of the largest activation."""
    largest = max(float(value) for value in row.values) or 1.0
    tokens = [vocab[token] for token in row.tokens]
    shares = [round(float(value) / largest, 3) for value in row.values]
    return {"tokens": tokens, "shares": shares, "at": int(np.argmax(row.values))}
