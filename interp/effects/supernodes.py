"""Find groups of alike latents in an attribution graph, which are drawn as one node."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from interp.effects.graph_nodes import GraphNodes
from interp.statistics.directions import unit_rows
from interp.statistics.linkage import average_linkage

_ALIKE = 0.8
"""The least similarity of latents in a supernode."""


def find_supernodes(graph: GraphNodes, rules: Mapping[str, str]) -> dict[str, list[int]]:
    """Group latents that carry the same tokens to the same next tokens: nodes by name, the most influence first.

    Each latent has two signed profiles, over all paths: the share of its input that starts at each position, and
    its share of each logit's input. The similarity of two latents is the smaller cosine of their profiles; for
    latents with the same rule the input profiles count as equal. Groups are clusters of average linkage at a
    similarity of 0.8. A group is named by what most of its latents fire on, or else by the token that they read
    most; and by the next token that they raise or lower most, weighted by its probability. If a file or the user
    has set `groups`, these are returned.

    rules: what some nodes fire on, by their `node_ids`.
    """
    if graph.groups is not None:
        return graph.groups
    node_type = graph.nodes["type"].to_numpy()
    latents = np.flatnonzero(node_type == "latent")
    if len(latents) < 2:
        return {}
    reads, writes = _profiles(graph, latents)
    ids = graph.node_ids()
    texts = np.array([rules.get(ids[node], "") for node in latents])
    same_rule = (texts[:, None] == texts) & (texts != "")
    likeness = np.minimum(np.where(same_rule, 1.0, _cosines(reads)), _cosines(writes))
    cluster = average_linkage(likeness, _ALIKE)
    groups: dict[str, list[int]] = {}
    for number in np.unique(cluster):
        mine = np.flatnonzero(cluster == number)
        if len(mine) > 1:
            name = _group_name(graph, texts[mine], reads[mine].sum(0), writes[mine].sum(0))
            groups.setdefault(name, []).extend(latents[mine].tolist())
    influence = graph.nodes["influence"].to_numpy()
    return dict(sorted(groups.items(), key=lambda group: (-influence[group[1]].sum(), group[1])))


def _profiles(
    graph: GraphNodes, latents: Int[np.ndarray, " latent"]
) -> tuple[Float[np.ndarray, "latent pos"], Float[np.ndarray, "latent logit"]]:
    """Return the share of each latent's input that starts at each position, and its share of each logit."""
    share = graph.edges / np.maximum(np.abs(graph.edges).sum(1, keepdims=True), 1e-30)
    paths = np.linalg.inv(np.eye(len(latents)) - share[np.ix_(latents, latents)])
    node_type = graph.nodes["type"].to_numpy()
    begin = np.isin(node_type, ["embedding", "error"])
    at = np.eye(len(graph.tokens))[graph.nodes["position"][begin]]
    to_logits = share[np.ix_(node_type == "logit", latents)]
    return paths @ share[np.ix_(latents, begin)] @ at, (to_logits @ paths).T


def _group_name(graph: GraphNodes, texts: np.ndarray, reads: np.ndarray, writes: np.ndarray) -> str:
    rules, counts = np.unique(texts, return_counts=True)
    rule = str(rules[counts.argmax()]) if 2 * counts.max() > len(texts) else ""
    is_logit = graph.nodes["type"] == "logit"
    logits = graph.nodes["latent"][is_logit].tolist()
    strongest = np.abs(writes * graph.nodes["activation"][is_logit]).argmax()
    verb = "raises" if writes[strongest] > 0 else "lowers"
    read = rule or f"“{graph.tokens[np.abs(reads).argmax()]}”"
    return f"{read} {verb} “{graph.words.get(logits[strongest], logits[strongest])}”"


def _cosines(rows: Float[np.ndarray, "row d"]) -> Float[np.ndarray, "row row"]:
    unit = unit_rows(rows)
    return unit @ unit.T
