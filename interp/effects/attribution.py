"""Making an attribution graph: held passes of the model, and backward passes of many targets at once.

1. Record the model on the prompt and encode each hook (`interp.effects.prompt_passes`).
2. A pass with all inputs 0 gives what the biases alone hand to each target.
3. A backward pass of `batch_size` targets gives the edges of the logits, then of the latents with the largest influence
   on the logits so far, until `max_latents` are expanded.
4. A backward pass of the model itself gives each source's effect on the likeliest next token, to first order.
5. Influence: A = |edges| with rows that sum to 1; that of a node is p(A + A² + …), with p the logits' probabilities.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.activations.hooks import Model, words_of
from interp.codes.sparse_codes import Dictionary
from interp.effects.graph import AttributionGraph
from interp.effects.graph_nodes import NODE_COLUMNS
from interp.effects.prompt_passes import PromptPasses, logit_directions, next_tokens, prompt_ids
from interp.runtime.progress import Progress, no_progress

_MAX_LOGITS = 10
_LOGIT_MASS = 0.95


def attribution_graph(
    model: Model,
    prompt: str | Int[Tensor, " pos"],
    dictionaries: Mapping[str, Dictionary],
    *,
    max_latents: int = 1024,
    batch_size: int = 64,
    progress: Progress = no_progress,
) -> AttributionGraph:
    """The attribution graph of what a model says after a prompt.

    prompt: a text, or its token ids. dictionaries: of each hook that is read its transcoder or SAE; what has none is
    part of the errors. max_latents: how many latents have edges into them. batch_size: targets of a backward pass.

    Raises ValueError for a prompt of fewer than two tokens or beyond the model's context, for a model that does not
    show its final norm and unembedding, as `dictionary_hooks`, and for dictionaries without W_enc.
    """
    passes = PromptPasses(model, prompt_ids(model, prompt), dictionaries)
    return _Builder(passes, batch_size).build(max_latents, progress)


class _Targets(NamedTuple):
    """What some targets read."""

    reader: Int[Tensor, " target"]
    """The number of the dictionary that reads; the unembedding comes after the last."""
    position: Int[Tensor, " target"]
    direction: Float[Tensor, "target d"]


class _Builder:
    """Rows of edges, a block of targets at a time."""

    def __init__(self, passes: PromptPasses, batch_size: int):
        self.passes, self.batch_size = passes, batch_size
        parts = passes.parts
        self.n_pos = passes.ids.shape[1]
        embedding = passes.embedding.expand(batch_size, -1, -1).clone().requires_grad_(True)
        outputs = [part.output.expand(batch_size, -1, -1).clone().requires_grad_(True) for part in parts]
        self.leaves = [embedding, *outputs]
        self.reads = passes.readings(embedding, outputs)
        self.next_tokens = next_tokens(passes.module, passes.final_rows[-1])
        zero = torch.zeros_like(passes.embedding)[None]
        self.constants = passes.readings(zero, [part.bias[None] for part in parts])
        self.firings = [len(part.z) for part in parts]
        self.first = np.cumsum([self.n_pos, *self.firings])  # where the latents of each part begin
        self.n_sources = int(self.first[-1]) + self.n_pos * len(parts)

    def build(self, max_latents: int, progress: Progress) -> AttributionGraph:
        logits, probability = self._logits()
        targets = self._logit_targets(logits)
        rows, bias = self._rows(targets)
        reads = self._reading(targets)
        weight = _weights(probability)
        expanded = np.zeros(0, dtype=np.int64)
        n_latents = int(self.first[-1] - self.first[0])
        wanted = min(max_latents, n_latents)
        while len(expanded) < wanted:
            influence = _influence(np.abs(rows), weight, self.first[0] + expanded)
            latent = influence[self.first[0] : self.first[-1]].copy()
            latent[expanded] = -1.0
            chosen = np.argsort(-latent, kind="stable")[: min(4 * self.batch_size, wanted - len(expanded))]
            chosen = np.sort(chosen[latent[chosen] > 0])  # by dictionary: a backward pass ends where its targets begin
            if not len(chosen):
                break
            for start in range(0, len(chosen), self.batch_size):
                targets = self._latent_targets(chosen[start : start + self.batch_size])
                more, more_bias = self._rows(targets)
                rows, bias = np.concatenate([rows, more]), np.concatenate([bias, more_bias])
                reads = np.concatenate([reads, self._reading(targets)])
            expanded = np.concatenate([expanded, chosen])
            progress(len(expanded), wanted, "latents of the graph")
        return self._graph(logits, probability, expanded, rows, bias, reads)

    def _logits(self) -> tuple[Int[Tensor, " logit"], Float[Tensor, " logit"]]:
        probability, ids = self.next_tokens.topk(min(_MAX_LOGITS, len(self.next_tokens)))
        n = int((probability.cumsum(0) < _LOGIT_MASS).sum()) + 1
        return ids[:n], probability[:n]

    def _logit_targets(self, ids: Int[Tensor, " logit"]) -> _Targets:
        reader, position = torch.full_like(ids, len(self.passes.parts)), torch.full_like(ids, self.n_pos - 1)
        return _Targets(reader, position, logit_directions(self.passes.module, self.next_tokens, ids))

    def _latent_targets(self, chosen: Int[np.ndarray, " target"]) -> _Targets:
        columns = self.first[0] + chosen
        reader = np.searchsorted(self.first, columns, side="right") - 1
        position, direction = [], []
        for n, column in zip(reader, columns, strict=True):
            part = self.passes.parts[n]
            entry = int(column - self.first[n])
            position.append(int(part.position[entry]))
            direction.append(part.dictionary.W_enc[:, part.latent[entry]].detach())
        device = self.passes.ids.device
        return _Targets(
            torch.tensor(reader, device=device), torch.tensor(position, device=device), torch.stack(direction)
        )

    def _reading(self, targets: _Targets) -> Float[np.ndarray, " target"]:
        """What the targets read."""
        rows = [self.reads[int(n)][0, at].detach() for n, at in zip(targets.reader, targets.position, strict=True)]
        return _dot(rows, targets.direction)

    def _rows(self, targets: _Targets) -> tuple[Float[np.ndarray, "target source"], Float[np.ndarray, " target"]]:
        """Edges from embeddings, latents and errors, and those from the biases."""
        total: Any = 0.0
        for n in targets.reader.unique().tolist():
            of_reader = (targets.reader == n).nonzero()[:, 0]
            read = self.reads[n][of_reader, targets.position[of_reader]]
            total = total + (read * targets.direction[of_reader].to(read)).sum()
        gradients = torch.autograd.grad(total, self.leaves, retain_graph=True, allow_unused=True)
        n_targets = len(targets.reader)
        rows = torch.zeros(n_targets, self.n_sources, dtype=self.passes.embedding.dtype)
        for n, gradient in enumerate(gradients):
            if gradient is None:
                continue
            gradient = gradient[:n_targets]
            if n == 0:
                rows[:, : self.n_pos] = (gradient * self.passes.embedding).sum(2)
                continue
            part = self.passes.parts[n - 1]
            first = int(self.first[n - 1])
            errors = int(self.first[-1]) + self.n_pos * (n - 1)
            rows[:, errors : errors + self.n_pos] = (gradient * part.error).sum(2)
            for pos in part.position.unique().tolist():
                firing = (part.position == pos).nonzero()[:, 0]
                rows[:, first + firing] = gradient[:, pos] @ part.written(firing).to(gradient).T
        constants = [self.constants[int(n)][0, at] for n, at in zip(targets.reader, targets.position, strict=True)]
        return rows.numpy(force=True), _dot(constants, targets.direction)

    def _graph(
        self,
        logits: Int[Tensor, " logit"],
        probability: Float[Tensor, " logit"],
        expanded: Int[np.ndarray, " latent"],
        rows: Float[np.ndarray, "target source"],
        bias: Float[np.ndarray, " target"],
        reads: Float[np.ndarray, " target"],
    ) -> AttributionGraph:
        first = self.first
        weight = _weights(probability)
        influence = _influence(np.abs(rows), weight, first[0] + expanded)
        expanded_order = np.argsort(expanded, kind="stable")
        latents = first[0] + expanded[expanded_order]
        kept = np.concatenate([np.arange(first[0]), latents, np.arange(first[-1], self.n_sources)])
        dropped = np.setdiff1d(np.arange(first[0], first[-1]), latents)
        order = np.concatenate([np.arange(len(logits)), len(logits) + expanded_order])
        rows, bias, reads = rows[order], bias[order], reads[order]
        rest = rows[:, dropped].sum(1)
        edges = np.concatenate([rows[:, kept], bias[:, None], rest[:, None], np.zeros((len(rows), len(logits)))], 1)
        effect = self._effects(logits[:1])
        nodes = self._source_table().iloc[kept].assign(influence=influence[kept], effect=effect[kept])
        of_rest = {"influence": [0.0, float(influence[dropped].sum())], "effect": [0.0, float(effect[dropped].sum())]}
        ends = pd.DataFrame({"kind": ["bias", "rest"]} | of_rest)
        logit_nodes = pd.DataFrame(
            {
                "kind": "logit",
                "dictionary": len(self.passes.parts),
                "position": self.n_pos - 1,
                "latent": logits.numpy(force=True),
                "activation": probability.numpy(force=True),
                "influence": 0.0,
                "effect": 0.0,
            }
        )
        table = pd.concat([nodes, ends, logit_nodes], ignore_index=True)
        table = table.fillna({"dictionary": -1, "position": -1, "latent": -1, "activation": 1.0})
        table = table.astype({"dictionary": int, "position": int, "latent": int})
        targets = np.concatenate([np.flatnonzero(table["kind"] == "logit"), np.flatnonzero(table["kind"] == "latent")])
        table["reads"] = np.nan
        table.loc[targets, "reads"] = reads
        table = table[list(NODE_COLUMNS)]
        return AttributionGraph(
            self.passes.ids[0].tolist(),
            _names(self.passes.model, self.passes.ids[0].tolist()),
            dict(zip(logits.tolist(), _names(self.passes.model, logits.tolist()), strict=True)),
            [part.name for part in self.passes.parts],
            table,
            targets,
            edges,
            *self._scores(influence, rows, dropped, np.concatenate([weight, influence[latents]])),
        )

    def _scores(
        self,
        influence: Float[np.ndarray, " source"],
        rows: Float[np.ndarray, "target source"],
        dropped: Int[np.ndarray, " source"],
        weight: Float[np.ndarray, " target"],
    ) -> tuple[float, float]:
        lost = np.concatenate([dropped, np.arange(self.first[-1], self.n_sources)])
        begins = influence[: self.first[0]].sum()
        size = np.abs(rows)
        share = size[:, lost].sum(1) / np.maximum(size.sum(1), 1e-30)
        return float(begins / (begins + influence[lost].sum())), float(((1 - share) * weight).sum() / weight.sum())

    def _effects(self, token: Int[Tensor, "1"]) -> Float[np.ndarray, " source"]:
        """What each source adds to the log probability of a token, to first order in the model itself."""
        [direction] = logit_directions(self.passes.module, self.next_tokens, token)
        of_embedding, *of_hooks = self.passes.gradients(direction)
        pairs = list(zip(of_hooks, self.passes.parts, strict=True))
        effects = [(of_embedding * self.passes.embedding).sum(1)]
        effects += [(g[part.position] * part.written(slice(None)).to(g)).sum(1) for g, part in pairs]
        effects += [(g * part.error).sum(1) for g, part in pairs]
        return torch.cat([effect.detach().double() for effect in effects]).numpy(force=True)

    def _source_table(self) -> pd.DataFrame:
        parts = self.passes.parts
        positions = np.arange(self.n_pos)
        tables = [pd.DataFrame({"kind": "embedding", "position": positions})]
        for n, part in enumerate(parts):
            columns = {"position": part.position, "latent": part.latent, "activation": part.z.double()}
            values = {name: column.numpy(force=True) for name, column in columns.items()}
            tables.append(pd.DataFrame({"kind": "latent", "dictionary": n, **values}))
        tables += [pd.DataFrame({"kind": "error", "dictionary": n, "position": positions}) for n in range(len(parts))]
        return pd.concat(tables, ignore_index=True)


def _influence(
    size: Float[np.ndarray, "target source"], weight: Float[np.ndarray, " logit"], latents: Int[np.ndarray, " latent"]
) -> Float[np.ndarray, " source"]:
    """p(A + A² + …): the influence on the logits of all sources, from the rows of logits and of expanded latents.

    latents: the columns of the latents that rows len(weight).. belong to. The graph has no cycle, so the sum ends.
    """
    shares = size / np.maximum(size.sum(1, keepdims=True), 1e-30)
    reached = weight @ shares[: len(weight)]
    total = np.zeros(size.shape[1])
    while reached.sum() > 1e-9:
        total += reached
        reached = reached[latents] @ shares[len(weight) :]
    return total


def _weights(probability: Float[Tensor, " logit"]) -> Float[np.ndarray, " logit"]:
    """Shares of the logits' probabilities."""
    return (probability.double() / probability.double().sum()).numpy(force=True)


def _dot(rows: Sequence[Tensor], direction: Float[Tensor, "target d"]) -> Float[np.ndarray, " target"]:
    return (torch.stack(list(rows)) * direction.to(rows[0])).sum(1).numpy(force=True)


def _names(model: Model, ids: Sequence[int]) -> list[str]:
    words = words_of(model)
    return [str(i) if words is None else words[i] for i in ids]
