"""The recorded pass of one prompt, decomposed into sources, and passes in which some sources are scaled.

In:  a model, a prompt, and dictionaries of some of its hooks.
Out: `encoded`: each dictionary's decomposition of the prompt, hook = Σ z_i d_i + b_dec + error [+ x W_skip], in the
     order in which the model runs them.
     `sources`: the nodes of the graph that write: the embeddings, the latents that fire, and the errors.
     `readings`: the inputs of each dictionary, and finally of the unembedding, when some sources are scaled, in the
     model itself or in the model linearised at the prompt (`effects.linearised_model`). `TargetGradients` has their
     gradients.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.activations.hooks import Hook, Model, capture, module_of, resolve_hooks, to_model
from interp.activations.model_passes import check_model_takes
from interp.activations.next_tokens import logits_of
from interp.checks.errors import InterpError
from interp.codes.dictionary import Dictionary, W_skip_of, encoder_of
from interp.codes.dictionary_hooks import DictionaryHooks, dictionary_hooks
from interp.effects.graph_nodes import NODE_KEY, GraphNodes
from interp.effects.linearised_model import LinearisedModel, without_weight_gradients
from interp.features.text_features import tokens_of

EMBEDDING_HOOK = "blocks.0.hook_resid_pre"


def prompt_ids(model: Model, prompt: str | Int[Tensor, " pos"]) -> Int[Tensor, "1 pos"]:
    """Return the token ids of a prompt. Raises ValueError for fewer than two, and as `check_model_takes` does."""
    module: Any = module_of(model)
    ids = torch.atleast_2d(tokens_of(model, prompt))
    if ids.ndim != 2 or len(ids) != 1:
        raise InterpError(f"the prompt is {tuple(ids.shape)}: give the token ids of one text")
    check_model_takes(module, ids)
    if ids.shape[1] < 2:
        raise InterpError(f"the prompt {prompt!r} is one token: at least two are needed")
    return to_model(module, ids)


def passes_of(graph: GraphNodes, model: Model, dictionaries: Mapping[str, Dictionary]) -> "PromptPasses":
    """Record the prompt of a graph again. Raises ValueError for other dictionaries or another model."""
    if missing := [name for name in graph.hook_names if name not in dictionaries]:
        raise InterpError(f"the graph was made with a dictionary of {missing[0]}, which is not given")
    used = {name: dictionaries[name] for name in graph.hook_names}
    passes = PromptPasses(model, prompt_ids(model, torch.tensor(graph.token_ids)), used)
    latents = graph.nodes[graph.nodes["type"] == "latent"]
    if (passes.columns(latents) < 0).any():
        raise InterpError("latents of the graph do not fire: name the model and dictionaries that it was made with")
    return passes


class EncodedHook(NamedTuple):
    """A dictionary on the prompt: hook = Σ z_i d_i + b_dec + error [+ x W_skip]. The sum is over its own latents, and
    over those of earlier dictionaries that write the hook too."""

    name: str
    dictionary: Any
    hooks: DictionaryHooks
    position: Int[Tensor, " firing"]
    latent: Int[Tensor, " firing"]
    z: Float[Tensor, " firing"]
    writes: Mapping[str, Float[Tensor, "firing d_out"]]
    """z_i d_i of each firing, by position, for the hook that it writes, and the later ones that it writes too."""
    output_hook: str
    bias: Float[Tensor, "pos d_out"]
    error: Float[Tensor, "pos d_out"]
    skips: Float[Tensor, "pos 1"]
    """1 where the skip of a transcoder counts."""

    def output_at(self, hook: str, shares: Float[Tensor, "row firing"]) -> Float[Tensor, "row pos d_out"]:
        """Return what the latents hand to a hook, with these shares of them."""
        firings = torch.bincount(self.position, minlength=len(self.error)).tolist()
        parts = zip(shares.split(firings, 1), self.writes[hook].split(firings), strict=True)
        return torch.stack([share @ writes for share, writes in parts], 1)


class PromptPasses:
    """The recorded pass of a prompt, and passes in which some of its sources are scaled."""

    def __init__(self, model: Model, ids: Int[Tensor, "1 pos"], dictionaries: Mapping[str, Dictionary]):
        self.model, self.ids = model, ids
        module: Any = module_of(model)
        self.module: nn.Module = module
        norm = getattr(module, "final_norm", None)
        if norm is None:
            raise InterpError("the model shows no final norm, and logits cannot be followed back")
        self.final = Hook(norm)
        self.entry = resolve_hooks(model, [EMBEDDING_HOOK])[EMBEDDING_HOOK]
        self.linearised_model = LinearisedModel(module)
        if not isinstance(dictionaries, Mapping):
            kind = type(dictionaries).__name__
            raise InterpError(f"dictionaries must be hooks with their dictionaries, {{hook: sae}}, not one {kind}")
        if not dictionaries:
            raise InterpError("name at least one hook with its dictionary")
        hooks = {name: dictionary_hooks(model, name, dictionary) for name, dictionary in dictionaries.items()}
        for name, dictionary in dictionaries.items():
            encoder_of(name, dictionary)
        self._hooks = hooks
        acts = self._record(1)
        self.embedding = acts[EMBEDDING_HOOK]
        self.encoded: list[EncodedHook] = []
        for name in sorted(dictionaries, key=list(acts).index):
            self.encoded.append(self._encode(name, dictionaries[name], hooks[name], acts))
        self._unembedded = acts["final"][-1]
        self._gradients: dict[int, Float[Tensor, " d"]] = {}
        self.next_tokens = self.log_probabilities(self._unembedded[None])[0].float().exp()
        self.sources = self._source_table()
        """type, dictionary (its number), position, latent and activation of each."""

    def log_probabilities(self, final: Float[Tensor, "row d"]) -> Float[Tensor, "row d_vocab"]:
        """Return the log probabilities of the next token from inputs of the unembedding, in at least single precision.

        The model itself computes them, as it may add a bias to its logits, scale them or cap them. Each position of its
        pass has one of the inputs, as the unembedding reads them apart."""
        n_pos = self.ids.shape[1]
        n_passes = -(-len(final) // n_pos)

        def replace(x: Tensor) -> Tensor:
            return F.pad(final.to(x), (0, 0, 0, n_passes * n_pos - len(final))).view(x.shape)

        with without_weight_gradients(self.module), torch.set_grad_enabled(final.requires_grad):
            with self.final.attach(replace):
                logits = logits_of(self.module(self.ids.expand(n_passes, -1))).flatten(0, 1)[: len(final)]
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(1)

    def zeros(self, rows: int) -> Float[Tensor, "row source"]:
        """Return a row for each of several passes in which no source is changed."""
        return self.embedding.new_zeros(rows, len(self.sources))

    def readings(self, change: Float[Tensor, "row source"], *, linearised: bool) -> list[Float[Tensor, "row pos d"]]:
        """Run the model with each source changed by a fraction of itself: 0 leaves it, −1 removes it. Returns the
        inputs of each dictionary, and finally of the unembedding.

        linearised: run the linearised model, in which hooks output only the sources, the biases and the transcoders'
        skip paths; otherwise the model itself."""
        n_pos = self.ids.shape[1]
        shares = (1 + change if linearised else change).split(
            [n_pos, *(len(each.z) for each in self.encoded), *[n_pos] * len(self.encoded)], 1
        )
        embedding = shares[0][:, :, None] * self.embedding
        latent_shares, error_shares = shares[1 : len(self.encoded) + 1], shares[len(self.encoded) + 1 :]
        reads: list[Tensor] = [embedding] * len(self.encoded)

        def enter(x: Tensor) -> Tensor:
            return embedding.reshape(x.shape) if linearised else x + embedding.reshape(x.shape)

        def read(n: int, x: Tensor) -> None:
            reads[n] = x.flatten(2)

        def write(n: int, x: Tensor) -> Tensor:
            encoded = self.encoded[n]
            with self.linearised_model.not_held():
                written = error_shares[n][:, :, None] * encoded.error
                for writer, shares in zip(self.encoded[: n + 1], latent_shares, strict=False):
                    if encoded.output_hook in writer.writes:
                        written = written + writer.output_at(encoded.output_hook, shares)
                if not linearised:
                    return x + written.reshape(x.shape)
                return (
                    written + encoded.bias + _skip_path_output(encoded.dictionary, encoded.skips, reads[n])
                ).reshape(x.shape)

        if linearised and not self.linearised_model.can_replay(len(change)):
            self._record(len(change))
        run = self.linearised_model.replay(len(change)) if linearised else without_weight_gradients(self.module)
        with run, torch.set_grad_enabled(change.requires_grad), ExitStack() as stack:
            stack.enter_context(self.entry.attach(enter))
            for n, each in enumerate(self.encoded):
                stack.enter_context(each.hooks.input_hook.attach(partial(read, n)))
                stack.enter_context(each.hooks.output_hook.attach(partial(write, n)))
            final = capture(self.module, self.ids.expand(len(change), -1), {"final": self.final})["final"]
        return [*reads, final]

    def read(
        self, readings: Sequence[Float[Tensor, "row pos d"]], targets: pd.DataFrame
    ) -> Float[Tensor, "row target"]:
        """Return the inputs of some latents and logits in each row of a pass, in at least single precision: effects are
        differences of them. The dictionary index of a logit is the one after the last."""
        precise = torch.promote_types(readings[-1].dtype, torch.float32)
        read = readings[-1].new_zeros(len(readings[-1]), len(targets), dtype=precise)
        for n in targets["dictionary"].unique():
            mine = np.flatnonzero(targets["dictionary"] == n)
            position, latent = (torch.tensor(targets[name].to_numpy()[mine]) for name in ("position", "latent"))
            rows, direction = readings[n][:, position].to(precise), self._directions(n, latent)
            read[:, mine] = (rows * direction.detach().to(rows)).sum(2)
        return read

    def columns(self, nodes: pd.DataFrame) -> Int[np.ndarray, " node"]:
        """Return the index of each node among the sources; −1 for a node that is not a source of this prompt."""
        return pd.MultiIndex.from_frame(self.sources[NODE_KEY]).get_indexer(pd.MultiIndex.from_frame(nodes[NODE_KEY]))

    def _directions(self, n: int, latent: Int[Tensor, " target"]) -> Float[Tensor, "target d"]:
        """Return the directions that latents of a dictionary read, or the gradients of tokens' log probabilities."""
        if n < len(self.encoded):
            return self.encoded[n].dictionary.W_enc.T[latent]
        tokens = latent.tolist()
        if missing := [token for token in tokens if token not in self._gradients]:
            final = self._unembedded.clone().requires_grad_(True)
            [log_p] = self.log_probabilities(final[None])
            for token in missing:
                [self._gradients[token]] = torch.autograd.grad(log_p[token], final, retain_graph=True)
        return torch.stack([self._gradients[token] for token in tokens])

    def _record(self, rows: int) -> dict[str, Tensor]:
        """Record the held values of a pass of so many rows, and return the activations of the prompt."""
        acts: dict[str, Tensor] = {}

        def keep(name: str, x: Tensor) -> None:
            acts[name] = x[0].detach().flatten(1).clone()

        def begin(name: str, x: Tensor) -> Tensor:
            keep(name, x)
            return x.detach().requires_grad_(True).clone()  # no leaf, as the model may write into it

        with self.linearised_model.record(rows), ExitStack() as stack:
            stack.enter_context(self.entry.attach(partial(begin, EMBEDDING_HOOK)))
            for name, side in self._hooks.items():
                stack.enter_context(side.input_hook.attach(partial(keep, name)))
                stack.enter_context(side.output_hook.attach(partial(begin, f"{name} writes")))
            ids = self.ids.expand(rows, -1)
            acts["final"] = capture(self.module, ids, {"final": self.final})["final"].detach()[0]
        return acts

    def _encode(self, name: str, dictionary: Any, hooks: DictionaryHooks, acts: Mapping[str, Tensor]) -> EncodedHook:
        x, y = acts[name], acts[f"{name} writes"]
        codes, counted = hooks.codes_of_text(self.module, dictionary, self.ids, x[None])
        keep = codes.fires & counted[codes.rows]
        position, latent, z = codes.rows[keep], codes.latents[keep].long(), codes.values[keep]
        output_hook = hooks.output_name
        names: Any = dictionary.metadata.get("hook_names_out") or [output_hook]
        blocks = (z[:, None] * dictionary.W_dec.detach()[latent]).to(y).split(y.shape[1], 1)
        writes = dict(zip(names, blocks, strict=True))
        skips = counted[:, None].to(y)
        bias = skips * dictionary.b_dec.detach().to(y)
        error = y - _skip_path_output(dictionary, skips, x) - bias
        for at, written in ((position, writes), *((earlier.position, earlier.writes) for earlier in self.encoded)):
            if output_hook in written:
                error = error - torch.zeros_like(y).index_add_(0, at, written[output_hook])
        return EncodedHook(name, dictionary, hooks, position, latent, z, writes, output_hook, bias, error, skips)

    def _source_table(self) -> pd.DataFrame:
        positions = np.arange(self.ids.shape[1])
        tables = [pd.DataFrame({"type": "embedding", "dictionary": -1, "position": positions})]
        for n, each in enumerate(self.encoded):
            columns = {"position": each.position, "latent": each.latent, "activation": each.z.double()}
            values = {name: column.numpy(force=True) for name, column in columns.items()}
            tables.append(pd.DataFrame({"type": "latent", "dictionary": n, **values}))
        for n in range(len(self.encoded)):
            tables.append(pd.DataFrame({"type": "error", "dictionary": n, "position": positions}))
        table = pd.concat(tables, ignore_index=True).fillna({"latent": -1, "activation": 1.0})
        return table.astype({"latent": int})


def _skip_path_output(dictionary: Dictionary, skips: Float[Tensor, "pos 1"], x: Float[Tensor, "*row pos d_in"]) -> Any:
    """Return the output of a transcoder's skip path; 0 for a dictionary without one."""
    W_skip = W_skip_of(dictionary)
    return 0 if W_skip is None else skips * (x @ W_skip.detach().to(x)).to(skips)


class TargetGradients:
    """The gradients of targets' inputs with respect to the amount of each source. In the held model they are the edges
    of a graph; in the model itself, a source's contribution to a target to first order."""

    def __init__(self, passes: PromptPasses, batch_size: int, *, linearised: bool):
        self.passes, self.change = passes, passes.zeros(batch_size).requires_grad_(True)
        self.readings = passes.readings(self.change, linearised=linearised)

    def of(self, targets: pd.DataFrame) -> Float[np.ndarray, "target source"]:
        """Return the gradients of some latents and logits."""
        rows = [np.zeros((0, self.change.shape[1]), np.float32)]
        for _, (gradient,) in self.gradients(targets, [self.change]):
            rows.append(gradient.to(torch.promote_types(gradient.dtype, torch.float32)).numpy(force=True))
        return np.concatenate(rows)

    def gradients(
        self, targets: pd.DataFrame, tensors: Sequence[Float[Tensor, "row ..."]]
    ) -> Iterator[tuple[Int[np.ndarray, " row"], list[Float[Tensor, "row ..."]]]]:
        """Yield blocks of targets, and their gradients with respect to some tensors of the pass, with a backward pass
        per block."""
        for rows in np.split(np.arange(len(targets)), range(len(self.change), len(targets), len(self.change))):
            read = self.passes.read(self.readings, targets.iloc[rows])[: len(rows)].diagonal().sum()
            gradients = torch.autograd.grad(read, tensors, retain_graph=True, allow_unused=True, materialize_grads=True)
            yield rows, [gradient[: len(rows)] for gradient in gradients]
