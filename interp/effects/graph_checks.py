"""An attribution graph held against the model itself: each of its latents is taken out, with nothing held.

In:  a graph, and the model and dictionaries that it was made with.
Out: for each pair of a latent (source) and a later latent or logit (target) of the graph

    attributed   what the target reads from the source by all paths of the graph (`AttributionGraph.total_effects`)
    measured     what it reads less when the model runs without z d of the source; attention and norms follow

A graph is right where these agree: `agreement` gives rank correlations and the share of equal signs, over the effects
of latents on logits and over the strongest pairs of latents. Its nulls are the same figures for a graph of the prompt
with its tokens shuffled, of a model with shuffled weights, and with dictionaries of random directions.

Cost: a pass of the model for each latent of the graph.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor

from interp.activations.hooks import Hook, Model, capture, evaluating, module_of, to_model
from interp.codes.sparse_codes import Dictionary
from interp.effects.attribution_graph import AttributionGraph
from interp.evaluation.dictionary_hooks import dictionary_hooks
from interp.storage.files import Progress, no_progress

_ROWS_AT_ONCE = 1 << 12


class Agreement(NamedTuple):
    """How far what a graph attributes is what ablation measures."""

    nodes: float
    """Spearman's rank correlation over latents, of their effect on the likeliest logit."""
    node_signs: float
    """The share of latents whose effect on it has the attributed sign, in [0, 1]."""
    edges: float
    """Spearman's rank correlation over the strongest pairs of latents."""
    edge_signs: float
    n_latents: int
    n_pairs: int


def measured_effects(
    graph: AttributionGraph,
    model: Model,
    dictionaries: Mapping[str, Dictionary],
    *,
    progress: Progress = no_progress,
) -> pd.DataFrame:
    """A row a pair: source, target (nodes of the graph), attributed, measured, both in the unit of what the target
    reads. Raises ValueError where the dictionaries are not those of the graph."""
    if missing := [name for name in graph.hook_names if name not in dictionaries]:
        raise ValueError(f"the graph was made with a dictionary of {missing[0]}, which is not given")
    kept = graph.nodes.iloc[graph.targets]
    is_latent = (kept["kind"] == "latent").to_numpy()
    measured = _measured(graph, model, dictionaries, kept, is_latent, progress)
    attributed = graph.total_effects()[:, is_latent]
    later = kept["dictionary"].to_numpy()[:, None] > kept["dictionary"].to_numpy()[is_latent]
    target, source = np.nonzero(later)
    nodes = graph.targets
    pairs = {"source": nodes[is_latent][source], "target": nodes[target]}
    return pd.DataFrame(pairs | {"attributed": attributed[later], "measured": measured[later]})


def agreement(graph: AttributionGraph, effects: pd.DataFrame, strongest: int = 200) -> Agreement:
    """The agreement of a graph with its measured effects.

    strongest: how many pairs of latents are compared, those with the largest attributed share of what the target reads.
    """
    kind = graph.nodes["kind"].to_numpy()
    likeliest = graph.nodes["activation"].where(kind == "logit", -1.0).idxmax()
    nodes = effects[effects["target"] == likeliest]
    pairs = effects[kind[effects["target"]] == "latent"]
    share = (pairs["attributed"] / graph.nodes["activation"].to_numpy()[pairs["target"]]).abs()
    pairs = pairs.loc[share.sort_values(ascending=False, kind="stable").index[:strongest]]
    both = [_agree(part["attributed"], part["measured"]) for part in (nodes, pairs)]
    return Agreement(*both[0], *both[1], len(nodes), len(pairs))


def disagreements(effects: pd.DataFrame, factor: float = 2.0) -> pd.DataFrame:
    """The pairs whose measured effect has another sign, or differs by a factor; the largest difference first."""
    ratio = effects["measured"] / effects["attributed"]
    wrong = effects[~ratio.between(1 / factor, factor)]
    gap = (wrong["measured"] - wrong["attributed"]).abs()
    return wrong.loc[gap.sort_values(ascending=False, kind="stable").index].reset_index(drop=True)


def _agree(attributed: pd.Series, measured: pd.Series) -> tuple[float, float]:
    if len(attributed) < 3:
        return float("nan"), float("nan")
    return float(spearmanr(attributed, measured).statistic), float((attributed * measured > 0).mean())


def _measured(
    graph: AttributionGraph,
    model: Model,
    dictionaries: Mapping[str, Dictionary],
    kept: pd.DataFrame,
    is_latent: np.ndarray,
    progress: Progress,
) -> Float[np.ndarray, "target source"]:
    """What each target reads less without each latent."""
    module = module_of(model)
    tokens = to_model(module, torch.tensor([graph.token_ids]))
    sides = [dictionary_hooks(model, name, dictionaries[name]) for name in graph.hook_names]
    used = [dictionaries[name] for name in graph.hook_names]
    sources = kept[is_latent]
    n_at_once = max(1, _ROWS_AT_ONCE // tokens.shape[1])
    parts = []
    with evaluating(module):
        clean = _target_readings(model, tokens, graph, kept, sides, used, kept.iloc[:0])
        for start in range(0, len(sources), n_at_once):
            block = sources.iloc[start : start + n_at_once]
            without = _target_readings(model, tokens.expand(len(block), -1), graph, kept, sides, used, block)
            parts.append((clean - without).T.numpy(force=True))
            progress(min(start + n_at_once, len(sources)), len(sources), "ablations of the graph's latents")
    return np.concatenate(parts, axis=1) if parts else np.zeros((len(kept), 0))


def _target_readings(
    model: Model,
    tokens: Tensor,
    graph: AttributionGraph,
    kept: pd.DataFrame,
    sides: list,
    dictionaries: list,
    ablated: pd.DataFrame,
) -> Float[Tensor, "row target"]:
    """What each target reads in a pass in which row r runs without the latent `ablated[r]`."""
    module = module_of(model)
    reads: dict[int, Tensor] = {}

    def write(n: int, x: Tensor) -> Tensor | None:
        rows = np.flatnonzero(ablated["dictionary"] == n)
        if not len(rows):
            return None
        mine = ablated.iloc[rows]
        change = torch.tensor(mine["activation"].to_numpy()).to(x)[:, None] * dictionaries[n].W_dec[mine["latent"].to_numpy()].to(x)
        x = x.clone()
        x.view(*x.shape[:2], -1)[rows, mine["position"].to_numpy()] -= change
        return x

    with ExitStack() as stack:
        for n, side in enumerate(sides):
            stack.enter_context(side.reads.attach(lambda x, n=n: reads.__setitem__(n, x.detach().flatten(2).clone())))
            stack.enter_context(side.writes.attach(lambda x, n=n: write(n, x)))
        norm = Hook(module.final_norm)
        reads[len(sides)] = capture(module, tokens, {"final": norm})["final"].detach()
    W_U = module.W_U.detach()
    columns = []
    for kind, n, position, latent in kept[["kind", "dictionary", "position", "latent"]].itertuples(index=False):
        direction = W_U[:, latent] - W_U.mean(1) if kind == "logit" else dictionaries[n].W_enc[:, latent]
        columns.append(reads[n][:, position] @ direction.to(reads[n]))
    return torch.stack(columns, 1).double()
