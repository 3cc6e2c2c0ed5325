"""Attribution graphs as JSON that the viewers of Neuronpedia and circuit-tracer read.

    metadata   the prompt and its tokens
    qParams    supernodes: [name, node, node, …]
    nodes      embeddings, latents, errors and logits, with their names, places and influence
    links      source, target, weight
    interp     data outside these formats: biases, the rest, readings, effects, scores, and attention: the rows of
               `head_edges` and `head_scores` (`GraphNodes`), with the nodes' names

Graphs of these tools, which have no `interp`, are read too: the input of a target is then the sum of its edges, its
influence follows from them, and scores and effects are NaN. Nothing in a file is trusted: damaged files are refused
with the fault, and names are text.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.checks.errors import DamagedError, InterpError
from interp.checks.free_memory import check_memory
from interp.effects.graph_nodes import BIAS_AND_REST, HEAD_EDGES, HEAD_SCORES, GraphNodes, row_shares, total_influence
from interp.storage.files import read_json

_FEATURE_TYPES = {
    "embedding": "embedding",
    "latent": "cross layer transcoder",
    "error": "mlp reconstruction error",
    "logit": "logit",
}
"""The names in Neuronpedia's viewer of the types of nodes that it draws."""
_NODE_TYPES = {name: node_type for node_type, name in _FEATURE_TYPES.items()}
_SIZES = {"latent": "activation", "logit": "token_prob"}
"""The names there of what a graph calls a node's activation."""
_LINKS = {"source": int, "target": int, "weight": float}
_NODES = ("source", "target", "query_node", "key_node")
"""The columns of the tables that name nodes."""
_REMEDY = "save the graph again"


def graph_json(
    graph: GraphNodes, slug: str, groups: Mapping[str, list[int]], labels: Mapping[str, str]
) -> dict[str, Any]:
    """Return the content of a graph's file.

    slug: the name of the graph.
    groups: nodes by the name of their supernode.
    labels: names of nodes by their ids, instead of `graph.name`."""
    ids, influence = graph.node_ids(), graph.nodes["influence"]
    drawn = graph.nodes["type"].isin(_FEATURE_TYPES).to_numpy()
    rows, sources = np.nonzero(graph.edges[graph.targets] * drawn)
    targets = graph.targets[rows]
    links = pd.DataFrame({"source": sources, "target": targets, "weight": graph.edges[targets, sources]})
    supernodes = [[name, *(ids[node] for node in nodes)] for name, nodes in groups.items()]
    nodes = graph.nodes.assign(
        node_id=ids,
        name=[labels.get(node_id, graph.name(node)) for node, node_id in enumerate(ids)],
        layer=np.array(graph.layers)[graph.nodes["dictionary"]],
        # cumulative, from the largest: the share at which viewers cut
        influence=influence.sort_values(ascending=False, kind="stable").cumsum() / max(influence.sum(), 1e-30),
    )
    facts = {
        "token_ids": graph.token_ids,
        "words": {str(token): word for token, word in graph.words.items()},
        "hook_names": graph.hook_names,
        "replacement": graph.replacement,
        "completeness": graph.completeness,
        "influence": influence.tolist(),
        "effect": graph.nodes["effect"].tolist(),
        "reads": graph.nodes["reads"].to_numpy()[graph.targets].tolist(),
        "bias": graph.edges[graph.targets, -2].tolist(),
        "rest": graph.edges[graph.targets, -1].tolist(),
        "heads": _with_node_names(graph.head_edges, ids),
        "scores": _with_node_names(graph.head_scores, ids),
    }
    return {
        "metadata": {
            "slug": slug,
            "scan": "interp",
            "prompt": "".join(graph.tokens),
            "prompt_tokens": graph.tokens,
            "schema_version": 1,
            "info": {"generator": {"name": "interp"}},
            "node_threshold": 1.0,  # the graph is pruned: viewers draw all of it
        },
        "qParams": {
            "linkType": "both",
            "supernodes": supernodes,
            "pinnedIds": [node for group in supernodes for node in group[1:]],
        },
        "nodes": [_node_json(node, graph.token_ids) for node in nodes[drawn].itertuples()],
        "links": _with_node_names(links, ids),
        "interp": {name: _replace_nan(value) for name, value in facts.items()},
    }


def feature_number(layer: int, latent: int) -> int:
    """Combine a layer and a latent into one number by Cantor's pairing: Neuronpedia's number of a feature."""
    pair = layer + latent
    return pair * (pair + 1) // 2 + latent


def read_graph(path: str | Path) -> GraphNodes:
    """Read the graph of a file. Raises DamagedError, with the file and the fault, if it is not one."""
    content = read_json(path, _REMEDY)
    try:
        return _graph_of(content)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise DamagedError(f"{path} holds no attribution graph ({type(error).__name__}: {error}): {_REMEDY}") from None


def _node_json(node: Any, token_ids: Sequence[int]) -> dict[str, Any]:
    features = {
        "embedding": token_ids[node.position],
        "latent": feature_number(node.layer, node.latent),
        "logit": node.latent,
    }
    values = {_SIZES[node.type]: node.activation} if node.type in _SIZES else {}
    if node.type != "logit" and not math.isnan(node.effect):
        values["effect"] = node.effect
    return {
        "node_id": node.node_id,
        "feature": features.get(node.type),
        "layer": "E" if node.type == "embedding" else str(node.layer),
        "ctx_idx": node.position,
        "feature_type": _FEATURE_TYPES[node.type],
        "jsNodeId": f"{node.node_id}-0",
        "clerp": node.name,
        "influence": node.influence,
        **values,
    }


def _replace_nan(value: Any) -> Any:
    """Replace NaN by null, as JSON does not have NaN."""
    if isinstance(value, list):
        return [_replace_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _with_node_names(table: pd.DataFrame, ids: Sequence[str]) -> Any:
    """Return the rows of a table, with nodes by their names."""
    names = np.array(ids)
    return table.assign(**{end: names[table[end]] for end in _NODES if end in table}).to_dict("records")


def _graph_of(content: Mapping[str, Any]) -> GraphNodes:
    tokens = [_text(token) for token in content["metadata"]["prompt_tokens"]]
    listed = sorted(content["nodes"], key=lambda node: node["feature_type"] == "logit")
    layers = sorted({int(node["layer"]) for node in listed if _NODE_TYPES[node["feature_type"]] in ("latent", "error")})
    nodes = pd.DataFrame([_node_of(node, layers, len(tokens)) for node in listed] + BIAS_AND_REST)
    nodes["activation"] = _numbers(nodes["activation"])
    node_type = nodes["type"].to_numpy()
    number_of = {_text(node["node_id"]): number for number, node in enumerate(listed)}
    if len(number_of) < len(listed):
        raise InterpError("two nodes have one node_id")
    number_by_name = number_of | {"bias": len(listed), "rest": len(listed) + 1}
    table_of = partial(_table_of, number_of=number_by_name, node_type=node_type, n_pos=len(tokens))
    links = table_of(content["links"], _LINKS)
    check_memory(8 * len(nodes) ** 2, f"a graph of {len(nodes)} nodes", "save fewer nodes")
    edges = np.zeros((len(nodes), len(nodes)))
    edges[links["target"], links["source"]] = links["weight"]
    targets = [node for kind in ("logit", "latent") for node in np.flatnonzero(node_type == kind)]
    probability = np.where(node_type == "logit", nodes["activation"], 0.0)
    probability /= max(probability.sum(), 1e-30)
    facts = content.get("interp") or {
        "token_ids": [0] * len(tokens),
        "words": {},
        "hook_names": [f"layer {layer}" for layer in layers],
        "replacement": None,
        "completeness": None,
        "influence": total_influence(probability @ row_shares(np.abs(edges)), edges, np.arange(len(nodes))),
        "effect": [None] * len(nodes),
        "reads": edges.sum(1)[targets],
        "bias": [0.0] * len(targets),
        "rest": [0.0] * len(targets),
        "heads": [],
        "scores": [],
    }
    edges[targets, -2], edges[targets, -1] = _numbers(facts["bias"]), _numbers(facts["rest"])
    nodes["influence"], nodes["effect"] = _numbers(facts["influence"]), _numbers(facts["effect"])
    nodes.loc[targets, "reads"] = _numbers(facts["reads"])
    replacement, completeness = _numbers([facts["replacement"], facts["completeness"]]).tolist()
    return GraphNodes(
        token_ids=[int(token) for token in facts["token_ids"]],
        tokens=tokens,
        words={int(token): _text(word) for token, word in facts["words"].items()},
        hook_names=[_text(name) for name in facts["hook_names"]],
        nodes=nodes,
        edges=edges,
        replacement=replacement,
        completeness=completeness,
        head_edges=table_of(facts["heads"], HEAD_EDGES),
        head_scores=table_of(facts["scores"], HEAD_SCORES),
        groups=_groups_of(content.get("qParams") or {}, number_of),
    )


def _node_of(node: Mapping[str, Any], layers: list[int], n_pos: int) -> dict[str, Any]:
    node_type = _NODE_TYPES[node["feature_type"]]
    position = int(node["ctx_idx"])
    if not 0 <= position < n_pos:
        raise InterpError(f"a node stands at position {position} of {n_pos}")
    ends = {"embedding": -1, "logit": len(layers)}
    size = node.get(_SIZES.get(node_type, ""))
    return {
        "type": node_type,
        "dictionary": ends[node_type] if node_type in ends else layers.index(int(node["layer"])),
        "position": position,
        "latent": int(node["node_id"].split("_")[1]) if node_type in ("latent", "logit") else -1,
        "activation": 1.0 if size is None else size,
    }


def _table_of(
    rows: Any, types: dict[str, type], *, number_of: Mapping[str, int], node_type: np.ndarray, n_pos: int
) -> pd.DataFrame:
    """Read a table back. Raises ValueError for a value that is missing or not possible."""
    table = pd.DataFrame(rows, columns=list(types))
    table = table.assign(**{end: table[end].map(number_of) for end in _NODES if end in table})
    typed = table.astype(types)
    indices = typed[[name for name, dtype in types.items() if dtype is int]]
    if (
        (typed != table).any(axis=None)
        or not np.isfinite(typed.to_numpy(float)).all()
        or (indices < 0).any(axis=None)
        or (typed.filter(["query", "key"]) >= n_pos).any(axis=None)
        or not np.isin(node_type[typed.get("target", [])], ["latent", "logit"]).all()
    ):
        raise InterpError(f"a row of {', '.join(types)} is not possible")
    return typed


def _groups_of(shown: Mapping[str, Any], number_of: Mapping[str, int]) -> dict[str, list[int]] | None:
    """Return the supernodes by name; nodes that were pruned since are left out; None if there are no supernodes."""
    groups: dict[str, list[int]] = {}
    for name, *nodes in shown.get("supernodes") or []:
        if members := [number_of[node] for node in nodes if node in number_of]:
            groups.setdefault(_text(name), []).extend(members)
    return groups or None


def _numbers(values: Any) -> Float[np.ndarray, " value"]:
    """Read numbers; null is NaN. Raises ValueError for any other value that is not a finite number."""
    numbers = np.array([np.nan if value is None else value for value in values], float)
    is_null = np.array([value is None for value in values], bool)
    if not (np.isfinite(numbers) | is_null).all():
        raise InterpError("a number is not finite")
    return numbers


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InterpError(f"{value!r} is not text")
    return value
