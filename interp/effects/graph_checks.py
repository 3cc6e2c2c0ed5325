"""An attribution graph held against the model itself: each of its latents is taken out, with nothing held.

In:  a graph, and the model and dictionaries that it was made with.
Out: for each pair of a latent (source) and a later latent or logit (target) of the graph

    attributed   what the target reads from the source by all paths of the graph (`AttributionGraph.total_effects`)
    measured     what it reads less when the model runs without z d of the source; attention and norms follow

A graph is right where these agree: `agreement` gives rank correlations and the share of equal signs, over the effects
of latents on the next token, by all paths and to first order with nothing held (`effect` of its nodes), and over the
strongest pairs of latents. Its nulls are the same figures for a graph of the prompt
with its tokens shuffled, of a model with shuffled weights, and with dictionaries of random directions.

Cost: a pass of the model for each latent of the graph.
"""

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor, nn

from interp.activations.hooks import Model
from interp.codes.sparse_codes import Dictionary
from interp.effects.attribution import attribution_graph
from interp.effects.graph import AttributionGraph
from interp.effects.prompt_passes import PromptPasses, passes_of
from interp.evaluation.baselines import shuffled_model
from interp.runtime.progress import Progress, no_progress

_ROWS_AT_ONCE = 1 << 12


class Agreement(NamedTuple):
    """How well the effects that a graph attributes agree with those that ablation measures."""

    nodes: float
    """Spearman's rank correlation over latents, of their effect on the likeliest logit."""
    effects: float
    """Spearman's rank correlation of their `effect`, to first order with nothing held, with what ablation measures."""
    effect_signs: float
    """The share of latents whose measured effect has the sign of `effect`, in [0, 1]."""
    edges: float
    """Spearman's rank correlation over the strongest pairs of latents."""
    n_latents: int
    n_pairs: int


def measured_effects(
    graph: AttributionGraph,
    model: Model,
    dictionaries: Mapping[str, Dictionary],
    *,
    n_latents: int = 200,
    progress: Progress = no_progress,
) -> pd.DataFrame:
    """A row a pair: source, target (nodes of the graph), attributed, measured, both in the unit of what the target
    reads. Sources are the `n_latents` latents of the largest influence, targets these and the logits.

    Raises ValueError where the model or the dictionaries are not those of the graph."""
    passes = passes_of(graph, model, dictionaries)
    nodes = graph.nodes.iloc[graph.targets]
    is_logit = (nodes["kind"] == "logit").to_numpy()
    strongest = np.argsort(-np.where(is_logit, -1.0, nodes["influence"]), kind="stable")
    sources = np.sort(strongest[: min(n_latents, int((~is_logit).sum()))])
    targets = np.concatenate([np.flatnonzero(is_logit), sources])
    measured = _without_each(passes, nodes.iloc[sources], nodes.iloc[targets], progress)
    attributed = graph.total_effects()[np.ix_(targets, sources)]
    layer = nodes["dictionary"].to_numpy()
    later = layer[targets][:, None] > layer[sources]
    target, source = np.nonzero(later)
    pairs = {"source": graph.targets[sources[source]], "target": graph.targets[targets[target]]}
    return pd.DataFrame(pairs | {"attributed": attributed[later], "measured": measured[later]})


def agreement(graph: AttributionGraph, effects: pd.DataFrame, strongest: int = 200) -> Agreement:
    """The agreement of a graph with its measured effects.

    strongest: how many pairs of latents are compared, those with the largest attributed share of what the target reads.
    """
    kind = graph.nodes["kind"].to_numpy()
    nodes = effects[effects["target"] == graph.likeliest]
    pairs = effects[kind[effects["target"]] == "latent"]
    share = (pairs["attributed"] / graph.nodes["activation"].to_numpy()[pairs["target"]]).abs()
    pairs = pairs.loc[share.sort_values(ascending=False, kind="stable").index[:strongest]]
    to_first_order = graph.nodes["effect"].to_numpy()[nodes["source"]]
    return Agreement(
        nodes=_rank_correlation(nodes["attributed"], nodes["measured"]),
        effects=_rank_correlation(to_first_order, nodes["measured"]),
        effect_signs=float((to_first_order * nodes["measured"] > 0).mean()),
        edges=_rank_correlation(pairs["attributed"], pairs["measured"]),
        n_latents=len(nodes),
        n_pairs=len(pairs),
    )


def disagreements(effects: pd.DataFrame, factor: float = 2.0) -> pd.DataFrame:
    """The pairs whose measured effect has another sign, or differs by a factor; the largest difference first."""
    ratio = effects["measured"] / effects["attributed"]
    wrong = effects[~ratio.between(1 / factor, factor)]
    gap = (wrong["measured"] - wrong["attributed"]).abs()
    return wrong.loc[gap.sort_values(ascending=False, kind="stable").index].reset_index(drop=True)


def beside_nulls(
    graph: AttributionGraph,
    effects: pd.DataFrame,
    model: Model,
    dictionaries: Mapping[str, Dictionary],
    *,
    seed: int = 0,
    progress: Progress = no_progress,
) -> pd.DataFrame:
    """The scores of a graph beside those of graphs that mean nothing, a row each: answer, the log probability (nats) of
    what the prompt makes likeliest; agreement with ablation of latents' effects on the next token, of pairs, and of
    paths to the next token; replacement, completeness, and how many nodes are drawn.

    No score tells all nulls. Shuffled tokens are told by the answer: replacement and completeness say how much the
    dictionaries hold of the model on any text, and tell shuffled dictionaries and models.

    effects: `measured_effects` of the graph. The nulls: the same prompt with its tokens shuffled; with the decoder rows
    of each dictionary shuffled, so that latents write each other's directions; on a model with shuffled weights."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(graph.token_ids) - 1, generator=generator) + 1  # what opens the sequence stays
    ids = torch.tensor(graph.token_ids)
    moved = torch.cat([ids[:1], ids[order]])
    mixed = {name: _with_shuffled_decoder(dictionary, generator) for name, dictionary in dictionaries.items()}
    nulls = (
        ("tokens shuffled", model, moved, dictionaries),
        ("decoder rows shuffled", model, ids, mixed),
        ("weights of the model shuffled", shuffled_model(model, seed=seed), ids, dictionaries),
    )
    n_latents = len(graph.targets)
    answer = int(graph.nodes["latent"][graph.likeliest])
    rows = [_scores("this prompt", graph, effects, _log_probability(graph, model, dictionaries, answer))]
    for n, (name, null_model, null_ids, null_dictionaries) in enumerate(nulls):
        made = attribution_graph(null_model, null_ids, null_dictionaries, max_latents=n_latents)
        measured = measured_effects(made, null_model, null_dictionaries)
        rows.append(_scores(name, made, measured, _log_probability(made, null_model, null_dictionaries, answer)))
        progress(n + 1, len(nulls), "graphs of nulls")
    return pd.DataFrame(rows)


def changed_next_tokens(
    graph: AttributionGraph, model: Model, dictionaries: Mapping[str, Dictionary], times: Mapping[int, float]
) -> Float[Tensor, " d_vocab"]:
    """The probabilities of what the model itself says next, with some latents of the graph times a number.

    times: by the nodes of the graph; 0 turns one off. Raises ValueError for a node that is no latent.
    """
    if wrong := [node for node in times if graph.nodes["kind"].get(node) != "latent"]:
        raise ValueError(f"node {wrong[0]} is no latent of the graph")
    passes = passes_of(graph, model, dictionaries)
    change = passes.zeros(1)
    change[0, passes.columns(graph.nodes.loc[list(times)])] = torch.tensor(list(times.values())).to(change) - 1
    return passes.probabilities(passes.readings(change, held=False)[-1][0, -1])


def _log_probability(
    graph: AttributionGraph, model: Model, dictionaries: Mapping[str, Dictionary], token: int
) -> float:
    return float(changed_next_tokens(graph, model, dictionaries, {})[token].log())


def _scores(name: str, graph: AttributionGraph, effects: pd.DataFrame, answer: float) -> dict[str, Any]:
    agreed = agreement(graph, effects)
    return {
        "graph": name,
        "answer": answer,
        "agreement of effects": agreed.effects,
        "agreement of pairs": agreed.edges,
        "agreement of paths": agreed.nodes,
        "replacement": graph.replacement,
        "completeness": graph.completeness,
        "nodes": len(graph.pruned().nodes),
    }


def _with_shuffled_decoder(dictionary: Any, generator: torch.Generator) -> Any:
    mixed = copy.deepcopy(dictionary)
    rows = torch.randperm(dictionary.d_sae, generator=generator).to(dictionary.W_dec.device)
    mixed.W_dec = nn.Parameter(dictionary.W_dec.detach()[rows], requires_grad=False)
    return mixed


def _rank_correlation(attributed: Any, measured: pd.Series) -> float:
    """Spearman's; NaN of fewer than three."""
    return float(spearmanr(attributed, measured).statistic) if len(attributed) > 2 else float("nan")


def _without_each(
    passes: PromptPasses, sources: pd.DataFrame, targets: pd.DataFrame, progress: Progress
) -> Float[np.ndarray, "target source"]:
    """What each target reads less in the model itself without each source."""
    columns = passes.columns(sources)
    n_at_once = max(1, _ROWS_AT_ONCE // passes.ids.shape[1])
    clean = passes.read(passes.readings(passes.zeros(1), held=False), targets)
    less = [clean[:0]]
    for start in range(0, len(columns), n_at_once):
        block = columns[start : start + n_at_once]
        change = passes.zeros(len(block))
        change[np.arange(len(block)), block] = -1
        less.append(clean - passes.read(passes.readings(change, held=False), targets))
        progress(start + len(block), len(columns), "ablations of the graph's latents")
    return torch.cat(less).double().T.numpy(force=True)
