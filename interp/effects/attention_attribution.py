"""Explain the attention of one prompt by the nodes of its attribution graph: which heads carry an edge from a token to
another, and why they attend where they do.

In:  a graph, the model and dictionaries that it was made with. Norms and attention patterns are held, as in its edges.
Out: `head_edges`, for an edge from source s at position k to target t at another position q: what a head moves from k
     to q in one step,

         carried = A[q, k] · value_s[k] · ∂ reads_t / ∂ output[q]

     with the head's pattern A, its output, and the contribution value_s of the source to its values. The heads' shares
     and the share that is moved by way of positions in between sum to the edge.

     `head_scores`: every node s contributes q_s to a query and k_s to a key, rotary positions included, so that

         score = scale · q · k = Σ_s Σ_t scale · q_s · k_t

     exactly. `bias` is the part of all biases, `rest` the part of sources that are not nodes. What is decomposed is the
     score of a key k, less the mean score of the other keys, each weighted by its attention: the log odds of attending
     to k and not elsewhere, to first order.

Cost: a held pass per source of such an edge and per node of a score, and a backward pass per target. Only PyTorch's
`scaled_dot_product_attention` is explained.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.effects.graph_nodes import HEAD_EDGES, HEAD_SCORES, GraphNodes, empty_table
from interp.effects.linearised_model import AttentionRecord
from interp.effects.prompt_passes import PromptPasses, TargetGradients

_ROWS_AT_ONCE = 1 << 11
"""Tokens in one pass."""
_MIN_SHARE_OF_EDGE = 0.05
"""The least share of an edge that a head carries, and of a query or key that a source makes."""
_HEADS = 4
"""Heads that are kept of an edge."""
_SCORES, _SIDE, _PAIRS = 24, 8, 16
"""Scores that are explained, by the influence that they carry; sources that are nodes at each side of a score; and
pairs that are kept."""


class AttentionScore(NamedTuple):
    """An attention score of the prompt. layer: the index of the attention, in the order in which the model runs
    them."""

    layer: int
    head: int
    query: int
    key: int


def strongest_scores(drawn: GraphNodes, head_edges: pd.DataFrame) -> list[AttentionScore]:
    """Choose the attention scores of the heads that carry the most influence."""
    position = drawn.nodes["position"].to_numpy()
    read = np.abs(drawn.edges).sum(1)[head_edges["target"]]
    influence = drawn.nodes["influence"].where(drawn.nodes["type"] != "logit", drawn.nodes["activation"])
    weight = head_edges["carried"].abs() / read * influence[head_edges["target"]].to_numpy()
    columns = {"query": position[head_edges["target"]], "key": position[head_edges["source"]], "weight": weight}
    carried = head_edges.assign(**columns).groupby(list(AttentionScore._fields))["weight"].sum()
    return [AttentionScore(*map(int, score)) for score in carried.nlargest(_SCORES).index]


def sources_of_scores(passes: PromptPasses, scores: Sequence[AttentionScore]) -> Int[np.ndarray, " source"]:
    """Find the sources that contribute most to the queries and keys of some scores, the other side as it is."""
    change = passes.zeros(2 * len(scores)).requires_grad_(True)
    passes.readings(change, linearised=True)
    total: Any = 0
    sides = _sides(passes.linearised_model.attentions, scores, _against_others(passes, scores))
    for (query, key), n in zip(sides, range(0, len(change), 2), strict=True):
        total = total + query[n] @ key[n].detach() + query[n + 1].detach() @ key[n + 1]
    (gradient,) = torch.autograd.grad(total, change)
    size, sources = gradient.abs().topk(min(_SIDE, gradient.shape[1]), 1)
    return np.unique(sources[size > _MIN_SHARE_OF_EDGE * gradient.abs().sum(1, keepdim=True)].numpy(force=True))


def head_scores(
    graph: GraphNodes, passes: PromptPasses, scores: Sequence[AttentionScore], sources: Int[np.ndarray, " source"]
) -> pd.DataFrame:
    """Decompose some scores into pairs of these sources, biases and the rest (`GraphNodes.head_scores`)."""
    is_node = np.isin(passes.columns(graph.nodes), sources) | graph.nodes["type"].isin(["bias", "rest"])
    nodes = graph.nodes[is_node]
    tables = []
    for number, pairs in enumerate(_scores(passes, nodes, scores, _against_others(passes, scores))):
        table = _strongest(pairs).assign(number=number)
        table.loc[_PAIRS:, ["query_node", "key_node"]] = len(nodes) - 1  # the rest
        tables.append(table)
    scored = pd.concat(tables).groupby(["number", "query_node", "key_node"], as_index=False)["score"].sum()
    scored = scored.join(pd.DataFrame(scores), on="number")[list(HEAD_SCORES)]
    return scored.assign(**{end: nodes.index.to_numpy()[scored[end]] for end in ("query_node", "key_node")})


def head_edges(drawn: GraphNodes, passes: PromptPasses) -> pd.DataFrame:
    """Find the heads that carry the edges of a graph between positions (`GraphNodes.head_edges`)."""
    nodes, patterns = drawn.nodes, passes.linearised_model.patterns
    position = nodes["position"].to_numpy()
    row, source = np.nonzero(drawn.edges[drawn.targets])
    moves = (position[source] >= 0) & (position[source] != position[drawn.targets[row]])
    row, source = row[moves], source[moves]
    target = drawn.targets[row]
    if not (patterns and len(row)):
        return empty_table(HEAD_EDGES)
    movers, of_edge = np.unique(source, return_inverse=True)
    positions = position[movers]
    values = _contributions(
        passes,
        nodes.iloc[movers],
        lambda all_of, rows: [of.values[range(len(rows)), :, positions[rows]] for of in all_of],
    )
    slopes = _slopes_of_outputs(passes, nodes.iloc[drawn.targets])
    tables = []
    for layer, (pattern, value, slope) in enumerate(zip(patterns, values, slopes, strict=True)):
        n_heads = pattern.shape[1]
        attention = pattern[0][:, position[target], position[source]].T
        value = value.repeat_interleave(n_heads // value.shape[1], 1)
        carried = attention * (slope[row] * value[of_edge]).sum(-1)
        columns = {"source": source, "target": target, "edge": drawn.edges[target, source], "layer": layer}
        table = pd.DataFrame(columns).loc[np.repeat(np.arange(len(row)), n_heads)]
        table["head"] = np.tile(np.arange(n_heads), len(row))
        table["attention"] = attention.flatten().double().numpy(force=True)
        table["carried"] = carried.flatten().double().numpy(force=True)
        tables.append(table[table["carried"].abs() >= _MIN_SHARE_OF_EDGE * table["edge"].abs()])
    edges = pd.concat(tables, ignore_index=True)
    edges = edges.loc[edges["carried"].abs().sort_values(ascending=False, kind="stable").index]
    edges = edges.groupby(["source", "target"]).head(_HEADS)
    return edges.sort_values(["target", "source"], kind="stable", ignore_index=True).drop(columns="edge")


def _slopes_of_outputs(passes: PromptPasses, targets: pd.DataFrame) -> list[Float[Tensor, "target head d_value"]]:
    """Return for each attention the gradient of the targets' inputs with respect to its output at their position."""
    slopes = TargetGradients(passes, min(64, len(targets)), linearised=True)
    outputs = [attended.outputs for attended in passes.linearised_model.attentions]
    position = targets["position"].to_numpy()
    blocks = []
    for rows, gradients in slopes.gradients(targets, outputs):
        blocks.append([gradient[range(len(rows)), :, position[rows]] for gradient in gradients])
    return [torch.cat(layer) for layer in zip(*blocks, strict=True)]


def _against_others(passes: PromptPasses, scores: Sequence[AttentionScore]) -> list[Float[Tensor, " pos"]]:
    """Return for each score 1 at its key, less the attention to each other key, as a share of that to all others."""
    weights = []
    for layer, head, query, key in scores:
        others = passes.linearised_model.patterns[layer][0, head, query].clone()
        others[key] = 0.0
        weight = -others / others.sum().clamp_min(torch.finfo(others.dtype).tiny)
        weight[key] = 1.0
        weights.append(weight)
    return weights


def _scores(
    passes: PromptPasses,
    nodes: pd.DataFrame,
    scores: Sequence[AttentionScore],
    weights: Sequence[Float[Tensor, " pos"]],
) -> list[Float[Tensor, "query_node key_node"]]:
    """Decompose some attention scores, weighted over keys, into the pairs of nodes."""
    scales = [passes.linearised_model.attentions[score.layer].scale for score in scores]
    sides = _contributions(
        passes, nodes, lambda attended, _: [side for both in _sides(attended, scores, weights) for side in both]
    )
    return [scale * q @ k.T for scale, q, k in zip(scales, sides[::2], sides[1::2], strict=True)]


def _sides(
    attended: Sequence[AttentionRecord], scores: Sequence[AttentionScore], weights: Sequence[Float[Tensor, " pos"]]
) -> list[tuple[Float[Tensor, "row d_head"], Float[Tensor, "row d_head"]]]:
    """Return the query of each score and its keys, weighted."""
    sides = []
    for (layer, head, query, _), weight in zip(scores, weights, strict=True):
        queries, keys = attended[layer].queries, attended[layer].keys
        keys = keys[:, head * keys.shape[1] // queries.shape[1]]  # several heads may share their keys
        sides.append((queries[:, head, query], weight.to(keys) @ keys))
    return sides


def _contributions(
    passes: PromptPasses,
    nodes: pd.DataFrame,
    look: Callable[[Sequence[AttentionRecord], Int[np.ndarray, " row"]], list[Float[Tensor, "row ..."]]],
) -> list[Float[Tensor, "node ..."]]:
    """Return the contribution of each node to some linear functions of the attentions, each by a held pass without all
    other sources, less that of the biases. look: the functions of the attentions of a pass, given its nodes."""
    node_type, columns = nodes["type"].to_numpy(), passes.columns(nodes)
    passes.readings(passes.zeros(1) - 1, linearised=True)
    biases = passes.linearised_model.attentions
    blocks = []
    for rows in np.array_split(np.arange(len(nodes)), -(-len(nodes) * passes.ids.shape[1] // _ROWS_AT_ONCE)):
        alone = passes.zeros(len(rows)) - 1
        is_source = columns[rows] >= 0
        alone[np.flatnonzero(is_source), columns[rows][is_source]] = 0
        for rest in np.flatnonzero(node_type[rows] == "rest"):
            alone[rest] = 0
            alone[rest, columns[columns >= 0]] = -1
        passes.readings(alone, linearised=True)
        with_biases = look(passes.linearised_model.attentions, rows)
        of_biases = look([of.of_rows(len(rows)) for of in biases], rows)
        is_other = torch.tensor(node_type[rows] != "bias").to(alone)
        shapes = [(-1, *(1,) * (of.ndim - 1)) for of in of_biases]
        blocks.append(
            [both - is_other.view(s) * of for both, of, s in zip(with_biases, of_biases, shapes, strict=True)]
        )
    return [torch.cat(each) for each in zip(*blocks, strict=True)]


def _strongest(pairs: Float[Tensor, "query_node key_node"]) -> pd.DataFrame:
    """List the pairs, the largest first."""
    scores = pairs.double().numpy(force=True)
    nodes = np.unravel_index(np.argsort(-np.abs(scores), axis=None, kind="stable"), scores.shape)
    return pd.DataFrame({"query_node": nodes[0], "key_node": nodes[1], "score": scores[nodes]})
