"""The part of a model downstream of a hook: computes the effect of a change at the hook without rerunning earlier
blocks.

In: tokens, and a change that is added to the activations at the hook that a dictionary writes. Out: logits, the loss of
each next token, or the states y that the model's last linear map reads, logits = y W + b.

    downstream = downstream_of(module, hooks, tokens)    # `downstream_finder`, which finds what can be skipped
    stream = downstream.run_to_hook(tokens).stream       # one clean pass up to the hook
    downstream.losses(tokens, stream, change)            # once for each change

Blocks before the hook are not run again: the last of them returns its output of the clean pass. If the hook is a
block's output, the change is added to that output; if no block is left after it, each position becomes a sequence of
its own, so that only changed positions are run. If states are requested the last linear map is not run: states are as
wide as the model, while logits are as wide as the vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.activations.hooks import Hook, capture
from interp.activations.next_tokens import logits_of
from interp.codes.dictionary_hooks import DictionaryHooks

_LOGITS_AT_ONCE = 1 << 23
"""Number of logits in memory at a time."""
_TERMS_AT_ONCE = 1 << 20
"""Number of logits whose exponentials are summed at a time: few enough for a processor's cache."""
_INPUT_HOOK = "the hook that the dictionary reads"
_OUTPUT_HOOK = "the hook that the dictionary writes"


class StateAtHook(NamedTuple):
    """The activations of a clean pass that the downstream part needs."""

    acts: Float[Tensor, "seq pos ..."]
    """At the hook that the dictionary reads."""
    target: Float[Tensor, "seq pos ..."]
    """At the hook that it writes."""
    stream: Float[Tensor, "seq pos d_model"] | None
    """The output of the last block before the hook; None if the whole model is run."""


class Readout(NamedTuple):
    """The map from states to logits: y W + b. A W of None is the identity, a b of None is 0."""

    d_vocab: int
    W: Float[Tensor, "d_state d_vocab"] | None = None
    b: Float[Tensor, " d_vocab"] | None = None

    @property
    def d_state(self) -> int:
        return self.d_vocab if self.W is None else len(self.W)

    def logits(self, states: Float[Tensor, "... d_state"]) -> Float[Tensor, "... d_vocab"]:
        logits = self.differences(states)
        return logits if self.b is None else logits + self.b

    def differences(self, states: Float[Tensor, "row d_state"]) -> Float[Tensor, "row d_vocab"]:
        """Return the differences of logits that result from differences of states."""
        return states if self.W is None else states.to(self.W) @ self.W

    def expected(self, p: Float[Tensor, "row d_vocab"]) -> Float[Tensor, "row d_state"]:
        """Return the gradient of log Σ exp(logits) with respect to the states, at probabilities p."""
        return p if self.W is None else p @ self.W.T

    def of_tokens(self, tokens: Int[Tensor, " row"]) -> Float[Tensor, "row d_state"]:
        """Return the gradient of each row's logit of a token with respect to the states."""
        return F.one_hot(tokens, self.d_vocab) if self.W is None else self.W.T[tokens]


@dataclass(frozen=True, kw_only=True)
class Downstream:
    module: nn.Module
    hooks: DictionaryHooks
    blocks: tuple[nn.Module, ...]
    """The model's blocks, in order."""
    readout: Readout
    """The map from `states` to the logits."""
    last_map: nn.Module | None = None
    """The module that computes `readout`; None if the states are the logits."""
    n_skipped: int = 0
    """Blocks that are not run again."""
    hook_is_output: bool = False
    """Whether the hook is the output of the last block skipped: the change is then added to the stream."""
    returns_tuple: bool = False
    """Whether a block returns its output in a tuple."""
    by_position: bool = False
    """Whether a change reaches no other position, so that tokens of shape [row, 1] give the same result as [seq,
    pos]."""

    @property
    def d_vocab(self) -> int:
        return self.readout.d_vocab

    @property
    def skipped(self) -> tuple[nn.Module, ...]:
        return self.blocks[: self.n_skipped]

    @property
    def rerun_part(self) -> str:
        """Which part of the model is run again, in words."""
        if self.by_position:
            return "after the last block, for changed positions only"
        n = self.n_skipped
        return f"from block {n} on" if n else "by whole forward passes"

    def run_to_hook(self, tokens: Int[Tensor, "seq pos"]) -> StateAtHook:
        """Return a clean pass up to the hook."""
        return run_to_hook(self.module, self.hooks, tokens, self.skipped)

    def logits(
        self,
        tokens: Int[Tensor, "seq pos"],
        stream: Float[Tensor, "seq pos d_model"] | None,
        change: Float[Tensor, "seq pos d_out"],
    ) -> Float[Tensor, "seq pos d_vocab"]:
        with ExitStack() as stack:
            if stream is not None:
                entering = (stream + change).to(stream.dtype) if self.hook_is_output else stream
                handed_on = (entering,) if self.returns_tuple else entering
                stack.enter_context(_replace_forward(self.skipped, lambda *args, **kwargs: handed_on))
            if not self.hook_is_output:
                added = self.hooks.output_hook.attach(lambda acts: (acts + change.view(acts.shape)).to(acts.dtype))
                stack.enter_context(added)
            return logits_of(self.module(tokens))

    def losses(
        self,
        tokens: Int[Tensor, "seq pos"],
        stream: Float[Tensor, "seq pos d_model"] | None,
        change: Float[Tensor, "seq pos d_out"],
    ) -> Float[Tensor, "seq next"]:
        """Return the cross-entropy, in nats, of each token but the first; the logits of only a few rows are in memory
        at a time."""
        states = self.states(tokens, stream, change)[:, :-1].flatten(0, 1)
        following = tokens[:, 1:].flatten()
        if self.last_map is not None:
            states = states.to(next(self.last_map.parameters(), states).dtype)
        at_once = max(1, _LOGITS_AT_ONCE // self.d_vocab)
        parts = [
            cross_entropies(rows if self.last_map is None else self.last_map(rows[None])[0], ids)
            for rows, ids in zip(states.split(at_once), following.split(at_once), strict=True)
        ]
        return torch.cat(parts).view(len(tokens), -1)

    @property
    def holds_logits(self) -> bool:
        """Whether a pass holds the logits of all its tokens: true if the model's last linear map was not found."""
        return self.last_map is None

    def states(
        self,
        tokens: Int[Tensor, "seq pos"],
        stream: Float[Tensor, "seq pos d_model"] | None,
        change: Float[Tensor, "seq pos d_out"],
    ) -> Float[Tensor, "seq pos d_state"]:
        """Return the states, which `readout` maps to the logits."""
        last = [] if self.last_map is None else [self.last_map]
        with _replace_forward(last, lambda states, *args, **kwargs: states):
            return self.logits(tokens, stream, change)

    @property
    def n_weights(self) -> int:
        """The number of weights by which each position is multiplied downstream of the hook."""
        return self._count(() if self.by_position else self.blocks[self.n_skipped :])

    @property
    def n_weights_of_model(self) -> int:
        """The number of weights by which each position is multiplied in the whole model."""
        return self._count(self.blocks)

    def _count(self, blocks: Sequence[nn.Module]) -> int:
        """Count the weights of these blocks and of the map to the logits."""
        parameters = [weight for block in blocks for weight in block.parameters() if weight.ndim > 1]
        to_logits = [weight.numel() for weight in self.module.parameters() if self.d_vocab in weight.shape]
        return max(to_logits, default=0) + sum(weight.numel() for weight in parameters)


def run_to_hook(
    module: nn.Module, hooks: DictionaryHooks, tokens: Int[Tensor, "seq pos"], skipped: Sequence[nn.Module] = ()
) -> StateAtHook:
    """Return a clean pass up to the hooks of a dictionary, and the output of the last block that is skipped."""
    hook_of_role = {_INPUT_HOOK: hooks.input_hook}
    if hooks.output_hook != hooks.input_hook:
        hook_of_role[_OUTPUT_HOOK] = hooks.output_hook
    if skipped:
        hook_of_role["stream"] = Hook(skipped[-1])
    acts = capture(module, tokens, hook_of_role)
    return StateAtHook(acts[_INPUT_HOOK], acts.get(_OUTPUT_HOOK, acts[_INPUT_HOOK]), acts.get("stream"))


def cross_entropies(logits: Float[Tensor, "row d_vocab"], following: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
    """Return log Σ exp(logits) minus the logit of the following token, in nats, in blocks of rows that fit into a
    processor's cache."""
    parts = []
    at_once = max(1, _TERMS_AT_ONCE // logits.shape[1])
    for rows, ids in zip(logits.split(at_once), following.split(at_once), strict=True):
        rows = logits_of(rows)
        largest = rows.amax(1, keepdim=True)
        log_total = (rows - largest).exp_().sum(1).log() + largest[:, 0]
        parts.append(log_total - rows.gather(1, ids[:, None])[:, 0])
    return torch.cat(parts)


def split_positions(tokens: Tensor, stream: Tensor | None, change: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return each position as a sequence of its own."""
    return tokens.view(-1, 1), None if stream is None else stream.flatten(0, 1)[:, None], change.flatten(0, 1)[:, None]


@contextmanager
def _replace_forward(modules: Sequence[nn.Module], forward: Callable[..., Any]) -> Iterator[None]:
    """Replace the modules' own forward by `forward` inside the block."""
    before = [vars(module).get("forward") for module in modules]
    try:
        for module in modules:  # not by setattr, which TransformerLens's bridges forward to the module that they wrap
            vars(module)["forward"] = forward
        yield
    finally:
        for module, replaced in zip(modules, before, strict=True):
            vars(module).pop("forward")
            if replaced is not None:
                vars(module)["forward"] = replaced
