"""Run a model on tokens with something else in place of the activations at a hook: one pass per replacement.

The model runs once up to the hook (twice if the activations do not fit into memory, as their mean must be known first),
and downstream of it once per replacement (`evaluation.downstream`). If there are many tokens, the ablations, which cost
several nats, and the dictionaries named as baselines are run only on a subset of evenly spaced sequences. The cost of
an ablation, and the share that a baseline recovers relative to CE_nothing, are measured on this subset and assumed to
hold for all sequences. The standard error includes this uncertainty.

Positions of excluded tokens (BOS, padding), those that were excluded from a dictionary's training, and those whose norm
is above the limit of the dictionary (attention sinks, `activations.outliers`), keep their own activation in every
case.
"""

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.activations.hooks import Model, module_of
from interp.activations.outliers import NormSample
from interp.activations.row_statistics import Moments
from interp.checks.arguments import check_finite
from interp.checks.errors import InterpError
from interp.checks.limits import check_at_least
from interp.codes.dictionary import Dictionary
from interp.codes.dictionary_hooks import DictionaryHooks, dictionary_hooks
from interp.evaluation.hook_passes import HookPasses, ReplaceablePositions, RowsAtHook
from interp.runtime.progress import Progress

log = logging.getLogger(__name__)

Replace = Callable[[Tensor, Tensor], Tensor]
"""Maps activations [row, d_in] of a batch at the hook that is read, and their row ids seq * n_ctx + pos (ascending, on
the CPU), to the replacement at the hook that is written."""
_CACHE_BYTES = 1 << 28
"""Bytes of activations that the first pass keeps for the second."""
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
    within_limit: Moments
    """The mean and variance of the activations y that were replaced."""
    above_limit: Moments
    """The same of those that stay unchanged because they are above the norm limit."""
    ce_clean: float = math.nan
    ce_mean_ablated: float = math.nan
    ce_zero_ablated: float = math.nan
    ce_unigram: float = math.nan

    @property
    def ce_nothing(self) -> float:
        return min(self.ce_zero_ablated, self.ce_unigram)


def common_hooks(
    model: Model, hook: str, dictionaries: Mapping[str, Dictionary], output_hook: str | None = None
) -> DictionaryHooks:
    """Return the hook that all dictionaries read and the one that all write, and the lowest of their norm limits.

    Raises ValueError as `dictionary_hooks` does, for no dictionaries, and if they write different hooks."""
    if not isinstance(dictionaries, Mapping):
        class_name = type(dictionaries).__name__
        raise InterpError(f"dictionaries is a {class_name}: the order is (model, hook, {{name: dictionary}}, tokens)")
    if not dictionaries:
        raise InterpError("dictionaries is empty: give at least one, {name: dictionary}")
    hooks = {name: dictionary_hooks(model, hook, each, output_hook) for name, each in dictionaries.items()}
    (first, common), *others = hooks.items()
    for name, each in others:
        if each.output_hook != common.output_hook:
            raise InterpError(f"{name} does not write the hook that {first} writes: measure them separately")
    limits = [each.norm_limit for each in hooks.values() if each.norm_limit is not None]
    return common._replace(norm_limit=min(limits, default=None))


def spliced_losses(
    model: Model,
    hooks: DictionaryHooks,
    dictionaries: Mapping[str, Dictionary],
    tokens: Int[Tensor, "seq pos"],
    replacements: Mapping[str, Replace],
    *,
    batch_size: int,
    exclude: Sequence[int],
    progress: Progress,
    unigram_loss: float | None,
    baselines: Collection[str] = (),
    on_outliers: Callable[[Tensor, Tensor], None] = lambda x, y: None,
) -> Losses:
    """Return the losses of a model with each of the replacements at a hook, with the mean, with zeros, and unchanged.

    hooks: as `common_hooks` returns them.
    dictionaries: those that the replacements use. What their training left out keeps its own activation.
    baselines: the replacements that are run only on a part of the sequences.
    on_outliers: called with the rows (x, y) that stay unchanged because they are above the norm limit.

    Raises ValueError for floats instead of token ids, if every token is excluded, for a dictionary of another width
    than the hook, and if all rows are above the limit."""
    check_at_least(1, batch_size=batch_size)
    if unknown := sorted(set(baselines) - set(replacements)):
        raise InterpError(f"baselines {', '.join(unknown)} are not among the dictionaries {', '.join(replacements)}")
    positions = ReplaceablePositions.of(module_of(model), tokens, dictionaries, exclude)
    tokens = positions.tokens
    passes = HookPasses(model, hooks, positions, batch_size)
    part_step = max(1, tokens.numel() // PART_TOKENS)
    n_part = len(range(0, len(tokens), part_step))
    n_whole = 2 + len(replacements) - len(set(baselines))  # once up to the hook, once unchanged
    total = n_whole * len(tokens) + (2 + len(set(baselines))) * n_part
    done = 0

    def advance(n: int, note: str) -> None:
        nonlocal done
        done += n
        progress(done, total, note)

    within_limit, above_limit = _see_rows(passes, dictionaries, advance)
    mean = within_limit.mean.float()
    ablations: dict[str, Replace] = {
        "mean-ablated model": lambda x, _: mean.to(x.device).expand(len(x), -1),
        "zero-ablated model": lambda x, _: mean.new_zeros(1, device=x.device).expand(len(x), len(mean)),
    }
    replaced = dict.fromkeys(replacements, 0)
    error = dict.fromkeys(replacements, 0.0)
    losses = {name: torch.full((len(tokens),), math.nan).double() for name in (*replacements, *ablations)}
    clean = torch.full((len(tokens),), math.nan).double()
    for rows in passes.batches():
        if len(rows.outlying_x):
            on_outliers(rows.outlying_x, rows.outlying_y)
        part = rows.seq % part_step == 0
        for name, replace in replacements.items():
            y_hat = replace(rows.x, rows.ids).to(rows.y)
            error[name] += float((rows.y - y_hat).double().square().sum())
            here = part if name in baselines else torch.ones_like(part)
            losses[name][rows.seq[here]] = passes.losses(rows, y_hat - rows.y, here)
            replaced[name] += int(here[rows.ids // tokens.shape[1] - rows.seq[0]].sum())
            advance(int(here.sum()), f"splicing {name}")
        for name, replace in ablations.items():
            change = replace(rows.x, rows.ids) - rows.y
            losses[name][rows.seq[part]] = passes.losses(rows, change, part)
            advance(int(part.sum()), name)
        clean[rows.seq] = passes.losses(rows, torch.zeros_like(rows.y), torch.ones_like(part))
        advance(len(rows.seq), "clean model")
    added = {name: each - clean for name, each in losses.items()}
    mean_ablated, zero_ablated = (added.pop(name) for name in ablations)
    unigram = unigram_loss
    if unigram is None:
        unigram = _entropy(tokens[:, 1:][positions.has_counted_target])
    lengths = positions.lengths
    ce_clean = float(clean.mean())
    ce_zero_ablated = ce_clean + _mean(zero_ablated, lengths)
    nothing = zero_ablated if ce_zero_ablated < unigram else unigram * lengths - clean
    return Losses(
        ce={name: ce_clean + _mean_lost(lost, nothing, lengths) for name, lost in added.items()},
        n_spliced=replaced if passes.downstream else dict.fromkeys(replacements, 0),
        squared_error=error,
        recovered_se={name: ratio_error(lost, nothing) for name, lost in added.items()},
        within_limit=within_limit,
        above_limit=above_limit,
        ce_clean=ce_clean,
        ce_mean_ablated=ce_clean + _mean(mean_ablated, lengths),
        ce_zero_ablated=ce_zero_ablated,
        ce_unigram=unigram if passes.downstream else math.nan,
    )


def _see_rows(
    passes: HookPasses, dictionaries: Mapping[str, Dictionary], advance: Callable[[int, str], None]
) -> tuple[Moments, Moments]:
    """Measure the activations within the norm limit and above it, after a check of their widths."""
    hooks = passes.hooks
    within_limit, above_limit = Moments(), Moments()
    sample = NormSample()
    for rows in passes.batches(free_bytes=_CACHE_BYTES):
        if not within_limit.n and not above_limit.n:
            for name, each in dictionaries.items():
                _check_widths(name, each, rows, hooks.input_name)
        within_limit.add(rows.y)
        above_limit.add(rows.outlying_y)
        if hooks.norm_limit is None:
            sample.add(torch.arange(len(rows.x)), rows.x)
        advance(len(rows.tokens), "activations")
    if not within_limit.n:
        raise InterpError(f"every activation at {hooks.input_name} is above the norm limit {hooks.norm_limit:.4g}")
    n_ctx = passes.positions.tokens.shape[1]
    if hooks.norm_limit is None and (outliers := sample.outliers(n_ctx, "auto")).are_dominant:
        remedy = f"metadata['norm_limit'] = {outliers.limit:.4g} of the dictionary excludes them"
        log.warning("%s: %s, and decide on FVU and cross-entropies; %s", hooks.input_name, outliers.summary, remedy)
    return within_limit, above_limit


def _mean(nats: Float[Tensor, " seq"], lengths: Float[Tensor, " seq"]) -> float:
    """Return the mean per token, over the sequences that were measured (the rest is NaN)."""
    is_counted = ~nats.isnan()
    return float(nats[is_counted].sum() / lengths[is_counted].sum())


def _mean_lost(lost: Float[Tensor, " seq"], costs: Float[Tensor, " seq"], lengths: Float[Tensor, " seq"]) -> float:
    """Return the mean over all sequences. If only a part was measured (the rest is NaN), its ratio to the costs on
    that part, times the mean of all costs."""
    here = _mean(costs.where(~lost.isnan(), math.nan), lengths)
    return _mean(lost, lengths) * (_mean(costs, lengths) / here if here else 1)


def _check_widths(name: str, dictionary: Dictionary, rows: RowsAtHook, hook_name: str) -> None:
    check_finite(W_dec=dictionary.W_dec, b_dec=dictionary.b_dec)
    if (width := rows.x.shape[1]) != dictionary.d_in:
        raise InterpError(f"{name} reads width {dictionary.d_in}, but {hook_name} has width {width}")
    if (width := rows.y.shape[1]) != (d_out := dictionary.W_dec.shape[1]):
        raise InterpError(f"{name} writes width {d_out}, but its output hook has width {width}")


def recovered_share(clean: float, spliced: float, ablated: float) -> float:
    """Return the recovered share of the cross-entropy that ablation costs; NaN if it costs nothing."""
    return (ablated - spliced) / (ablated - clean) if ablated != clean else float("nan")


def ratio_error(lost: Float[Tensor, " seq"], costs: Float[Tensor, " seq"]) -> float:
    """Return the standard error of 1 − mean(lost) / mean(costs), to first order. It uses the sequences whose `lost` is
    known (not NaN), and their known costs, which may be fewer."""
    is_counted = ~lost.isnan()
    lost = lost[is_counted]
    costs = costs[is_counted]
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
