"""An attribution graph checked against the model itself: each of its latents is ablated, with nothing held fixed.

In:  a graph, and the model and dictionaries that it was made with.
Out: for each pair of a latent (source) and a later latent or logit (target) of the graph

    attributed   the source's contribution to the target's input, to first order: z d · the gradient of the model itself
    measured     the decrease of its input, or of a logit's log probability, when the model runs without z d of the
                 source

`agreement` compares attribution with ablation, first for these effects, then for the graph's paths, which keep norms
and attention fixed. `score_graph` puts it and other scores of the graph beside their nulls.

Cost: a pass of the model per ablated latent, and a backward pass per target.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.activations.hooks import Model
from interp.checks.errors import InterpError
from interp.codes.dictionary import Dictionary
from interp.effects.attribution import attribution_graph
from interp.effects.graph import AttributionGraph
from interp.effects.prompt_passes import TargetGradients, passes_of
from interp.evaluation.baselines import shuffled_model
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress
from interp.statistics.directions import unit_rows

_ROWS_AT_ONCE = 1 << 12
_TARGETS_AT_ONCE = 64
_STRONGEST = 200
"""Pairs that are compared: the ones with the largest attributed share of the target's input."""
_SHUFFLES = 1000


class Agreement(NamedTuple):
    """The agreement of a graph with ablation: Spearman's rank correlations, NaN for fewer than three values."""

    effects: float
    """Over latents, of their effect on the likeliest next token, to first order."""
    effect_signs: float
    """The share of latents whose effect on it has the sign that ablation measures, in [0, 1]; NaN for none."""
    pairs: float
    """Over the strongest pairs of latents, to first order."""
    paths: float
    """Over latents, of their effect on the likeliest next token by all paths of the graph."""


@shows_progress
def measured_effects(
    graph: AttributionGraph,
    model: Model,
    dictionaries: Mapping[str, Dictionary],
    *,
    n_latents: int = 200,
    progress: Progress = no_progress,
) -> pd.DataFrame:
    """Measure the decrease of targets' inputs, or of logits' log probabilities, without each source. Returns a row per
    pair, with source, target (nodes of the graph), attributed, measured, both in the unit of the target's input, or in
    nats.

    Sources are the `n_latents` latents of the largest effect on the likeliest next token, targets these and the logits.

    Raises ValueError if the model or the dictionaries do not belong to the graph."""
    passes = passes_of(graph, model, dictionaries)
    nodes = graph.nodes.iloc[graph.targets]
    latents = nodes[nodes["type"] == "latent"]
    sources = latents.loc[latents["effect"].abs().nlargest(n_latents).index].sort_index()
    targets = pd.concat([nodes[nodes["type"] == "logit"], sources])
    columns = passes.columns(sources)
    attributed = TargetGradients(passes, _TARGETS_AT_ONCE, linearised=False).of(targets)[:, columns]
    n_at_once = max(1, _ROWS_AT_ONCE // len(graph.tokens))
    tokens = targets["latent"].tolist()[: len(targets) - len(sources)]

    def read(change: Float[Tensor, "row source"]) -> Float[Tensor, "row target"]:
        readings = passes.readings(change, linearised=False)
        log_p = passes.log_probabilities(readings[-1][:, -1])[:, tokens]
        return torch.cat([log_p, passes.read(readings, sources).to(log_p)], 1)

    clean = read(passes.zeros(1))
    less = [clean[:0]]
    for start in range(0, len(columns), n_at_once):
        block = columns[start : start + n_at_once]
        without = passes.zeros(len(block))
        without[np.arange(len(block)), block] = -1
        less.append(clean - read(without))
        progress(start + len(block), len(columns), "ablations of the graph's latents")
    measured = torch.cat(less).double().T.numpy(force=True)
    later = targets["dictionary"].to_numpy()[:, None] > sources["dictionary"].to_numpy()
    target, source = np.nonzero(later)
    pairs = {"source": sources.index[source], "target": targets.index[target]}
    return pd.DataFrame(pairs | {"attributed": attributed[later].astype(float), "measured": measured[later]})


def token_effects(graph: AttributionGraph, model: Model, dictionaries: Mapping[str, Dictionary]) -> pd.DataFrame:
    """Return what the embedding of each token adds to the log probability of each next token of the graph, to first
    order: a row per pair, in the columns of `measured_effects`. It is not ablated, so `measured` is NaN.

    Raises ValueError if the model or the dictionaries do not belong to the graph."""
    passes = passes_of(graph, model, dictionaries)
    tokens, logits = (graph.nodes[graph.nodes["type"] == kind] for kind in ("embedding", "logit"))
    attributed = TargetGradients(passes, len(logits), linearised=False).of(logits)[:, passes.columns(tokens)]
    target, source = np.indices(attributed.shape).reshape(2, -1)
    pairs = {"source": tokens.index[source], "target": logits.index[target]}
    return pd.DataFrame(pairs | {"attributed": attributed.ravel().astype(float), "measured": np.nan})


def agreement(graph: AttributionGraph, effects: pd.DataFrame) -> Agreement:
    """Compare the attributions of a graph with its measured effects."""
    compared = _compared(graph, effects)
    to_answer = compared["effects"]
    return Agreement(
        effect_signs=float((to_answer["attributed"] * to_answer["measured"] > 0).mean()),
        **{name: _rank_correlation(pairs) for name, pairs in compared.items()},
    )


@shows_progress
def score_graph(
    graph: AttributionGraph,
    model: Model,
    dictionaries: Mapping[str, Dictionary],
    effects: pd.DataFrame,
    *,
    seed: int = 0,
    progress: Progress = no_progress,
) -> pd.DataFrame:
    """Score a graph beside its nulls, a row each: answer, the log probability (nats) of the prompt's likeliest next
    token; agreement with ablation of latents' effects on the next token, of pairs, and of paths to the next token;
    replacement, completeness, and the number of drawn nodes. A score is NaN where a null says nothing of it.

    Agreement is of attribution and ablation in one model, and is as good in a null model, the better the weaker its
    effects. Its null is the same attributions, shuffled among the latents or pairs: the 95th percentile.

    The other nulls are graphs: of the same prompt with its tokens shuffled; with the decoder rows of each dictionary
    shuffled, so that latents write each other's directions; on a model with shuffled weights. No single score detects
    all of these. Shuffled tokens show in the answer; replacement and completeness measure how much of the model the
    dictionaries capture on any text, and detect shuffled dictionaries and models.

    effects: `measured_effects` of the graph."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(graph.token_ids) - 1, generator=generator) + 1  # the token that opens the sequence stays
    ids = torch.tensor(graph.token_ids)
    moved = torch.cat([ids[:1], ids[order]])
    mixed = {name: _with_shuffled_decoder(dictionary, generator) for name, dictionary in dictionaries.items()}
    nulls = (
        ("tokens shuffled", model, moved, dictionaries),
        ("decoder rows shuffled", model, ids, mixed),
        ("weights of the model shuffled", shuffled_model(model, seed=seed), ids, dictionaries),
    )
    compared = _compared(graph, effects)
    answer = int(graph.nodes["latent"][graph.likeliest])
    n_latents = int((graph.nodes["type"] == "latent").sum())
    alone = replace(graph, head_scores=graph.head_scores[:0])  # nulls have no nodes that only their scores name
    rows = [
        _scores("this prompt", alone, changed_next_tokens(graph, model, dictionaries, {})[answer])
        | {f"agreement_of_{name}": _rank_correlation(pairs) for name, pairs in compared.items()},
        {"graph": "attributions shuffled"}
        | {f"agreement_of_{name}": _by_chance(pairs, seed) for name, pairs in compared.items()},
    ]
    for n, (name, null_model, null_ids, null_dictionaries) in enumerate(nulls):
        null = attribution_graph(null_model, null_ids, null_dictionaries, max_latents=n_latents, attention=False)
        next_tokens = changed_next_tokens(null, null_model, null_dictionaries, {})
        rows.append(_scores(name, null, next_tokens[answer]))
        progress(n + 1, len(nulls), "graphs of nulls")
    return pd.DataFrame(rows).astype({"nodes": "Int64"})


def changed_next_tokens(
    graph: AttributionGraph, model: Model, dictionaries: Mapping[str, Dictionary], times: Mapping[int, float]
) -> Float[Tensor, " d_vocab"]:
    """Return the model's own next-token probabilities, with some latents of the graph multiplied by a number.

    times: factors by node of the graph; 0 turns a latent off.
    Raises ValueError for a node that is not a latent.
    """
    if wrong := [node for node in times if graph.nodes["type"].get(node) != "latent"]:
        raise InterpError(f"node {wrong[0]} is not a latent of the graph")
    passes = passes_of(graph, model, dictionaries)
    change = passes.zeros(1)
    change[0, passes.columns(graph.nodes.loc[list(times)])] = torch.tensor(list(times.values())).to(change) - 1
    return passes.log_probabilities(passes.readings(change, linearised=False)[-1][:, -1])[0].float().exp()


def _scores(name: str, graph: AttributionGraph, answer: Float[Tensor, ""]) -> dict[str, Any]:
    """Make a row of the table. answer: its probability."""
    return {
        "graph": name,
        "answer": float(answer.log()),
        **dict.fromkeys(("agreement_of_effects", "agreement_of_pairs", "agreement_of_paths"), np.nan),
        "replacement": graph.replacement,
        "completeness": graph.completeness,
        "nodes": len(graph.pruned().nodes),
    }


def _compared(graph: AttributionGraph, effects: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return what is attributed and measured, for the effects on the likeliest next token, for the pairs of latents,
    and for the effects on the token by all paths."""
    to_answer = effects[effects["target"] == graph.likeliest]
    pairs = effects[graph.nodes["type"].to_numpy()[effects["target"]] == "latent"]
    share = (pairs["attributed"] / graph.nodes["activation"].to_numpy()[pairs["target"]]).abs()
    by_all_paths = graph.total_effects()[graph.likeliest, to_answer["source"]]
    return {
        "effects": to_answer,
        "pairs": pairs.loc[share[share > 0].sort_values(ascending=False, kind="stable").index[:_STRONGEST]],
        "paths": to_answer.assign(attributed=by_all_paths),
    }


def _with_shuffled_decoder(dictionary: Any, generator: torch.Generator) -> Any:
    mixed = copy.deepcopy(dictionary)
    rows = torch.randperm(dictionary.d_sae, generator=generator).to(dictionary.W_dec.device)
    mixed.W_dec = nn.Parameter(dictionary.W_dec.detach()[rows], requires_grad=False)
    return mixed


def _rank_correlation(pairs: pd.DataFrame) -> float:
    """Return Spearman's correlation; NaN of fewer than three pairs."""
    return float(pairs["attributed"].rank().corr(pairs["measured"].rank(), min_periods=3))


def _by_chance(pairs: pd.DataFrame, seed: int) -> float:
    """Return the 95th percentile of the correlation if the attributions are shuffled; NaN of fewer than three pairs."""
    if len(pairs) < 3:
        return np.nan
    ranks = pairs[["attributed", "measured"]].rank().to_numpy()
    attributed, measured = unit_rows((ranks - ranks.mean(0)).T)
    shuffled = np.random.default_rng(seed).permuted(np.tile(attributed, (_SHUFFLES, 1)), axis=1)
    return float(np.quantile(shuffled @ measured, 0.95))
