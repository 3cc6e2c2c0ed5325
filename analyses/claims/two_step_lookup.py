"""A model compiled by hand that looks up in two steps, and how much of that circuit an attribution graph finds.

A prompt is `entity relation`, such as "Dallas: capital of its state". At the relation

    attention 0   moves the entity from the position before
    MLP 0         one neuron for each pair of an entity and a relation that the world knows: entity ∧ relation → middle
    MLP 1         one neuron for each middle: middle → answer

and the answer is read off. In addition, noise neurons of both layers fire on entities and write to a dimension that
nothing reads. The true nodes of a prompt are its two embeddings, the neuron of its pair, and that of its middle. The
true edges lead from both embeddings to the first neuron, from it to the second, and from that to the answer.

Several kinds of transcoders are used: the neurons themselves, which are exact (W_in as W_enc, W_out as W_dec, ReLU),
and transcoders trained on the model's activations, whose latents are each identified with the neuron that they fire
with most: TopK with four latents a row, with one, and cross-layer ones (`cross_layer`). What the 36 pairs write has
rank 9, so a transcoder need not hold the pairs. Each is scored on all prompts, and on those whose two neurons it holds.
"""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from analyses.claims.cross_layer import cross_layer_transcoders, hops
from interp import TopKConfig, harvest, train_sae
from interp.codes.dictionary import Dictionary
from interp.effects import AttributionGraph, attribution_graph
from interp.sae.architectures.thresholds import Threshold
from interp.sae.model import Transcoder
from models.transformer import Transformer, TransformerConfig

ENTITIES, RELATIONS, MIDDLES, ANSWERS, NOISE = 12, 3, 8, 8, 6
STRENGTH = 4.0
"""How strongly a variable is written to the stream."""


DRAWN = 0.98
"""Shares of influence that are drawn: of a graph of four nodes 0.8 would leave out one."""


class World(NamedTuple):
    model: Transformer
    middle: np.ndarray
    """[entity, relation] → middle"""
    answer: np.ndarray
    """[middle] → answer"""


def planted_scores(*, quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Return precision and recall of nodes and edges, and the number of latents on a path, for exact transcoders and
    for learnt ones: over all prompts, and over those whose variables they hold."""
    world = compiled(seed)
    prompts = [(e, r) for e in range(ENTITIES) for r in range(RELATIONS)]
    prompts = prompts[:4] if quick else prompts
    texts, tokens = all_prompts().repeat(50, 1), 4_000 if quick else 200_000
    kinds = {
        "neurons as transcoders": exact_transcoders(world.model),
        "learnt, 4 a row": learnt_transcoders(world.model, texts, tokens=tokens),
        "learnt, 1 a row": learnt_transcoders(world.model, texts, tokens=5 * tokens, k=1),
        "cross-layer, 4 a row": cross_layer_transcoders(world.model, texts, tokens=tokens),
    }
    summaries = {}
    for kind, dictionaries in kinds.items():
        neurons = set(neurons_of(world, dictionaries).items())
        layers = [{neuron for (at, _), neuron in neurons if at == layer} for layer in (0, 1)]
        prompts_held = [
            (e, r) for e, r in prompts if e * RELATIONS + r in layers[0] and int(world.middle[e, r]) in layers[1]
        ]
        summaries[kind] = {"all": scores(world, dictionaries, prompts), "held": len(prompts_held) / len(prompts)}
        summaries[kind] |= {"where held": scores(world, dictionaries, prompts_held)} if prompts_held else {}
    return summaries


def compiled(seed: int = 0) -> World:
    rng = np.random.default_rng(seed)
    middle = rng.integers(0, MIDDLES, (ENTITIES, RELATIONS))
    answer = rng.permutation(ANSWERS)[:MIDDLES]
    at = np.cumsum([0, ENTITIES, RELATIONS, ENTITIES, MIDDLES, ANSWERS, 2, 1])
    entity, relation, moved, mid, answer_columns, place, waste = at[:-1]
    n_vocab, d_mlp = ENTITIES + RELATIONS + ANSWERS, ENTITIES * RELATIONS + NOISE
    d_model = 2 * int(at[-1])  # each variable has its negative beside it, so that the mean of the stream stays 0
    config = TransformerConfig(
        n_layers=2, d_model=d_model, n_heads=1, d_mlp=d_mlp, d_vocab=n_vocab, n_ctx=2, act_fn="relu"
    )
    model = Transformer(config)
    for parameter in model.parameters():
        parameter.data.zero_()
    for norm in (model.ln_final, *(norm for block in model.blocks for norm in (block.ln1, block.ln2))):
        norm.w.data.fill_(1.0)

    def axis(n: int) -> Tensor:
        direction = torch.zeros(d_model)
        direction[2 * n], direction[2 * n + 1] = 1.0, -1.0
        return direction

    for e in range(ENTITIES):
        model.embed.W_E.data[e] = STRENGTH * axis(entity + e)
    for r in range(RELATIONS):
        model.embed.W_E.data[ENTITIES + r] = STRENGTH * axis(relation + r)
    for pos in (0, 1):
        model.pos_embed.W_pos.data[pos] = STRENGTH * axis(place + pos)
    first, second = model.blocks
    first.attn.W_Q.data[0, :, 0] = 20 * axis(place + 1)  # the second position looks at the first
    first.attn.W_K.data[0, :, 0] = 20 * axis(place)
    for e in range(ENTITIES):
        first.attn.W_V.data[0, :, 1 + e] = axis(entity + e)
        first.attn.W_O.data[0, 1 + e] = 0.4 * axis(moved + e)
    for e in range(ENTITIES):
        for r in range(RELATIONS):
            n = e * RELATIONS + r
            first.mlp.W_in.data[:, n] = axis(moved + e) + axis(relation + r)
            first.mlp.b_in.data[n] = -10.0  # each of the two is about 8 after the norm: one is not enough
            first.mlp.W_out.data[n] = STRENGTH / 5 * axis(mid + middle[e, r])
    for m in range(MIDDLES):
        second.mlp.W_in.data[:, m] = axis(mid + m)
        second.mlp.b_in.data[m] = -0.5
        second.mlp.W_out.data[m] = axis(answer_columns + answer[m])
    for block in (first, second):
        for n in range(d_mlp - NOISE, d_mlp):
            block.mlp.W_in.data[:, n] = axis(entity + rng.integers(ENTITIES)) + axis(moved + rng.integers(ENTITIES))
            block.mlp.W_out.data[n] = 0.5 * axis(waste)
    for a in range(ANSWERS):
        model.unembed.W_U.data[:, ENTITIES + RELATIONS + a] = axis(answer_columns + a)
    return World(model.eval(), middle, answer)


def exact_transcoders(model: Transformer) -> dict[str, Dictionary]:
    """Return the MLPs themselves, their neurons as latents, with the gain of the norm before them."""
    transcoders: dict[str, Dictionary] = {}
    for layer, block in enumerate(model.blocks):
        reads, writes = hooks(layer)
        transcoders[reads] = Transcoder(
            W_enc=(block.ln2.w[:, None] * block.mlp.W_in).detach(),
            W_dec=block.mlp.W_out.detach(),
            b_enc=(block.mlp.b_in + block.ln2.b @ block.mlp.W_in).detach(),
            b_dec=block.mlp.b_out.detach(),
            encoder=Threshold(torch.zeros(block.mlp.b_in.shape)),
            metadata={"hook_name": reads, "hook_name_out": writes},
        )
    return transcoders


def learnt_transcoders(
    model: Transformer, prompts: Int[Tensor, "prompt pos"], *, tokens: int, latents: int = 64, k: int = 4
) -> dict[str, Dictionary]:
    """TopK transcoders of the prompts' activations."""
    transcoders: dict[str, Dictionary] = {}
    names = [name for layer in (0, 1) for name in hooks(layer)]
    with tempfile.TemporaryDirectory() as folder:
        store = harvest(model, prompts, names, Path(folder) / "store", max_norm=None)
        for layer in (0, 1):
            reads, writes = hooks(layer)
            config = TopKConfig(d_sae=latents, k=k, tokens=tokens, batch_size=256)
            transcoders[reads] = train_sae(store, reads, config, target=writes)
    return transcoders


def hooks(layer: int) -> tuple[str, str]:
    """Return what a transcoder of a layer reads and writes."""
    return f"blocks.{layer}.ln2.hook_normalized", f"blocks.{layer}.hook_mlp_out"


def all_prompts() -> Tensor:
    return torch.tensor([[e, ENTITIES + r] for e in range(ENTITIES) for r in range(RELATIONS)])


def activations_of(world: World) -> dict[str, Tensor]:
    """Return rows [prompt · pos, d] of all hooks and neurons, of all prompts."""
    with torch.no_grad():
        _, cache = world.model.run_with_cache(all_prompts())
    return {name: acts.flatten(0, 1) for name, acts in cache.items() if acts.ndim == 3}


def scores(world: World, dictionaries: dict[str, Dictionary], prompts: list[tuple[int, int]]) -> dict[str, float]:
    """Return precision and recall of nodes and edges, each a mean over prompts."""
    neurons = neurons_of(world, dictionaries)
    scores_of_prompts: list[dict[str, float]] = []
    for e, r in prompts:
        graph = attribution_graph(world.model, torch.tensor([e, ENTITIES + r]), dictionaries, batch_size=16)
        length = hops(graph)
        graph = graph.pruned(DRAWN, DRAWN).of_logits(1)
        m = int(world.middle[e, r])
        pair, middle = ("neuron", 0, 1, e * RELATIONS + r), ("neuron", 1, 1, m)
        answer = ("logit", ENTITIES + RELATIONS + int(world.answer[m]))
        first, second = ("embedding", 0), ("embedding", 1)
        nodes = {first, second, pair, middle}
        edges = {(first, pair), (second, pair), (pair, middle), (middle, answer)}
        names = [name_of(graph, node, neurons) for node in range(len(graph.nodes))]
        drawn = np.argwhere(graph.edges != 0)
        ends = {(names[source], names[graph.targets[row]]) for row, source in drawn}
        ends = {(source, target) for source, target in ends if source[0] not in ("bias", "rest")}
        drawn_nodes = {name for name in names if name[0] not in ("bias", "rest", "logit")}
        scores_of_prompts.append(
            {
                "node_precision": len(drawn_nodes & nodes) / max(len(drawn_nodes), 1),
                "node_recall": len(drawn_nodes & nodes) / len(nodes),
                "edge_precision": len(ends & edges) / max(len(ends), 1),
                "edge_recall": len(ends & edges) / len(edges),
                "right": float(answer in names),
                "hops": length,
            }
        )
    return {name: float(np.mean([each[name] for each in scores_of_prompts])) for name in scores_of_prompts[0]}


def neurons_of(world: World, dictionaries: dict[str, Dictionary]) -> dict[tuple[int, int], int]:
    """Return the neuron that a latent (layer, latent) fires with: the largest correlation over all rows, above 0.9."""
    rows, neurons = activations_of(world), {}
    for layer in (0, 1):
        reads, _ = hooks(layer)
        z = dictionaries[reads].encode(rows[reads]).detach().numpy()
        acts = rows[f"blocks.{layer}.mlp.hook_post"].numpy()
        for latent in np.flatnonzero(z.std(0) > 0):
            alike = [
                np.corrcoef(z[:, latent], acts[:, n])[0, 1] if acts[:, n].std() else 0.0 for n in range(acts.shape[1])
            ]
            if max(alike) > 0.9:
                neurons[layer, int(latent)] = int(np.argmax(alike))
    return neurons


def name_of(graph: AttributionGraph, node: int, neurons: dict[tuple[int, int], int]) -> tuple:
    """Return what a node stands for in the truth; an error, and a latent that is not a neuron, stand for themselves."""
    facts: Any = graph.nodes.loc[node]
    kind, layer, position, latent = facts[["kind", "dictionary", "position", "latent"]]
    if kind == "latent" and (layer, latent) in neurons:
        return ("neuron", layer, position, neurons[layer, latent])
    if kind == "logit":
        return (kind, latent)
    return (kind, position) if kind == "embedding" else (kind, layer, position, latent)
