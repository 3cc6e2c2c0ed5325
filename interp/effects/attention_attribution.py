"""Why does a head look where it looks? Its attention score on one prompt, as a sum over pairs of nodes of the graph.

In:  a graph, the model and dictionaries that it was made with; an attention and a head, a query's and a key's position.
Out: the score is bilinear in what the two positions are made of. With norms held, and with the attention below it,
     every node s of the graph hands a part q_s to the query and k_s to the key, so that

         score = scale · q · k = Σ_s Σ_t scale · q_s · k_t

     exactly. `bias` is what all biases hand on, `rest` what the graph's nodes do not hold.

Positions that are rotated into queries and keys are in q_s and k_t. Cost: a pass of the held model for each node. Of
models whose attention is PyTorch's `scaled_dot_product_attention`.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations.hooks import Model
from interp.codes.sparse_codes import Dictionary
from interp.effects.graph import AttributionGraph
from interp.effects.held import Attended
from interp.effects.prompt_passes import PromptPasses

_ROWS_AT_ONCE = 1 << 12


def attention_scores(
    graph: AttributionGraph,
    model: Model,
    dictionaries: Mapping[str, Dictionary],
    *,
    layer: int,
    head: int,
    query: int = -1,
    key: int,
) -> pd.DataFrame:
    """A row a pair: query_node, key_node (rows of `graph.nodes`), score, in nats before the softmax; the largest
    first. They sum to the score.

    layer: the number of the attention, in the order in which the model runs them. query, key: positions, from the end
    where negative. Raises ValueError for an attention, a head or a position that the model or prompt does not have, and
    for a key after the query.
    """
    n_pos = len(graph.token_ids)
    query, key = query % n_pos if -n_pos <= query < n_pos else query, key % n_pos if -n_pos <= key < n_pos else key
    if not 0 <= key <= query < n_pos:
        raise ValueError(f"query={query} and key={key} must be positions of the prompt, 0 ≤ key ≤ query < {n_pos}")
    passes = PromptPasses(model, torch.tensor([graph.token_ids]), dictionaries)
    attentions = passes.held.attentions
    n_heads = attentions[0].queries.shape[1] if attentions else 0
    if not (0 <= layer < len(attentions) and 0 <= head < n_heads):
        raise ValueError(
            f"layer={layer}, head={head}: the model runs scaled_dot_product_attention {len(attentions)} times, with "
            f"{n_heads} heads; where there are none, load it with attn_implementation='sdpa'"
        )
    score = _Score(layer, head, head * attentions[layer].keys.shape[1] // n_heads, query, key)
    of_query, of_key = _contributions(graph, passes, score, attentions[layer])
    scores = (of_query @ of_key.T * attentions[layer].scale).numpy(force=True)
    pairs = np.unravel_index(np.argsort(-np.abs(scores), axis=None, kind="stable"), scores.shape)
    return pd.DataFrame({"query_node": pairs[0], "key_node": pairs[1], "score": scores[pairs]})


class _Score(NamedTuple):
    """One entry of an attention's scores; `key_head` differs from `head` where several heads share their keys."""

    layer: int
    head: int
    key_head: int
    query: int
    key: int

    def sides(self, attended: Attended) -> tuple[Float[Tensor, "row d_head"], Float[Tensor, "row d_head"]]:
        return attended.queries[:, self.head, self.query], attended.keys[:, self.key_head, self.key]


def _contributions(
    graph: AttributionGraph, passes: PromptPasses, score: _Score, whole: Attended
) -> tuple[Float[Tensor, "node d_head"], Float[Tensor, "node d_head"]]:
    """What each node hands to the query and to the key."""
    kind = graph.nodes["kind"].to_numpy()
    sources = np.flatnonzero(np.isin(kind, ["embedding", "latent", "error"]))
    n_at_once = max(1, _ROWS_AT_ONCE // len(graph.token_ids))
    blocks = [sources[start : start + n_at_once] for start in range(0, len(sources), n_at_once)]
    biases = _with_nodes(graph, passes, sources[:0], score)
    alone = [_with_nodes(graph, passes, block, score) for block in blocks]
    sides = []
    for n, all_of_it in enumerate(score.sides(whole)):
        handed = all_of_it.new_zeros(len(graph.nodes), all_of_it.shape[1])
        handed[sources] = torch.cat([block[n] for block in alone]) - biases[n]
        handed[kind == "bias"] = biases[n]
        handed[kind == "rest"] = all_of_it - handed.sum(0)
        sides.append(handed)
    return sides[0], sides[1]


def _with_nodes(
    graph: AttributionGraph, passes: PromptPasses, nodes: np.ndarray, score: _Score
) -> tuple[Float[Tensor, "row d_head"], Float[Tensor, "row d_head"]]:
    """Queries and keys in passes with one node each and the biases, and nothing else; of no nodes, a row of biases."""
    n_rows = max(1, len(nodes))
    embedding = torch.zeros_like(passes.embedding).expand(n_rows, -1, -1).clone()
    outputs = [part.bias.expand(n_rows, -1, -1).clone() for part in passes.parts]
    columns = graph.nodes.iloc[nodes][["kind", "dictionary", "position", "latent", "activation"]]
    for row, (kind, n, position, latent, z) in enumerate(columns.itertuples(index=False)):
        if kind == "embedding":
            embedding[row, position] = passes.embedding[position]
        elif kind == "error":
            outputs[n][row, position] += passes.parts[n].error[position]
        else:
            outputs[n][row, position] += z * passes.parts[n].dictionary.W_dec[latent]
    passes.readings(embedding, outputs)
    return score.sides(passes.held.attentions[score.layer])
