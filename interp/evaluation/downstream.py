"""The model from a hook on: what it makes of a change at the hook, without running again what comes before.

In:  a model, the hook that a dictionary reads and the one that it writes (the same, but for a transcoder); tokens, and
     a change that is added to what goes through the one written. Out: logits,
     the loss of each next token, or the states y that the model's last linear map reads, logits = y W + b.

A block that lies before the hook is not run: it hands on what the last of them put out in a clean pass. Where the hook
is a block's output the change is added to that, and where no block is left each position is a sequence of its own, so
that only changed positions are run. Nor is the last linear map run where states are asked for: they are as wide as the
model, and logits as its vocabulary. No names are asked for: the blocks are found by where the hook lies, the last map
by what the modules put out, and each short way is taken only if it gives, of a random change, the logits of the whole
model.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.activations.hooks import Hook, capture, evaluating, to_model
from interp.activations.next_tokens import logits_of
from interp.evaluation.dictionary_hooks import DictionaryHooks

log = logging.getLogger(__name__)

_LOGITS_AT_ONCE, _TERMS_AT_ONCE = 1 << 23, 1 << 20
"""Logits that are there at a time, and those of which exponentials are summed: few enough for a processor's cache."""
_READS, _WRITES = "the hook that the dictionary reads", "the hook that the dictionary writes"
_TOLERANCE, _HALF_TOLERANCE = 1e-3, 0.02
"""Of the effect of a random change, what a way may miss by rounding. A wrong one misses all of it, or what little goes
past the blocks."""


class Entered(NamedTuple):
    """The activations that a clean pass hands to the rest of the model."""

    acts: Float[Tensor, "seq pos ..."]
    """At the hook that the dictionary reads."""
    target: Float[Tensor, "seq pos ..."]
    """At the hook that it writes."""
    stream: Float[Tensor, "seq pos d_model"] | None
    """What the last block before the hook puts out; None where the whole model is run."""


class Readout(NamedTuple):
    """How logits follow from states: y W + b, or without a W the states are the logits."""

    d_vocab: int
    W: Float[Tensor, "d_state d_vocab"] | None = None
    b: Float[Tensor, " d_vocab"] | None = None

    @property
    def d_state(self) -> int:
        return self.d_vocab if self.W is None else len(self.W)

    def logits(self, states: Float[Tensor, "... d_state"]) -> Float[Tensor, "... d_vocab"]:
        return states if self.W is None or self.b is None else states.to(self.W) @ self.W + self.b

    def differences(self, states: Float[Tensor, "row d_state"]) -> Float[Tensor, "row d_vocab"]:
        """The differences of logits that go with differences of states."""
        return states if self.W is None else states.to(self.W) @ self.W

    def expected(self, p: Float[Tensor, "row d_vocab"]) -> Float[Tensor, "row d_state"]:
        """The gradient of log Σ exp(logits) with respect to the states, where the probabilities are p."""
        return p if self.W is None else p @ self.W.T

    def of_tokens(self, tokens: Int[Tensor, " row"]) -> Float[Tensor, "row d_state"]:
        """The gradient of each row's logit of a token with respect to the states."""
        return F.one_hot(tokens, self.d_vocab) if self.W is None else self.W.T[tokens]


class Downstream:
    """`by_position`: whether a change reaches no other position, so that [row, 1] tokens give what [seq, pos] do."""

    def __init__(self, module: nn.Module, hooks: DictionaryHooks, tokens: Int[Tensor, "seq pos"]):
        """`tokens`: some on which the short ways are tried."""
        self.module, self.hooks = module, hooks
        tokens, blocks = to_model(module, tokens), _blocks(module, hooks.writes.module)
        self._skipped: Sequence[nn.Module] = ()
        self._direct = self._tupled = self.by_position = False
        self._last: nn.Module | None = None
        self.readout: Readout
        with evaluating(module):
            change, clean, changed = self._try(tokens, blocks)
            half = torch.finfo(change.dtype).bits < 32
            agree = partial(_agree, changed=changed, clean=clean, tolerance=_HALF_TOLERANCE if half else _TOLERANCE)
            for last, readout in (*_readouts(module, tokens, self.d_vocab), (None, self.readout)):
                self._last, self.readout = last, readout
                if last is None or agree(readout.logits(self.states(tokens, None, change))):
                    break
            for skipped, direct in _short_ways(module, blocks, hooks.writes, tokens):
                self._skipped, self._direct = skipped, direct
                stream = self.enter(tokens).stream
                if len(skipped) == len(blocks) and agree(self.logits(*in_rows(tokens, stream, change))[:, 0]):
                    self.by_position = True
                    break
                if agree(self.logits(tokens, stream, change)):
                    break
            else:
                self._skipped, self._direct = (), False
        self.all_weights = self._count(blocks)
        self.weights = self._count([] if self.by_position else blocks[len(self._skipped) :])
        log.info("effects are computed %s", self.way)

    @property
    def d_vocab(self) -> int:
        return self.readout.d_vocab

    @property
    def way(self) -> str:
        """Says what is run again."""
        if self.by_position:
            return "behind the last block, for changed positions only"
        n = len(self._skipped)
        return f"behind {n} {'block' if n == 1 else 'blocks'}" if n else "by whole forward passes"

    def enter(self, tokens: Int[Tensor, "seq pos"]) -> Entered:
        """A clean pass up to the hook."""
        return enter(self.module, self.hooks, tokens, self._skipped)

    def logits(
        self,
        tokens: Int[Tensor, "seq pos"],
        stream: Float[Tensor, "seq pos d_model"] | None,
        change: Float[Tensor, "seq pos d_out"],
    ) -> Float[Tensor, "seq pos d_vocab"]:
        with ExitStack() as stack:
            if stream is not None:
                entering = (stream + change).to(stream.dtype) if self._direct else stream
                handed_on = (entering,) if self._tupled else entering
                stack.enter_context(_replaced(self._skipped, lambda *args, **kwargs: handed_on))
            if not self._direct:
                added = self.hooks.writes.attach(lambda acts: (acts + change.view(acts.shape)).to(acts.dtype))
                stack.enter_context(added)
            return logits_of(self.module(tokens))

    def losses(
        self,
        tokens: Int[Tensor, "seq pos"],
        stream: Float[Tensor, "seq pos d_model"] | None,
        change: Float[Tensor, "seq pos d_out"],
    ) -> Float[Tensor, "seq next"]:
        """The cross-entropy, in nats, of each token but the first; logits are there only a few rows at a time."""
        states, following = self.states(tokens, stream, change)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()
        if self._last is not None:
            states = states.to(next(self._last.parameters(), states).dtype)
        at_once = max(1, _LOGITS_AT_ONCE // self.d_vocab)
        parts = [
            cross_entropies(some if self._last is None else self._last(some[None])[0], ids)
            for some, ids in zip(states.split(at_once), following.split(at_once), strict=True)
        ]
        return torch.cat(parts).view(len(tokens), -1)

    @property
    def holds_logits(self) -> bool:
        """Whether a pass holds the logits of all its tokens: of a model whose last linear map was not found."""
        return self._last is None

    def _count(self, blocks: Sequence[nn.Module]) -> int:
        """Weights by which a position is multiplied: of these blocks, and of the map to the logits."""
        last = max((each.numel() for each in self.module.parameters() if self.d_vocab in each.shape), default=0)
        return last + sum(each.numel() for block in blocks for each in block.parameters() if each.ndim > 1)

    def states(
        self,
        tokens: Int[Tensor, "seq pos"],
        stream: Float[Tensor, "seq pos d_model"] | None,
        change: Float[Tensor, "seq pos d_out"],
    ) -> Float[Tensor, "seq pos d_state"]:
        """What `readout` maps to the logits."""
        last = [] if self._last is None else [self._last]
        with _replaced(last, lambda states, *args, **kwargs: states):
            return self.logits(tokens, stream, change)

    def _try(self, tokens: Int[Tensor, "seq pos"], blocks: Sequence[nn.Module]) -> tuple[Tensor, Tensor, Tensor]:
        """A random change of about the length of what is there, the logits without it and with it."""

        def note(module: nn.Module, args: Any, output: Any) -> None:
            self._tupled = isinstance(output, tuple)

        with ExitStack() as stack:
            for block in blocks[:1]:
                stack.enter_context(block.register_forward_hook(note))
            clean = logits_of(self.module(tokens))
        acts = capture(self.module, tokens, {_WRITES: self.hooks.writes})[_WRITES]
        generator = torch.Generator().manual_seed(0)
        change = torch.randn(acts.shape, generator=generator).to(acts) * acts.float().square().mean().sqrt().to(acts)
        change, self.readout = change.flatten(2), Readout(clean.shape[-1])
        return change, clean, self.logits(tokens, None, change)


def enter(
    module: nn.Module, hooks: DictionaryHooks, tokens: Int[Tensor, "seq pos"], skipped: Sequence[nn.Module] = ()
) -> Entered:
    """A clean pass up to the hooks of a dictionary, and what the last of the blocks that are skipped puts out."""
    asked = {_READS: hooks.reads}
    if hooks.writes != hooks.reads:
        asked[_WRITES] = hooks.writes
    if skipped:
        asked["stream"] = Hook(skipped[-1])
    acts = capture(module, tokens, asked)
    return Entered(acts[_READS], acts.get(_WRITES, acts[_READS]), acts.get("stream"))


def cross_entropies(logits: Float[Tensor, "row d_vocab"], following: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
    """log Σ exp(logits) less the logit of what follows, in nats, over rows that a processor's cache holds."""
    parts = []
    at_once = max(1, _TERMS_AT_ONCE // logits.shape[1])
    for some, ids in zip(logits.split(at_once), following.split(at_once), strict=True):
        some = logits_of(some)
        largest = some.amax(1, keepdim=True)
        log_total = (some - largest).exp_().sum(1).log() + largest[:, 0]
        parts.append(log_total - some.gather(1, ids[:, None])[:, 0])
    return torch.cat(parts)


def in_rows(tokens: Tensor, stream: Tensor | None, change: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """Each position as a sequence of its own."""
    return tokens.view(-1, 1), None if stream is None else stream.flatten(0, 1)[:, None], change.flatten(0, 1)[:, None]


def _blocks(module: nn.Module, inner: nn.Module) -> list[nn.Module]:
    """The outermost list of modules that holds the one with the hook; the longest where none does."""
    lists = [list(each) for each in module.modules() if isinstance(each, nn.ModuleList) and len(each)]
    holding = (blocks for blocks in lists if any(inner is part for block in blocks for part in block.modules()))
    return next(holding, max(lists, key=len, default=[]))


def _short_ways(
    module: nn.Module, blocks: Sequence[nn.Module], writes: Hook, tokens: Int[Tensor, "seq pos"]
) -> Iterator[tuple[Sequence[nn.Module], bool]]:
    """Blocks that need not be run, the most first, and whether the hook is what they put out; the numbers tell."""
    at = next((n for n, block in enumerate(blocks) if writes.module in set(block.modules())), len(blocks))
    outputs = {str(n): Hook(block) for n, block in enumerate(blocks[: at + 1])}
    if not outputs:
        return
    acts = capture(module, tokens, {**outputs, _WRITES: writes})
    for n in (at, at - 1):
        if str(n) in acts and torch.equal(acts[str(n)], acts[_WRITES]):
            yield blocks[: n + 1], True
    if at:
        yield blocks[:at], False


def _agree(approximate: Tensor, changed: Tensor, clean: Tensor, tolerance: float) -> bool:
    return bool((approximate.flatten() - changed.flatten()).norm() <= tolerance * (changed - clean).norm())


def _readouts(module: nn.Module, tokens: Int[Tensor, "seq pos"], d_vocab: int) -> list[tuple[nn.Module, Readout]]:
    """The modules that put out the logits of what is narrower, as if by a linear map; the innermost first."""
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []

    def note(part: nn.Module, args: Any, output: Any) -> None:
        states = args[0] if args and isinstance(args[0], Tensor) and isinstance(output, Tensor) else None
        if states is not None and states.is_floating_point() and states.ndim == 3 and states.shape[2] < d_vocab:
            if output.shape == (*states.shape[:2], d_vocab):
                seen.append((part, states, output))

    with ExitStack() as stack:
        for part in module.modules():
            stack.enter_context(part.register_forward_hook(note))
        logits = logits_of(module(tokens))
    readouts = []
    for part, states, output in seen:
        if torch.equal(output.to(logits), logits):
            basis = torch.eye(states.shape[2], dtype=states.dtype, device=states.device)[None]
            b = part(torch.zeros_like(basis[:, :1]))[0, 0].to(logits)
            readouts.append((part, Readout(d_vocab, (part(basis)[0].to(logits) - b).contiguous(), b)))
    return readouts


@contextmanager
def _replaced(modules: Sequence[nn.Module], forward: Callable[..., Any]) -> Iterator[None]:
    """Within the block, modules put out what `forward` makes of what they are given."""
    before = [vars(module).get("forward") for module in modules]
    try:
        for module in modules:  # not by setattr, which TransformerLens's bridges hand to the module that they wrap
            vars(module)["forward"] = forward
        yield
    finally:
        for module, replaced in zip(modules, before, strict=True):
            vars(module).pop("forward")
            if replaced is not None:
                vars(module)["forward"] = replaced
