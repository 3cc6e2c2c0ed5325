"""Decompose an attention score on one prompt into a sum over pairs of nodes of the attribution graph.

In:  a graph, the model and dictionaries that it was made with; an attention layer and a head, a query and a key
     position. Out: the score is bilinear in the activations of the two positions. With norms and earlier attention
     held, every node s of the graph contributes q_s to the query and k_s to the key, so that

         score = scale · q · k = Σ_s Σ_t scale · q_s · k_t

     exactly. `bias` is the part of all biases, `rest` the part that is in none of the graph's nodes.

Rotary positions are included in q_s and k_t. Cost: a held pass, and a backward pass per dimension of the head. It works
for models whose attention is PyTorch's `scaled_dot_product_attention`.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations.hooks import Model
from interp.codes.dictionary import Dictionary
from interp.effects.graph import AttributionGraph
from interp.effects.prompt_passes import PromptPasses, passes_of


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
    """Decompose an attention score. Returns a row per pair, with query_node, key_node (rows of `graph.nodes`) and
    score, in nats before the softmax; the largest first. They sum to the score.

    layer: the index of the attention, in the order in which the model runs them.
    query, key: positions; negative ones count from the end.
    Raises ValueError for an attention, a head or a position that the model or prompt does not have, for a key after the
    query, and for dictionaries that the graph was not made with.
    """
    n_pos = len(graph.token_ids)
    query, key = query % n_pos if -n_pos <= query < n_pos else query, key % n_pos if -n_pos <= key < n_pos else key
    if not 0 <= key <= query < n_pos:
        raise ValueError(f"query={query} and key={key} must be positions of the prompt, 0 ≤ key ≤ query < {n_pos}")
    passes = passes_of(graph, model, dictionaries)
    attentions = passes.held_model.attentions
    n_heads = attentions[0].queries.shape[1] if attentions else 0
    if not (0 <= layer < len(attentions) and 0 <= head < n_heads):
        raise ValueError(
            f"layer={layer}, head={head}: the model runs scaled_dot_product_attention {len(attentions)} times, with "
            f"{n_heads} heads; where there are none, load it with attn_implementation='sdpa'"
        )
    whole = attentions[layer]
    key_head = head * whole.keys.shape[1] // n_heads  # where several heads share their keys
    of_query, of_key = _contributions(graph, passes, layer, (head, query), (key_head, key))
    scores = (of_query @ of_key.T * whole.scale).numpy(force=True)
    pairs = np.unravel_index(np.argsort(-np.abs(scores), axis=None, kind="stable"), scores.shape)
    return pd.DataFrame({"query_node": pairs[0], "key_node": pairs[1], "score": scores[pairs]})


def _contributions(
    graph: AttributionGraph, passes: PromptPasses, layer: int, query: tuple[int, int], key: tuple[int, int]
) -> list[Float[Tensor, "node d_head"]]:
    """Return the contribution of each node to the query and to the key at these positions."""

    def sides(change: Float[Tensor, "1 source"]) -> list[Float[Tensor, " d_head"]]:
        passes.readings(change, held=True)
        attended = passes.held_model.attentions[layer]
        return [attended.queries[0, *query], attended.keys[0, *key]]

    kind, columns = graph.nodes["kind"].to_numpy(), passes.columns(graph.nodes)
    change = passes.zeros(1).requires_grad_(True)
    contributions = []
    for whole, bias in zip(sides(change), sides(passes.zeros(1) - 1), strict=True):
        gradients = [torch.autograd.grad(each, change, retain_graph=True)[0][0] for each in whole]
        handed = bias.new_zeros(len(kind), len(bias))
        handed[columns >= 0] = torch.stack(gradients, 1)[columns[columns >= 0]]
        handed[kind == "bias"] = bias
        handed[kind == "rest"] = whole.detach() - handed.sum(0)
        contributions.append(handed)
    return contributions
