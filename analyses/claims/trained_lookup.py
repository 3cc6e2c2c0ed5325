"""A model trained to look up in two steps, and how much of what ablation finds in it an attribution graph finds.

The prompts are those of `two_step_lookup`, `entity relation`, and a model of two layers learns what follows by gradient
descent: by which way, nobody has planned. The truth of a prompt is what ablation of the trained model gives, latent by
latent (`measured_effects`), for whatever dictionary:

    nodes   the latents of the largest effects on the answer, that together hold .8 of all latents' effects
    edges   the pairs of latents of the largest effects, as shares of the target's activation, that hold .8 of all

The graph finds the same shares of what it says itself: of nodes by their influence, and by their effect to first order;
of edges by all paths. Dictionaries: the MLPs' own neurons, which are exact; transcoders that are learnt; and sparse
autoencoders of the residual stream behind each block.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from analyses.claims.two_step_lookup import (
    ENTITIES,
    World,
    all_prompts,
    compiled,
    exact_transcoders,
    learnt_transcoders,
)
from interp import TopKConfig, harvest, train_sae
from interp.codes.sparse_codes import Dictionary
from interp.effects import AttributionGraph, attribution_graph, measured_effects
from models.transformer import Transformer, TransformerConfig

SHARE = 0.8
"""Of the effects, that the nodes and the edges of the circuit hold: what a graph draws of the influence."""
STEPS = 800


def trained_scores(*, quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Precision and recall against ablation, means over prompts, by dictionaries; and how often the model is right."""
    world = trained(seed, steps=100 if quick else STEPS)
    prompts = all_prompts()[: 3 if quick else None]
    tokens = 4_000 if quick else 200_000
    kinds = {
        "neurons": exact_transcoders(world),
        "transcoders": learnt_transcoders(world, tokens=tokens),
        "residual stream": residual_dictionaries(world, tokens=tokens),
    }
    scores: dict[str, Any] = {
        "right": float((world.model(all_prompts())[:, -1].argmax(1) == answers(world)).float().mean())
    }
    for kind, dictionaries in kinds.items():
        rows = [found(attribution_graph(world.model, prompt, dictionaries), world, dictionaries) for prompt in prompts]
        scores[kind] = pd.DataFrame(rows).mean().to_dict()
    return scores


def trained(seed: int, steps: int) -> World:
    """The world of the compiled model, with a model that learns it from all prompts, step for step."""
    world = compiled(seed)
    config = TransformerConfig(
        n_layers=2,
        d_model=32,
        n_heads=2,
        d_mlp=64,
        d_vocab=world.model.config.d_vocab,
        n_ctx=2,
        act_fn="relu",
        seed=seed,
    )
    model, wanted = Transformer(config), answers(world)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(all_prompts())[:, -1], wanted).backward()
        optimizer.step()
    return world._replace(model=model.eval().requires_grad_(False))


def answers(world: World) -> torch.Tensor:
    """The token that follows each prompt."""
    entity, relation = all_prompts().numpy().T
    said = world.answer[world.middle[entity, relation - ENTITIES]]
    return torch.from_numpy(said + world.model.config.d_vocab - len(world.answer))


def residual_dictionaries(world: World, *, tokens: int, latents: int = 64, k: int = 4) -> dict[str, Dictionary]:
    names = [f"blocks.{layer}.hook_resid_post" for layer in (0, 1)]
    with tempfile.TemporaryDirectory() as folder:
        store = harvest(world.model, all_prompts().repeat(50, 1), names, Path(folder) / "store", max_norm=None)
        config = TopKConfig(d_sae=latents, k=k, tokens=tokens, batch_size=256)
        return {name: train_sae(store, name, config) for name in names}


def found(graph: AttributionGraph, world: World, dictionaries: dict[str, Dictionary]) -> dict[str, float]:
    """Precision and recall of a graph's nodes and edges against ablation."""
    effects = measured_effects(graph, world.model, dictionaries, n_latents=len(graph.targets))
    nodes = graph.nodes
    logits = nodes["activation"].where(nodes["kind"] == "logit", -1.0)
    on_answer = effects[effects["target"] == logits.idxmax()].set_index("source")
    pairs = effects[nodes["kind"].to_numpy()[effects["target"]] == "latent"]
    pairs = pairs.div(nodes["activation"].to_numpy()[pairs["target"]], axis=0)
    truth = largest(on_answer["measured"])
    return {
        **compared("nodes by influence", largest(nodes.loc[on_answer.index, "influence"]), truth),
        **compared("nodes by effect", largest(nodes.loc[on_answer.index, "effect"]), truth),
        **compared("edges", largest(pairs["attributed"]), largest(pairs["measured"])),
    }


def largest(values: pd.Series) -> set[int]:
    """The labels of the largest values that hold `SHARE` of their sum."""
    sizes = values.abs().sort_values(ascending=False, kind="stable")
    n = int(np.searchsorted(sizes.cumsum(), SHARE * sizes.sum())) + 1 if len(sizes) else 0
    return set(sizes.index[:n])


def compared(name: str, drawn: set[int], truth: set[int]) -> dict[str, float]:
    both = len(drawn & truth)
    return {
        f"{name}, precision": both / len(drawn) if drawn else float("nan"),
        f"{name}, recall": both / len(truth) if truth else float("nan"),
    }
