"""Find the parts of a model that need not be rerun for a change at a hook; uses a shortcut only if the logits are the
same.

In: a model, the hooks of a dictionary, and a few tokens. Out: the part downstream of the hook
(`evaluation.downstream`).

No module names are needed. The blocks are the list of modules that contains the hook; the last linear map is a module
whose output is the logits and whose input is narrower. A shortcut is valid if it gives the logits of the whole model
for a random change at the hook.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.activations.hooks import Hook, capture, evaluating, to_model
from interp.activations.next_tokens import logits_of
from interp.codes.dictionary_hooks import DictionaryHooks
from interp.evaluation.downstream import Downstream, Readout, split_positions

log = logging.getLogger(__name__)

_TOLERANCE = 1e-3
"""Largest rounding error of a shortcut, as a fraction of the effect of the random change. A wrong shortcut misses the
whole effect, or the small part of it that bypasses the blocks."""
_HALF_TOLERANCE = 0.02
"""The tolerance in half precision."""


def downstream_of(module: nn.Module, hooks: DictionaryHooks, tokens: Int[Tensor, "seq pos"]) -> Downstream:
    """Return the part of a model downstream of the hook that a dictionary writes.

    tokens: a few sequences, on which the shortcuts are tried.
    """
    tokens = to_model(module, tokens)
    blocks = _blocks(module, hooks.output_hook.module)
    with evaluating(module):
        clean, returns_tuple = _clean_pass(module, tokens, blocks)
        change = _random_change(module, hooks.output_hook, tokens)
        d_vocab = clean.shape[-1]
        model_downstream = Downstream(
            module=module, hooks=hooks, blocks=tuple(blocks), readout=Readout(d_vocab), returns_tuple=returns_tuple
        )
        changed = model_downstream.logits(tokens, None, change)
        tolerance = _HALF_TOLERANCE if torch.finfo(change.dtype).bits < 32 else _TOLERANCE
        agree = partial(_is_close, changed=changed, clean=clean, tolerance=tolerance)
        for last_map, readout in _readouts(module, tokens, d_vocab):
            trial = replace(model_downstream, last_map=last_map, readout=readout)
            if agree(readout.logits(trial.states(tokens, None, change))):
                model_downstream = trial
                break
        downstream = model_downstream
        for n_skipped, hook_is_output in _possible_shortcuts(module, blocks, hooks.output_hook, tokens):
            trial = replace(model_downstream, n_skipped=n_skipped, hook_is_output=hook_is_output)
            stream = trial.run_to_hook(tokens).stream
            if n_skipped == len(blocks) and agree(trial.logits(*split_positions(tokens, stream, change))[:, 0]):
                downstream = replace(trial, by_position=True)
                break
            if agree(trial.logits(tokens, stream, change)):
                downstream = trial
                break
    log.info("effects are computed %s", downstream.rerun_part)
    return downstream


def _clean_pass(
    module: nn.Module, tokens: Int[Tensor, "seq pos"], blocks: Sequence[nn.Module]
) -> tuple[Float[Tensor, "seq pos d_vocab"], bool]:
    """Return the logits, and whether a block returns its output in a tuple."""
    outputs: list[Any] = []
    with ExitStack() as stack:
        for block in blocks[:1]:
            stack.enter_context(block.register_forward_hook(lambda module, args, output: outputs.append(output)))
        logits = logits_of(module(tokens))
    return logits, bool(outputs) and isinstance(outputs[-1], tuple)


def _random_change(module: nn.Module, writes: Hook, tokens: Int[Tensor, "seq pos"]) -> Float[Tensor, "seq pos d_out"]:
    """Return a random change at a hook, of about the length of the activations there."""
    acts = capture(module, tokens, {"acts": writes})["acts"]
    generator = torch.Generator().manual_seed(0)
    change = torch.randn(acts.shape, generator=generator).to(acts) * acts.float().square().mean().sqrt().to(acts)
    return change.flatten(2)


def _blocks(module: nn.Module, inner: nn.Module) -> list[nn.Module]:
    """Return the outermost list of modules that holds the one with the hook; the longest if none does."""
    lists = [list(part) for part in module.modules() if isinstance(part, nn.ModuleList) and len(part)]
    holding = (blocks for blocks in lists if any(inner is part for block in blocks for part in block.modules()))
    return next(holding, max(lists, key=len, default=[]))


def _possible_shortcuts(
    module: nn.Module, blocks: Sequence[nn.Module], writes: Hook, tokens: Int[Tensor, "seq pos"]
) -> Iterator[tuple[int, bool]]:
    """Yield possible numbers of skipped blocks, the largest first, and whether the hook is the output of the last
    one."""
    holding = next((n for n, block in enumerate(blocks) if writes.module in set(block.modules())), len(blocks))
    outputs = {str(n): Hook(block) for n, block in enumerate(blocks[: holding + 1])}
    if not outputs:
        return
    acts = capture(module, tokens, {**outputs, "writes": writes})
    for n in (holding, holding - 1):
        if str(n) in acts and torch.equal(acts[str(n)], acts["writes"]):
            yield n + 1, True
    if holding:
        yield holding, False


def _is_close(approximate: Tensor, changed: Tensor, clean: Tensor, tolerance: float) -> bool:
    return bool((approximate.flatten() - changed.flatten()).norm() <= tolerance * (changed - clean).norm())


def _readouts(module: nn.Module, tokens: Int[Tensor, "seq pos"], d_vocab: int) -> list[tuple[nn.Module, Readout]]:
    """Return the modules that map a narrower input to the logits, as a linear map would; the innermost first."""
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
