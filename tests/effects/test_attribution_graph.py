"""Attribution graphs: sums exact in float64, scores by brute force, files that come back, checks by ablation."""

import copy
import json
import re
import threading
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers

from analyses.families import GROUPED, SIZES, randomized
from analyses.families import IDS as NO_PADDING
from interp import FeatureStore
from interp.activations.hooks import resolve_hooks
from interp.cli import main
from interp.effects import graph_checks
from interp.effects.attention_attribution import AttentionScore, _scores
from interp.effects.attribution import attribution_graph
from interp.effects.graph import AttributionGraph, load_graph
from interp.effects.graph_checks import agreement, changed_next_tokens, measured_effects, score_graph, token_effects
from interp.effects.graph_page import disagreements
from interp.effects.interventions import Action, intervene
from interp.effects.latent_edges import feature_edges
from interp.effects.prompt_passes import PromptPasses, passes_of
from interp.exchange import write_graph_features
from interp.report.live import GraphServer
from interp.sae.architectures.topk import TopK
from interp.sae.model import SAE, Transcoder, load_transcoders
from models import load_model
from models.transformer import Transformer, TransformerConfig
from tests.circuit_tracer_folder import write_circuit_tracer
from tests.foreign_models import FAMILIES, foreign_model, foreign_tokenizer, write_foreign
from tests.page_requests import post, request

D_MODEL, N_LAYERS, N_LATENTS = 32, 3, 64
IDS = torch.tensor([3, 14, 15, 9, 2, 6, 5, 35, 8])


def dictionary(
    hook: str, out: str | None = None, *, seed: int = 0, skip: bool = False, k: int = 6, d_model: int = D_MODEL
) -> SAE:
    """Return random directions in float64: nothing that a graph says of them means anything, but all of it has to add
    up."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.double)

    W = torch.nn.functional.normalize(normal(N_LATENTS, d_model), dim=1)
    shared = {"W_enc": W.T + 0.1 * normal(d_model, N_LATENTS), "W_dec": 0.3 * W, "b_enc": 0.1 * normal(N_LATENTS)}
    shared |= {"b_dec": 0.1 * normal(d_model), "encoder": TopK(k=k), "metadata": {"hook_name": hook}}
    if out is None:
        return SAE(**shared)
    shared["metadata"] |= {"hook_name_out": out}
    return Transcoder(**shared, W_skip=0.1 * normal(d_model, d_model) if skip else None)


def transcoders(reads: str = "blocks.{}.hook_resid_mid", **options: object) -> dict[str, SAE]:
    return {
        reads.format(n): dictionary(reads.format(n), f"blocks.{n}.hook_mlp_out", seed=n, **options)
        for n in range(N_LAYERS)
    }


@pytest.fixture(scope="module")
def model() -> Transformer:
    made = Transformer(
        TransformerConfig(n_layers=N_LAYERS, d_model=D_MODEL, n_heads=4, d_mlp=64, d_vocab=50, n_ctx=16)
    ).double()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in made.named_parameters():
        if ".b_" in name or name.endswith(".b"):
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.double)
        if name.endswith("W_U"):
            parameter.data *= 40
    return made.eval()


@pytest.fixture(scope="module")
def graph(model: Transformer) -> AttributionGraph:
    return attribution_graph(model, IDS, transcoders(), batch_size=16)


@pytest.fixture(scope="module")
def effects(model: Transformer, graph: AttributionGraph) -> pd.DataFrame:
    return measured_effects(graph, model, transcoders(), n_latents=30)


@pytest.fixture(scope="module")
def pages(graph: AttributionGraph, effects: pd.DataFrame, tmp_path_factory) -> dict[str, Path]:
    """Return the page of the graph as it is, of the whole graph, and of that with what ablation measured."""
    options: dict[str, dict[str, Any]] = {"plain": {}, "whole": {"nodes": 1.0}}
    options["measured"] = options["whole"] | {"effects": effects}
    folder = tmp_path_factory.mktemp("pages")
    return {name: graph.to_html(folder / f"{name}.html", **given) for name, given in options.items()}


def test_a_graph_shows_its_prompt_answer_and_size(model: Transformer, graph: AttributionGraph) -> None:
    shown = repr(graph)
    assert "".join(graph.tokens)[:3] in shown and f"completeness {graph.completeness:.2f}" in shown
    assert f"{(graph.nodes['type'] == 'latent').sum()} latents" in shown and "\n" not in shown


def test_one_dictionary_without_its_hook_is_refused(model: Transformer) -> None:
    with pytest.raises(ValueError, match=r"\{hook: sae\}, not one object"):
        attribution_graph(model, torch.arange(5), object())


def test_edges_sum_to_what_a_node_reads(model: Transformer, graph: AttributionGraph) -> None:
    assert graph.unexplained < 1e-12
    for dictionaries in (
        {f"blocks.{n}.hook_resid_post": dictionary(f"blocks.{n}.hook_resid_post", seed=n) for n in range(2)},
        {"blocks.1.hook_resid_mid": transcoders()["blocks.1.hook_resid_mid"]},
        transcoders(skip=True),
    ):
        made = attribution_graph(model, IDS, dictionaries, batch_size=16)
        assert made.unexplained < 1e-12
        assert 0 < (made.nodes["type"] == "latent").sum() <= 6 * len(IDS) * len(dictionaries)


@pytest.mark.parametrize("family", FAMILIES)
def test_edges_sum_in_models_of_other_makers(family: str, tmp_path) -> None:
    theirs = load_model(write_foreign(family, tmp_path)).double()
    reads = "blocks.{}.hook_resid_mid" if "blocks.0.hook_resid_mid" in theirs.hook_dict else "blocks.{}.hook_resid_pre"
    assert attribution_graph(theirs, "the river runs under cold water", transcoders(reads)).unexplained < 1e-6
    residual = {f"blocks.{n}.hook_resid_post": dictionary(f"blocks.{n}.hook_resid_post", seed=n) for n in (0, 2)}
    assert attribution_graph(theirs, "the river runs under cold water", residual).unexplained < 1e-6


@pytest.mark.parametrize(
    ("family", "facts"),
    [
        ("Mixtral", GROUPED | {"num_local_experts": 4}),  # sorts the tokens of all rows by their experts
        ("GptOss", GROUPED | {"num_local_experts": 4, "swiglu_limit": 0.5}),  # chooses by raw scores, and limits
        ("Nemotron", GROUPED),  # squares
        # gates by exponentials, and multiplies matrices of activations
        ("Mamba", {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4} | NO_PADDING),
        ("Falcon", SIZES | NO_PADDING | {"alibi": False}),  # adds the attention's output to the MLP's in place
    ],
)
def test_edges_sum_whatever_the_mlp_computes(family: str, facts: dict[str, Any], caplog) -> None:
    config = getattr(transformers, f"{family}Config")(**facts, vocab_size=50)
    theirs = load_model(randomized(transformers.AutoModelForCausalLM.from_config(config)))
    reads = "blocks.{}.hook_resid_mid" if "blocks.0.hook_resid_mid" in theirs.hook_dict else "blocks.{}.hook_resid_pre"
    pairs = [(reads.format(n), f"blocks.{n}.hook_mlp_out") for n in (0, 1)]
    residual = [(f"blocks.{n}.hook_resid_post", None) for n in (0, 1)]
    for hooks in (pairs, residual) if pairs[0][1] in theirs.hook_dict else (residual,):
        dictionaries = {hook: dictionary(hook, out, d_model=16).float() for hook, out in hooks}
        assert attribution_graph(theirs, IDS, dictionaries, batch_size=5).unexplained < 1e-5
    assert "miss up to" not in caplog.text


def test_what_cannot_be_held_is_said(caplog) -> None:
    facts = {"hidden_size": 32, "n_layer": 2, "n_head": 2, "vocab_size": 50}
    theirs = load_model(randomized(transformers.BloomForCausalLM(transformers.BloomConfig(**facts))))
    residual = {f"blocks.{n}.hook_resid_post": dictionary(f"blocks.{n}.hook_resid_post").float() for n in (0, 1)}
    graph = attribution_graph(theirs, IDS, residual, attention=False)
    assert graph.unexplained > 0.02
    assert f"edges miss up to {100 * graph.unexplained:.0f} % of what a node reads: BloomForCausalLM" in caplog.text


@pytest.mark.parametrize("family", ["gemma2", "gpt2"])
def test_logits_that_a_model_caps_or_biases_are_its_own(family: str) -> None:
    tokenizer = foreign_tokenizer(family)
    inner = foreign_model(family, len(tokenizer))
    if family == "gemma2":
        inner.config.final_logit_softcapping = 0.5
    else:
        inner.lm_head.bias = torch.nn.Parameter(torch.linspace(-1, 1, len(tokenizer)))
    theirs = load_model(inner, tokenizer=tokenizer).double()
    residual = {f"blocks.{n}.hook_resid_post": dictionary(f"blocks.{n}.hook_resid_post", seed=n) for n in (0, 2)}
    ids = torch.tensor([tokenizer.encode("the river runs under cold water")])
    graph = attribution_graph(theirs, ids, residual, attention=False)
    with torch.no_grad():
        said = theirs(ids)[0, -1].float().softmax(0)
    logits = graph.nodes[graph.nodes["type"] == "logit"]
    np.testing.assert_allclose(logits["activation"], said[logits["latent"].tolist()], rtol=1e-5)
    assert graph.unexplained < 1e-6
    latents = graph.nodes[graph.nodes["type"] == "latent"]
    node = int(latents["effect"].abs().idxmax())
    less = changed_next_tokens(graph, theirs, residual, {node: 0.99})
    token = int(graph.nodes["latent"][graph.likeliest])
    assert float((said[token] / less[token]).log()) == pytest.approx(0.01 * latents["effect"][node], rel=0.05)


def test_a_graph_of_a_model_in_half_precision_is_about_the_same(model: Transformer, graph: AttributionGraph) -> None:
    low = attribution_graph(copy.deepcopy(model).bfloat16(), IDS, transcoders())
    assert low.likeliest == graph.likeliest
    assert low.nodes["latent"][low.likeliest] == graph.nodes["latent"][graph.likeliest]
    assert low.replacement == pytest.approx(graph.replacement, abs=0.1)


def test_what_logits_read_is_what_the_model_says(model: Transformer, graph: AttributionGraph) -> None:
    with torch.no_grad():
        logits = model(IDS[None])[0, -1]
    probability, logits = logits.softmax(0), logits - model.b_U.detach()
    said = graph.nodes[graph.nodes["type"] == "logit"]
    above = (logits - probability @ logits)[said["latent"].tolist()]
    np.testing.assert_allclose(said["reads"], above, atol=1e-5)  # the probabilities are in float32
    assert said["activation"].sum() > 0.95 or len(said) == 10


def test_an_edge_is_the_change_of_a_reading_in_the_held_model(model: Transformer, graph: AttributionGraph) -> None:
    """A slow twin, without gradients: the held model is run with and without a source."""
    passes = PromptPasses(model, IDS[None], transcoders())
    with torch.no_grad():
        probability = model(IDS[None])[0, -1].softmax(0)
    whole = passes.readings(passes.zeros(1), linearised=True)
    nodes = graph.nodes
    rng = np.random.default_rng(0)
    sources = np.flatnonzero(nodes["type"].isin(["embedding", "latent", "error"]))
    for node in rng.choice(graph.targets, 8, replace=False):
        target = nodes.loc[node]
        for source in rng.choice(sources, 8, replace=False):
            change = passes.zeros(1)
            change[0, passes.columns(nodes.loc[[source]])] = -1
            without = passes.readings(change, linearised=True)
            change = (whole[target["dictionary"]] - without[target["dictionary"]])[0, target["position"]]
            if target["type"] == "logit":
                direction = model.W_U[:, target["latent"]] - model.W_U @ probability
            else:
                direction = passes.encoded[target["dictionary"]].dictionary.W_enc[:, target["latent"]]
            assert float((change @ direction).detach()) == pytest.approx(graph.edges[node, source], abs=1e-6)


def test_influence_and_total_effects_by_walking_every_path(graph: AttributionGraph) -> None:
    """The matrix formulas against a walk from node to node, latest first."""
    node_type = graph.nodes["type"].to_numpy()
    size = np.abs(graph.edges) * (node_type != "bias")
    share = size / np.maximum(size.sum(1, keepdims=True), 1e-30)
    probability = np.where(node_type == "logit", graph.nodes["activation"], 0.0)
    reached = probability / probability.sum()
    order = sorted(graph.targets.tolist(), key=lambda node: -graph.nodes["dictionary"][node])
    for node in order:
        reached = reached + reached[node] * share[node]
    expected = np.where(node_type == "logit", 0.0, reached)
    np.testing.assert_allclose(graph.nodes["influence"], expected, atol=1e-8)
    assert expected[np.isin(node_type, ["embedding", "error", "rest"])].sum() == pytest.approx(1.0)
    begins = expected[node_type == "embedding"].sum()
    assert graph.replacement == pytest.approx(begins)

    total = graph.total_effects()
    z = graph.nodes["activation"].to_numpy()
    source = next(node for node in order[::-1] if node_type[node] == "latent")
    less = np.zeros(len(node_type))
    less[source] = z[source]
    for node in order[::-1]:
        if node != source:
            less[node] = sum(
                graph.edges[node, other] * less[other] / z[other]
                for other in order
                if node_type[other] == "latent" and less[other]
            )
    for node in order:
        if node != source:
            assert total[node, source] == pytest.approx(less[node], abs=1e-10)


def test_pruning_keeps_the_share_and_the_sums(graph: AttributionGraph) -> None:
    kept = graph.pruned(0.5, 0.9)
    assert kept.unexplained < 1e-12
    assert len(kept.nodes) < len(graph.nodes)
    assert (graph.pruned(1.0, 1.0).nodes["influence"] > 0).sum() == (graph.nodes["influence"] > 0).sum()
    assert set(kept.nodes.query("type == 'logit'")["latent"]) == set(graph.nodes.query("type == 'logit'")["latent"])
    latents = np.flatnonzero(kept.nodes["type"] == "latent")
    leads = (kept.edges != 0).any(0)
    assert np.isin(latents[~leads[latents]], kept.head_scores[["query_node", "key_node"]]).all()
    one, waiting = kept.of_logits(1), [kept.likeliest]
    reached = {"bias", "rest"}
    while waiting:  # from target to source, one edge at a time
        node = waiting.pop()
        reached.add(kept.node_ids()[node])
        waiting += np.flatnonzero(kept.edges[node]).tolist()
    assert set(one.node_ids()) == reached and len(reached) < len(kept.nodes)
    with pytest.raises(ValueError, match="nodes=0"):
        graph.pruned(0)
    with pytest.raises(ValueError, match="n=0 must be at least 1"):
        graph.of_logits(0)


def test_an_sae_whose_metadata_says_that_it_writes_no_other_hook_writes_its_own(model: Transformer) -> None:
    unnamed = {name: dictionary(name, seed=n) for n, name in enumerate(f"blocks.{n}.hook_resid_post" for n in (0, 1))}
    named = copy.deepcopy(unnamed)
    for sae in named.values():
        sae.metadata["hook_name_out"] = None
    one, other = (attribution_graph(model, IDS, dictionaries) for dictionaries in (unnamed, named))
    torch.testing.assert_close(torch.tensor(other.edges), torch.tensor(one.edges))
    assert other.replacement == pytest.approx(one.replacement)


def test_few_expanded_latents_leave_a_rest(model: Transformer, graph: AttributionGraph) -> None:
    few = attribution_graph(model, IDS, transcoders(), max_latents=20, batch_size=16, attention=False)
    assert (few.nodes["type"] == "latent").sum() == 20
    assert few.unexplained < 1e-12
    assert few.nodes.query("type == 'rest'")["influence"].item() > 0
    assert few.replacement < graph.replacement
    none = attribution_graph(model, IDS, transcoders(), max_latents=0, attention=False)
    assert not (none.nodes["type"] == "latent").any() and none.unexplained < 1e-12


def test_heads_carry_an_edge_from_a_token_to_another(model: Transformer, graph: AttributionGraph) -> None:
    """A slow twin: the held model, where the head does not move the source's values to the target's position."""
    nodes, heads = graph.nodes, graph.head_edges
    position = nodes["position"].to_numpy()
    with torch.no_grad():
        _, cache = model.run_with_cache(IDS[None])
    passes = PromptPasses(model, IDS[None], transcoders())

    def edge(facts: pd.Series, moves: bool) -> float:
        source, target = int(facts["source"]), int(facts["target"])
        layer, head, read, moved = int(facts["layer"]), int(facts["head"]), position[target], position[source]
        attention = cache[f"blocks.{layer}.attn.hook_pattern"][0, head, read, moved].detach()
        assert facts["attention"] == pytest.approx(float(attention))
        seen = {}

        def see(_: object, __: object, values: torch.Tensor) -> None:
            seen["values"] = values

        def without(_: object, __: object, z: torch.Tensor) -> torch.Tensor:
            z = z.clone()
            with passes.linearised_model.not_held():
                z[:, read, head] -= attention * seen["values"][:, moved, head]
            return z

        attn = model.blocks[layer].attn
        change = passes.zeros(2)
        change[1, passes.columns(nodes.loc[[source]])] = -1
        with ExitStack() as stack:
            if not moves:
                stack.callback(attn.hook_v.register_forward_hook(see).remove)
                stack.callback(attn.hook_z.register_forward_hook(without).remove)
            read_by = passes.read(passes.readings(change, linearised=True), nodes.loc[[target]])
        return float(read_by[0, 0] - read_by[1, 0])

    assert heads["layer"].nunique() == N_LAYERS and heads["head"].nunique() == 4
    for _, facts in heads.sample(12, random_state=0).iterrows():
        assert facts["carried"] == pytest.approx(edge(facts, True) - edge(facts, False), abs=1e-9)

    drawn = graph.pruned()
    whole = drawn.edges[drawn.head_edges["target"], drawn.head_edges["source"]]
    assert (whole != 0).all() and len(whole) == len(heads)
    scores, node_type = drawn.head_scores, drawn.nodes["type"].to_numpy()
    named = np.unique(scores[["query_node", "key_node"]])
    latents = named[node_type[named] == "latent"]
    assert len(latents) > 5 and (drawn.edges[latents] != 0).any(1).all(), "what feeds them is known"
    fewer = attribution_graph(model, IDS, transcoders(), max_latents=8, batch_size=16).pruned()
    assert fewer.unexplained < 1e-12 and (fewer.nodes["type"] == "latent").sum() > 8
    sums = scores.groupby(["layer", "head", "query", "key"])["score"].sum()
    assert len(sums) > 8
    for (layer, head, query, key), score in sums.items():
        of_keys = cache[f"blocks.{layer}.attn.hook_attn_scores"][0, head, query, : query + 1].detach()
        others = cache[f"blocks.{layer}.attn.hook_pattern"][0, head, query, : query + 1].detach().clone()
        others[key] = 0
        assert score == pytest.approx(float(of_keys[key] - others @ of_keys / others.sum()), abs=1e-9)


def test_attention_scores_are_sums_over_pairs(model: Transformer, graph: AttributionGraph) -> None:
    few = attribution_graph(model, IDS, transcoders(), max_latents=20, batch_size=16)
    with torch.no_grad():
        _, cache = model.run_with_cache(IDS[None])
    for layer, head, query, key in ((0, 0, 8, 2), (2, 3, -1, 0), (1, 2, 5, 5)):
        score = float(cache[f"blocks.{layer}.attn.hook_attn_scores"][0, head, query, key])
        for made, exact in ((graph, True), (few, False)):
            passes = passes_of(made, model, transcoders())
            [pairs] = _scores(passes, made.nodes, [AttentionScore(layer, head, query, key)], [torch.eye(len(IDS))[key]])
            assert float(pairs.sum()) == pytest.approx(score, abs=1e-10)
            rest = made.nodes.index[made.nodes["type"] == "rest"].item()
            of_rest = max(float(pairs[rest].abs().max()), float(pairs[:, rest].abs().max()))
            assert (of_rest < 1e-10) == (exact or layer == 0)


def test_ablation_measures_what_the_model_itself_does(
    model: Transformer, graph: AttributionGraph, effects: pd.DataFrame
) -> None:
    to_answer = effects[effects["target"] == graph.likeliest]
    to_latents = effects[(graph.nodes["type"] == "latent").to_numpy()[effects["target"]]]
    dictionaries = transcoders()

    def reading(target: Any) -> float:
        with torch.no_grad():
            logits, cache = model.run_with_cache(IDS[None])
        if target["type"] == "logit":
            return float(logits[0, -1].log_softmax(0)[target["latent"]])
        name = graph.hook_names[target["dictionary"]]
        return float(cache[name][0, target["position"]].detach() @ dictionaries[name].W_enc[:, target["latent"]])

    for pair in (to_answer.iloc[3], to_latents.iloc[7]):
        source = graph.nodes.loc[int(pair["source"])]
        target = graph.nodes.loc[int(pair["target"])]
        part = dictionaries[graph.hook_names[source["dictionary"]]]

        def without(_: object, __: object, out: torch.Tensor, source: Any = source, part: SAE = part) -> torch.Tensor:
            out = out.clone()
            out[0, source["position"]] -= source["activation"] * part.W_dec[source["latent"]]
            return out

        clean = reading(target)
        handle = model.blocks[source["dictionary"]].hook_mlp_out.register_forward_hook(without)
        changed = reading(target)
        handle.remove()
        assert pair["measured"] == pytest.approx(clean - changed, abs=1e-6)
    said = agreement(graph, effects)
    assert effects["source"].nunique() == 30 and said.pairs > 0.8  # one block further little else can happen
    wrong = disagreements(effects)
    assert len(wrong) < len(effects) and (wrong["measured"] / wrong["attributed"]).between(0.5, 2).sum() == 0
    pairs = pd.DataFrame({"measured": [0.0, 1.0, 0.0, 2.0], "attributed": [0.0, 0.0, 3.0, 2.0]})
    assert disagreements(pairs)["measured"].tolist() == [0, 1]


def test_three_shuffled_attributions_agree_by_chance() -> None:
    three = pd.DataFrame({"attributed": [1.0, 2.0, 3.0], "measured": [5.0, 6.0, 9.0]})
    assert graph_checks._by_chance(three, 0) == pytest.approx(1)  # one of six orders agrees fully
    normal = np.random.default_rng(0).normal(size=(100, 2))
    by_chance = graph_checks._by_chance(pd.DataFrame(normal, columns=["attributed", "measured"]), 0)
    assert by_chance == pytest.approx(1.645 / 99**0.5, abs=0.02)


def test_what_is_attributed_to_a_latent_is_the_gradient_of_the_model(
    model: Transformer, graph: AttributionGraph
) -> None:
    given = transcoders()
    first, last = (next(iter(given.items())), list(given.items())[-1])
    expected = feature_edges(model, IDS, first, last, targets=6, ablate=False).set_index(["upstream", "downstream"])
    nodes, effects = graph.nodes, measured_effects(graph, model, given)
    source, target = nodes.loc[effects["source"]], nodes.loc[effects["target"]]
    ends = effects.assign(upstream=source["latent"].to_numpy(), downstream=target["latent"].to_numpy())
    between = (source["dictionary"] == 0).to_numpy() & (target["dictionary"] == N_LAYERS - 1).to_numpy()
    of_pairs = ends[between & (target["position"] == len(IDS) - 1).to_numpy()].groupby(["upstream", "downstream"])
    attributed = of_pairs["attributed"].sum()
    assert len(attributed) == len(expected)
    np.testing.assert_allclose(attributed, expected["attribution"][attributed.index], atol=1e-6)


def test_an_effect_is_the_slope_of_what_the_model_itself_says(model: Transformer, graph: AttributionGraph) -> None:
    """A slow twin, without gradients: the free model with a little more and a little less of a source."""
    dictionaries, step = transcoders(), 1e-2
    nodes = graph.nodes
    token = int(nodes.loc[nodes["activation"].where(nodes["type"] == "logit", -1.0).idxmax(), "latent"])
    for node in np.random.default_rng(0).choice(np.flatnonzero(nodes["type"] == "latent"), 8, replace=False).tolist():
        said = [
            changed_next_tokens(graph, model, dictionaries, {node: 1 + sign * step})[token].log() for sign in (1, -1)
        ]
        slope = float(said[0] - said[1]) / (2 * step)
        assert slope == pytest.approx(nodes["effect"][node], abs=1e-3)
    few = attribution_graph(model, IDS, dictionaries, max_latents=20, batch_size=16)
    assert few.nodes["effect"].sum() == pytest.approx(nodes["effect"].sum(), abs=1e-9)
    assert agreement(graph, measured_effects(graph, model, dictionaries)).effects > 0.9


def test_measured_effects_equal_those_of_intervene(model: Transformer, graph: AttributionGraph) -> None:
    given = transcoders()
    with torch.no_grad():
        clean = model(IDS[None])[0, -1].softmax(0).float()
    torch.testing.assert_close(changed_next_tokens(graph, model, given, {}), clean)
    node = int(np.flatnonzero(graph.nodes["type"] == "latent")[5])
    place = graph.nodes.loc[node]
    hook = graph.hook_names[place["dictionary"]]
    change = {int(place["latent"]): Action(3.0, 0.0)}
    with intervene(model, hook, given[hook], change, positions=[int(place["position"])]), torch.no_grad():
        changed = model(IDS[None])[0, -1].softmax(0).float()
    torch.testing.assert_close(changed_next_tokens(graph, model, given, {node: 3.0}), changed)
    with pytest.raises(ValueError, match="node 0 is not a latent"):
        changed_next_tokens(graph, model, given, {0: 0.0})


def test_the_effects_of_tokens_are_those_of_the_graph_and_of_its_other_next_tokens(
    model: Transformer, graph: AttributionGraph
) -> None:
    effects = token_effects(graph, model, transcoders())
    table = effects.pivot(index="target", columns="source", values="attributed")
    is_token = graph.nodes["type"] == "embedding"
    assert table.loc[graph.likeliest].to_numpy() == pytest.approx(graph.nodes["effect"][is_token].to_numpy(), abs=1e-5)
    assert list(table.index) == list(graph.nodes.index[graph.nodes["type"] == "logit"])
    assert effects["measured"].isna().all()
    passes = passes_of(graph, model, transcoders())
    other = int(table.index[1])
    step = 1e-2
    change = passes.zeros(2 * len(table.columns))
    each = np.arange(len(table.columns))
    columns = passes.columns(graph.nodes[is_token])
    change[each, columns] = step
    change[len(each) + each, columns] = -step
    final = passes.readings(change, linearised=False)[-1][:, -1]
    log_p = passes.log_probabilities(final)[:, int(graph.nodes["latent"][other])].detach().double().numpy()
    slopes = (log_p[: len(each)] - log_p[len(each) :]) / (2 * step)
    assert slopes == pytest.approx(table.loc[other].to_numpy(), rel=0.02, abs=2e-3), "the slope of what the model says"


def test_latents_that_read_and_write_alike_are_one_group(tmp_path) -> None:
    """Two latents carry token a to x, two token b against x; one alone carries a to y."""
    kinds = ["embedding"] * 2 + ["latent"] * 5 + ["logit", "logit", "bias", "rest"]
    latent = [-1, -1, 0, 1, 2, 3, 4, 7, 8, -1, -1]
    nodes = pd.DataFrame({"type": kinds, "dictionary": 0, "position": [0, 1, *[1] * 9], "latent": latent})
    nodes = nodes.assign(activation=1.0, reads=0.0, influence=0.1, effect=0.0)
    edges = np.zeros((11, 11))
    edges[7, 2:6] = [2, 1, -1, -3]  # of logit x
    edges[8, 6] = 1.0  # of logit y
    edges[2:7, :2] = [[1, 0.1], [2, 0], [0, 3], [0, 1], [1, 0]]
    graph = AttributionGraph([0, 1], ["a", "b"], {7: "x", 8: "y"}, ["blocks.0.h"], nodes, edges, 1.0, 1.0)
    assert graph.supernodes() == {"“a” raises “x”": [2, 3], "“b” lowers “x”": [4, 5]}
    named = graph.supernodes({node: "a letter" for node in ("0_0_1", "0_1_1", "0_2_1", "0_3_1")})
    assert named == {"a letter raises “x”": [2, 3], "a letter lowers “x”": [4, 5]}, "one name for what differs"
    also = edges.copy()
    also[8, 2:4] = [0.4, 0.2]
    likely = replace(graph, edges=also, nodes=nodes.assign(activation=[*[1.0] * 7, 0.1, 0.9, 1.0, 1.0]))
    assert list(likely.supernodes())[0] == "“a” raises “y”", "the likelier token names them"
    graph.save(tmp_path / "graph.json", nodes=1.0, edges=1.0)
    content = json.loads((tmp_path / "graph.json").read_text())
    written = content["qParams"]["supernodes"]
    assert written == [["“a” raises “x”", "0_0_1", "0_1_1"], ["“b” lowers “x”", "0_2_1", "0_3_1"]]
    content["qParams"]["supernodes"] = [["mine", "0_0_1", "0_3_1", "9_9_9"], ["mine", "E_0_0"]]
    (tmp_path / "edited.json").write_text(json.dumps(content))
    edited = load_graph(tmp_path / "edited.json")
    assert edited.supernodes() == {"mine": [2, 5, 0]}
    edited.pruned(0.99, 1.0).save(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text())["qParams"]["supernodes"][0][:2] == ["mine", "0_0_1"]


def test_a_saved_graph_comes_back(graph: AttributionGraph, tmp_path) -> None:
    graph.save(tmp_path / "new" / "graph.json")
    assert graph.to_html(tmp_path / "newer" / "graph.html").is_file()
    back, pruned = load_graph(tmp_path / "new" / "graph.json"), graph.pruned()
    pd.testing.assert_frame_equal(back.nodes, pruned.nodes, check_dtype=False)
    np.testing.assert_array_equal(back.edges, pruned.edges)
    for table in ("head_edges", "head_scores"):
        assert len(getattr(back, table)) > 20
        pd.testing.assert_frame_equal(getattr(back, table), getattr(pruned, table), check_dtype=False)
    assert (back.tokens, back.hook_names, back.words) == (pruned.tokens, pruned.hook_names, pruned.words)
    content = json.loads((tmp_path / "new" / "graph.json").read_text())
    assert len({node["node_id"] for node in content["nodes"]}) == len(content["nodes"])
    required = {"node_id", "feature", "layer", "ctx_idx", "feature_type", "jsNodeId", "clerp"}
    assert all(required <= node.keys() for node in content["nodes"])
    theirs = {name: content[name] for name in ("metadata", "qParams", "nodes", "links")}
    (tmp_path / "theirs.json").write_text(json.dumps(theirs))
    read = load_graph(tmp_path / "theirs.json")
    np.testing.assert_allclose(
        read.edges[:, read.nodes["type"] != "rest"].sum(), sum(x["weight"] for x in theirs["links"])
    )


def test_the_influence_in_a_graph_of_another_tool_follows_from_its_edges(tmp_path) -> None:
    """Their file has the cumulative influence of drawn nodes alone. The page showed none of its latents."""

    def node(node_id: str, feature_type: str, layer: str, **size: float) -> dict[str, Any]:
        named = {"node_id": node_id, "jsNodeId": f"{node_id}-0", "feature_type": feature_type, "layer": layer}
        return {**named, "feature": 0, "ctx_idx": int(node_id[-1]), "clerp": "", "influence": None, **size}

    latent = "cross layer transcoder"
    content = {
        "metadata": {"slug": "s", "scan": "gemma", "prompt": "a b", "prompt_tokens": ["a", " b"]},
        "qParams": {},
        "nodes": [
            node("E_5_0", "embedding", "E"),
            node("3_7_0", latent, "3", activation=2.0),
            node("7_9_1", latent, "7", activation=1.0),
            node("26_3_1", "logit", "26", token_prob=0.6),
            node("26_4_1", "logit", "26", token_prob=0.2),
        ],
        "links": [
            {"source": "E_5_0", "target": "3_7_0", "weight": 1.5},
            {"source": "3_7_0", "target": "7_9_1", "weight": -3.0},
            {"source": "E_5_0", "target": "7_9_1", "weight": 1.0},
            {"source": "7_9_1", "target": "26_3_1", "weight": 0.8},
            {"source": "3_7_0", "target": "26_4_1", "weight": -0.1},
        ],
    }
    (tmp_path / "theirs.json").write_text(json.dumps(content))
    graph = load_graph(tmp_path / "theirs.json")
    assert graph.words == {} and "→ 3 60%" in repr(graph), "their file has no words: ids stand for them"
    of_second, of_first = 0.75, 0.25 + 0.75 * 3 / 4
    np.testing.assert_allclose(graph.nodes["influence"][:3], [of_first + of_second / 4, of_first, of_second])
    assert set(graph.pruned(nodes=1.0).nodes["latent"]) >= {7, 9}
    assert '"3_7_0"' in graph.to_html(tmp_path / "page.html").read_text()
    # pruned graphs lack some layers: the others keep their numbers
    assert [graph.name(node) for node in (1, 2)] == ["layer 3, latent 7", "layer 7, latent 9"]
    graph.save(tmp_path / "ours.json", nodes=1.0)
    ours = {node["node_id"]: node for node in json.loads((tmp_path / "ours.json").read_text())["nodes"]}
    assert ours["3_7_0"]["feature"] == 10 * 11 // 2 + 7


def test_a_null_graph_has_no_more_latents_than_the_graph(model: Transformer, monkeypatch) -> None:
    given = transcoders()
    small = attribution_graph(model, IDS, given, max_latents=5, attention=False)
    made = []

    def keep(*args: Any, **options: Any) -> AttributionGraph:
        made.append(attribution_graph(*args, **options))
        return made[-1]

    monkeypatch.setattr(graph_checks, "attribution_graph", keep)
    score_graph(small, model, given, measured_effects(small, model, given))
    assert [int((null.nodes["type"] == "latent").sum()) for null in made] == [5, 5, 5]


def test_score_graph_scores_a_graph_and_its_null_graphs(model: Transformer, graph: AttributionGraph) -> None:
    given = transcoders()
    effects = measured_effects(graph, model, given, n_latents=20)
    table = score_graph(graph, model, given, effects)
    assert all(name.isidentifier() for name in table), "a query can name every column"
    table = table.set_index("graph")
    this, chance, *nulls = (row for _, row in table.iterrows())
    assert this.name == "this prompt" and this.notna().all() and len(nulls) == 3
    agreed = agreement(graph, effects)
    for name in ("effects", "pairs", "paths"):
        assert this[f"agreement_of_{name}"] == getattr(agreed, name) and 0 < chance[f"agreement_of_{name}"] < 1
    assert chance[["answer", "replacement", "completeness", "nodes"]].isna().all()
    assert this["replacement"] == graph.replacement and table["replacement"].nunique() == 4
    assert table["replacement"].dropna().between(0, 1).all() and table["completeness"].dropna().between(0, 1).all()
    with torch.no_grad():
        said = model(IDS[None])[0, -1].log_softmax(0)
    assert this["answer"] == pytest.approx(float(said.max()), abs=1e-5) == nulls[1]["answer"] != nulls[0]["answer"]


def open_graph(chromium, page: Path, width: int = 1280, height: int = 800) -> None:
    """Open the page of a graph, and wait until it is drawn."""
    chromium.complaints.clear()
    chromium.size(width, height)
    chromium.send("Page.navigate", url="about:blank")
    chromium.send("Page.navigate", url=page.as_uri())
    chromium.wait("document.querySelectorAll('.node').length > 0")


def change(chromium, **state: object) -> None:
    """Change what the reader of the page has chosen."""
    chromium.evaluate(f"modules['state.js'].change({json.dumps(state)})")


def test_the_page_draws_and_pins(graph: AttributionGraph, effects: pd.DataFrame, chromium, tmp_path) -> None:
    hostile = replace(graph, tokens=["</script><script>alert(1)</script>", *graph.tokens[1:]])
    table = pd.DataFrame([{"graph": "<i>this</i>", "replacement": graph.replacement, "agreement_of_pairs": np.nan}])
    open_graph(chromium, hostile.to_html(tmp_path / "graph.html", effects=effects, beside=table))
    assert chromium.evaluate("document.getElementById('prompt').textContent").startswith("</script>")
    assert chromium.text(".scores th") == ["graph", "replacement"]  # no score stands empty for all graphs
    assert chromium.text("#trust summary")[0].startswith("How far to trust it: ablation confirms ")
    chromium.click("#trust summary")
    click = "new MouseEvent('click', {bubbles: true})"
    chromium.evaluate(f"document.querySelector('.node.latent').dispatchEvent({click})")
    assert any(title.startswith("is fed by") for title in chromium.text("#card h3"))
    assert chromium.evaluate("location.hash").count("node=") == 1
    chromium.evaluate("document.querySelector('#card p > input').value = 'mine'")
    chromium.click("#card p:has(> input) button")
    assert "mine" in chromium.evaluate("location.hash")
    assert chromium.evaluate("document.querySelectorAll('#card input[type=range]').length") == 0  # nothing answers
    chromium.press("Escape")
    assert "depends most on" in chromium.text("#card h2")[0]
    change(chromium, cut=100)
    wrong = disagreements(effects)
    assert 0 < chromium.evaluate("document.querySelectorAll('#trust .list td:first-child').length") <= len(wrong)
    chromium.click("#trust .list button")
    assert "edge=" in chromium.evaluate("location.hash") and "effect, by ablation" in chromium.text("#card dt")
    assert "depends most on" in chromium.text("#card h2")[1], "what the answer depends on stays in sight"
    moved = graph.head_edges.iloc[graph.head_edges["carried"].abs().argmax()]
    ends = " ".join(np.array(graph.node_ids())[[int(moved["source"]), int(moved["target"])]])
    change(chromium, pinned=ends)
    heading, *because = chromium.text("#card h3")
    assert heading.startswith("carried from") and f"head {int(moved['layer'])}.{int(moved['head'])}" in because[0]
    whole = chromium.text("#card table:nth-of-type(2) tr:last-child td:last-child")[0]
    there = graph.head_scores[(graph.head_scores[["layer", "head"]] == moved[["layer", "head"]]).all(axis=1)]
    there = there.groupby(["query", "key"])["score"].sum()
    place = tuple(int(graph.nodes["position"][moved[end]]) for end in ("target", "source"))
    assert float(whole.replace("−", "-")) == pytest.approx(there[place], rel=0.05)
    assert not chromium.complaints and not chromium.faint() and not chromium.unnamed()


def test_a_page_draws_whole_paths_to_an_answer_and_says_what_they_carry(
    graph: AttributionGraph, chromium, tmp_path
) -> None:
    """A walk from the answer back takes each edge with its share of what its target reads in the whole graph."""
    open_graph(chromium, graph.to_html(tmp_path / "graph.html", nodes=0.5))
    n_drawn = []
    whole = np.abs(graph.edges) * (graph.nodes["type"] != "bias").to_numpy()
    whole /= np.maximum(whole.sum(1, keepdims=True), 1e-30)
    number = {name: node for node, name in enumerate(graph.node_ids())}
    node_type = graph.nodes["type"].to_numpy()
    answers = np.array(graph.node_ids())[node_type == "logit"]
    for answer, cut, errors in ((0, 100, True), (0, 100, False), (0, 60, False), (1, 30, True)):
        change(chromium, answer=answers[answer], cut=cut, errors=errors, pinned="")
        keys = "[...document.querySelectorAll('.edge')].flatMap((edge) => edge.dataset.keys.split('|'))"
        lines = [key.split(" ") for key in chromium.evaluate(keys)]
        shares = np.zeros_like(whole)
        for source, target in lines:
            shares[number[target], number[source]] = whole[number[target], number[source]]
        begins = (node_type == "embedding") | (errors & (node_type == "error"))
        walks = np.linalg.inv(np.eye(len(shares)) - shares)[number[answers[answer]]]
        assert chromium.text("#shares .drawn") == [f"{round(100 * walks[begins].sum())} % drawn"]
        sources, targets = (set(ends) for ends in zip(*lines, strict=True))
        assert targets - sources == {answers[answer]}, "each path leads to the answer"
        assert {node_type[number[node]] for node in sources - targets} <= {"embedding", *(["error"] if errors else [])}
        drawn = set(
            chromium.evaluate("[...document.querySelectorAll('.node')].flatMap((node) => node.dataset.ids.split('|'))")
        )
        strongest = chromium.evaluate(
            f"modules['effects.js'].strongestNodes('{answers[answer]}').map((node) => node.node_id)"
        )
        assert drawn == sources | targets | set(strongest)
        said = chromium.text("#count")[0]
        assert said == f"{len(sources | targets)} of {len(node_type) - 2} nodes", "biases and the rest are none"
        n_drawn.append(len(drawn))
    assert n_drawn[0] > n_drawn[1] > n_drawn[2]
    change(chromium, cut=100, errors=True)
    assert float(chromium.text("#shares .drawn")[0].split()[0]) < 100, "the page has not all of the graph"
    assert not chromium.complaints


def test_a_page_tells_what_it_leaves_out_and_the_card_of_what_the_mouse_is_on(
    graph: AttributionGraph, effects: pd.DataFrame, pages, chromium
) -> None:
    open_graph(chromium, pages["measured"])
    change(chromium, cut=1)
    paths = "[...modules['state.js'].pathsToAnswer().influence]"
    influence = {name: share for name, share in chromium.evaluate(paths) if name[0].isdigit()}
    drawn = chromium.evaluate("[...document.querySelectorAll('.node')].flatMap((node) => node.dataset.ids.split('|'))")
    used = {int(name.split("_")[2]) for name in drawn}
    columns = dict[int, int]()  # tokens without boxes that follow one another share a column
    for at in range(len(graph.tokens)):
        columns[at] = at if at == 0 or {at, at - 1} & used else columns[at - 1]
    cells = defaultdict(list)
    for name in set(np.array(graph.node_ids())[(graph.nodes["type"] == "latent").to_numpy()]) - set(drawn):
        layer, _, position = name.split("_")
        cells[layer, columns[int(position)]].append(influence.get(name, 0.0))
    drawn_layers = {name.split("_")[0] for name in drawn}
    told = [
        f"{len(cell)} more latent{'s' * (len(cell) > 1)}, with {round(100 * sum(cell))} %"
        for (layer, _), cell in cells.items()
        if sum(cell) >= 0.01 and layer in drawn_layers
    ]
    titles = chromium.evaluate("[...document.querySelectorAll('.more')].map((each) => each.title.split(' of ')[0])")
    assert sorted(titles) == sorted(told) and told
    assert all(
        title.startswith(text.split(" more")[0]) for text, title in zip(chromium.text(".more"), titles, strict=True)
    )
    [said] = chromium.text("#through")
    strongest = effects[effects["target"] == graph.likeliest].nlargest(1, "measured")
    assert "raised most by" in said and f"+{float(strongest['measured'].iloc[0]):.2f}" in said
    mouse = "document.querySelector('.node.latent').dispatchEvent(new MouseEvent('mouse{}'))"
    chromium.evaluate(mouse.format("enter"))
    chromium.wait("document.querySelector('#card dt') !== null")
    assert chromium.evaluate("modules['state.js'].state.pinned") == "" and not chromium.text("#card .close")
    chromium.evaluate(mouse.format("leave"))
    chromium.wait("document.querySelector('#card dt') === null")
    assert not chromium.complaints and not chromium.faint() and not chromium.unnamed()


def test_a_page_begins_with_few_nodes_and_draws_groups_as_one(pages, chromium) -> None:
    open_graph(chromium, pages["plain"])
    assert 5 < chromium.evaluate("document.querySelectorAll('.node:not(.logit)').length") < 30
    n = chromium.evaluate("document.querySelectorAll('.node.latent').length")
    ids = chromium.evaluate(
        "[...document.querySelector('.box:has(.latent + .latent)').children].map((node) => node.dataset.id)"
    )
    chromium.evaluate("modules['state.js'].state.groups.clear()")
    chromium.evaluate(f"modules['state.js'].move({json.dumps(ids[:2])}, 'mine')")
    chromium.press("g")
    assert chromium.evaluate("document.querySelectorAll('.node.latent').length") == n - 1
    assert any(name.startswith("mine ×2") for name in chromium.text(".node .name"))
    chromium.press("g")
    chromium.press("j")
    first = chromium.evaluate("modules['state.js'].state.pinned")
    chromium.press("j")
    assert first and first != chromium.evaluate("modules['state.js'].state.pinned")
    n = chromium.evaluate("document.querySelectorAll('.node').length")
    chromium.press("+")
    assert chromium.evaluate("document.querySelectorAll('.node').length") > n
    address = chromium.evaluate("location.href")
    n = chromium.evaluate("document.querySelectorAll('.node').length")
    chromium.send("Page.navigate", url="about:blank")
    chromium.send("Page.navigate", url=address)
    chromium.wait(f"document.querySelectorAll('.node').length === {n}")
    assert not chromium.complaints


def test_a_card_leads_to_the_page_of_its_feature(graph: AttributionGraph, chromium, tmp_path) -> None:
    hooks = list(transcoders())
    pages = {hooks[0]: "run/page/index.html"}
    open_graph(chromium, graph.to_html(tmp_path / "graph.html", pages=pages))
    for hook in (0, 1):
        node = chromium.evaluate(
            f"modules['graph.js'].nodes.find((node) => node.node_id.startsWith('{hook}_')).node_id"
        )
        change(chromium, pinned=node)
        links = chromium.evaluate("[...document.querySelectorAll('#card a')].map((link) => link.getAttribute('href'))")
        assert links == [f"run/page/index.html#feature/{node.split('_')[1]}"][: 1 - hook]


def test_a_page_says_first_what_agrees_with_ablation(graph: AttributionGraph, chromium, tmp_path) -> None:
    scores = [("this prompt", 0.9, 0.1), ("attributions shuffled", 0.2, 0.3)]
    table = pd.DataFrame(scores, columns=["graph", "agreement_of_effects", "agreement_of_paths"])
    open_graph(chromium, graph.to_html(tmp_path / "graph.html", beside=table))
    assert chromium.text("#trust summary")[0].endswith(
        "0.10 (by chance 0.30). Where chance does as well, go by what is measured."
    )
    better = table.assign(agreement_of_paths=[0.9, 0.3])
    open_graph(chromium, graph.to_html(tmp_path / "graph.html", beside=better, overwrite=True))
    assert chromium.text("#trust summary")[0].endswith("0.90 (by chance 0.30).")
    change(chromium, answer=graph.node_ids()[graph.nodes.index[graph.nodes["type"] == "logit"][1]])
    said = f"Rank correlation along the paths to “{graph.words[int(graph.nodes['latent'][graph.likeliest])]}”"
    assert said in chromium.text("#trust summary")[0], "the scores are of the likeliest next token"
    wide = better.assign(agreement_of_pairs=0.5, replacement=0.7, completeness=0.8, nodes=65)
    open_graph(chromium, graph.to_html(tmp_path / "graph.html", beside=wide, overwrite=True), 390, 844)
    chromium.evaluate("document.querySelector('#trust details').open = true")
    assert chromium.evaluate("document.documentElement.scrollWidth") == 390, "the table moves within its own box"
    written = chromium.evaluate("[0, 0.004, 0.006].map(modules['words.js'].percent)")
    assert written == ["0 %", "under 1 %", "1 %"]


def test_the_head_of_a_page_counts_the_effects_on_the_chosen_answer_that_ablation_confirms(
    graph: AttributionGraph, effects: pd.DataFrame, pages, chromium
) -> None:
    open_graph(chromium, pages["measured"])
    ids = np.array(graph.node_ids())
    unit = graph.nodes["activation"].where(graph.nodes["type"] == "latent", 1.0)[effects["target"]].to_numpy()
    wrong = disagreements(effects[["attributed", "measured"]].div(unit, axis=0)).index
    for answer in graph.nodes.index[graph.nodes["type"] == "logit"][:2]:
        change(chromium, answer=ids[answer])
        listed = effects[effects["target"] == answer]
        said = f"confirms {len(listed) - listed.index.isin(wrong).sum()} of {len(listed)} effects of latents on"
        assert said in chromium.text("#trust summary")[0]
        word = f"“{graph.words[int(graph.nodes['latent'][answer])]}”"
        assert chromium.text("#answer") == [word] and word in chromium.text("#trust summary")[0]
    first, *_, other = effects[graph.nodes["type"].to_numpy()[effects["target"]] == "logit"].itertuples(index=False)
    for pair in (first, other):
        chromium.evaluate(f"modules['state.js'].pin('{ids[pair.source]} {ids[pair.target]}')")
        word = f"“{graph.words[int(graph.nodes['latent'][pair.target])]}”"
        assert chromium.text("#answer") == [word], "an effect is shown with the paths of its own next token"
    assert first.target != other.target


def test_what_an_answer_depends_on_most_is_drawn_whatever_its_influence(
    graph: AttributionGraph, model: Transformer, chromium, tmp_path
) -> None:
    effects = measured_effects(graph, model, transcoders(), n_latents=100)
    on_answer = effects[effects["target"] == graph.likeliest].copy()
    latents = graph.nodes[graph.nodes["type"] == "latent"]
    weakest = latents["influence"][on_answer["source"]].idxmin()
    effects.loc[on_answer.index[on_answer["source"] == weakest], "measured"] = 100.0
    open_graph(chromium, graph.to_html(tmp_path / "graph.html", nodes=0.5, effects=effects))
    change(chromium, cut=1)
    assert f"{graph.node_ids()[weakest]}" in chromium.evaluate(
        "[...document.querySelectorAll('.node')].flatMap((node) => node.dataset.ids.split('|'))"
    )
    assert "+100" in chromium.text(".node .value") and chromium.text("#card td:nth-child(2)")[0] == "+100"
    bare = "Boxes without lines act by weaker paths."
    assert bare not in chromium.text("#legend")[0]
    chromium.evaluate("modules['graph.js'].links.splice(0); modules['state.js'].change({})")
    assert bare in chromium.text("#legend")[0]


def test_a_click_on_a_node_moves_nothing_and_it_stays_lit_while_the_mouse_rests_on_another(pages, chromium) -> None:
    open_graph(chromium, pages["plain"])
    seen = "[document.getElementById('frame').getBoundingClientRect().top, document.getElementById('frame').innerText]"
    before = chromium.evaluate(seen)
    chromium.evaluate("document.querySelector('.node.latent').click()")
    assert chromium.evaluate("modules['state.js'].state.pinned") and chromium.evaluate(seen) == before
    change(chromium, pinned="")
    first, second = chromium.evaluate(
        "[...document.querySelectorAll('.node.latent')].slice(0, 2).map((node) => node.dataset.id)"
    )
    rest = f"document.querySelector('[data-id=\"{second}\"]').dispatchEvent(new MouseEvent('mouseenter'))"
    near = "[...document.querySelectorAll('.near')].map((node) => node.dataset.id)"
    chromium.evaluate(rest)
    assert second in chromium.evaluate(near)
    change(chromium, pinned=first)
    lit = chromium.evaluate(near)
    chromium.evaluate(rest)
    assert first in lit and chromium.evaluate(near) == lit


def test_a_graph_fades_out_at_the_side_at_which_it_goes_on(pages, chromium) -> None:
    open_graph(chromium, pages["whole"], width=600)
    change(chromium, cut=100)
    sides = "[...document.getElementById('frame').classList].filter((name) => name.startsWith('more'))"
    assert chromium.evaluate(sides) == ["more-left"]
    chromium.evaluate("document.getElementById('frame').scrollLeft = 0")
    chromium.wait(f"{sides}.join() === 'more-right'")


def test_a_page_marks_the_white_space_of_tokens_in_the_names_of_nodes_as_elsewhere(pages, chromium):
    open_graph(chromium, pages["plain"])
    for name, said in {
        '" the" after ", " or "\\n"': '"␣the" after ",␣" or "↵"',
        '"       " in lines that begin with "a\\n"': '"␣×7" in lines that begin with "a\\n"',  # which may be code
        "says “ a\t\nb”": "says “␣a⇥↵b”",
        "layer 1, latent 2": "layer 1, latent 2",
    }.items():
        assert chromium.evaluate(f"modules['words.js'].nameOf({{ clerp: {json.dumps(name)} }})") == said
        latent = "document.querySelector('.node.latent').dataset.id"
        chromium.evaluate(f"""(() => {{
            const node = modules["graph.js"].byId.get({latent});
            node.clerp = {json.dumps(name)};
            modules["state.js"].pin(node.node_id);
        }})()""")
        assert chromium.text("#card h2")[0] == said, "on its card"
        assert chromium.evaluate("document.querySelector('.node.pinned').title").startswith(said), "and on its node"


def test_another_next_token_has_the_effects_of_its_tokens(
    graph: AttributionGraph, model: Transformer, effects: pd.DataFrame, pages, chromium, tmp_path
) -> None:
    both = pd.concat([effects, token_effects(graph, model, transcoders())], ignore_index=True)
    open_graph(chromium, graph.to_html(tmp_path / "graph.html", nodes=1.0, effects=both))
    confirmed = chromium.text("#trust summary")
    other = graph.node_ids()[graph.nodes.index[graph.nodes["type"] == "logit"][1]]
    change(chromium, answer=other, cut=100)
    numbers = chromium.text(".node.embedding .value")
    assert numbers and all(numbers) and "alone" not in chromium.text("#legend")[0]
    open_graph(chromium, pages["measured"])
    assert chromium.text("#trust summary") == confirmed, "what was not ablated is not counted"
    change(chromium, answer=other, cut=100)
    assert not any(chromium.text(".node.embedding .value")) and "alone" in chromium.text("#legend")[0]


def test_a_line_has_the_colour_of_its_edge_while_one_of_its_ends_is_chosen(pages, chromium) -> None:
    open_graph(chromium, pages["whole"])
    change(chromium, cut=100)
    coloured = "[...document.querySelectorAll('.edge.raises, .edge.lowers')]"
    assert chromium.evaluate(f"{coloured}.length") == 0, "nodes alone have a sign at first"
    change(chromium, pinned=chromium.evaluate("document.querySelector('.node.latent').dataset.id"))
    signs = chromium.evaluate(f"""(() => {{
        const {{ pinned }} = modules["state.js"].state;
        const weightOf = (key) => (key.split(" ").includes(pinned) ? modules["graph.js"].pairs.get(key).weight : 0);
        return {coloured}.map((line) => [line.classList.contains("raises"),
            line.dataset.keys.split("|").reduce((sum, key) => sum + weightOf(key), 0)]);
    }})()""")
    assert signs and all(raises == (weight > 0) for raises, weight in signs)


def test_a_long_name_goes_over_lines_of_its_box_and_is_cut_after_the_third(graph, chromium, tmp_path) -> None:
    short, long = "one short name", "a long name of a latent " * 9
    names = {hook: [(long, short if n % 2 else long) for n in range(N_LATENTS)] for hook in transcoders()}
    open_graph(chromium, graph.to_html(tmp_path / "graph.html", names=names))
    change(chromium, cut=100)
    shown = chromium.evaluate("""[...document.querySelectorAll('.node.latent')].map((node) => {
        const name = node.querySelector('.name');
        const inside = name.getBoundingClientRect().bottom <= node.getBoundingClientRect().bottom + 1;
        return [name.textContent, Math.round(name.getBoundingClientRect().height / 15), inside];
    })""")
    bare = [re.sub(r"^#\d+ ", "", text) for text, *_ in shown]
    assert all(text.startswith(("a long name", short)) for text in bare)
    assert short in [text for text, (whole, *_) in zip(bare, shown, strict=True) if whole != text], "boxes of one name"
    assert all(text.endswith("…") and 1 < lines < 4 for text, lines, _ in shown if text.startswith("a long"))
    assert all(inside for *_, inside in shown)


def test_the_names_of_rows_stay_in_sight_where_the_columns_scroll(graph: AttributionGraph, chromium, tmp_path) -> None:
    tokens = [f"quite a long token {position}" for position in range(len(graph.tokens))]
    open_graph(chromium, replace(graph, tokens=tokens).to_html(tmp_path / "graph.html", nodes=1.0), 800)
    change(chromium, cut=100, errors=True)
    frame = "document.getElementById('frame')"
    assert chromium.evaluate(f"{frame}.scrollWidth > {frame}.clientWidth && {frame}.scrollLeft > 0")
    assert set(
        chromium.evaluate("[...document.querySelectorAll('.axis')].map((e) => e.getBoundingClientRect().x)")
    ) == {0}


@pytest.mark.parametrize("width", [390, 1440])
def test_latents_are_named_on_a_page_that_fits_the_window(graph, chromium, tmp_path, width: int) -> None:
    names = {
        hook: [(f"mostly in speech, on latent {n}", f"latent {n}") for n in range(N_LATENTS)] for hook in transcoders()
    }
    open_graph(chromium, graph.to_html(tmp_path / "graph.html", nodes=0.3, names=names), width, 844)
    frame = "document.getElementById('frame')"
    assert chromium.evaluate(f"{frame}.scrollWidth - {frame}.clientWidth") == 0
    assert chromium.evaluate("document.documentElement.scrollWidth") == width
    node = chromium.evaluate("document.querySelector('.node.latent:has(.name)').dataset.id")
    change(chromium, pinned=node)
    said = f"latent {node.split('_')[1]}"
    assert chromium.text("#card h2")[0] == said, "as in its box"
    assert f"at any token: mostly in speech, on {said}" in chromium.text("#card p")
    assert chromium.text(f'[data-id="{node}"] .name')[0].startswith(said)
    change(chromium, pinned="", cut=100, errors=True)
    behind = chromium.evaluate("""(() => {
        const boxes = [...document.querySelectorAll('.box')].map((box) => [box.offsetLeft, box.offsetTop,
            box.offsetLeft + box.offsetWidth, box.offsetTop + box.offsetHeight]);
        const isIn = (x, y) => boxes.some(([left, top, right, bottom]) =>
            x > left + 1 && x < right - 1 && y > top + 2 && y < bottom - 2);
        const corners = boxes.flatMap(([left, top, right, bottom]) => [[left, top], [right, bottom]]);
        const points = [...document.querySelectorAll('.edge')].flatMap((edge) => Array.from({ length: 60 }, (_, k) => {
            const { x, y } = edge.getPointAtLength((k / 59) * edge.getTotalLength());
            return [x, y];
        }));
        return [boxes.length, points.length, [...corners, ...points].filter(([x, y]) => isIn(x, y)).length];
    })()""")
    assert behind[0] > 3 and behind[1] > 300 and behind[2] == 0, "no box hides another, or a strand"


def test_a_served_page_says_what_the_model_says_with_a_latent_off(
    graph: AttributionGraph, model: Transformer, chromium, tmp_path
) -> None:
    given = transcoders()
    page = graph.to_html(tmp_path / "graph.html")
    with GraphServer(page, graph, model, given) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        assert post(server, "change", {"times": {"none": 0}}) == (400, {"error": "'none' is not a node of the graph"})
        assert post(server, "change", {"times": {}}, Origin="http://elsewhere")[0] == 403
        assert post(server, "other", {})[0] == 404 and request(server, "GET", "/graph.json")[0] == 404
        node = next(i for i in graph.pruned().node_ids() if i.startswith("2_") and "error" not in i)
        status, answer = post(server, "change", {"times": {node: 0.0}})
        said = changed_next_tokens(graph, model, given, {graph.node_ids().index(node): 0.0})
        assert status == 200 and [after for *_, after in answer["next"]] == pytest.approx(said.topk(8).values.tolist())
        chromium.complaints.clear()
        chromium.send("Page.navigate", url=f"{server.address}/#node={node}")
        chromium.wait("document.querySelector('#card input[type=range]') !== null")
        off = "const s = document.querySelector('#card input[type=range]'); s.value = 0;"
        chromium.evaluate(f"(() => {{ {off} s.dispatchEvent(new Event('change')) }})()")
        chromium.wait("document.getElementById('now').textContent.startsWith('now ')")
        assert chromium.evaluate("document.querySelectorAll('.node.changed').length") == 1
        chromium.click("#now button")
        # the answer, not the drawing, which comes before it: the server runs the model that other tests use
        chromium.wait("document.querySelector('#now button') === null")
        assert chromium.text("#now")[0].startswith("now ")
        assert chromium.evaluate("document.querySelectorAll('.node.changed').length") == 0
        assert not chromium.complaints and not chromium.faint()
        server.shutdown()


def test_a_damaged_graph_is_refused_in_one_line(graph: AttributionGraph, tmp_path) -> None:
    graph.save(tmp_path / "graph.json")
    whole = json.loads((tmp_path / "graph.json").read_text())
    file = tmp_path / "bad.json"

    def refused(**changed: object) -> None:
        file.write_text(json.dumps(whole | changed))
        with pytest.raises(ValueError, match=r"bad\.json"):
            load_graph(file)

    refused(nodes=whole["nodes"][:3])
    refused(nodes=[*whole["nodes"], whole["nodes"][0]])
    refused(nodes=[{**whole["nodes"][0], "ctx_idx": 99}, *whole["nodes"][1:]])
    refused(nodes=[{**whole["nodes"][0], "feature_type": "worm"}, *whole["nodes"][1:]])
    refused(links=[{**whole["links"][0], "weight": float("inf")}])
    refused(links=[{**whole["links"][0], "target": "nobody"}])
    refused(links="no")
    refused(metadata={})
    refused(interp={**whole["interp"], "bias": []})
    for table, changed in (
        ("heads", {"source": "nobody"}),
        ("heads", {"target": "E_3_0"}),
        ("heads", {"attention": None}),
        ("heads", {"head": 0.5}),
        ("heads", {"layer": -1}),
        ("scores", {"query": len(IDS)}),
        ("scores", {"score": None}),
    ):
        refused(interp={**whole["interp"], table: [whole["interp"][table][0] | changed]})
    file.write_text("{")
    with pytest.raises(ValueError, match=r"bad\.json"):
        load_graph(file)


def test_bad_prompts_and_dictionaries_are_refused(model: Transformer) -> None:
    given = transcoders()
    for prompt, said in (
        (IDS[:1], "at least two are needed"),
        (torch.zeros(17, dtype=torch.long), "17 tokens"),
        (torch.stack([IDS, IDS]), r"the prompt is \(2, 9\)"),
        (torch.tensor([3, 99]), "token id 99 occurs"),
        ("a text", "tokenizer"),
    ):
        with pytest.raises(ValueError, match=said):
            attribution_graph(model, prompt, given)
    for option, least in (({"max_latents": -1}, 0), ({"batch_size": 0}, 1)):
        with pytest.raises(ValueError, match=f"must be at least {least}"):
            attribution_graph(model, IDS, given, **option)
    with pytest.raises(ValueError, match="at least one"):
        attribution_graph(model, IDS, {})
    with pytest.raises(ValueError, match=r"blocks\.7"):
        attribution_graph(model, IDS, {"blocks.7.hook_resid_mid": given["blocks.0.hook_resid_mid"]})
    with pytest.raises(ValueError, match="trained on"):
        attribution_graph(model, IDS, {"blocks.1.hook_resid_mid": given["blocks.0.hook_resid_mid"]})


def test_untaught_tokens_are_errors(model: Transformer) -> None:
    given = transcoders()
    for each in given.values():
        each.metadata["exclude_special_tokens"] = [int(IDS[0])]
    made = attribution_graph(model, IDS, given)
    assert made.unexplained < 1e-12
    assert not (made.nodes.query("type == 'latent'")["position"] == 0).any()


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_transcoders_of_an_mlp_itself_have_their_hooks(family: str, tmp_path) -> None:
    """As those of Qwen3 and Gemma 3: in Gemma a norm comes between the MLP and the residual stream."""
    theirs = load_model(write_foreign(family, tmp_path / "model")).double()
    write_circuit_tracer(tmp_path / "theirs", transcoders(), ("mlp.hook_in", "mlp.hook_out"))
    read = {name: each.double() for name, each in load_transcoders(tmp_path / "theirs").items()}
    assert attribution_graph(theirs, "the river runs under cold water", read).unexplained < 1e-6
    mlp_out = resolve_hooks(theirs, ["blocks.1.mlp.hook_out", "blocks.1.hook_mlp_out", "model.layers.1.mlp"])
    own, added, named = mlp_out.values()
    assert own == named and (own == added) == (family == "llama")
    assert [name for name in theirs.hooks() if name.endswith("hook_out")] == (
        [] if family == "llama" else [f"blocks.{n}.mlp.hook_out" for n in range(N_LAYERS)]
    )


def test_feature_files_go_with_a_graph(model: Transformer, graph: AttributionGraph, tmp_path) -> None:
    tokens = torch.randint(0, 50, (20, 9), generator=torch.Generator().manual_seed(0))
    vocab = [f"t{i}" for i in range(50)]
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
    features = {
        name: FeatureStore.from_codes(
            tokens, each.codes(cache[name].flatten(0, 1)), tmp_path / str(n), vocab=vocab, hook_name=name
        )
        for n, (name, each) in enumerate(transcoders().items())
    }
    graph.save(tmp_path / "graph.json")
    out = write_graph_features(graph.pruned(), features, tmp_path / "features")
    nodes = json.loads((tmp_path / "graph.json").read_text())["nodes"]
    wanted = [node["feature"] for node in nodes if node["feature_type"] == "cross layer transcoder"]
    assert wanted
    for number in wanted:
        written = json.loads((out / f"{number}.json").read_text())
        examples = written["examples_quantiles"][0]["examples"]
        assert written["index"] == number
        assert all(len(each["tokens"]) == len(each["tokens_acts_list"]) for each in examples)
    page = graph.to_html(tmp_path / "graph.html", features=features)
    assert "t14" in page.read_text() and '"max":' in page.read_text()
    few = {
        name: FeatureStore.from_codes(tokens[:1], each.codes(cache[name][0]), tmp_path / f"few {n}", vocab=vocab)
        for n, (name, each) in enumerate(transcoders().items())
    }
    assert any(not each.table()["n_active"].all() for each in few.values())
    graph.to_html(tmp_path / "few.html", features=few)  # with latents that do not fire on the text
    with pytest.raises(ValueError, match="not given"):
        write_graph_features(graph, {}, tmp_path / "none")


def test_the_command_draws_the_graph_of_a_run(tiny_run, tmp_path, capsys) -> None:
    assert main(["graph", str(tiny_run.path), "To be, or not", "--out", str(tmp_path / "new" / "graph.html")]) == 0
    said = capsys.readouterr().out
    assert "weights of the model shuffled" in said and "replacement" in said
    assert (tmp_path / "new" / "graph.html").stat().st_size < 5e6
    assert '"heads":[{"source":"' in (tmp_path / "new" / "graph.html").read_text()
    quick = ["--out", str(tmp_path / "graph.json"), "--no-checks"]
    assert main(["graph", str(tiny_run.path), "To be", *quick]) == 0
    graph = load_graph(tmp_path / "graph.json")
    assert len(graph.nodes) > 3
    for write in (graph.save, graph.to_html):
        with pytest.raises(ValueError, match=r"graph.json already exists: name another file, or .*overwrite=True"):
            write(tmp_path / "graph.json")
        with pytest.raises(ValueError, match="lies in the run folder"):
            write(tiny_run.path / "graph.json")
    graph.save(tmp_path / "graph.json", overwrite=True)
    for words, told in (
        ([str(tiny_run.path), "a " * 900], "tokens are longer than the model's context of 64"),
        ([str(tiny_run.path), "a b", "--out", str(tmp_path / "graph.png")], "must end in .html or .json"),
        ([str(tmp_path), "a b"], "not a run folder"),
    ):
        assert main(["graph", *words]) == 2
        assert told in capsys.readouterr().err
