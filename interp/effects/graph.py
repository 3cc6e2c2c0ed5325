"""The attribution graph of a prompt: the features through which a model computes its next token.

In:  a model, a prompt, and dictionaries of some of its hooks: transcoders of MLPs, or SAEs of the residual stream.
Out: a graph. Its nodes are
         embedding   the input of the first block, a node per position
         latent      z_j d_j of a latent that fires, a node per position
         error       the residual of a dictionary at its hook, a node per position
         logit       a next token: the likeliest ten, or as many as hold 0.95 of the probability
         bias        all biases together
         rest        the latents that were not expanded, together
     and its edges are the contributions of each node (source) to each latent and logit (target), with all nonlinear
     operations held at their values on the prompt (`interp.effects.linearised_model`):

         edge = v_s · ∂ reads_t / ∂x,     v = z_j d_j, an error or an embedding
         reads_t = x · W_enc[:, j] of a latent, and of a logit  final_norm(x) · ∂ log p_t / ∂ final_norm(x), which is
                   W_U[:, t] − Σ_v p_v W_U[:, v] in a model that neither scales nor caps its logits

     so that the edges into a node sum to its input. An edge into a logit is the source's contribution to the token's
     log probability, to first order.

A node's influence on the logits is p(A + A² + …), with A = |edges|, each row a share of 1, and p the logits'
probabilities. Nodes with 0.8 of the influence, and edges with 0.98 of theirs, are drawn.

    replacement    influence of embeddings / influence of embeddings, errors and rest
    completeness   share of the targets' inputs that comes from embeddings and latents, targets weighted by influence

Edges leave out what a node does through attention patterns and norms, which is much of its effect on the next token. A
node's `effect` includes it, without its paths: v · ∂ log p / ∂x in the model itself, for the likeliest next token.

Source: Ameisen et al. 2025 (Circuit Tracing). Rows of special tokens, of tokens excluded from a dictionary's training,
and above its norm limit are entirely errors.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from interp.checks.errors import InterpError
from interp.checks.limits import check_at_least
from interp.effects.graph_files import graph_json, read_graph
from interp.effects.graph_nodes import HEAD_SCORES, GraphNodes, row_shares
from interp.effects.graph_page import disagreements, latent_cards, write_graph_page
from interp.features.feature_store import FeatureStore
from interp.statistics.directions import unit_rows
from interp.statistics.linkage import average_linkage
from interp.storage.files import write_text
from interp.storage.folders import check_output_file

_ALIKE = 0.8
"""The least similarity of latents in a supernode."""


class AttributionGraph(GraphNodes):
    """The graph of one prompt, with the computations on it and the ways to write it."""

    def __repr__(self) -> str:
        counts = self.nodes["type"].value_counts()
        likeliest = self.nodes.iloc[self.likeliest]
        answer = f"{self.words[likeliest['latent']]!r} {likeliest['activation']:.0%}"
        sizes = f"{counts.get('latent', 0):,} latents, {counts.get('error', 0):,} errors"
        shares = f"replacement {self.replacement:.2f}, completeness {self.completeness:.2f}"
        return f"AttributionGraph({''.join(self.tokens)!r} → {answer}; {sizes}; {shares})"

    def total_effects(self) -> Float[np.ndarray, "target source"]:
        """Return the fall of each target's input, along all paths of the graph, if a latent did not fire.

        The paths hold norms and attention (`interp.effects.graph_checks` asks the model itself). A latent that reads
        less by Δ fires less by Δ, and its outgoing edges shrink by the share Δ / z. Columns of other sources are 0.
        """
        between = np.ix_(self.targets, self.targets)
        nodes = self.nodes.iloc[self.targets]
        is_latent = (nodes["type"] == "latent").to_numpy()
        direct = np.where(is_latent, self.edges[between], 0.0)
        per_unit = direct / np.where(is_latent, nodes["activation"].to_numpy(), 1.0)
        total = np.zeros_like(self.edges)
        total[between] = np.linalg.solve(np.eye(len(per_unit)) - per_unit, direct)
        return total

    def pruned(self, nodes: float = 0.8, edges: float = 0.98) -> "AttributionGraph":
        """Keep the nodes with the given share of the influence, and their edges with the given share of the edges'
        influence.

        Logits and the bias are kept, and the nodes of attention scores with the tokens that feed them; other
        latents without outgoing or incoming edges are removed. Removed nodes are summed in the node `rest`, so that
        edges still sum to a target's input. Raises ValueError for shares outside (0, 1].
        """
        if not (0 < nodes <= 1 and 0 < edges <= 1):
            raise InterpError(f"nodes={nodes} and edges={edges} are shares in (0, 1]")
        node_type, influence = self.nodes["type"].to_numpy(), self.nodes["influence"].to_numpy()
        in_scores = np.zeros(len(node_type), dtype=bool)
        in_scores[self.head_scores[["query_node", "key_node"]].to_numpy().ravel()] = True
        feeds_scores = (node_type == "embedding") & (self.edges[in_scores] != 0).any(0)
        keep = _largest(influence, nodes) | np.isin(node_type, ["logit", "bias"]) | in_scores | feeds_scores
        probability = np.where(node_type == "logit", self.nodes["activation"], 0.0)
        between = row_shares(np.abs(self.edges) * (node_type != "bias")) * (keep & keep[:, None])
        weight = between * (influence + probability / probability.sum())[:, None]
        kept_edges = _largest(weight.ravel(), edges).reshape(weight.shape)
        for node in np.flatnonzero(in_scores):
            kept_edges[node] |= _largest(between[node], nodes)
        before = ~keep
        while (before != keep).any():
            before = keep
            leads = kept_edges.any(0) | in_scores | np.isin(node_type, ["logit", "bias"])
            keep = keep & leads & (kept_edges.any(1) | (node_type != "latent"))
            kept_edges &= keep & keep[:, None]
        keep[-1] = True
        weights = np.where(kept_edges | (node_type == "bias"), self.edges, 0.0)
        weights[:, -1] += self.edges.sum(1) - weights.sum(1)
        return self._with_nodes(keep, weights)

    def of_logits(self, n: int) -> "AttributionGraph":
        """Keep the nodes that lead to one of the n likeliest next tokens. Raises ValueError for n below 1."""
        check_at_least(1, n=n)
        node_type = self.nodes["type"]
        keep = node_type.isin(["bias", "rest"]).to_numpy(copy=True)
        keep[self.nodes[node_type == "logit"].nlargest(n, "activation").index] = True
        for node in np.argsort(-self.nodes["dictionary"].to_numpy()):  # the latest first
            if keep[node]:
                keep |= self.edges[node] != 0
        return self._with_nodes(keep, self.edges)

    def supernodes(self, rules: Mapping[str, str] | None = None) -> dict[str, list[int]]:
        """Group latents that carry the same tokens to the same next tokens: nodes by name, the most influence first.

        Each latent has two signed profiles, over all paths: the share of its input that starts at each position, and
        its share of each logit's input. The similarity of two latents is the smaller cosine of their profiles; for
        latents with the same rule the input profiles count as equal. Groups are clusters of average linkage at a
        similarity of 0.8. A group is named by the rule of most of its latents, or by the token that they read most and
        the next token that they raise or lower most. If a file or the user has set `groups`, these are returned.

        rules: of some nodes, by their `node_ids`.
        """
        if self.groups is not None:
            return self.groups
        node_type = self.nodes["type"].to_numpy()
        latents = np.flatnonzero(node_type == "latent")
        if len(latents) < 2:
            return {}
        reads, writes = self._profiles(latents)
        ids = self.node_ids()
        texts = np.array([(rules or {}).get(ids[node], "") for node in latents])
        same_rule = (texts[:, None] == texts) & (texts != "")
        likeness = np.minimum(np.where(same_rule, 1.0, _cosines(reads)), _cosines(writes))
        cluster = average_linkage(likeness, _ALIKE)
        groups: dict[str, list[int]] = {}
        for number in np.unique(cluster):
            mine = np.flatnonzero(cluster == number)
            if len(mine) > 1:
                name = self._group_name(texts[mine], reads[mine].sum(0), writes[mine].sum(0))
                groups.setdefault(name, []).extend(latents[mine].tolist())
        influence = self.nodes["influence"].to_numpy()
        return dict(sorted(groups.items(), key=lambda group: (-influence[group[1]].sum(), group[1])))

    def _profiles(
        self, latents: Int[np.ndarray, " latent"]
    ) -> tuple[Float[np.ndarray, "latent pos"], Float[np.ndarray, "latent logit"]]:
        """Return the share of each latent's input that starts at each position, and its share of each logit."""
        share = self.edges / np.maximum(np.abs(self.edges).sum(1, keepdims=True), 1e-30)
        paths = np.linalg.inv(np.eye(len(latents)) - share[np.ix_(latents, latents)])
        node_type = self.nodes["type"].to_numpy()
        begin = np.isin(node_type, ["embedding", "error"])
        at = np.eye(len(self.tokens))[self.nodes["position"][begin]]
        to_logits = share[np.ix_(node_type == "logit", latents)]
        return paths @ share[np.ix_(latents, begin)] @ at, (to_logits @ paths).T

    def _group_name(self, texts: np.ndarray, reads: np.ndarray, writes: np.ndarray) -> str:
        rules, counts = np.unique(texts, return_counts=True)
        if rules[counts.argmax()] and 2 * counts.max() > len(texts):
            return str(rules[counts.argmax()])
        logits = self.nodes["latent"][self.nodes["type"] == "logit"].tolist()
        strongest = np.abs(writes).argmax()
        verb = "raises" if writes[strongest] > 0 else "lowers"
        return (
            f"“{self.tokens[np.abs(reads).argmax()]}” {verb} “{self.words.get(logits[strongest], logits[strongest])}”"
        )

    def _with_nodes(self, keep: np.ndarray, edges: Float[np.ndarray, "target source"]) -> "AttributionGraph":
        """Keep some of the nodes, with these edges."""
        number = np.cumsum(keep) - 1
        heads, scores = self.head_edges, self.head_scores
        carried = edges[heads["target"], heads["source"]] != 0
        heads = heads[keep[heads["source"]] & keep[heads["target"]] & carried].reset_index(drop=True)
        ends = {name: number[np.where(keep[scores[name]], scores[name], -1)] for name in ("query_node", "key_node")}
        scores = scores.assign(**ends).groupby(list(HEAD_SCORES)[:-1], as_index=False, sort=False).sum()
        groups = {name: [int(number[n]) for n in nodes if keep[n]] for name, nodes in (self.groups or {}).items()}
        return replace(
            self,
            groups={name: nodes for name, nodes in groups.items() if nodes} or None,
            nodes=self.nodes[keep].reset_index(drop=True),
            edges=edges[keep][:, keep],
            head_edges=heads.assign(**{end: number[heads[end]] for end in ("source", "target")}),
            head_scores=scores,
        )

    def save(
        self,
        path: str | Path,
        *,
        nodes: float = 0.8,
        edges: float = 0.98,
        labels: Mapping[str, str] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write the pruned graph as JSON that the viewers of Neuronpedia and circuit-tracer read, and `load_graph`, in
        a folder that is made if it does not exist.

        labels: names of nodes, by their `node_ids`.
        Raises ValueError if the file exists, unless `overwrite` is set."""
        check_output_file(path, overwrite=overwrite)
        content = self.pruned(nodes, edges)._json(path, labels or {})
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")))

    def to_html(
        self,
        path: str | Path,
        *,
        nodes: float = 0.8,
        effects: pd.DataFrame | None = None,
        features: Mapping[str, FeatureStore] | None = None,
        rankings: Mapping[str, pd.DataFrame] | None = None,
        beside: pd.DataFrame | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write the pruned graph as a page: one file, which works offline, in a folder that is made if it does not
        exist.

        effects: `measured_effects` of this graph, shown next to its edges; the `disagreements` among them are listed.
        features, rankings: for each hook, for the texts and rules of latents.
        beside: a table of scores, such as that of `score_graph`.

        Raises ValueError if a file is there, unless `overwrite` says that it may be replaced.
        """
        check_output_file(path, overwrite=overwrite)
        graph = self.pruned(nodes)
        cards = latent_cards(graph, features or {}, rankings or {})
        rules = {node: cards.get(node.rpartition("_")[0], {}).get("said") for node in graph.node_ids()}
        page: dict[str, Any] = {
            "graph": graph._json(path, {node: rule for node, rule in rules.items() if rule}),
            "cards": cards,
            "effects": [],
            "wrong": [],
            "beside": [],
        }
        if effects is not None:
            ids = np.array(self.node_ids())
            named = effects.assign(source=ids[effects["source"]], target=ids[effects["target"]])
            named = named[named[["source", "target"]].isin(graph.node_ids()).all(axis=1)]
            page["effects"] = named.to_dict("records")
            unit = self.nodes["activation"].where(self.nodes["type"] == "latent", 1.0)  # logits are read in nats
            shares = named[["attributed", "measured"]].div(unit[effects["target"][named.index]].to_numpy(), axis=0)
            page["wrong"] = disagreements(shares.reset_index(drop=True)).index.tolist()
        if beside is not None:
            page["beside"] = beside.astype(object).where(beside.notna(), None).to_dict("records")  # JSON has no NaN
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_graph_page(path, page, title="".join(self.tokens))
        return Path(path)

    def _json(self, path: str | Path, labels: Mapping[str, str]) -> dict[str, Any]:
        return graph_json(self, Path(path).stem, self.supernodes(labels), labels)


def load_graph(path: str | Path) -> AttributionGraph:
    """Read a graph written by `save`, the page, circuit-tracer or Neuronpedia; its supernodes are its `groups`.

    Raises ValueError, with the file and the fault, if it is damaged."""
    return AttributionGraph(**vars(read_graph(path)))


def _cosines(rows: Float[np.ndarray, "row d"]) -> Float[np.ndarray, "row row"]:
    unit = unit_rows(rows)
    return unit @ unit.T


def _largest(values: Float[np.ndarray, " value"], share: float) -> np.ndarray:
    """Mark the largest values that hold a share of the sum."""
    positive = np.flatnonzero(values > 0)  # of edges, most are 0, and need no sorting
    order = positive[np.argsort(-values[positive], kind="stable")]
    cumulative = np.cumsum(values[order])
    n = int(np.searchsorted(cumulative, share * cumulative[-1:].sum() * (1 - 1e-12))) + 1
    marks = np.zeros(len(values), dtype=bool)
    marks[order[:n]] = True
    return marks
