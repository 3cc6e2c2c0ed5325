"""Does an attribution graph find a circuit that is known, because the model's weights were set by hand?

    python -m analyses.claims.planted_circuits              three small models, some minutes
    python -m analyses.claims.planted_circuits --quick      few prompts and hardly trained dictionaries, for the tests

The models (`compiled_circuits`) look up in two steps, continue a repetition, and copy a bracket's depth. For each
prompt the nodes and edges that a graph draws are compared with those of the circuit. What attention looks for is part
of it: a head's query and key, and the nodes that feed them, which `head_scores` finds.

Two kinds of dictionaries hold the variables of a circuit: the MLPs' own neurons, as transcoders, and the axes of the
residual stream after each block. Next to these, trained ones: transcoders of each layer and across layers
(`cross_layer`), and autoencoders of the residual stream. Their latents are each identified with the neuron or axis that
they fire with most. A trained dictionary need not hold the variables: what the lookup's 36 pairs write has rank 9. Each
is scored on all prompts, and on those whose neurons or axes it holds.

Claims tested
    lookup, induction, depth    with each dictionary that holds the variables, nodes and edges are found: recall ≥ 0.9
                                at precision ≥ 0.8
    looks                       the pair of nodes that makes the head of induction and depth look where it looks has the
                                largest share of its score
    shallow                     cross-layer transcoders rewrite the two steps of the lookup as fewer: latents on a path,
                                of which the circuit has 2
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analyses.claims.compiled_circuits import WORLDS, Circuit, Node, World
from analyses.claims.cross_layer import cross_layer_transcoders, hops
from analyses.record import Claim, Record, options
from interp import TopKConfig, harvest, train_sae
from interp.codes.dictionary import Dictionary
from interp.effects import AttributionGraph, attribution_graph
from interp.sae.architectures.thresholds import Threshold
from interp.sae.model import SAE, Transcoder
from models.transformer import Transformer

DRAWN = 0.98
"""Shares of influence that are drawn: of a graph of four nodes 0.8 would leave out one."""
EXACT = ("neurons", "axes")
"""The dictionaries that hold the variables."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    prompts: int | None = None
    """Per circuit; None for all."""
    tokens: int = 200_000
    """That trained dictionaries see; those of one latent a row five times as many."""


class Kind(NamedTuple):
    units: str
    """"neuron" or "axis": what latents are identified with."""
    dictionaries: dict[str, Dictionary]


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "planted_circuits", arguments, "runs")
    setting = Setting(prompts=1, tokens=1_000) if o.quick else Setting()
    record = Record(o.out, setting, svg=False)
    scores = {name: record.piece(name, lambda name=name: scores_of_world(name, setting)) for name in WORLDS}
    return record.finish(claims(scores), {}, {"planted": scores})


def scores_of_world(name: str, setting: Setting) -> dict[str, Any]:
    """Return the scores of each kind of dictionaries, over all prompts and over those whose variables it holds."""
    world, tokens = WORLDS[name](), setting.tokens
    texts = world.prompts.repeat(50, 1)
    kinds = {
        "neurons": Kind("neuron", exact_transcoders(world.model)),
        "axes": Kind("axis", exact_residual_dictionaries(world.axes)),
        "transcoders, 4 a row": Kind("neuron", learnt_transcoders(world.model, texts, tokens=tokens)),
        "transcoders, 1 a row": Kind("neuron", learnt_transcoders(world.model, texts, tokens=5 * tokens, k=1)),
        "cross-layer, 4 a row": Kind("neuron", cross_layer_transcoders(world.model, texts, tokens=tokens)),
        "residual stream, 8 a row": Kind("axis", residual_dictionaries(world.model, texts, tokens=tokens, k=8)),
    }
    prompts = range(len(world.prompts))[: setting.prompts]
    by_kind = {}
    for kind, (units, dictionaries) in kinds.items():
        unit_of = units_of(world, units, dictionaries)
        known = set(unit_of.items())
        found = [scores(world, n, world.circuits[units][n], dictionaries, unit_of) for n in prompts]
        is_held = [holds(world.circuits[units][n], known) for n in prompts]
        by_kind[kind] = {"all": mean(found), "held": float(np.mean(is_held))}
        held = [each for each, is_known in zip(found, is_held, strict=True) if is_known]
        by_kind[kind] |= {"where held": mean(held)} if held else {}
    return by_kind


def mean(scores: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([each[name] for each in scores])) for name in scores[0]}


def holds(circuit: Circuit, known: set[tuple[tuple[int, int], int]]) -> bool:
    """Return whether some latent stands for each neuron or axis of a circuit."""
    have = {(layer, unit) for (layer, _), unit in known}
    return all((node[1], node[3]) in have for node in circuit.nodes if node[0] != "embedding")


def exact_transcoders(model: Transformer) -> dict[str, Dictionary]:
    """Return the MLPs themselves, their neurons as latents, with the gain of the norm before them."""
    made: dict[str, Dictionary] = {}
    for layer, block in enumerate(model.blocks):
        reads, writes = hooks(layer)
        made[reads] = Transcoder(
            W_enc=(block.ln2.w[:, None] * block.mlp.W_in).detach(),
            W_dec=block.mlp.W_out.detach(),
            b_enc=(block.mlp.b_in + block.ln2.b @ block.mlp.W_in).detach(),
            b_dec=block.mlp.b_out.detach(),
            encoder=Threshold(torch.zeros(block.mlp.b_in.shape)),
            metadata={"hook_name": reads, "hook_name_out": writes},
        )
    return made


def exact_residual_dictionaries(axes: Float[Tensor, "axis d_model"]) -> dict[str, Dictionary]:
    """Return the axes of the stream and their negatives as the latents of each block's output."""
    signed = torch.cat([axes, -axes])
    made: dict[str, Dictionary] = {}
    for layer in (0, 1):
        made[residual_hook(layer)] = SAE(
            W_enc=signed.T / signed.pow(2).sum(1),
            W_dec=signed,
            b_enc=torch.zeros(len(signed)),
            b_dec=torch.zeros(signed.shape[1]),
            encoder=Threshold(torch.full((len(signed),), 1e-4)),  # what rounding leaves does not fire
            metadata={"hook_name": residual_hook(layer)},
        )
    return made


def learnt_transcoders(
    model: Transformer, prompts: Int[Tensor, "prompt pos"], *, tokens: int, latents: int = 64, k: int = 4
) -> dict[str, Dictionary]:
    """TopK transcoders of the prompts' activations."""
    made: dict[str, Dictionary] = {}
    names = [name for layer in (0, 1) for name in hooks(layer)]
    with tempfile.TemporaryDirectory() as folder:
        store = harvest(model, prompts, names, Path(folder) / "store", max_norm=None)
        for layer in (0, 1):
            reads, writes = hooks(layer)
            config = TopKConfig(d_sae=latents, k=k, tokens=tokens, batch_size=256)
            made[reads] = train_sae(store, reads, config, output_hook=writes)
    return made


def residual_dictionaries(
    model: Transformer, prompts: Int[Tensor, "prompt pos"], *, tokens: int, latents: int = 64, k: int = 4
) -> dict[str, Dictionary]:
    """TopK autoencoders of the residual stream after each block."""
    names = [residual_hook(layer) for layer in (0, 1)]
    with tempfile.TemporaryDirectory() as folder:
        store = harvest(model, prompts, names, Path(folder) / "store", max_norm=None)
        config = TopKConfig(d_sae=latents, k=k, tokens=tokens, batch_size=256)
        return {name: train_sae(store, name, config) for name in names}


def hooks(layer: int) -> tuple[str, str]:
    """Return what a transcoder of a layer reads and writes."""
    return f"blocks.{layer}.ln2.hook_normalized", f"blocks.{layer}.hook_mlp_out"


def residual_hook(layer: int) -> str:
    return f"blocks.{layer}.hook_resid_post"


def units_of(world: World, units: str, dictionaries: Mapping[str, Dictionary]) -> dict[tuple[int, int], int]:
    """Return the neuron or signed axis that a latent (layer, latent) fires with: the largest correlation over all rows,
    above 0.9."""
    with torch.no_grad():
        _, cache = world.model.run_with_cache(world.prompts)
    taken = {}
    for layer, (name, dictionary) in enumerate(dictionaries.items()):
        z = dictionary.encode(cache[name].flatten(0, 1)).detach().double().numpy()
        if units == "neuron":
            own = cache[f"blocks.{layer}.mlp.hook_post"].flatten(0, 1)
        else:
            along = cache[residual_hook(layer)].flatten(0, 1) @ world.axes.T
            own = torch.cat([along, -along], 1).relu()
        latents, names = np.flatnonzero(z.std(0) > 1e-6), torch.nonzero(own.std(0) > 1e-4).flatten()
        alike = np.corrcoef(z[:, latents].T, own[:, names].double().T)[: len(latents), len(latents) :]
        for latent, row in zip(latents.tolist(), alike, strict=True):
            best = names[row > max(0.9, row.max() - 1e-6)].tolist()
            if best:  # some fire in step: the dictionary of all neurons has each at its own number
                taken[layer, latent] = latent if latent in best else best[0]
    return taken


def scores(
    world: World,
    prompt: int,
    circuit: Circuit,
    dictionaries: dict[str, Dictionary],
    unit_of: Mapping[tuple[int, int], int],
) -> dict[str, float]:
    """Return precision and recall of nodes and edges, and whether the largest pair of head 1.0's score is the
    circuit's (NaN if it has none)."""
    graph = attribution_graph(world.model, world.prompts[prompt], dictionaries, batch_size=16)
    length = hops(graph)
    graph = graph.pruned(DRAWN, DRAWN)
    units = "neuron" if "ln2" in graph.hook_names[0] else "axis"
    names = [name_of(graph, node, units, unit_of) for node in range(len(graph.nodes))]
    said: Node = ("logit", world.answers[prompt])
    part = leading_to(graph, [node for node, name in enumerate(names) if name == said])
    pairs = pairs_of(graph, part)
    part |= leading_to(graph, [int(node) for ends in ("query_node", "key_node") for node in pairs[ends]])
    own = {names[node] for node in part} - {said}
    targets, sources = np.nonzero(graph.edges)
    ends = {(names[source], names[target]) for source, target in zip(sources, targets, strict=True) if target in part}
    own = {name for name in own if name[0] not in ("bias", "rest")}
    ends = {edge for edge in ends if edge[0][0] not in ("bias", "rest")}
    looks = [(names[pair.query_node], names[pair.key_node]) for pair in pairs[pairs["layer"] == 1].itertuples()]
    return {
        "node_precision": len(own & circuit.nodes) / max(len(own), 1),
        "node_recall": len(own & circuit.nodes) / len(circuit.nodes),
        "edge_precision": len(ends & circuit.edges) / max(len(ends), 1),
        "edge_recall": len(ends & circuit.edges) / len(circuit.edges),
        "looks": float(looks[:1] == [circuit.pair]),
        "right": float(said in names),
        "hops": length,
    }


def leading_to(graph: AttributionGraph, nodes: list[int]) -> set[int]:
    """Return some nodes and all that lead to them by drawn edges."""
    found, waiting = set[int](), list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += np.flatnonzero(graph.edges[node]).tolist()
    return found


def pairs_of(graph: AttributionGraph, part: set[int]) -> pd.DataFrame:
    """Return the largest pairs of nodes in the scores of the heads that carry edges of a part of a graph: those that
    make a tenth of a score, the largest first."""
    heads, position = graph.head_edges, graph.nodes["position"].to_numpy()
    heads = heads[heads["source"].isin(part) & heads["target"].isin(part)]
    places = heads.assign(query=position[heads["target"]], key=position[heads["source"]])
    place = ["layer", "head", "query", "key"]
    pairs = graph.head_scores.merge(places[place].drop_duplicates(), on=place)
    share = pairs["score"].abs() / pairs["score"].abs().groupby([pairs[name] for name in place]).transform("sum")
    node_type = graph.nodes["type"].to_numpy()
    is_node = ~np.isin(node_type[pairs[["query_node", "key_node"]]], ["bias", "rest"]).any(1)
    large = pairs[is_node & (share > 0.1) & (pairs["score"].abs() > 1e-3)]
    return large.loc[large["score"].abs().sort_values(ascending=False, kind="stable").index]


def name_of(graph: AttributionGraph, node: int, units: str, unit_of: Mapping[tuple[int, int], int]) -> Node:
    """Return what a node stands for in the truth; an error, and a latent that is no neuron or axis, stand for
    themselves."""
    facts: Any = graph.nodes.loc[node]
    node_type, layer, position, latent = facts[["type", "dictionary", "position", "latent"]]
    if node_type == "latent" and (layer, latent) in unit_of:
        return (units, int(layer), int(position), unit_of[layer, latent])
    if node_type == "logit":
        return (node_type, int(latent))
    return (
        (node_type, int(position)) if node_type == "embedding" else (node_type, int(layer), int(position), int(latent))
    )


def claims(planted: Mapping[str, Any]) -> list[Claim]:
    exact = {name: {kind: kinds[kind]["all"] for kind in EXACT} for name, kinds in planted.items()}
    looks = {name: {kind: of["all"]["looks"] for kind, of in planted[name].items()} for name in ("induction", "depth")}
    paths = {kind: each["all"]["hops"] for kind, each in planted["lookup"].items()}
    crossing, own = paths["cross-layer, 4 a row"], paths["transcoders, 4 a row"]
    return [
        *(
            Claim(
                row=name,
                text=f"The circuit of a compiled model ({name}) is found with each dictionary that holds its "
                "variables: recall ≥ 0.9 at precision ≥ 0.8, of nodes and of edges.",
                holds=all(
                    min(scores[f"{part}_recall"] - 0.9, scores[f"{part}_precision"] - 0.8) >= 0
                    for scores in exact[name].values()
                    for part in ("node", "edge")
                ),
                found="; ".join(
                    f"{kind}, {on}{share}: {scores_in_words(each[on])}"
                    for kind, each in kinds.items()
                    for on, share in (("all", ""), ("where held", f" ({each['held']:.0%} of prompts)"))
                    if on in each and not (on == "where held" and each["held"] == 1)
                )
                + ".",
                numbers=kinds,
            )
            for name, kinds in planted.items()
        ),
        Claim(
            row="looks",
            text="What makes head 1.0 look where it looks is the largest pair of its score, with each dictionary that "
            "holds the variables, in nine of ten prompts.",
            holds=min(shares[kind] for shares in looks.values() for kind in EXACT) >= 0.9,
            found="; ".join(
                f"{name}: " + ", ".join(f"{kind} {share:.0%}" for kind, share in shares.items())
                for name, shares in looks.items()
            )
            + ".",
            numbers=looks,
        ),
        Claim(
            row="shallow",
            text="Cross-layer transcoders rewrite the two steps of the lookup as fewer: fewer latents on a path than "
            "with a transcoder of each layer.",
            holds=crossing < own,
            found=f"{', '.join(f'{kind} {length:.2f}' for kind, length in paths.items())}.",
            numbers=paths,
        ),
    ]


def scores_in_words(scores: Mapping[str, float]) -> str:
    parts = (
        f"{part}s precision {scores[f'{part}_precision']:.2f}, recall {scores[f'{part}_recall']:.2f}"
        for part in ("node", "edge")
    )
    return ", ".join(parts)


if __name__ == "__main__":
    main()
