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
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.effects.graph_files import graph_json, read_graph
from interp.effects.graph_nodes import GraphNodes
from interp.effects.graph_page import largest_effects, page_content, write_graph_page
from interp.effects.graph_pruning import keep_logits, prune
from interp.effects.supernodes import find_supernodes
from interp.features.feature_store import FeatureStore
from interp.storage.addresses import as_local_path
from interp.storage.files import write_text
from interp.storage.folders import check_output_file

_EDGES = 0.98
"""The share of the influence that the drawn edges hold."""


class AttributionGraph(GraphNodes):
    """The graph of one prompt, with the computations on it and the ways to write it."""

    def __repr__(self) -> str:
        counts = self.nodes["type"].value_counts()
        likeliest = self.nodes.iloc[self.likeliest]
        token = int(likeliest["latent"])
        answer = f"{self.words.get(token, token)!r} {likeliest['activation']:.0%}"
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

    def pruned(self, nodes: float = 0.8, edges: float = _EDGES) -> "AttributionGraph":
        """Keep the nodes with the given share of the influence, and their edges with the given share of the edges'
        influence, as `effects.graph_pruning` does. Raises ValueError for shares outside (0, 1]."""
        return prune(self, nodes, edges)

    def of_logits(self, n: int) -> "AttributionGraph":
        """Keep the nodes that lead to one of the n likeliest next tokens. Raises ValueError for n below 1."""
        return keep_logits(self, n)

    def supernodes(self, rules: Mapping[str, str] | None = None) -> dict[str, list[int]]:
        """Return the nodes of each group of alike latents by its name, the most influence first: `groups`, if a file or
        the user has set them, else those that `effects.supernodes` finds.

        rules: of some nodes, by their `node_ids`."""
        return find_supernodes(self, rules or {})

    def save(
        self,
        path: str | Path,
        *,
        nodes: float = 0.8,
        edges: float = _EDGES,
        labels: Mapping[str, str] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write the pruned graph as JSON that the viewers of Neuronpedia and circuit-tracer read, and `load_graph`, in
        a folder that is made if it does not exist.

        labels: names of nodes, by their `node_ids`.
        Raises ValueError if the file exists, unless `overwrite` is set."""
        path = as_local_path(path)
        check_output_file(path, overwrite=overwrite)
        graph = self.pruned(nodes, edges)
        content = graph_json(graph, path.stem, graph.supernodes(labels), labels or {})
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")))

    def to_html(
        self,
        path: str | Path,
        *,
        nodes: float = 0.8,
        effects: pd.DataFrame | None = None,
        features: Mapping[str, FeatureStore] | None = None,
        rankings: Mapping[str, pd.DataFrame] | None = None,
        names: Mapping[str, Sequence[tuple[str, str]]] | None = None,
        names_here: Mapping[str, str] | None = None,
        pages: Mapping[str, str] | None = None,
        beside: pd.DataFrame | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write the pruned graph as a page: one file, which works offline, in a folder that is made if it does not
        exist.

        effects: `measured_effects` of this graph, and `token_effects`, shown next to its edges; the `disagreements`
        among them are listed, and the latents with the largest on each next token are kept.
        features, rankings: for each hook, for the texts and rules of latents.
        names: for each hook, the title of each latent and a shorter one (`report.names`), instead of its rule.
        names_here: names that stand in the drawing instead of the shorter ones, which say what the latent fires on at
        its token of this prompt, by the `node_ids`.
        pages: for each hook, the address of the page of its run, to which the cards of its latents lead.
        beside: a table of scores, such as that of `score_graph`.

        Raises ValueError if a file is there, unless `overwrite` says that it may be replaced.
        """
        path = as_local_path(path)
        check_output_file(path, overwrite=overwrite)
        content = page_content(
            self,
            prune(self, nodes, _EDGES, [] if effects is None else largest_effects(self, effects)),
            name=path.stem,
            effects=effects,
            features=features or {},
            rankings=rankings or {},
            names=names or {},
            names_here=names_here or {},
            pages=pages or {},
            scores=beside,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_graph_page(path, content, title="".join(self.tokens))
        return path


def load_graph(path: str | Path) -> AttributionGraph:
    """Read a graph written by `save`, the page, circuit-tracer or Neuronpedia; its supernodes are its `groups`.

    Raises ValueError, with the file and the fault, if it is damaged."""
    return AttributionGraph(**vars(read_graph(path)))
