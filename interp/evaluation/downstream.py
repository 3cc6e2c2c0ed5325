"""The model from a hook on: what it makes of a change at the hook, without running again what comes before.

In:  a model, the hook that a dictionary reads and the one that it writes (the same, but for a transcoder); tokens, and
     a change that is added to what goes through the one written. Out: logits.

A block that lies before the hook is not run: it hands on what the last of them put out in a clean pass. Where the hook
is a block's output the change is added to that, and where no block is left each position is a sequence of its own, so
that only changed positions are run. No names are asked for: the blocks are found by where the hook lies, and each short
way is taken only if it gives, of a random change, the logits of the whole model.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.activations.hooks import Hook, capture, evaluating, to_model
from interp.activations.next_tokens import logits_of
from interp.evaluation.dictionary_hooks import DictionaryHooks

log = logging.getLogger(__name__)

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


class Downstream:
    """`by_position`: whether a change reaches no other position, so that [row, 1] tokens give what [seq, pos] do."""

    def __init__(self, module: nn.Module, hooks: DictionaryHooks, tokens: Int[Tensor, "seq pos"]):
        """`tokens`: some on which the short ways are tried."""
        self.module, self.hooks = module, hooks
        tokens, blocks = to_model(module, tokens), _blocks(module, hooks.writes.module)
        self._skipped: Sequence[nn.Module] = ()
        self._direct = self._tupled = self.by_position = False
        with evaluating(module):
            change, clean, changed = self._try(tokens, blocks)
            self.d_vocab = clean.shape[-1]
            half = torch.finfo(change.dtype).bits < 32
            agree = partial(_agree, changed=changed, clean=clean, tolerance=_HALF_TOLERANCE if half else _TOLERANCE)
            for skipped, direct in _short_ways(module, blocks, hooks.writes, tokens):
                self._skipped, self._direct = skipped, direct
                stream = self.enter(tokens).stream
                last = len(skipped) == len(blocks)
                if last and agree(self.logits(*in_rows(tokens, stream, change))[:, 0]):
                    self.by_position = True
                    break
                if agree(self.logits(tokens, stream, change)):
                    break
            else:
                self._skipped, self._direct = (), False
        log.info("effects are computed %s", self.way)

    @property
    def way(self) -> str:
        """Says what is run again."""
        if self.by_position:
            return "behind the last block, for changed positions only"
        return f"behind {len(self._skipped)} blocks" if self._skipped else "by whole forward passes"

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
                stack.enter_context(_handing_on(self._skipped, (entering,) if self._tupled else entering))
            if not self._direct:
                added = self.hooks.writes.attach(lambda acts: (acts + change.view(acts.shape)).to(acts.dtype))
                stack.enter_context(added)
            return logits_of(self.module(tokens))

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
        change = change.flatten(2)
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


def _agree(found: Tensor, changed: Tensor, clean: Tensor, tolerance: float) -> bool:
    return bool((found.flatten() - changed.flatten()).norm() <= tolerance * (changed - clean).norm())


@contextmanager
def _handing_on(blocks: Sequence[nn.Module], stream: Any) -> Iterator[None]:
    """Within the block, modules put out `stream` whatever they are given."""
    before = [vars(block).get("forward") for block in blocks]
    try:
        for block in blocks:  # not by setattr, which the bridges of TransformerLens hand to the module that they wrap
            vars(block)["forward"] = lambda *args, **kwargs: stream
        yield
    finally:
        for block, forward in zip(blocks, before, strict=True):
            vars(block).pop("forward")
            if forward is not None:
                vars(block)["forward"] = forward
