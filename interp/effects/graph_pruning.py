"""Keep the part of an attribution graph that matters: the nodes and edges with most of the influence on the logits, or
those that lead to some of the next tokens."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from interp.checks.errors import InterpError
from interp.checks.limits import check_at_least
from interp.effects.graph_nodes import HEAD_SCORES, GraphNodes, row_shares

Graph = TypeVar("Graph", bound=GraphNodes)


def prune(graph: Graph, nodes: float, edges: float, always: Sequence[int] = ()) -> Graph:
    """Keep the nodes with the given share of the influence, and their edges with the given share of the edges'
    influence. always: latents that are kept whatever their influence, with what feeds them and what they feed most.

    Logits and the bias are kept, and the nodes of attention scores with the tokens that feed them; other
    latents without outgoing or incoming edges are removed. Removed nodes are summed in the node `rest`, so that
    edges still sum to a target's input. Raises ValueError for shares outside (0, 1].
    """
    if not (0 < nodes <= 1 and 0 < edges <= 1):
        raise InterpError(f"nodes={nodes} and edges={edges} are shares in (0, 1]")
    node_type, influence = graph.nodes["type"].to_numpy(), graph.nodes["influence"].to_numpy()
    in_scores = np.zeros(len(node_type), dtype=bool)
    in_scores[graph.head_scores[["query_node", "key_node"]].to_numpy().ravel()] = True
    feeds_scores = (node_type == "embedding") & (graph.edges[in_scores] != 0).any(0)
    is_wanted = np.zeros(len(node_type), dtype=bool)
    is_wanted[list(always)] = True
    keep = _largest(influence, nodes) | np.isin(node_type, ["logit", "bias"]) | in_scores | feeds_scores | is_wanted
    probability = np.where(node_type == "logit", graph.nodes["activation"], 0.0)
    between = row_shares(np.abs(graph.edges) * (node_type != "bias")) * (keep & keep[:, None])
    weight = between * (influence + probability / probability.sum())[:, None]
    kept_edges = _largest(weight.ravel(), edges).reshape(weight.shape)
    for node in np.flatnonzero(in_scores | is_wanted):
        kept_edges[node] |= _largest(between[node], nodes)
    for node in np.flatnonzero(is_wanted):
        kept_edges[:, node] |= _largest(weight[:, node], nodes)
    before = ~keep
    while (before != keep).any():
        before = keep
        leads = kept_edges.any(0) | in_scores | is_wanted | np.isin(node_type, ["logit", "bias"])
        keep = keep & leads & (kept_edges.any(1) | is_wanted | (node_type != "latent"))
        kept_edges &= keep & keep[:, None]
    keep[-1] = True
    weights = np.where(kept_edges | (node_type == "bias"), graph.edges, 0.0)
    weights[:, -1] += graph.edges.sum(1) - weights.sum(1)
    return _with_nodes(graph, keep, weights)


def keep_logits(graph: Graph, n: int) -> Graph:
    """Keep the nodes that lead to one of the n likeliest next tokens. Raises ValueError for n below 1."""
    check_at_least(1, n=n)
    node_type = graph.nodes["type"]
    keep = node_type.isin(["bias", "rest"]).to_numpy(copy=True)
    keep[graph.nodes[node_type == "logit"].nlargest(n, "activation").index] = True
    for node in np.argsort(-graph.nodes["dictionary"].to_numpy()):  # the latest first
        if keep[node]:
            keep |= graph.edges[node] != 0
    return _with_nodes(graph, keep, graph.edges)


def _with_nodes(graph: Graph, keep: np.ndarray, edges: Float[np.ndarray, "target source"]) -> Graph:
    """Keep some of the nodes, with these edges."""
    number = np.cumsum(keep) - 1
    heads, scores = graph.head_edges, graph.head_scores
    carried = edges[heads["target"], heads["source"]] != 0
    heads = heads[keep[heads["source"]] & keep[heads["target"]] & carried].reset_index(drop=True)
    ends = {name: number[np.where(keep[scores[name]], scores[name], -1)] for name in ("query_node", "key_node")}
    scores = scores.assign(**ends).groupby(list(HEAD_SCORES)[:-1], as_index=False, sort=False).sum()
    groups = {name: [int(number[n]) for n in nodes if keep[n]] for name, nodes in (graph.groups or {}).items()}
    return replace(
        graph,
        groups={name: nodes for name, nodes in groups.items() if nodes} or None,
        nodes=graph.nodes[keep].reset_index(drop=True),
        edges=edges[keep][:, keep],
        head_edges=heads.assign(**{end: number[heads[end]] for end in ("source", "target")}),
        head_scores=scores,
    )


def _largest(values: Float[np.ndarray, " value"], share: float) -> np.ndarray:
    """Mark the largest values that hold a share of the sum."""
    positive = np.flatnonzero(values > 0)  # of edges, most are 0, and need no sorting
    order = positive[np.argsort(-values[positive], kind="stable")]
    cumulative = np.cumsum(values[order])
    n = int(np.searchsorted(cumulative, share * cumulative[-1:].sum() * (1 - 1e-12))) + 1
    marks = np.zeros(len(values), dtype=bool)
    marks[order[:n]] = True
    return marks
