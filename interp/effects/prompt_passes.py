"""The recorded pass of one prompt, and held passes in which the output of each hook is given.

In:  a model, a prompt, and dictionaries of some of its hooks.
Out: `parts`: what each dictionary makes of the prompt, hook = Σ z_i d_i + b_dec + error [+ x W_skip], in the order in
     which the model runs them; `readings`: what each dictionary, and at last the unembedding, reads if the first block
     is given another embedding and the dictionaries' hooks have other outputs (`interp.effects.held`).
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.activations.hooks import Hook, Model, capture, module_of, resolve_hooks, to_model
from interp.activations.model_passes import check_model_takes
from interp.codes.sparse_codes import Dictionary
from interp.effects.circuits import encoder_of
from interp.effects.held import HeldModel, without_weight_gradients
from interp.effects.interventions import is_taught
from interp.evaluation.dictionary_hooks import DictionaryHooks, dictionary_hooks
from interp.features.text_features import tokens_of

EMBEDDING_HOOK = "blocks.0.hook_resid_pre"


def prompt_ids(model: Model, prompt: str | Int[Tensor, " pos"]) -> Int[Tensor, "1 pos"]:
    """The token ids of a prompt. Raises ValueError for fewer than two, and as `check_model_takes`."""
    module: Any = module_of(model)
    ids = tokens_of(model, prompt).reshape(1, -1)
    check_model_takes(module, ids)
    if ids.shape[1] < 2:
        raise ValueError(f"the prompt {prompt!r} is one token: at least two are needed")
    return to_model(module, ids)


def next_tokens(module: Any, final: Float[Tensor, " d"]) -> Float[Tensor, " d_vocab"]:
    """The probabilities of what follows, from what the unembedding reads."""
    b_U = getattr(module, "b_U", None)
    logits = final @ module.W_U.detach().to(final)
    return (logits if b_U is None else logits + b_U.detach().to(logits)).float().softmax(0)


def logit_directions(
    module: Any, probability: Float[Tensor, " d_vocab"], ids: Int[Tensor, " logit"]
) -> Float[Tensor, "logit d"]:
    """Return the gradient of each token's log probability, W_U[:, t] − Σ_v p_v W_U[:, v]."""
    W_U = module.W_U.detach()
    return (W_U[:, ids] - (W_U @ probability.to(W_U))[:, None]).T


class EncodedHook(NamedTuple):
    """A dictionary on the prompt: hook = Σ z_i d_i + b_dec + error [+ x W_skip]."""

    name: str
    dictionary: Any
    hooks: DictionaryHooks
    position: Int[Tensor, " firing"]
    latent: Int[Tensor, " firing"]
    z: Float[Tensor, " firing"]
    bias: Float[Tensor, "pos d_out"]
    error: Float[Tensor, "pos d_out"]
    skips: Float[Tensor, "pos 1"]
    """1 where the skip of a transcoder counts."""

    @property
    def output(self) -> Float[Tensor, "pos d_out"]:
        """The output of the hook without the skip path."""
        written = torch.zeros_like(self.error).index_add_(0, self.position, self.written(slice(None)).to(self.error))
        return written + self.bias + self.error

    def written(self, firing: Any) -> Float[Tensor, "firing d_out"]:
        return self.z[firing, None] * self.dictionary.W_dec[self.latent[firing]]


class PromptPasses:
    """The recorded pass of a prompt, and held passes in which the output of each hook is given."""

    def __init__(self, model: Model, ids: Int[Tensor, "1 pos"], dictionaries: Mapping[str, Dictionary]):
        self.model, self.ids = model, ids
        module: Any = module_of(model)
        self.module: nn.Module = module
        W_U, norm = getattr(module, "W_U", None), getattr(module, "final_norm", None)
        if W_U is None or norm is None:
            raise ValueError("the model shows no final norm and unembedding, and logits cannot be followed back")
        self.final = Hook(norm)
        self.entry = resolve_hooks(model, [EMBEDDING_HOOK])[EMBEDDING_HOOK]
        self.held = HeldModel(module)
        if not dictionaries:
            raise ValueError("name at least one hook with its dictionary")
        sides = {name: dictionary_hooks(model, name, dictionary) for name, dictionary in dictionaries.items()}
        for name, dictionary in dictionaries.items():
            encoder_of(name, dictionary)
        acts = self._record(sides)
        self.embedding = acts[EMBEDDING_HOOK]
        ordered = sorted(dictionaries, key=list(acts).index)
        self.parts = [self._part(name, dictionaries[name], sides[name], acts) for name in ordered]
        self.final_rows = acts["final"]

    def _record(self, sides: Mapping[str, DictionaryHooks]) -> dict[str, Tensor]:
        acts: dict[str, Tensor] = {}

        def keep(name: str, x: Tensor) -> None:
            acts[name] = x.detach().flatten(2)[0]

        def leaf(name: str, x: Tensor) -> Tensor:
            keep(name, x)
            return x.detach().clone().requires_grad_(True)

        with self.held.record(), ExitStack() as stack:
            stack.enter_context(self.entry.attach(partial(leaf, EMBEDDING_HOOK)))
            for name, side in sides.items():
                stack.enter_context(side.reads.attach(partial(keep, name)))
                stack.enter_context(side.writes.attach(partial(leaf, f"{name} writes")))
            acts["final"] = capture(self.module, self.ids, {"final": self.final})["final"].detach()[0]
        return acts

    def _part(self, name: str, dictionary: Any, hooks: DictionaryHooks, acts: Mapping[str, Tensor]) -> EncodedHook:
        x, y = acts[name], acts[f"{name} writes"]
        codes, usable = hooks.codes(dictionary, x[None])
        usable = usable & is_taught(self.ids, self.module, dictionary)[0].to(usable.device)
        keep = codes.fires & usable[codes.rows]
        skips = usable[:, None].to(y)
        W_skip = getattr(dictionary, "W_skip", None)
        y = y if W_skip is None else y - skips * (x.to(W_skip) @ W_skip).to(y)
        bias = skips * dictionary.b_dec.detach().to(y)
        part = EncodedHook(
            name, dictionary, hooks, codes.rows[keep], codes.latents[keep].long(), codes.values[keep], bias, y, skips
        )
        return part._replace(error=2 * y - part.output)

    def gradients(self, direction: Float[Tensor, " d"]) -> list[Float[Tensor, "pos d_out"]]:
        """The gradients of what the unembedding reads along a direction at the last position, by what enters the first
        block and by the output of each dictionary's hook, in the model itself: nothing is held."""
        leaves = [torch.zeros_like(x, requires_grad=True) for x in (self.embedding, *(p.error for p in self.parts))]
        with without_weight_gradients(self.module), torch.enable_grad(), ExitStack() as stack:
            for hook, leaf in zip((self.entry, *(part.hooks.writes for part in self.parts)), leaves, strict=True):
                stack.enter_context(hook.attach(partial(_plus, leaf)))
            final = capture(self.module, self.ids, {"final": self.final})["final"][0, -1]
            return list(torch.autograd.grad(final @ direction.to(final), leaves))

    def readings(
        self, embedding: Float[Tensor, "row pos d"], outputs: Sequence[Float[Tensor, "row pos d_out"]]
    ) -> list[Float[Tensor, "row pos d"]]:
        """What each dictionary, and at last the unembedding, reads where the hooks have these outputs."""
        reads: list[Tensor] = [embedding] * len(self.parts)

        def read(n: int, x: Tensor) -> None:
            reads[n] = x.flatten(2)

        def write(n: int, x: Tensor) -> Tensor:
            part = self.parts[n]
            W_skip = getattr(self.parts[n].dictionary, "W_skip", None)
            with self.held.aside():
                out = outputs[n] if W_skip is None else outputs[n] + part.skips * (reads[n] @ W_skip.to(reads[n]))
            return out.reshape(x.shape)

        with self.held.replay(), ExitStack() as stack:
            stack.enter_context(self.entry.attach(lambda x: embedding.reshape(x.shape)))
            for n, part in enumerate(self.parts):
                stack.enter_context(part.hooks.reads.attach(partial(read, n)))
                stack.enter_context(part.hooks.writes.attach(partial(write, n)))
            with torch.set_grad_enabled(embedding.requires_grad):
                final = capture(self.module, self.ids.expand(len(embedding), -1), {"final": self.final})["final"]
        return [*reads, final]


def _plus(leaf: Float[Tensor, "pos d"], x: Tensor) -> Tensor:
    return x + leaf.reshape(x.shape).to(x)
