"""Which features made the model say what it says on one prompt? The attribution graph of the prompt.

In:  a model, a prompt, and dictionaries of some of its hooks: transcoders of MLPs, or SAEs of the residual stream.
Out: a graph. Its nodes are
         embedding   what enters the first block, a node a position
         latent      z_j d_j of a latent that fires, a node a position
         error       what a dictionary leaves of its hook, a node a position
         logit       a next token: the likeliest ten, or as many as hold .95 of the probability
         bias        all biases together
         rest        the latents that were not expanded, together
     and its edges say what each node (source) hands to each latent and logit (target), with everything that is not
     linear held as it is on the prompt (`interp.effects.held`):

         edge = v_s · ∂ reads_t / ∂x,     v = z_j d_j, an error or an embedding
         reads_t = x · W_enc[:, j] of a latent, and of a logit  final_norm(x) · (W_U[:, t] − Σ_v p_v W_U[:, v])

     so that the edges into a node sum to what it reads. A logit is read against what the model expects, with p its
     probabilities: an edge into it is what the source adds to the token's log probability, to first order.

`interp.effects.attribution` makes it. A node's influence on the logits is p(A + A² + …), with A = |edges|, each row a
share of 1, and p the logits' probabilities. Nodes that hold .8 of it, and edges that hold .98 of theirs, are drawn.

    replacement    influence of embeddings / influence of embeddings, errors and rest
    completeness   share of what targets read that comes from embeddings and latents, targets weighed by influence

Edges hold attention patterns and norms, and so leave out what a node does by moving them, which is much of what it
does to the next token. A node's `effect` has it: v · ∂ log p / ∂x in the model itself, for the likeliest next token. It
says how much, and is no sum of paths; edges say by which way, as far as attention does not move.

Source: Ameisen et al. 2025 (Circuit Tracing), whose scores and cuts these are. Failing: edges do not explain attention
patterns (`attention_scores` does). Rows of special tokens, of tokens that a dictionary was not taught and above its
norm limit are errors as a whole.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from interp.display.graph_page import write_graph_page
from interp.features.feature_store import FeatureStore
from interp.storage.files import read_json, write_text
from interp.storage.folders import check_output_file

NODE_COLUMNS = ("kind", "dictionary", "position", "latent", "activation", "reads", "influence", "effect")
_TYPES = {
    "embedding": "embedding",
    "latent": "cross layer transcoder",
    "error": "mlp reconstruction error",
    "logit": "logit",
}
"""What Neuronpedia's viewer calls the kinds of nodes that it draws."""
_MOST_NODES, _MOST_LINKS = 100_000, 5_000_000
_REMEDY = "save the graph again"


@dataclass(frozen=True)
class AttributionGraph:
    """The graph of one prompt. A row of `edges` is a target, a column a node."""

    token_ids: list[int]
    tokens: list[str]
    """What the prompt's tokens are called."""
    words: dict[int, str]
    """What the tokens of the logits are called."""
    hook_names: list[str]
    """Of each dictionary the hook that it reads, in the order in which the model runs them."""
    nodes: pd.DataFrame
    """kind; dictionary (its number, −1 where there is none); position (−1 of bias and rest); latent (of a logit the
    token id, else −1); activation (z of a latent, probability of a logit, else 1); reads (of targets: what their edges
    sum to, else NaN); influence (a share of that on the logits: it sums to 1 over embeddings, errors and rest); effect
    (of sources: what they add to the log probability of the likeliest next token, in nats, to first order, in the model
    with nothing held; NaN of a graph from elsewhere)."""
    targets: Int[np.ndarray, " target"]
    """The nodes whose edges are known: logits, then latents."""
    edges: Float[np.ndarray, "target node"]
    """What each node hands to each target, in the unit of what the target reads."""
    replacement: float
    """The share of embeddings in the influence of embeddings, errors and rest, in [0, 1]."""
    completeness: float
    """The share of what targets read that embeddings and latents hand them, in [0, 1], targets weighed by influence."""

    @property
    def unexplained(self) -> float:
        """The largest gap between what a target reads and the sum of its edges, as a share of the largest reading."""
        reads = self.nodes["reads"].to_numpy()[self.targets]
        return float(np.abs(self.edges.sum(1) - reads).max() / max(np.abs(reads).max(), 1e-30))

    def total_effects(self) -> Float[np.ndarray, "target target"]:
        """What each target reads less, by all paths of the graph, if another one that is a latent did not fire.

        A latent that reads less by Δ fires less by Δ, and what it hands on falls by the share Δ / z. Columns of logits
        are 0.
        """
        nodes = self.nodes.iloc[self.targets]
        is_latent = (nodes["kind"] == "latent").to_numpy()
        direct = np.where(is_latent, self.edges[:, self.targets].astype(np.float64), 0.0)
        per_unit = direct / np.where(is_latent, nodes["activation"].to_numpy(), 1.0)
        return np.linalg.solve(np.eye(len(per_unit)) - per_unit, direct)

    def pruned(self, nodes: float = 0.8, edges: float = 0.98) -> "AttributionGraph":
        """The graph of the nodes that hold a share of the influence, and of their edges that hold a share of theirs.

        Logits and the bias stay; latents that lead nowhere, or that nothing leads to, go. What is cut is summed in the
        node `rest`, so that edges still sum to what a target reads. Raises ValueError for shares outside (0, 1].
        """
        if not (0 < nodes <= 1 and 0 < edges <= 1):
            raise ValueError(f"nodes={nodes} and edges={edges} are shares in (0, 1]")
        kind, influence = self.nodes["kind"].to_numpy(), self.nodes["influence"].to_numpy()
        keep = _largest(influence, nodes) | np.isin(kind, ["logit", "bias"])
        weight = _shares(self.edges, kind) * self.target_weights()[:, None]
        weight *= keep & keep[self.targets][:, None]
        kept_edges = _largest(weight.ravel(), edges).reshape(weight.shape)
        while True:
            led_to, leads = np.zeros(len(keep), bool), kept_edges.any(0)
            led_to[self.targets] = kept_edges.any(1)
            alive = keep & (leads | np.isin(kind, ["logit", "bias"])) & (led_to | (kind != "latent"))
            if (alive == keep).all():
                break
            keep = alive
            kept_edges &= keep & keep[self.targets][:, None]
        keep[kind == "rest"] = True
        left = np.where(kept_edges | (kind == "bias"), self.edges, 0.0)
        left[:, kind == "rest"] += (self.edges.sum(1) - left.sum(1))[:, None]
        return self._with_nodes(keep, left)

    def of_logits(self, n: int) -> "AttributionGraph":
        """The graph of the n likeliest next tokens: what leads to none of them is gone."""
        kind = self.nodes["kind"].to_numpy()
        row_of = {int(node): row for row, node in enumerate(self.targets)}
        likeliest = self.nodes[kind == "logit"].nlargest(n, "activation").index
        reached, waiting = set(likeliest), list(likeliest)
        while waiting:
            node = waiting.pop()
            sources = np.flatnonzero(self.edges[row_of[node]]) if node in row_of else ()
            new = [int(source) for source in sources if source not in reached]
            reached.update(new)
            waiting += new
        keep = np.isin(np.arange(len(kind)), list(reached)) | np.isin(kind, ["bias", "rest"])
        return self._with_nodes(keep, self.edges)

    def supernodes(self, rules: Mapping[int, str] | None = None, *, alike: float = 0.8) -> dict[str, list[int]]:
        """Groups of latents that carry the same tokens to the same next tokens, by name, the most influence first.

        Of each latent: which share of what it reads begins at which position, and of what logits read at it, by all
        paths and with their signs. Two are as alike as the smaller cosine of the two; those of one rule read alike.
        Groups are the clusters of average linkage at `alike`, and are named by the rule that most of them have, or by
        the token that they read most and the next token that they raise or lower most. rules: of some nodes.
        """
        kind = self.nodes["kind"].to_numpy()
        latents = np.flatnonzero(kind == "latent")
        if len(latents) < 2:
            return {}
        reads, writes = self._carried(latents)
        texts = np.array([(rules or {}).get(int(node), "") for node in latents])
        same_rule = (texts[:, None] == texts) & (texts != "")
        likeness = np.minimum(np.where(same_rule, 1.0, _cosines(reads)), _cosines(writes))
        tree = linkage(squareform(1 - likeness, checks=False), "average")
        cluster = fcluster(tree, 1 - alike, "distance")
        groups: dict[str, list[int]] = {}
        for number in np.unique(cluster):
            mine = np.flatnonzero(cluster == number)
            if len(mine) > 1:
                name = self._group_name(texts[mine], reads[mine].sum(0), writes[mine].sum(0))
                groups.setdefault(name, []).extend(latents[mine].tolist())
        influence = self.nodes["influence"].to_numpy()
        return dict(sorted(groups.items(), key=lambda group: (-influence[group[1]].sum(), group[1])))

    def _carried(
        self, latents: Int[np.ndarray, " latent"]
    ) -> tuple[Float[np.ndarray, "latent pos"], Float[np.ndarray, "latent logit"]]:
        """Which share of what each latent reads begins at which position, and its share of what each logit reads."""
        kind, n = self.nodes["kind"].to_numpy(), len(self.tokens)
        share = self.edges / np.maximum(np.abs(self.edges).sum(1, keepdims=True), 1e-30)
        row = {int(node): number for number, node in enumerate(self.targets)}
        of_latents = share[[row[int(node)] for node in latents]]
        of_logits = share[[row[int(node)] for node in np.flatnonzero(kind == "logit")]]
        paths = np.linalg.inv(np.eye(len(latents)) - of_latents[:, latents])
        begins = np.zeros((len(latents), n))
        for node in np.flatnonzero(np.isin(kind, ["embedding", "error"])):
            begins[:, self.nodes["position"][node]] += of_latents[:, node]
        return paths @ begins, (of_logits[:, latents] @ paths).T

    def _group_name(self, texts: np.ndarray, reads: np.ndarray, writes: np.ndarray) -> str:
        rules, counts = np.unique(texts, return_counts=True)
        if rules[counts.argmax()] and 2 * counts.max() > len(texts):
            return str(rules[counts.argmax()])
        logits = self.nodes["latent"][self.nodes["kind"] == "logit"].tolist()
        said = np.abs(writes).argmax()
        verb = "raises" if writes[said] > 0 else "lowers"
        return f"“{self.tokens[np.abs(reads).argmax()]}” {verb} “{self.words.get(logits[said], logits[said])}”"

    def _with_nodes(self, keep: np.ndarray, edges: Float[np.ndarray, "target node"]) -> "AttributionGraph":
        """The graph of some of the nodes, with these edges."""
        rows, number = keep[self.targets], np.cumsum(keep) - 1
        return replace(
            self,
            nodes=self.nodes[keep].reset_index(drop=True),
            targets=number[self.targets[rows]],
            edges=edges[rows][:, keep],
        )

    def target_weights(self) -> Float[np.ndarray, " target"]:
        """The influence of each target; of a logit its probability."""
        nodes = self.nodes.iloc[self.targets]
        probability = nodes["activation"].where(nodes["kind"] == "logit", 0.0)
        return (nodes["influence"] + probability / probability.sum()).to_numpy()

    @property
    def layers(self) -> list[int]:
        """The block of each dictionary, as its hook's name says, or where names do not tell its number in the order."""
        found = [re.search(r"\.(\d+)\.", f"{name}.") for name in self.hook_names]
        blocks = [int(match[1]) for match in found if match]
        return blocks if len(set(blocks)) == len(self.hook_names) else list(range(len(self.hook_names)))

    def name(self, node: int) -> str:
        """What a node is, in a few words: a token, a latent of a layer, an error."""
        facts: Any = self.nodes.loc[node]
        kind, n, position, latent = facts[["kind", "dictionary", "position", "latent"]]
        if kind == "embedding":
            return f"“{self.tokens[position]}”"
        if kind == "logit":
            return f"says “{self.words.get(latent, latent)}”"
        if kind == "latent":
            return f"layer {self.layers[n]}, latent {latent}"
        return f"error of layer {self.layers[n]}" if kind == "error" else str(kind)

    def node_ids(self) -> list[str]:
        """One name a node, as Neuronpedia has them. An error's cannot be taken for a latent's."""
        columns = self.nodes[["kind", "dictionary", "position", "latent"]]
        return [self._node_id(*values) for values in columns.itertuples(index=False)]

    def _node_id(self, kind: str, n: int, position: int, latent: int) -> str:
        if kind == "embedding":
            return f"E_{self.token_ids[position]}_{position}"
        if kind == "logit":
            return f"{max(self.layers) + 1}_{latent}_{position}"
        if kind == "latent":
            return f"{self.layers[n]}_{latent}_{position}"
        return f"{self.layers[n]}_error_mlp_{position}" if kind == "error" else kind

    def save(
        self,
        path: str | Path,
        *,
        nodes: float = 0.8,
        edges: float = 0.98,
        labels: Mapping[int, str] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write the pruned graph as JSON that the viewers of Neuronpedia and circuit-tracer read; `interp` in it holds
        what `load_graph` needs beside. labels: what nodes of this graph are called.

        Raises ValueError where a file is there, unless `overwrite` says that it may be replaced."""
        check_output_file(path, overwrite=overwrite)
        graph = self.pruned(nodes, edges)
        ids = self.node_ids()
        content: Any = graph.to_json(Path(path).stem, {ids[node]: label for node, label in (labels or {}).items()})
        content["metadata"] |= {"node_threshold": nodes}
        content["metadata"]["pruning_settings"] = {"node_threshold": nodes, "edge_threshold": edges}
        write_text(path, json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")))

    def to_html(
        self,
        path: str | Path,
        *,
        nodes: float = 0.8,
        edges: float = 0.98,
        effects: pd.DataFrame | None = None,
        features: Mapping[str, FeatureStore] | None = None,
        rankings: Mapping[str, pd.DataFrame] | None = None,
        beside: pd.DataFrame | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write the pruned graph as a page: one file, which works offline.

        effects: `measured_effects` of this graph, shown beside its edges. features, rankings: of each hook, for what
        latents fire on, and how it is told. beside: a table of scores, such as `beside_nulls` makes.

        Raises ValueError where a file is there, unless `overwrite` says that it may be replaced.
        """
        check_output_file(path, overwrite=overwrite)
        graph = self.pruned(nodes, edges)
        cards = graph.cards(features or {}, rankings or {})
        labels = {node: card["said"] for node, card in cards.items() if card["said"]}
        measured = [] if effects is None else self._by_ids(effects, set(graph.node_ids()))
        content: Any = graph.to_json(Path(path).stem, labels)
        content["metadata"]["node_threshold"] = 1.0  # of what was kept
        table = [] if beside is None else [list(beside.columns), *_cells(beside)]
        by_latent = {node.rpartition("_")[0]: card for node, card in cards.items()}
        page = {"graph": content, "cards": by_latent, "effects": measured, "beside": table}
        write_graph_page(path, page, title=content["metadata"]["prompt"])
        return Path(path)

    def _by_ids(self, effects: pd.DataFrame, kept: set[str]) -> list[list[Any]]:
        """Measured effects as rows [source, target, attributed, measured], between nodes that are kept."""
        ids = np.array(self.node_ids())
        ends = zip(ids[effects["source"]].tolist(), ids[effects["target"]].tolist(), strict=True)
        sizes = zip(effects["attributed"].tolist(), effects["measured"].tolist(), strict=True)
        rows = [[*pair, *size] for pair, size in zip(ends, sizes, strict=True)]
        return [row for row in rows if row[0] in kept and row[1] in kept]

    def cards(
        self, features: Mapping[str, FeatureStore], rankings: Mapping[str, pd.DataFrame]
    ) -> dict[str, dict[str, Any]]:
        """Make a card of each latent, by its node's id: its rule, the tokens that it raises, and what it fires on."""
        ids, cards = self.node_ids(), {}
        for node in np.flatnonzero(self.nodes["kind"] == "latent").tolist():
            facts: Any = self.nodes.loc[node]
            hook, latent = self.hook_names[facts["dictionary"]], int(facts["latent"])
            ranking, said = rankings.get(hook), ""
            if ranking is not None and (mine := ranking[ranking["latent"] == latent]).size:
                said = str(mine["explanation"].iloc[0] or "")
            card: dict[str, Any] = {"said": said, "logits": [], "examples": []}
            if hook in features:
                feature: Any = features[hook][latent]
                shown = feature.facts.get("top_logit_tokens")
                card["logits"] = [features[hook].vocab[token] for token in shown[:5]] if np.ndim(shown) else []
                card["examples"] = [_example(row, feature.vocab) for row in feature.examples.head(5).itertuples()]
            cards[ids[node]] = card
        return cards

    def to_json(self, slug: str, labels: Mapping[str, str]) -> dict[str, Any]:
        """The graph in the format of `save`. labels: of node ids."""
        kind, ids = self.nodes["kind"], self.node_ids()
        groups = self.supernodes({node: labels[name] for node, name in enumerate(ids) if name in labels})
        supernodes = [[name, *(ids[node] for node in nodes)] for name, nodes in groups.items()]
        drawn = kind.isin(_TYPES).to_numpy()
        rows, columns = np.nonzero(self.edges * drawn)
        weights = self.edges[rows, columns]
        ends = zip(rows, columns, weights, strict=True)
        return {
            "metadata": {
                "slug": slug,
                "scan": "interp",
                "prompt": "".join(self.tokens),
                "prompt_tokens": self.tokens,
                "schema_version": 1,
                "info": {"generator": {"name": "interp"}},
            },
            "qParams": {
                "linkType": "both",
                "supernodes": supernodes,
                "pinnedIds": [node for group in supernodes for node in group[1:]],
            },
            "nodes": [self._node_json(node, ids[node], labels) for node in np.flatnonzero(drawn).tolist()],
            "links": [{"source": ids[s], "target": ids[self.targets[t]], "weight": float(w)} for t, s, w in ends],
            "interp": {
                "token_ids": self.token_ids,
                "words": {str(token): word for token, word in self.words.items()},
                "hook_names": self.hook_names,
                "replacement": self.replacement,
                "completeness": self.completeness,
                "influence": self.nodes["influence"].tolist(),
                "effect": self.nodes["effect"].fillna(0.0).tolist(),
                "reads": self.nodes["reads"].to_numpy()[self.targets].tolist(),
                "bias": self.edges[:, (kind == "bias").argmax()].tolist(),
                "rest": self.edges[:, (kind == "rest").argmax()].tolist(),
            },
        }

    def _node_json(self, node: int, node_id: str, labels: Mapping[str, str]) -> dict[str, Any]:
        facts: Any = self.nodes.loc[node]
        kind, n, position, latent = facts[["kind", "dictionary", "position", "latent"]]
        feature: int | None = None
        layer = str(self.layers[n]) if kind in ("latent", "error") else "E"
        if kind == "embedding":
            feature = self.token_ids[position]
        elif kind == "logit":
            feature, layer = int(latent), str(max(self.layers) + 1)
        elif kind == "latent":  # the pair of layer and latent as one number, after Cantor
            pair = self.layers[n] + int(latent)
            feature = pair * (pair + 1) // 2 + int(latent)
        own = {"activation": float(facts["activation"])} if kind == "latent" else {}
        own |= {} if kind == "logit" or math.isnan(facts["effect"]) else {"effect": float(facts["effect"])}
        own |= {"token_prob": float(facts["activation"])} if kind == "logit" else {}
        return {
            "node_id": node_id,
            "feature": feature,
            "layer": layer,
            "ctx_idx": int(position),
            "feature_type": _TYPES[kind],
            "jsNodeId": f"{node_id}-0",
            "clerp": labels.get(node_id, self.name(node)),
            "influence": float(self._cumulative()[node]),
            **own,
        }

    def _cumulative(self) -> Float[np.ndarray, " node"]:
        """The share of all influence that nodes of at least a node's have: where a viewer cuts."""
        influence = self.nodes["influence"].to_numpy()
        order = np.argsort(-influence, kind="stable")
        share = np.empty(len(order))
        share[order] = np.cumsum(influence[order]) / max(influence.sum(), 1e-30)
        return share


def load_graph(path: str | Path) -> AttributionGraph:
    """A graph that `save` wrote, or circuit-tracer or Neuronpedia.

    Of theirs, what targets read is the sum of their edges, and scores are NaN. Raises ValueError, naming the file and
    what is wrong, for one that is damaged."""
    content = read_json(path, _REMEDY)
    try:
        return _graph_of(content)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise ValueError(f"{path} holds no attribution graph ({type(error).__name__}: {error}): {_REMEDY}") from None


def _graph_of(content: Mapping[str, Any]) -> AttributionGraph:
    tokens = [_text(token) for token in content["metadata"]["prompt_tokens"]]
    listed, links, own = content["nodes"], content["links"], content.get("interp")
    if len(listed) > _MOST_NODES or len(links) > _MOST_LINKS:
        raise ValueError(f"{len(listed)} nodes and {len(links)} links are more than a graph has")
    kinds = {name: kind for kind, name in _TYPES.items()}
    listed = sorted(listed, key=lambda node: node["feature_type"] == "logit")
    layers = sorted({int(node["layer"]) for node in listed if kinds[node["feature_type"]] in ("latent", "error")})
    rows = [_node_of(node, kinds[node["feature_type"]], layers, len(tokens)) for node in listed]
    n_sources = sum(row["kind"] != "logit" for row in rows)
    ends = [
        {"kind": kind, "dictionary": -1, "position": -1, "latent": -1, "activation": 1.0} for kind in ("bias", "rest")
    ]
    nodes = pd.DataFrame(rows[:n_sources] + ends + rows[n_sources:]).assign(reads=np.nan, influence=0.0, effect=np.nan)
    places = [*range(n_sources), *range(n_sources + 2, len(nodes))]
    place = {_text(node["node_id"]): at for node, at in zip(listed, places, strict=True)}
    if len(place) < len(listed):
        raise ValueError("two nodes have one node_id")
    kind = nodes["kind"].to_numpy()
    targets = np.concatenate([np.flatnonzero(kind == "logit"), np.flatnonzero(kind == "latent")])
    row_of = {int(node): row for row, node in enumerate(targets)}
    edges = np.zeros((len(targets), len(nodes)))
    for link in links:
        edges[row_of[place[link["target"]]], place[link["source"]]] = _number(link["weight"])
    hooks = [f"layer {layer}" for layer in layers]
    graph = AttributionGraph([0] * len(tokens), tokens, {}, hooks, nodes, targets, edges, math.nan, math.nan)
    return _with_sums(graph) if own is None else _with_own(graph, own)


def _node_of(node: Mapping[str, Any], kind: str, layers: list[int], n_pos: int) -> dict[str, Any]:
    position = int(node["ctx_idx"])
    if not 0 <= position < n_pos:
        raise ValueError(f"a node stands at position {position} of {n_pos}")
    part = str(node["node_id"]).split("_")
    latent = int(part[1]) if kind in ("latent", "logit") else -1
    size = node.get("token_prob", 1.0) if kind == "logit" else node.get("activation", 1.0)
    place = layers.index(int(node["layer"])) if kind in ("latent", "error") else len(layers) if kind == "logit" else -1
    activation = 1.0 if size is None or kind in ("embedding", "error") else _number(size)
    return {"kind": kind, "dictionary": place, "position": position, "latent": latent, "activation": activation}


def _with_sums(graph: AttributionGraph) -> AttributionGraph:
    nodes = graph.nodes.copy()
    nodes.loc[graph.targets, "reads"] = graph.edges.sum(1)
    return replace(graph, nodes=nodes)


def _with_own(graph: AttributionGraph, own: Mapping[str, Any]) -> AttributionGraph:
    kind, nodes, edges = graph.nodes["kind"], graph.nodes.copy(), graph.edges.copy()
    edges[:, (kind == "bias").argmax()] = [_number(value) for value in own["bias"]]
    edges[:, (kind == "rest").argmax()] = [_number(value) for value in own["rest"]]
    nodes.loc[graph.targets, "reads"] = [_number(value) for value in own["reads"]]
    nodes["influence"] = [_number(value) for value in own["influence"]]
    nodes["effect"] = [_number(value) for value in own["effect"]]
    return replace(
        graph,
        token_ids=[int(token) for token in own["token_ids"]],
        words={int(token): _text(word) for token, word in own["words"].items()},
        hook_names=[_text(name) for name in own["hook_names"]],
        nodes=nodes,
        edges=edges,
        replacement=_number(own["replacement"]),
        completeness=_number(own["completeness"]),
    )


def _example(row: Any, vocab: Sequence[str]) -> dict[str, Any]:
    """The text around a firing, each token with its share of the largest activation."""
    largest = max(float(value) for value in row.values) or 1.0
    tokens = [vocab[token] for token in row.tokens]
    shares = [round(float(value) / largest, 3) for value in row.values]
    return {"tokens": tokens, "shares": shares, "at": int(np.argmax(row.values))}


def _cells(table: pd.DataFrame) -> list[list[Any]]:
    """Rows of a table as JSON has them, where it has no NaN."""
    return table.astype(object).where(table.notna(), None).to_numpy().tolist()


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _cosines(rows: Float[np.ndarray, "row d"]) -> Float[np.ndarray, "row row"]:
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
    return unit @ unit.T


def _shares(edges: Float[np.ndarray, "target node"], kind: np.ndarray) -> Float[np.ndarray, "target node"]:
    """|edges| with rows that sum to 1; the bias, which no prompt changes, has no share."""
    size = np.abs(edges) * (kind != "bias")
    return size / np.maximum(size.sum(1, keepdims=True), 1e-30)


def _largest(values: Float[np.ndarray, " value"], share: float) -> np.ndarray:
    """Marks the largest values that hold a share of the sum."""
    order = np.argsort(-values, kind="stable")
    cumulative = np.cumsum(values[order])
    n = int(np.searchsorted(cumulative, share * cumulative[-1] * (1 - 1e-12))) + 1
    marks = np.zeros(len(values), dtype=bool)
    marks[order[:n]] = True
    return marks & (values > 0)
