"""Measures how much of an activation, and of what the model does with it, a dictionary keeps.

On the tokens x at a hook, mean m, reconstruction x_hat = decode(codes(x)):

    L0        = mean number of firing latents (`interp.codes`)
    FVU       = sum |x - x_hat|^2 / sum |x - m|^2                            fraction of variance unexplained
    recovered = (CE_nothing - CE_spliced) / (CE_nothing - CE_clean)          1 = as good as clean, 0 = knows no context

CE is the next-token cross-entropy in nats over all positions, with the activation replaced by x_hat (spliced), by m
(mean-ablated) or by 0 (zero-ablated). CE_nothing is what the model has without this activation, told in its favour:
that of zero ablation, or the loss of unigrams, which know how often each token is and nothing else, whichever is lower.
Mean ablation can be worse than both (10.6 nats, where unigrams have 6.7), which would flatter every dictionary; shares
against it and against zero ablation stand beside, since other tools tell those.

Positions of excluded tokens (BOS), and those whose norm is above the limit of the dictionary (attention sinks,
`activations.row_statistics`), keep their own activation in every case, and count in neither L0 nor FVU.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.activations.hooks import (
    Model,
    check_own_hook,
    evaluating,
    hooks_of,
    logits_of,
    module_of,
    resolve_hooks,
    size_of,
    to_model,
)
from interp.activations.model_rows import NormSample
from interp.activations.row_statistics import Moments, within
from interp.codes.sparse_codes import Dictionary, is_faint, norm_limit
from interp.storage.checks import check_finite, check_token_ids
from interp.storage.files import Progress, digest, no_progress, ratio

log = logging.getLogger(__name__)

Replace = Callable[[Tensor, Tensor], Tensor | None]
"""From activations [row, d_in] of a batch, and their ids seq * n_ctx + pos in the tokens (ascending, on the CPU), to
what stands in for them; None leaves them."""
ULTRA_LOW = 1e-5


@dataclass(frozen=True, kw_only=True)
class Quality:
    l0: float
    fvu: float
    fvu_all: float
    """With the rows above the norm limit, reconstructed too."""
    ce_clean: float
    ce_spliced: float
    ce_mean_ablated: float
    ce_zero_ablated: float
    ce_unigram: float
    """Of a model that knows how often each token is and nothing else."""
    ce_recovered: float
    """The headline: 1 is the model as it is, 0 what it has without this activation. NaN where that costs nothing."""
    ce_recovered_mean: float
    """The same share against ablation to the mean alone. NaN if the ablation changes nothing."""
    ce_recovered_zero: float
    """The same share against ablation to zero alone, as SAELens tells it."""
    dead_share: float
    """Latents that never fire on these tokens."""
    faint_share: float
    """Latents that fire and do next to nothing (`interp.codes.sparse_codes`)."""
    ultra_low_share: float
    """Latents that fire, but on fewer than 1e-5 of these tokens: fewer than 100,000 tokens show none."""
    n_tokens: int
    """Tokens that were encoded."""
    outlier_share: float
    """Of the tokens that are not excluded, those above the norm limit."""


def evaluate_dictionary(
    dictionary: Dictionary,
    model: Model,
    tokens: Int[Tensor, "seq pos"],
    hook_name: str,
    *,
    batch_size: int = 16,
    exclude: Sequence[int] = (),
    unigram_loss: float | None = None,
    progress: Progress | None = None,
) -> Quality:
    """Splice the dictionary into the model at the hook. `batch_size` counts sequences; the model returns logits.

    unigram_loss: nats a token of unigrams counted on other text, such as the model's training text. By default they are
    counted on `tokens` themselves, which gives a lower loss, and a stricter share, where the tokens are few.

    Raises ValueError if the model lacks the hook, if the hook's width is not the dictionary's, if the dictionary was
    trained on another hook that the model has too (`hooks.check_own_hook`), on tokens that the model cannot take, or if
    every token is excluded.
    """
    splice = Splice([dictionary], model, hook_name, tokens, batch_size, exclude, progress, unigram_loss)
    return splice.quality("dictionary", dictionary)


def quality_table(
    dictionaries: Mapping[str, Dictionary],
    model: Model,
    tokens: Int[Tensor, "seq pos"],
    hook_name: str,
    *,
    batch_size: int = 16,
    exclude: Sequence[int] = (),
    unigram_loss: float | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """One row a dictionary: column `dictionary`, then the fields of `Quality`, all on the same tokens.

    Of several norm limits the lowest holds for all. `attrs["decoders"]` has a digest of each dictionary's decoder.
    Raises ValueError as `evaluate_dictionary`.
    """
    splice = Splice([*dictionaries.values()], model, hook_name, tokens, batch_size, exclude, progress, unigram_loss)
    qualities = {name: splice.quality(name, dictionary) for name, dictionary in dictionaries.items()}
    table = pd.DataFrame([{"dictionary": name, **asdict(quality)} for name, quality in qualities.items()])
    table.attrs["decoders"] = {name: decoder_digest(each.W_dec) for name, each in dictionaries.items()}
    return table


def decoder_digest(W_dec: Float[Tensor, "d_sae d_in"]) -> str:
    """A digest by which a table of qualities is known to be of a dictionary (`attrs["decoders"]`)."""
    return digest(W_dec.detach().float())


class Splice:
    """The splice of dictionaries into one hook of a model: the tokens to run, which positions may be replaced, and what
    does not depend on the dictionary, which is mean and variance and the cross-entropies without a dictionary."""

    def __init__(
        self,
        dictionaries: Sequence[Dictionary],
        model: Model,
        hook_name: str,
        tokens: Int[Tensor, "seq pos"],
        batch_size: int,
        exclude: Sequence[int],
        progress: Progress | None,
        unigram_loss: float | None = None,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1")
        check_token_ids(tokens, size_of(module_of(model), "d_vocab"))
        self.hook_name, self.hook = hook_name, resolve_hooks(model, [hook_name])[hook_name]
        self.model, self.known = module_of(model), hooks_of(model)
        self.tokens, self.batch_size = tokens.long(), batch_size
        self.keep = ~torch.isin(tokens, torch.tensor(list(exclude), dtype=tokens.dtype, device=tokens.device))
        if not self.keep.any() or tokens.shape[1] < 2:
            raise ValueError(f"tokens {tuple(tokens.shape)} without ids {list(exclude)} leave nothing to evaluate on")
        self.limit = min((limit for each in dictionaries if (limit := norm_limit(each)) is not None), default=None)
        self.progress, self.done, self.total = progress or no_progress, 0, (3 + len(dictionaries)) * len(tokens)
        self.inside, self.outside, sample = Moments(), Moments(), NormSample()

        def measure(x: Float[Tensor, "row d_in"], rows: Int[Tensor, " row"]) -> None:
            self.inside.add(x)
            if self.limit is None:
                sample.add(torch.arange(len(x)), x)

        self.ce_clean = self.cross_entropy(measure, "clean model", self.outside.add)
        if not self.inside.n:
            raise ValueError(f"every activation at {hook_name} is above the norm limit {self.limit:.4g}")
        if self.limit is None and (outliers := sample.outliers(tokens.shape[1], "auto")).dominate:
            remedy = f"metadata['norm_limit'] = {outliers.limit:.4g} of the dictionary leaves them out"
            log.warning("%s: %s, and decide on FVU and cross-entropies; %s", hook_name, outliers.summary, remedy)
        mean = self.inside.mean
        self.ce_mean_ablated = self.cross_entropy(lambda x, _: mean.to(x.device).expand_as(x), "mean-ablated model")
        self.ce_zero_ablated = self.cross_entropy(lambda x, _: torch.zeros_like(x), "zero-ablated model")
        self.ce_unigram = _entropy(self.tokens[:, 1:]) if unigram_loss is None else unigram_loss
        self.ce_nothing = min(self.ce_zero_ablated, self.ce_unigram)

    def quality(self, name: str, dictionary: Dictionary) -> Quality:
        self._check(name, dictionary)
        device, n_tokens = dictionary.W_dec.device, self.inside.n
        fired = torch.zeros(dictionary.d_sae, dtype=torch.long, device=device)
        maxima = torch.zeros(dictionary.d_sae, device=device)
        error, beside = (torch.zeros((), dtype=torch.float64, device=device) for _ in range(2))

        def splice(x: Float[Tensor, "row d_in"], rows: Int[Tensor, " row"]) -> Float[Tensor, "row d_in"]:
            x = x.to(device, torch.float32)
            codes = dictionary.codes(x)
            x_hat = dictionary.decode(codes)
            fired.add_(torch.bincount(codes.latents[codes.fires], minlength=len(fired)))
            maxima.scatter_reduce_(0, codes.latents, codes.values.float(), "amax")
            error.add_((x - x_hat).double().square().sum())
            return x_hat

        def reconstruct(x: Float[Tensor, "row d_in"]) -> None:
            x = x.to(device, torch.float32)
            beside.add_((x - dictionary.decode(dictionary.codes(x))).double().square().sum())

        ce_spliced = self.cross_entropy(splice, f"splicing {name}", reconstruct)
        return Quality(
            l0=float(fired.sum()) / n_tokens,
            fvu=float(ratio(float(error), self.inside.spread)),
            fvu_all=float(ratio(float(error + beside), (self.inside + self.outside).spread)),
            ce_clean=self.ce_clean,
            ce_spliced=ce_spliced,
            ce_mean_ablated=self.ce_mean_ablated,
            ce_zero_ablated=self.ce_zero_ablated,
            ce_unigram=self.ce_unigram,
            ce_recovered=recovered(self.ce_clean, ce_spliced, self.ce_nothing),
            ce_recovered_mean=recovered(self.ce_clean, ce_spliced, self.ce_mean_ablated),
            ce_recovered_zero=recovered(self.ce_clean, ce_spliced, self.ce_zero_ablated),
            dead_share=float((fired == 0).double().mean()),
            faint_share=float(is_faint(maxima, dictionary.W_dec.norm(dim=1)).double().mean()),
            ultra_low_share=float(((fired > 0) & (fired < ULTRA_LOW * n_tokens)).double().mean()),
            n_tokens=n_tokens,
            outlier_share=self.outside.n / (n_tokens + self.outside.n),
        )

    def _check(self, name: str, dictionary: Dictionary) -> None:
        check_finite(W_dec=dictionary.W_dec, b_dec=dictionary.b_dec)
        if (width := len(self.inside.mean)) != dictionary.d_in:
            raise ValueError(f"{name} reads width {dictionary.d_in}, but {self.hook_name} has width {width}")
        check_own_hook(dictionary, self.hook_name, self.known, "the model")

    def cross_entropy(self, replace: Replace, note: str, see: Callable[[Tensor], None] = lambda x: None) -> float:
        """Nats a token, with what `replace` makes of the activations in their place; `see` gets the outliers."""
        total = 0.0
        with evaluating(self.model):
            for start in range(0, len(self.tokens), self.batch_size):
                total += self._batch(slice(start, start + self.batch_size), replace, see)
                self.done += len(self.tokens[start : start + self.batch_size])
                self.progress(self.done, self.total, note)
        return total / (self.tokens.shape[0] * (self.tokens.shape[1] - 1))

    def _batch(self, sequences: slice, replace: Replace, see: Callable[[Tensor], None]) -> float:
        """Summed cross-entropy of one batch."""
        tokens = to_model(self.model, self.tokens[sequences])
        first, keep = sequences.start * tokens.shape[1], self.keep[sequences].flatten().nonzero()[:, 0]

        def put(acts: Tensor) -> Tensor | None:
            flat, kept = acts.reshape(tokens.numel(), -1), keep.to(acts.device)
            rows = flat[kept]
            if self.limit is not None and not (ordinary := within(rows, self.limit)).all():
                see(rows[~ordinary])
                rows, kept = rows[ordinary], kept[ordinary]
            if not len(rows) or (replaced := replace(rows, first + kept.cpu())) is None:
                return None
            flat = flat.clone()
            flat[kept] = replaced.to(flat.device, flat.dtype)
            return flat.reshape(acts.shape)

        with self.hook.attach(put):
            output = self.model(tokens)
        predicted = logits_of(output)[:, :-1].flatten(0, 1)
        return float(nn.functional.cross_entropy(predicted, tokens[:, 1:].flatten(), reduction="sum"))


def recovered(clean: float, spliced: float, ablated: float) -> float:
    """The share of the cross-entropy that ablation costs; NaN where it costs nothing."""
    return (ablated - spliced) / (ablated - clean) if ablated != clean else float("nan")


def _entropy(tokens: Int[Tensor, "seq pos"]) -> float:
    """Nats a token of unigrams counted on the tokens themselves: no unigrams have less there."""
    share = torch.bincount(tokens.flatten()).double() / tokens.numel()
    return float(-torch.special.xlogy(share, share).sum())
