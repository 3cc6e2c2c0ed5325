"""Run a model on tokens with something else in place of the activations at a hook: one pass per replacement.

The model runs once up to the hook (twice if the activations do not fit into memory, as their mean must be known first),
and downstream of it once per replacement (`evaluation.downstream`). If there are many tokens, the ablations, which cost
several nats, and the dictionaries named as baselines are run only on a subset of evenly spaced sequences. The cost of
an ablation, and the share that a baseline recovers relative to CE_nothing, are measured on this subset and assumed to
hold for all sequences. The standard error includes this uncertainty.

Positions of excluded tokens (BOS, padding), those that were excluded from a dictionary's training, and those whose norm
is above the limit of the dictionary (attention sinks, `activations.row_statistics`), keep their own activation in every
case.
"""

import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from interp.activations.hooks import Model, evaluating, module_of, to_model
from interp.activations.model_passes import NormSample, check_model_takes
from interp.activations.next_tokens import NoNextTokens, check_predicts_next
from interp.activations.row_statistics import Moments
from interp.checks.arguments import check_finite
from interp.checks.errors import InterpError
from interp.checks.limits import check_at_least
from interp.codes.dictionary import Dictionary, untrained_positions, untrained_tokens
from interp.codes.dictionary_hooks import DictionaryHooks, dictionary_hooks
from interp.evaluation.downstream import Downstream, StateAtHook, run_to_hook
from interp.evaluation.rerun_shortcuts import downstream_of
from interp.runtime.progress import Progress

log = logging.getLogger(__name__)

Replace = Callable[[Tensor, Tensor], Tensor]
"""Maps activations [row, d_in] of a batch at the hook that is read, and their row ids seq * n_ctx + pos (ascending, on
the CPU), to the replacement at the hook that is written."""
_CACHE_BYTES = 1 << 28
"""Bytes of activations that the first pass keeps for the second."""
_LOGITS_PER_BATCH = 1 << 25
"""Logits per batch, for a model that holds all at once; peak use is about twice this."""
PART_TOKENS = 5_000
"""Ablations and baselines are run on at least about this number of tokens. The cost of an ablation varies by nats from
token to token, but its mean over so many tokens is precise compared with the loss of a dictionary."""


@dataclass
class Losses:
    """The losses of a model with each replacement spliced in."""

    ce: dict[str, float]
    """Nats per token with each replacement; NaN if the model predicts no next tokens."""
    n_spliced: dict[str, int]
    """The rows that each dictionary replaced in the passes on which its cross-entropy was measured."""
    squared_error: dict[str, float]
    """Σ ‖y − ŷ‖² of each dictionary, over the rows that it replaced."""
    recovered_se: dict[str, float]
    """The standard error of the share that each dictionary recovers."""
    ce_clean: float = math.nan
    ce_mean_ablated: float = math.nan
    ce_zero_ablated: float = math.nan
    ce_unigram: float = math.nan

    @property
    def ce_nothing(self) -> float:
        return min(self.ce_zero_ablated, self.ce_unigram)


class _Rows(NamedTuple):
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


class Splice:
    """Splices dictionaries into one hook of a model: holds the tokens and the positions that may be replaced. `losses`
    runs the model over all tokens; after it, `within_limit` and `above_limit` have the mean and variance of the
    activations."""

    def __init__(
        self,
        model: Model,
        hook_name: str,
        dictionaries: Mapping[str, Dictionary],
        tokens: Int[Tensor, "seq pos"],
        *,
        batch_size: int,
        exclude: Sequence[int],
        progress: Progress,
        unigram_loss: float | None,
        baselines: Collection[str] = (),
        output_hook: str | None = None,
    ):
        check_at_least(1, batch_size=batch_size)
        self.hooks = _common_hooks(dictionaries, model, hook_name, output_hook)
        self.hook_name = hook_name
        self.dictionaries = dictionaries
        if unknown := sorted(set(baselines) - set(dictionaries)):
            raise InterpError(
                f"baselines {', '.join(unknown)} are not among the dictionaries {', '.join(dictionaries)}"
            )
        tokens = torch.as_tensor(tokens)
        if tokens.is_floating_point():
            raise InterpError(
                f"tokens are floats of shape {tuple(tokens.shape)}: quality needs a model that reads token ids"
            )
        self.model = module_of(model)
        self.tokens = tokens.long()
        check_model_takes(self.model, self.tokens)
        excluded = sorted({*exclude, *(token for each in dictionaries.values() for token in untrained_tokens(each))})
        self.keep = ~torch.isin(self.tokens, torch.tensor(excluded, dtype=torch.long, device=tokens.device))
        self.predicted = mark_next_tokens(self.keep)
        untrained = sorted({at for each in dictionaries.values() for at in untrained_positions(each, tokens.shape[1])})
        self.keep[:, untrained] = False
        if not self.keep.any() or tokens.shape[1] < 2:
            left_out = f"ids {excluded}" + (f" and positions {untrained}" if untrained else "")
            raise InterpError(f"tokens of shape {tuple(tokens.shape)} without {left_out} leave nothing to evaluate")
        n_predicted = self.predicted.sum(1).double().cpu()
        self._mean_length = n_predicted.mean()
        self._lengths = n_predicted / self._mean_length
        self._downstream: Downstream | None = None
        try:
            check_predicts_next(model, self.tokens)
            self._downstream = downstream_of(self.model, self.hooks, self.tokens[:2])
            if self._downstream.holds_logits:
                batch_size = min(batch_size, max(1, _LOGITS_PER_BATCH // (tokens.shape[1] * self._downstream.d_vocab)))
        except NoNextTokens as reason:
            log.warning("no cross-entropies are measured: %s", reason)
        self.batch_size = batch_size
        self.unigram_loss = unigram_loss
        self.progress = progress
        self.done = 0
        self._baselines = frozenset(baselines)
        self._part_step = max(1, tokens.numel() // PART_TOKENS)
        n_part = len(range(0, len(tokens), self._part_step))
        n_whole = 2 + len(dictionaries) - len(self._baselines)  # once up to the hook, once unchanged
        self.total = n_whole * len(tokens) + (2 + len(self._baselines)) * n_part
        self.within_limit, self.above_limit = Moments(), Moments()
        self._cached = dict[int, StateAtHook]()
        self._free_bytes = 0

    def losses(
        self, replacements: Mapping[str, Replace], see_outliers: Callable[[Tensor, Tensor], None] = lambda x, y: None
    ) -> Losses:
        """Return the losses with each of the replacements, with the mean, with zeros, and unchanged. `see_outliers` is
        called with the rows (x, y) that stay unchanged because they are above the norm limit. Raises ValueError for a
        dictionary of another width than the hook, and if all rows are above the limit."""
        self._see_rows()
        mean = self.within_limit.mean.float()
        ablations: dict[str, Replace] = {
            "mean-ablated model": lambda x, _: mean.to(x.device).expand(len(x), -1),
            "zero-ablated model": lambda x, _: mean.new_zeros(1, device=x.device).expand(len(x), len(mean)),
        }
        replaced = dict.fromkeys(replacements, 0)
        error = dict.fromkeys(replacements, 0.0)
        losses = {name: torch.full((len(self.tokens),), math.nan).double() for name in (*replacements, *ablations)}
        clean = torch.full((len(self.tokens),), math.nan).double()
        for rows in self._batches():
            if len(rows.outlying_x):
                see_outliers(rows.outlying_x, rows.outlying_y)
            part = rows.seq % self._part_step == 0
            for name, replace in replacements.items():
                y_hat = replace(rows.x, rows.ids).to(rows.y)
                error[name] += float((rows.y - y_hat).double().square().sum())
                here = part if name in self._baselines else torch.ones_like(part)
                losses[name][rows.seq[here]] = self._losses(rows, y_hat - rows.y, here)
                replaced[name] += int(here[rows.ids // self.tokens.shape[1] - rows.seq[0]].sum())
                self._advance(int(here.sum()), f"splicing {name}")
            for name, replace in ablations.items():
                change = replace(rows.x, rows.ids) - rows.y
                losses[name][rows.seq[part]] = self._losses(rows, change, part)
                self._advance(int(part.sum()), name)
            clean[rows.seq] = self._losses(rows, torch.zeros_like(rows.y), torch.ones_like(part))
            self._advance(len(rows.seq), "clean model")
        added = {name: each - clean for name, each in losses.items()}
        mean_ablated, zero_ablated = (added.pop(name) for name in ablations)
        unigram = self.unigram_loss
        if unigram is None:
            unigram = _entropy(self.tokens[:, 1:][self.predicted])
        ce_clean = float(clean.mean())
        ce_zero_ablated = ce_clean + self._mean(zero_ablated)
        nothing = zero_ablated if ce_zero_ablated < unigram else unigram * self._lengths - clean
        return Losses(
            ce={name: ce_clean + self._mean_lost(lost, nothing) for name, lost in added.items()},
            n_spliced=replaced if self._downstream else dict.fromkeys(replacements, 0),
            squared_error=error,
            recovered_se={name: ratio_error(lost, nothing) for name, lost in added.items()},
            ce_clean=ce_clean,
            ce_mean_ablated=ce_clean + self._mean(mean_ablated),
            ce_zero_ablated=ce_zero_ablated,
            ce_unigram=unigram if self._downstream else math.nan,
        )

    def _see_rows(self) -> None:
        """Measure the mean and variance of the activations at the hook, after a check of its widths."""
        self.within_limit, self.above_limit = Moments(), Moments()
        self._free_bytes = _CACHE_BYTES
        sample = NormSample()
        for rows in self._batches():
            if not self.within_limit.n and not self.above_limit.n:
                for name, each in self.dictionaries.items():
                    _check_widths(name, each, rows, self.hook_name)
            self.within_limit.add(rows.y)
            self.above_limit.add(rows.outlying_y)
            if self.hooks.norm_limit is None:
                sample.add(torch.arange(len(rows.x)), rows.x)
            self._advance(len(rows.tokens), "activations")
        self._free_bytes = 0  # the activations held from here on serve the next pass
        if not self.within_limit.n:
            raise InterpError(
                f"every activation at {self.hook_name} is above the norm limit {self.hooks.norm_limit:.4g}"
            )
        if self.hooks.norm_limit is None and (outliers := sample.outliers(self.tokens.shape[1], "auto")).are_dominant:
            remedy = f"metadata['norm_limit'] = {outliers.limit:.4g} of the dictionary excludes them"
            log.warning("%s: %s, and decide on FVU and cross-entropies; %s", self.hook_name, outliers.summary, remedy)

    def _batches(self) -> Iterator[_Rows]:
        n_ctx = self.tokens.shape[1]
        with evaluating(self.model):
            for start in range(0, len(self.tokens), self.batch_size):
                here = slice(start, start + self.batch_size)
                tokens = to_model(self.model, self.tokens[here])
                at_hook = self._cached.pop(start, None) or self._run_to_hook(start, tokens)
                where = self.keep[here].flatten().nonzero()[:, 0].to(at_hook.acts.device)
                x, y = (acts.flatten(0, 1).flatten(1)[where] for acts in (at_hook.acts, at_hook.target))
                usable = self.hooks.usable(x)
                x, y = x.float(), y.float()
                ids = start * n_ctx + where[usable].cpu()
                seq = torch.arange(start, start + len(tokens))
                yield _Rows(at_hook, tokens, seq, x[usable], y[usable], where[usable], ids, x[~usable], y[~usable])

    def _run_to_hook(self, start: int, tokens: Int[Tensor, "seq pos"]) -> StateAtHook:
        """Return a pass up to the hook; it is kept for the next call while memory allows."""
        at_hook = (
            self._downstream.run_to_hook(tokens) if self._downstream else run_to_hook(self.model, self.hooks, tokens)
        )
        n_bytes = sum(acts.nbytes for acts in at_hook if acts is not None)
        if n_bytes <= self._free_bytes:
            self._cached[start] = at_hook
            self._free_bytes -= n_bytes
        return at_hook

    def _losses(
        self, rows: _Rows, change: Float[Tensor, "row d_out"], counted: Bool[Tensor, " seq"]
    ) -> Float64[Tensor, " counted"]:
        """Return the nats of the counted sequences of a batch, with `change` added to the rows, divided by the mean
        number of tokens that are predicted in a sequence; NaN if the model predicts no next tokens."""
        if self._downstream is None or not counted.any():
            return torch.full((int(counted.sum()),), math.nan).double()
        added = change.new_zeros(rows.tokens.numel(), change.shape[1]).index_copy_(0, rows.where, change)
        stream = None if rows.at_hook.stream is None else rows.at_hook.stream[counted]
        added = added.unflatten(0, rows.tokens.shape)[counted]
        nats = self._downstream.losses(rows.tokens[counted], stream, added).double()
        is_padding = ~self.predicted[rows.seq[counted]].to(nats.device)
        return nats.masked_fill(is_padding, 0).sum(1).cpu() / self._mean_length

    def _mean(self, nats: Float[Tensor, " seq"]) -> float:
        """Return the mean per token, over the sequences that were measured (the rest is NaN)."""
        known = ~nats.isnan()
        return float(nats[known].sum() / self._lengths[known].sum())

    def _mean_lost(self, lost: Float[Tensor, " seq"], costs: Float[Tensor, " seq"]) -> float:
        """Return the mean over all sequences. If only a part was measured (the rest is NaN), its ratio to the costs on
        that part, times the mean of all costs."""
        here = self._mean(costs.where(~lost.isnan(), math.nan))
        return self._mean(lost) * (self._mean(costs) / here if here else 1)

    def _advance(self, n: int, note: str) -> None:
        self.done += n
        self.progress(self.done, self.total, note)


def _common_hooks(
    dictionaries: Mapping[str, Dictionary], model: Model, hook_name: str, output_hook: str | None
) -> DictionaryHooks:
    """Return the hook that all dictionaries read and the one that all write, and the lowest of their norm limits."""
    if not isinstance(dictionaries, Mapping):
        class_name = type(dictionaries).__name__
        raise InterpError(f"dictionaries is a {class_name}: the order is (model, hook, {{name: dictionary}}, tokens)")
    if not dictionaries:
        raise InterpError("dictionaries is empty: give at least one, {name: dictionary}")
    hooks = {name: dictionary_hooks(model, hook_name, each, output_hook) for name, each in dictionaries.items()}
    (first, common), *others = hooks.items()
    for name, each in others:
        if each.output_hook != common.output_hook:
            raise InterpError(f"{name} does not write the hook that {first} writes: measure them separately")
    limits = [each.norm_limit for each in hooks.values() if each.norm_limit is not None]
    return common._replace(norm_limit=min(limits, default=None))


def _check_widths(name: str, dictionary: Dictionary, rows: _Rows, hook_name: str) -> None:
    check_finite(W_dec=dictionary.W_dec, b_dec=dictionary.b_dec)
    if (width := rows.x.shape[1]) != dictionary.d_in:
        raise InterpError(f"{name} reads width {dictionary.d_in}, but {hook_name} has width {width}")
    if (width := rows.y.shape[1]) != (d_out := dictionary.W_dec.shape[1]):
        raise InterpError(f"{name} writes width {d_out}, but its output hook has width {width}")


def mark_next_tokens(kept: Bool[Tensor, "seq pos"]) -> Bool[Tensor, "seq next"]:
    """Mark the next tokens that count in cross-entropies: not the padding, excluded tokens that follow one another.
    kept: the tokens that are not excluded."""
    return kept[:, :-1] | kept[:, 1:]


def recovered_share(clean: float, spliced: float, ablated: float) -> float:
    """Return the recovered share of the cross-entropy that ablation costs; NaN if it costs nothing."""
    return (ablated - spliced) / (ablated - clean) if ablated != clean else float("nan")


def ratio_error(lost: Float[Tensor, " seq"], costs: Float[Tensor, " seq"]) -> float:
    """Return the standard error of 1 − mean(lost) / mean(costs), to first order. It uses the sequences whose `lost` is
    known (not NaN), and their known costs, which may be fewer."""
    known = ~lost.isnan()
    lost = lost[known]
    costs = costs[known]
    both = ~costs.isnan()
    n = len(lost)
    m = int(both.sum())
    if m < 2:
        return math.nan
    covariance = torch.cov(torch.stack([lost[both], costs[both]]))
    cost = float(costs.nanmean())
    share = float(lost.mean() / costs.nanmean())
    variance = float(lost.var()) / n + share**2 * float(covariance[1, 1]) / m - 2 * share * float(covariance[0, 1]) / n
    return math.sqrt(max(variance, 0.0)) / abs(cost)


def _entropy(tokens: Int[Tensor, " token"]) -> float:
    """Return the nats per token of unigrams counted on the tokens themselves: the lowest loss that unigrams can have
    there."""
    share = torch.bincount(tokens).double() / len(tokens)
    return float(-torch.special.xlogy(share, share).sum())
