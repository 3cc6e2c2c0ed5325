"""The nodes and edges of an attribution graph, and their names: the data that is computed on, written and drawn
(`interp.effects.graph` defines their meaning)."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from interp.activations.hooks import layer_of

NODE_KEY = ["type", "dictionary", "position", "latent"]
"""The columns that tell one node from another."""
BIAS_AND_REST = [
    {"type": node_type, "dictionary": -1, "position": -1, "latent": -1, "activation": 1.0}
    for node_type in ("bias", "rest")
]
"""The last two nodes of a graph."""
HEAD_EDGES = {"source": int, "target": int, "layer": int, "head": int, "attention": float, "carried": float}
HEAD_SCORES = {
    **dict.fromkeys(("layer", "head", "query", "key", "query_node", "key_node"), int),
    "score": float,
}
"""The columns of the tables, with the types of their values."""


def empty_table(columns: dict[str, type]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in columns.items()})


def row_shares(sizes: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "row column"]:
    """Scale rows to a sum of 1."""
    return sizes / np.maximum(sizes.sum(1, keepdims=True), 1e-30)


def total_influence(
    influence: Float[np.ndarray, " node"], edges: Float[np.ndarray, "target node"], targets: Int[np.ndarray, " target"]
) -> Float[np.ndarray, " node"]:
    """Return r (1 + A + A² + …), the influence of each node over all paths (`interp.effects.graph`). A path of a graph
    without cycles has fewer edges than there are nodes.
    influence: r, the influence of each node by the edges into the logits.
    edges: into the nodes `targets`; nothing leads into the others."""
    shares = row_shares(np.abs(edges))
    total = np.zeros(len(influence))
    for _ in range(len(influence)):
        if influence.sum() <= 1e-9:
            break
        total += influence
        influence = influence[targets] @ shares
    return total


@dataclass(frozen=True)
class GraphNodes:
    """The graph of one prompt."""

    token_ids: list[int]
    tokens: list[str]
    """The names of the prompt's tokens."""
    words: dict[int, str]
    """The names of the tokens of the logits."""
    hook_names: list[str]
    """The hook that each dictionary reads, in the order in which the model runs them."""
    nodes: pd.DataFrame
    """type; dictionary (its index, −1 if none); position (−1 for bias and rest, which are the last two nodes); latent
    (the token id for a logit; −1 if neither); activation (z of a latent, probability of a logit, else 1); influence
    (share of the influence on the logits: it sums to 1 over embeddings, errors and rest); effect (a source's
    contribution to the log probability of the likeliest next token, in nats, to first order, in the model with nothing
    held; NaN for a foreign graph); reads (a target's input, the sum of its edges; else NaN)."""
    edges: Float[np.ndarray, "target source"]
    """The contribution of each node to each latent and logit, in the unit of the target's input; 0 for other
    targets."""
    replacement: float
    """The share of embeddings in the influence of embeddings, errors and rest, in [0, 1]."""
    completeness: float
    """The share of the targets' inputs that comes from embeddings and latents, in [0, 1], targets weighted by
    influence."""
    head_edges: pd.DataFrame = field(default_factory=lambda: empty_table(HEAD_EDGES))
    """Heads that carry edges from one token to another: source, target; layer (the index of the attention, in the order
    in which the model runs them), head; attention (from the target's position to the source's, in [0, 1]); carried (the
    part of the edge that the head moves between the two, in the edge's unit)."""
    head_scores: pd.DataFrame = field(default_factory=lambda: empty_table(HEAD_SCORES))
    """Why some of these heads attend there: layer, head, query, key (positions); query_node, key_node; score (what the
    pair adds to the attention score, less the mean of the other keys' scores weighted by attention, in nats). All pairs
    of a score sum to it."""
    groups: dict[str, list[int]] | None = None
    """Nodes by the name of their supernode, if a file or the user has grouped them."""

    @property
    def targets(self) -> Int[np.ndarray, " target"]:
        """The nodes that edges lead into: logits, then latents, each in their order."""
        node_type = self.nodes["type"].to_numpy()
        return np.concatenate([np.flatnonzero(node_type == name) for name in ("logit", "latent")])

    @property
    def unexplained(self) -> float:
        """The largest gap between a target's input and the sum of its edges, as a share of the largest input."""
        reads = self.nodes["reads"].fillna(0.0).to_numpy()
        return float(np.abs(self.edges.sum(1) - reads).max() / max(np.abs(reads).max(), 1e-30))

    @property
    def likeliest(self) -> int:
        """The node of the likeliest next token."""
        return int(np.where(self.nodes["type"] == "logit", self.nodes["activation"], -1.0).argmax())

    @property
    def layers(self) -> list[int]:
        """The block of each dictionary, from its hook's name, or its index in the order if names do not contain one;
        and one after the last, where viewers draw logits."""
        blocks = [layer for name in self.hook_names if (layer := layer_of(name)) is not None]
        if len(set(blocks)) < len(self.hook_names):
            blocks = list(range(len(self.hook_names)))
        return [*blocks, max(blocks, default=-1) + 1]

    def latents(self) -> dict[str, list[int]]:
        """The latents of each hook, each once, in the order of their nodes."""
        nodes = self.nodes[self.nodes["type"] == "latent"]
        of_hook = (nodes["latent"][nodes["dictionary"] == n] for n in range(len(self.hook_names)))
        return {name: latents.unique().tolist() for name, latents in zip(self.hook_names, of_hook, strict=True)}

    def name(self, node: int) -> str:
        """Describe a node in a few words: a token, a latent of a layer, an error."""
        facts: Any = [self.nodes[column].iat[node] for column in NODE_KEY]
        node_type, n, position, latent = facts
        if node_type == "embedding":
            return f"“{self.tokens[position]}”"
        if node_type == "logit":
            return f"says “{self.words.get(latent, latent)}”"
        if node_type == "latent":
            return f"layer {self.layers[n]}, latent {latent}"
        return f"error of layer {self.layers[n]}" if node_type == "error" else str(node_type)

    def node_ids(self) -> list[str]:
        """Name each node as Neuronpedia does. An error's name differs from any latent's."""
        layers, ids = self.layers, []
        for node_type, n, position, latent in self.nodes[NODE_KEY].itertuples(index=False):
            if node_type == "embedding":
                ids.append(f"E_{self.token_ids[position]}_{position}")
            elif node_type in ("latent", "logit"):
                ids.append(f"{layers[n]}_{latent}_{position}")
            else:
                ids.append(f"{layers[n]}_error_mlp_{position}" if node_type == "error" else node_type)
        return ids
