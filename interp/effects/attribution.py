"""Make attribution graphs (`interp.effects.graph`) from a recorded pass of the model, and backward passes from many
targets at once.

1. Record the model on the prompt, and decompose the output of its hooks (`interp.effects.prompt_passes`).
2. A backward pass of `batch_size` targets gives the edges into the logits, then those into the latents with the largest
   influence on the logits so far, until `max_latents` are expanded.
3. The heads that carry the drawn edges, and the latents that make these attend where they do, are added
   (`interp.effects.attention_attribution`).
4. A held pass without any source gives the contribution of the biases to each target.
5. A backward pass of the model itself gives each source's effect on the likeliest next token, to first order.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor

from interp.activations.hooks import Model, token_strings_of
from interp.checks.limits import check_at_least
from interp.codes.dictionary import Dictionary
from interp.effects.attention_attribution import head_edges, head_scores, sources_of_scores, strongest_scores
from interp.effects.graph import AttributionGraph
from interp.effects.graph_nodes import BIAS_AND_REST, row_shares, total_influence
from interp.effects.prompt_passes import PromptPasses, TargetGradients, prompt_ids
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress

_MAX_LOGITS = 10
_LOGIT_MASS = 0.95
_MAX_UNEXPLAINED = 0.02
"""The gap between inputs and edges above which a warning is logged; rounding in bfloat16 makes smaller ones."""
log = logging.getLogger(__name__)


@shows_progress
def attribution_graph(
    model: Model,
    prompt: str | Int[Tensor, " pos"],
    dictionaries: Mapping[str, Dictionary],
    *,
    max_latents: int = 1024,
    batch_size: int = 64,
    attention: bool = True,
    progress: Progress = no_progress,
) -> AttributionGraph:
    """Trace a model's next token after a prompt back through the latents of dictionaries to the prompt's tokens.

    prompt: a text, or its token ids.
    dictionaries: the transcoder or SAE of each hook that is read; hooks without one are part of the errors.
    max_latents: number of latents with edges into them.
    batch_size: targets per backward pass.
    attention: find the heads that carry the drawn edges, and why they attend where they do.

    Raises ValueError for a prompt of fewer than two tokens or beyond the model's context, for a model whose final norm
    is unknown, as `dictionary_hooks` does, and for dictionaries without W_enc. Logs a warning if the model has
    operations that cannot be held, so that edges do not sum to what a node reads.

    Example:

        graph = attribution_graph(model, "To be, or not to", {hook: sae})
        graph.to_html("graph.html")
    """
    check_at_least(0, max_latents=max_latents)
    check_at_least(1, batch_size=batch_size)
    passes = PromptPasses(model, prompt_ids(model, prompt), dictionaries)
    logits = _logits(passes)
    slopes = TargetGradients(passes, batch_size, linearised=True)
    edges = slopes.of(logits)
    [effect] = TargetGradients(passes, 1, linearised=False).of(logits.iloc[:1]).astype(np.float64)
    is_latent = (passes.sources["type"] == "latent").to_numpy()
    expanded = np.zeros(0, dtype=np.int64)
    wanted = min(max_latents, int(is_latent.sum()))
    while len(expanded) < wanted:
        influence = np.where(is_latent, _influence(edges, logits, expanded), 0.0)
        influence[expanded] = 0.0
        chosen = np.argsort(-influence, kind="stable")[: min(4 * batch_size, wanted - len(expanded))]
        chosen = np.sort(chosen[influence[chosen] > 0])  # by dictionary: a backward pass ends where its targets begin
        if not len(chosen):
            break
        edges = np.concatenate([edges, slopes.of(passes.sources.iloc[chosen])])
        expanded = np.concatenate([expanded, chosen])
        progress(len(expanded), wanted, "latents of the graph")
    graph = _graph(passes, logits, effect, expanded, edges)
    if not graph.unexplained <= _MAX_UNEXPLAINED:
        log.warning(
            "edges miss up to %.0f %% of what a node reads: %s has operations that cannot be held at their values",
            100 * graph.unexplained,
            type(getattr(passes.module, "inner", passes.module)).__name__,
        )
    if not attention:
        return graph
    drawn = graph.pruned()
    heads = head_edges(drawn, passes)
    if heads.empty:
        return graph
    scores = strongest_scores(drawn, heads)
    sources = sources_of_scores(passes, scores)
    if len(more := np.setdiff1d(sources[is_latent[sources]], expanded)):
        edges = np.concatenate([edges, slopes.of(passes.sources.iloc[more])])
        graph = _graph(passes, logits, effect, np.concatenate([expanded, more]), edges)
    number = pd.Index(graph.node_ids()).get_indexer(pd.Index(drawn.node_ids()))
    heads = heads.assign(source=number[heads["source"]], target=number[heads["target"]])
    return replace(graph, head_edges=heads, head_scores=head_scores(graph, passes, scores, sources))


def _logits(passes: PromptPasses) -> pd.DataFrame:
    """Make the nodes of the likeliest next tokens."""
    probability, ids = passes.next_tokens.topk(min(_MAX_LOGITS, len(passes.next_tokens)))
    n = int((probability.cumsum(0) < _LOGIT_MASS).sum()) + 1
    values = {"latent": ids[:n].numpy(force=True), "activation": probability[:n].numpy(force=True)}
    return pd.DataFrame(values).assign(
        type="logit", dictionary=len(passes.encoded), position=passes.ids.shape[1] - 1, influence=0.0, effect=0.0
    )


def _influence(
    edges: Float[np.ndarray, "target source"], logits: pd.DataFrame, expanded: Int[np.ndarray, " latent"]
) -> Float[np.ndarray, " source"]:
    """Return p(A + A² + …), the influence of all sources on the logits.
    edges: into the logits, then into the sources that are `expanded`."""
    into_logits, into_latents = np.split(edges, [len(logits)])
    return total_influence(_weights(logits) @ row_shares(np.abs(into_logits)), into_latents, expanded)


def _graph(
    passes: PromptPasses,
    logits: pd.DataFrame,
    effect: Float[np.ndarray, " source"],
    expanded: Int[np.ndarray, " latent"],
    edges: Float[np.ndarray, "target source"],
) -> AttributionGraph:
    """Make the graph of these edges. Latents that were not expanded are one node, the rest, and all biases another."""
    influence = _influence(edges, logits, expanded)
    node_type = passes.sources["type"].to_numpy()
    dropped = np.setdiff1d(np.flatnonzero(node_type == "latent"), expanded)
    kept = np.setdiff1d(np.arange(len(node_type)), dropped)
    order = np.argsort(expanded)
    edges = edges[np.concatenate([np.arange(len(logits)), len(logits) + order])]
    targets = pd.concat([logits, passes.sources.iloc[expanded[order]]])
    reads, bias = (
        passes.read(passes.readings(passes.zeros(1) - less, linearised=True), targets).numpy(force=True)[0]
        for less in (0, 1)
    )

    sources = passes.sources.assign(influence=influence, effect=effect)
    ends = pd.DataFrame(BIAS_AND_REST).assign(
        influence=[0.0, influence[dropped].sum()], effect=[0.0, effect[dropped].sum()]
    )
    nodes = pd.concat([sources.iloc[kept], logits, ends], ignore_index=True)
    rows = np.concatenate([np.flatnonzero(nodes["type"] == "logit"), np.flatnonzero(nodes["type"] == "latent")])
    nodes.loc[rows, "reads"] = reads

    lost = (node_type == "error") | np.isin(np.arange(len(node_type)), dropped)
    begins = influence[node_type == "embedding"].sum()
    size = np.abs(edges)
    share_lost = size[:, lost].sum(1) / np.maximum(size.sum(1), 1e-30)
    weight = np.concatenate([_weights(logits), influence[expanded[order]]])
    square = np.zeros((len(nodes), len(nodes)))
    none = np.zeros((len(rows), len(logits)))
    square[rows] = np.column_stack([edges[:, kept], none, bias, edges[:, dropped].sum(1)])
    return AttributionGraph(
        token_ids=passes.ids[0].tolist(),
        tokens=_names(passes.model, passes.ids[0].tolist()),
        words=dict(zip(logits["latent"].tolist(), _names(passes.model, logits["latent"].tolist()), strict=True)),
        hook_names=[each.name for each in passes.encoded],
        nodes=nodes,
        edges=square,
        replacement=float(begins / (begins + influence[lost].sum())),
        completeness=float(np.average(1 - share_lost, weights=weight)),
    )


def _weights(logits: pd.DataFrame) -> Float[np.ndarray, " logit"]:
    """Return the logits' shares of their probabilities."""
    probability = logits["activation"].to_numpy(np.float64)
    return probability / probability.sum()


def _names(model: Model, ids: Sequence[int]) -> list[str]:
    token_strings = token_strings_of(model)
    return [str(i) if token_strings is None else token_strings[i] for i in ids]
