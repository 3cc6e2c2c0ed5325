"""Run a model up to the hook of a dictionary, a batch of sequences at a time, and downstream of it with a change there.

Positions of excluded tokens (BOS, padding), those that were excluded from a dictionary's training, and those whose norm
is above the limit of the dictionary (`activations.outliers`) are not among the rows that may be replaced.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor, nn

from interp.activations.hooks import Model, evaluating, module_of, to_model
from interp.activations.model_passes import check_model_takes
from interp.activations.next_tokens import NoNextTokens, check_predicts_next
from interp.checks.errors import InterpError
from interp.codes.dictionary import Dictionary
from interp.codes.dictionary_hooks import DictionaryHooks
from interp.codes.training_exclusions import untrained_positions, untrained_tokens
from interp.evaluation.downstream import Downstream, StateAtHook, run_to_hook
from interp.evaluation.downstream_finder import downstream_of

log = logging.getLogger(__name__)

_LOGITS_PER_BATCH = 1 << 25
"""Logits per batch, for a model that holds all at once; peak use is about twice this."""


class RowsAtHook(NamedTuple):
    """The rows of a batch that may be replaced, and those above the norm limit."""

    at_hook: StateAtHook
    tokens: Int[Tensor, "seq pos"]
    seq: Int[Tensor, " seq"]
    """The index of each sequence."""
    x: Float[Tensor, "row d_in"]
    y: Float[Tensor, "row d_out"]
    where: Int[Tensor, " row"]
    """In the batch."""
    ids: Int[Tensor, " row"]
    outlying_x: Float[Tensor, "outlier d_in"]
    outlying_y: Float[Tensor, "outlier d_out"]


class ReplaceablePositions(NamedTuple):
    """The positions that may be replaced, and those whose next token counts in cross-entropies."""

    tokens: Int[Tensor, "seq pos"]
    replaceable: Bool[Tensor, "seq pos"]
    has_counted_target: Bool[Tensor, "seq next"]

    @classmethod
    def of(
        cls,
        module: nn.Module,
        tokens: Int[Tensor, "seq pos"],
        dictionaries: Mapping[str, Dictionary],
        exclude: Sequence[int],
    ) -> "ReplaceablePositions":
        tokens = torch.as_tensor(tokens)
        if tokens.is_floating_point():
            raise InterpError(
                f"tokens are floats of shape {tuple(tokens.shape)}: quality needs a model that reads token ids"
            )
        tokens = tokens.long()
        check_model_takes(module, tokens)
        excluded = sorted({*exclude, *(token for each in dictionaries.values() for token in untrained_tokens(each))})
        replaceable = ~torch.isin(tokens, torch.tensor(excluded, dtype=torch.long, device=tokens.device))
        has_counted_target = mark_next_tokens(replaceable)
        untrained = sorted({at for each in dictionaries.values() for at in untrained_positions(each, tokens.shape[1])})
        replaceable[:, untrained] = False
        if not replaceable.any() or tokens.shape[1] < 2:
            left_out = f"ids {excluded}" + (f" and positions {untrained}" if untrained else "")
            raise InterpError(f"tokens of shape {tuple(tokens.shape)} without {left_out} leave nothing to evaluate")
        return cls(tokens, replaceable, has_counted_target)

    @property
    def mean_length(self) -> Float64[Tensor, ""]:
        """The mean number of next tokens that count in a sequence."""
        return self.has_counted_target.sum(1).double().cpu().mean()

    @property
    def lengths(self) -> Float64[Tensor, " seq"]:
        """The number of next tokens that count in each sequence, in units of their mean."""
        return self.has_counted_target.sum(1).double().cpu() / self.mean_length


class HookPasses:
    """The passes of a model over all tokens, a batch of sequences at a time."""

    def __init__(self, model: Model, hooks: DictionaryHooks, positions: ReplaceablePositions, batch_size: int):
        self.module = module_of(model)
        self.hooks = hooks
        self.positions = positions
        self.batch_size = batch_size
        self.downstream: Downstream | None = None
        """None if the model predicts no next tokens."""
        self._mean_length = positions.mean_length
        self._states_ahead = dict[int, StateAtHook]()
        tokens = positions.tokens
        try:
            check_predicts_next(model, tokens)
            self.downstream = downstream_of(self.module, hooks, tokens[:2])
            if self.downstream.holds_logits:
                n_at_once = _LOGITS_PER_BATCH // (tokens.shape[1] * self.downstream.d_vocab)
                self.batch_size = min(batch_size, max(1, n_at_once))
        except NoNextTokens as reason:
            log.warning("no cross-entropies are measured: %s", reason)

    def batches(self, *, free_bytes: int = 0) -> Iterator[RowsAtHook]:
        """Run the model up to the hook.
        free_bytes: memory for activations that the next call yields again, instead of running the model."""
        tokens, replaceable, _ = self.positions
        n_ctx = tokens.shape[1]
        with evaluating(self.module):
            for start in range(0, len(tokens), self.batch_size):
                here = slice(start, start + self.batch_size)
                ids = to_model(self.module, tokens[here])
                at_hook = self._states_ahead.pop(start, None) or self._run_to_hook(ids)
                n_bytes = sum(acts.nbytes for acts in at_hook if acts is not None)
                if n_bytes <= free_bytes:
                    self._states_ahead[start] = at_hook
                    free_bytes -= n_bytes
                where = replaceable[here].flatten().nonzero()[:, 0].to(at_hook.acts.device)
                x, y = (acts.flatten(0, 1).flatten(1)[where] for acts in (at_hook.acts, at_hook.target))
                is_within = self.hooks.within_limit(x)
                x, y = x.float(), y.float()
                yield RowsAtHook(
                    at_hook=at_hook,
                    tokens=ids,
                    seq=torch.arange(start, start + len(ids)),
                    x=x[is_within],
                    y=y[is_within],
                    where=where[is_within],
                    ids=start * n_ctx + where[is_within].cpu(),
                    outlying_x=x[~is_within],
                    outlying_y=y[~is_within],
                )

    def _run_to_hook(self, tokens: Int[Tensor, "seq pos"]) -> StateAtHook:
        if self.downstream is None:
            return run_to_hook(self.module, self.hooks, tokens)
        return self.downstream.run_to_hook(tokens)

    def losses(
        self, rows: RowsAtHook, change: Float[Tensor, "row d_out"], counted: Bool[Tensor, " seq"]
    ) -> Float64[Tensor, " counted"]:
        """Return the nats of the counted sequences of a batch, with `change` added to the rows, divided by the mean
        number of tokens that are predicted in a sequence; NaN if the model predicts no next tokens."""
        if self.downstream is None or not counted.any():
            return torch.full((int(counted.sum()),), math.nan).double()
        added = change.new_zeros(rows.tokens.numel(), change.shape[1]).index_copy_(0, rows.where, change)
        stream = None if rows.at_hook.stream is None else rows.at_hook.stream[counted]
        added = added.unflatten(0, rows.tokens.shape)[counted]
        nats = self.downstream.losses(rows.tokens[counted], stream, added).double()
        is_padding = ~self.positions.has_counted_target[rows.seq[counted]].to(nats.device)
        return nats.masked_fill(is_padding, 0).sum(1).cpu() / self._mean_length


def mark_next_tokens(is_counted: Bool[Tensor, "seq pos"]) -> Bool[Tensor, "seq next"]:
    """Mark the next tokens that count in cross-entropies: not the padding, excluded tokens that follow one another.
    is_counted: the tokens that are not excluded."""
    return is_counted[:, :-1] | is_counted[:, 1:]
