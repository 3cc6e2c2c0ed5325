"""Attribution graphs as JSON that the viewers of Neuronpedia and circuit-tracer read.

    metadata   the prompt, its tokens, and the shares at which the graph was pruned
    qParams    supernodes: [name, node, node, …]
    nodes      embeddings, latents, errors and logits, with their names, places and influence
    links      source, target, weight
    interp     data outside these formats: biases, the rest, readings, effects, scores, and attention: the columns of
               `head_edges` and `head_scores` (`GraphNodes`), with the nodes' names

Graphs of these tools, which have no `interp`, are read too: the input of a target is then the sum of its edges, and
scores and effects are NaN. Nothing in a file is trusted: damaged files are refused with the fault, and names are text.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.checks.errors import DamagedError
from interp.effects.graph_nodes import HEAD_EDGES, HEAD_SCORES, GraphNodes, empty_table
from interp.storage.files import read_json, write_text

_TYPES = {
    "embedding": "embedding",
    "latent": "cross layer transcoder",
    "error": "mlp reconstruction error",
    "logit": "logit",
}
"""The names in Neuronpedia's viewer of the kinds of nodes that it draws."""
_NODES = ("source", "target", "query_node", "key_node")
"""The columns of the tables that name nodes."""
_MOST_NODES, _MOST_LINKS = 100_000, 5_000_000
_REMEDY = "save the graph again"


def graph_json(
    graph: GraphNodes, slug: str, groups: Mapping[str, list[int]], labels: Mapping[str, str], **metadata: Any
) -> dict[str, Any]:
    """Return the content of a graph's file.

    slug: the name of the graph.
    groups: nodes by the name of their supernode.
    labels: names of nodes by their ids, instead of `graph.name`. metadata: further entries, such as
    `node_threshold`."""
    kind = graph.nodes["kind"]
    ids = graph.node_ids()
    drawn = kind.isin(_TYPES).to_numpy()
    rows, columns = np.nonzero(graph.edges * drawn)
    ends = zip(rows, columns, graph.edges[rows, columns], strict=True)
    supernodes = [[name, *(ids[node] for node in nodes)] for name, nodes in groups.items()]
    reached = _cumulative(graph.nodes["influence"].to_numpy())
    own = {
        "token_ids": graph.token_ids,
        "words": {str(token): word for token, word in graph.words.items()},
        "hook_names": graph.hook_names,
        "replacement": graph.replacement,
        "completeness": graph.completeness,
        "influence": graph.nodes["influence"].tolist(),
        "effect": graph.nodes["effect"].tolist(),
        "reads": graph.nodes["reads"].to_numpy()[graph.targets].tolist(),
        "bias": graph.edges[:, (kind == "bias").argmax()].tolist(),
        "rest": graph.edges[:, (kind == "rest").argmax()].tolist(),
        "heads": _named(graph.head_edges, ids),
        "scores": _named(graph.head_scores, ids),
    }
    return {
        "metadata": {
            "slug": slug,
            "scan": "interp",
            "prompt": "".join(graph.tokens),
            "prompt_tokens": graph.tokens,
            "schema_version": 1,
            "info": {"generator": {"name": "interp"}},
            **metadata,
        },
        "qParams": {
            "linkType": "both",
            "supernodes": supernodes,
            "pinnedIds": [node for group in supernodes for node in group[1:]],
        },
        "nodes": [
            _node_json(graph, node, ids[node], labels.get(ids[node], graph.name(node)), float(reached[node]))
            for node in np.flatnonzero(drawn).tolist()
        ],
        "links": [{"source": ids[s], "target": ids[graph.targets[t]], "weight": float(w)} for t, s, w in ends],
        "interp": {name: _without_nan(value) for name, value in own.items()},
    }


def write_graph(path: str | Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")))


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


def _node_json(graph: GraphNodes, node: int, node_id: str, label: str, reached: float) -> dict[str, Any]:
    facts: Any = graph.nodes.loc[node]
    kind, n, position, latent = facts[["kind", "dictionary", "position", "latent"]]
    layer = [*graph.layers, graph.layer_of_logits][n]
    features = {"embedding": graph.token_ids[position], "logit": int(latent)}
    features["latent"] = feature_number(layer, int(latent))
    own = {}
    if kind in ("latent", "logit"):
        own["activation" if kind == "latent" else "token_prob"] = float(facts["activation"])
    if kind != "logit" and not math.isnan(facts["effect"]):
        own["effect"] = float(facts["effect"])
    return {
        "node_id": node_id,
        "feature": features.get(kind),
        "layer": "E" if kind == "embedding" else str(layer),
        "ctx_idx": int(position),
        "feature_type": _TYPES[kind],
        "jsNodeId": f"{node_id}-0",
        "clerp": label,
        "influence": reached,
        **own,
    }


def _cumulative(influence: Float[np.ndarray, " node"]) -> Float[np.ndarray, " node"]:
    """Return for each node the share of all influence in nodes with at least its own: the value at which viewers
    cut."""
    order = np.argsort(-influence, kind="stable")
    share = np.empty(len(order))
    share[order] = np.cumsum(influence[order]) / max(influence.sum(), 1e-30)
    return share


def _without_nan(value: Any) -> Any:
    """Replace NaN by null, as JSON does not have NaN."""
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _named(table: pd.DataFrame, ids: Sequence[str]) -> dict[str, list[Any]]:
    """Return the columns of a table, with nodes by their names."""
    names = np.array(ids)
    return {str(name): (names[of] if name in _NODES else of).tolist() for name, of in table.items()}


def _table_of(columns: Mapping[str, Any], types: dict[str, type], limits: Mapping[str, Any]) -> pd.DataFrame:
    """Read a table back; it is empty in a file without it. limits: the values of a column that are possible, of nodes
    with their places. Raises ValueError or KeyError for any other value, and for a column that is missing."""
    read = {}
    for name, kind in types.items() if columns else ():
        cells = columns[name]
        allowed = (str,) if name in _NODES else (int,) if kind is int else (int, float)
        if not all(type(cell) in allowed for cell in cells):
            raise ValueError(f"{name} holds a value of a wrong type")
        if wrong := [cell for cell in cells if name in limits and cell not in limits[name]]:
            raise ValueError(f"{name} cannot be {wrong[0]!r}")
        read[name] = [limits[name][cell] for cell in cells] if name in _NODES else [_number(cell) for cell in cells]
    return pd.DataFrame(read).astype(types) if columns else empty_table(types)


def _graph_of(content: Mapping[str, Any]) -> GraphNodes:
    tokens = [_text(token) for token in content["metadata"]["prompt_tokens"]]
    listed = content["nodes"]
    links = content["links"]
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
    nodes = pd.DataFrame(rows[:n_sources] + ends + rows[n_sources:]).assign(reads=np.nan)
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
    own = content.get("interp") or {
        "token_ids": [0] * len(tokens),
        "words": {},
        "hook_names": [f"layer {layer}" for layer in layers],
        "replacement": None,
        "completeness": None,
        "influence": [0.0] * len(nodes),
        "effect": [None] * len(nodes),
        "reads": edges.sum(1).tolist(),
        "bias": [0.0] * len(edges),
        "rest": [0.0] * len(edges),
    }
    edges[:, (kind == "bias").argmax()] = _numbers(own["bias"])
    edges[:, (kind == "rest").argmax()] = _numbers(own["rest"])
    nodes["influence"], nodes["effect"] = _numbers(own["influence"]), _numbers(own["effect"])
    nodes.loc[targets, "reads"] = _numbers(own["reads"])
    positions, named = range(len(tokens)), place | {"bias": n_sources, "rest": n_sources + 1}
    limits: dict[str, Any] = dict.fromkeys(("layer", "head"), range(_MOST_NODES))
    limits |= {"query": positions, "key": positions, "query_node": named, "key_node": named, "source": place}
    limits["target"] = {name: node for name, node in place.items() if node in row_of}
    return GraphNodes(
        token_ids=[int(token) for token in own["token_ids"]],
        tokens=tokens,
        words={int(token): _text(word) for token, word in own["words"].items()},
        hook_names=[_text(name) for name in own["hook_names"]],
        nodes=nodes,
        targets=targets,
        edges=edges,
        replacement=_number(own["replacement"]),
        completeness=_number(own["completeness"]),
        head_edges=_table_of(own.get("heads", {}), HEAD_EDGES, limits),
        head_scores=_table_of(own.get("scores", {}), HEAD_SCORES, limits),
        groups=_groups_of(content.get("qParams") or {}, place),
    )


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


def _groups_of(shown: Mapping[str, Any], place: Mapping[str, int]) -> dict[str, list[int]] | None:
    """Return the supernodes by name; nodes that were pruned since are left out; None if there are no supernodes."""
    groups: dict[str, list[int]] = {}
    for name, *nodes in shown.get("supernodes") or []:
        if kept := [place[node] for node in nodes if node in place]:
            groups.setdefault(_text(name), []).extend(kept)
    return groups or None


def _number(value: Any) -> float:
    """Check that a value is a number, or null, which is NaN."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)


def _numbers(values: Any) -> list[float]:
    return [_number(value) for value in values]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text")
    return value
