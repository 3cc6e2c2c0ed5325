"""Measure how well a dictionary reconstructs activations, and how well the model predicts with the reconstruction.

On the tokens, with y the activation at the hook that the dictionary writes (for a transcoder its output hook, for other
dictionaries the hook that they read), m its mean, and y_hat the dictionary's reconstruction:

    L0        = mean number of firing latents (`interp.codes`)
    FVU       = sum |y - y_hat|^2 / sum |y - m|^2                            fraction of variance unexplained
    recovered = (CE_nothing - CE_spliced) / (CE_nothing - CE_clean)          1 = as good as clean, 0 = ignores context

CE is the next-token cross-entropy in nats, with y replaced by y_hat (spliced), by m (mean-ablated) or by 0
(zero-ablated). It is the mean over all tokens but padding: excluded tokens that follow an excluded token. CE_nothing is
the model's loss without this activation: that of zero ablation, or the loss of unigrams (which know only how frequent
each token is), whichever is lower. Mean ablation can be worse than both, which would flatter every dictionary; shares
against it and against zero ablation are given as well, since other tools report
those. A model that predicts no next tokens (an encoder, or one without logits) has no CE: these fields are NaN, and a
warning gives the reason. Of a model that is no better than unigrams, CE_clean is no less than CE_nothing: the shares
recovered mean nothing then, and a warning says so (`worse_than_unigrams`).

The standard error of the recovered share treats the sequences as a random sample (linearised ratio, by sequences). It
covers the uncertainty from the sample of tokens, not the variation between training runs.

Positions of excluded tokens, tokens and positions that were excluded from the dictionary's training (by its metadata),
and rows above its norm limit count in neither L0 nor FVU. If there are many tokens, ablations and baselines are run on
a part of them (`evaluation.splice`); L0, FVU and the shares of latents always cover all tokens.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.activations.hooks import Model
from interp.activations.row_statistics import Moments
from interp.codes.dictionary import Dictionary, reconstruction
from interp.codes.latent_strengths import is_faint
from interp.evaluation.splice import Losses, common_hooks, recovered_share, spliced_losses
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress
from interp.statistics.cutoffs import ULTRA_LOW
from interp.statistics.estimates import ratio
from interp.storage.files import digest

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Quality:
    l0: float
    fvu: float
    fvu_all: float
    """FVU that includes the rows above the norm limit, which are reconstructed too."""
    ce_clean: float
    ce_spliced: float
    ce_mean_ablated: float
    ce_zero_ablated: float
    ce_unigram: float
    """Cross-entropy of a model that knows only the token frequencies."""
    ce_recovered: float
    """The headline: 1 is the unchanged model, 0 the model without this activation. NaN if leaving it
    out costs nothing; meaningless for a model that is no better than unigrams (`worse_than_unigrams`)."""
    ce_recovered_se: float
    """Its standard error. NaN for a single sequence."""
    ce_recovered_mean: float
    """The same share against ablation to the mean alone. NaN if the ablation changes nothing."""
    ce_recovered_zero: float
    """The same share against ablation to zero alone, as SAELens reports it."""
    dead_share: float
    """Latents that never fire on these tokens."""
    faint_share: float
    """Latents that fire but have almost no effect (`interp.codes.latent_strengths`)."""
    ultra_low_share: float
    """Latents that fire, but on fewer than 1e-5 of these tokens: always 0 with fewer than 100,000 tokens."""
    n_tokens: int
    """Tokens that were encoded."""
    n_spliced: int
    """The encoded tokens at which the reconstruction was spliced in; its cross-entropy is measured on their sequences.
    0 for a model that predicts no next tokens."""
    outlier_share: float
    """Share of the tokens above the norm limit, among those that are not excluded."""


class Reconstruction(NamedTuple):
    """The fields of `Quality` that need no model."""

    l0: float
    fvu: float
    dead_share: float
    faint_share: float


@shows_progress
def evaluate_dictionary(
    model: Model,
    hook: str,
    dictionary: Dictionary,
    tokens: Int[Tensor, "seq pos"],
    *,
    output_hook: str | None = None,
    batch_size: int = 16,
    exclude: Sequence[int] = (),
    unigram_loss: float | None = None,
    progress: Progress = no_progress,
) -> Quality:
    """Splice the dictionary into the model at the hook.

    output_hook: the hook that a transcoder writes, if its metadata does not name it (`hook_name_out`).
    batch_size: sequences per forward pass, at most.
    exclude: token ids to leave out besides those that the dictionary's training left out, such as BOS and padding.
    unigram_loss: nats per token of unigrams counted on other text, such as the model's training text. By default
    unigrams are counted on `tokens` themselves, which for few tokens gives a lower loss and a stricter share.

    Raises ValueError if the model lacks the hook, if the hook's width is not the dictionary's, if the dictionary was
    trained on another hook of the same model (`hooks.check_trained_hook`), for a crosscoder, for tokens that the model
    does not accept, or if every token is excluded.
    """
    qualities = _qualities(
        model,
        hook,
        {"dictionary": dictionary},
        tokens,
        output_hook=output_hook,
        batch_size=batch_size,
        exclude=exclude,
        unigram_loss=unigram_loss,
        progress=progress,
    )
    return qualities["dictionary"]


@shows_progress
def quality_table(
    model: Model,
    hook: str,
    dictionaries: Mapping[str, Dictionary],
    tokens: Int[Tensor, "seq pos"],
    *,
    baselines: Collection[str] = (),
    output_hook: str | None = None,
    batch_size: int = 16,
    exclude: Sequence[int] = (),
    unigram_loss: float | None = None,
    progress: Progress = no_progress,
) -> pd.DataFrame:
    """Return one row per dictionary: column `dictionary`, then the fields of `Quality`, all on the same tokens.

    baselines: names of dictionaries whose cross-entropy may be less precise, to save time: they are spliced into a part
    of the sequences, of about 5,000 tokens (`n_spliced`), and `ce_recovered_se` includes the uncertainty from that. If
    dictionaries have different norm limits, the lowest is used for all. `attrs["decoders"]` has a digest of each
    dictionary's decoder.
    Raises ValueError as `evaluate_dictionary` does, if the dictionaries do not all write the same hook, or if a
    baseline is not one of them.
    """
    qualities = _qualities(
        model,
        hook,
        dictionaries,
        tokens,
        baselines=baselines,
        output_hook=output_hook,
        batch_size=batch_size,
        exclude=exclude,
        unigram_loss=unigram_loss,
        progress=progress,
    )
    table = pd.DataFrame([{"dictionary": name, **asdict(quality)} for name, quality in qualities.items()])
    table.attrs["decoders"] = {name: decoder_digest(each.W_dec) for name, each in dictionaries.items()}
    return table


def with_mean_of_draws(table: pd.DataFrame, draws: Collection[str], name: str) -> pd.DataFrame:
    """Return a table of qualities where one row, the last, has the means of the rows of `draws`: of dictionaries that
    differ only by their seed. Its standard error covers the text and the draw."""
    is_draw = table["dictionary"].isin(draws)
    drawn = table[is_draw].drop(columns="dictionary")
    if drawn.empty:
        return table
    mean = drawn.mean()
    text, draw = drawn["ce_recovered_se"].pow(2).mean(), drawn["ce_recovered"].var() / len(drawn)
    mean["ce_recovered_se"] = (text + draw) ** 0.5
    row = pd.DataFrame([{"dictionary": name, **mean}]).astype(table.dtypes)
    together = pd.concat([table[~is_draw], row], ignore_index=True)
    together.attrs["decoders"] = {each: key for each, key in table.attrs["decoders"].items() if each not in draws}
    return together


def worse_than_unigrams(ce_clean: float, ce_unigram: float) -> str:
    """Return the remark that a share recovered means nothing, as the model predicts these tokens no better than
    unigrams; "" of a better model."""
    if not ce_clean >= ce_unigram:
        return ""
    losses = f"{ce_clean:.3f} nats a token, unigrams {ce_unigram:.3f}"
    return f"the model is no better than unigrams ({losses}): the share of cross-entropy recovered means nothing"


def evaluate_reconstruction(dictionary: Dictionary, acts: Float[Tensor, "row d_in"]) -> Reconstruction:
    """Measure how well a dictionary reconstructs rows of its own hook."""
    acts = acts.float()  # the reconstruction is not rounded to half precision, in which stores keep rows
    counter = _FiringCounter(dictionary)
    rows = Moments()
    rows.add(acts)
    error = acts - counter.reconstruct(acts, torch.arange(len(acts))).to(acts)
    return counter.reconstruction(float(error.double().square().sum()), rows)


def decoder_digest(W_dec: Float[Tensor, "d_sae d_in"]) -> str:
    """Return the digest that identifies a dictionary in a table of qualities (`attrs["decoders"]`)."""
    return digest(W_dec.detach().float())


@dataclass
class _FiringCounter:
    """Reconstructs with a dictionary, and counts the firings of its latents."""

    dictionary: Dictionary
    fired: Int[Tensor, " d_sae"] = field(init=False)
    maxima: Float[Tensor, " d_sae"] = field(init=False)
    error_outside: float = 0.0
    """Σ ‖y − ŷ‖² over the rows above the norm limit."""

    def __post_init__(self) -> None:
        device = self.dictionary.W_dec.device
        self.fired = torch.zeros(self.dictionary.d_sae, dtype=torch.long, device=device)
        self.maxima = torch.zeros(self.dictionary.d_sae, device=device)

    def reconstruct(self, x: Float[Tensor, "row d_in"], rows: Int[Tensor, " row"]) -> Float[Tensor, "row d_out"]:
        x = x.to(self.fired.device)
        codes = self.dictionary.codes(x)
        self.fired.add_(torch.bincount(codes.latents[codes.fires], minlength=len(self.fired)))
        torch.maximum(self.maxima, codes.maxima().float(), out=self.maxima)
        return reconstruction(self.dictionary, codes, x)

    def add_outliers(self, x: Float[Tensor, "row d_in"], y: Float[Tensor, "row d_out"]) -> None:
        x = x.to(self.fired.device)
        y_hat = reconstruction(self.dictionary, self.dictionary.codes(x), x)
        self.error_outside += float((y - y_hat.to(y)).double().square().sum())

    def reconstruction(self, squared_error: float, rows: Moments) -> Reconstruction:
        """Return the measures of all reconstructed rows.
        squared_error: Σ ‖y − ŷ‖² over them. rows: their moments at the hook that the dictionary writes."""
        norms = self.dictionary.W_dec.norm(dim=1)
        return Reconstruction(
            l0=float(self.fired.sum()) / rows.n,
            fvu=float(ratio(squared_error, rows.total_squares)),
            dead_share=float((self.fired == 0).double().mean()),
            faint_share=float(is_faint(self.maxima, norms).double().mean()),
        )


def _qualities(
    model: Model,
    hook: str,
    dictionaries: Mapping[str, Dictionary],
    tokens: Int[Tensor, "seq pos"],
    *,
    baselines: Collection[str] = (),
    output_hook: str | None,
    batch_size: int,
    exclude: Sequence[int],
    unigram_loss: float | None,
    progress: Progress,
) -> dict[str, Quality]:
    hooks = common_hooks(model, hook, dictionaries, output_hook)
    counters = {name: _FiringCounter(dictionary) for name, dictionary in dictionaries.items()}

    def add_outliers(x: Float[Tensor, "row d_in"], y: Float[Tensor, "row d_out"]) -> None:
        for each in counters.values():
            each.add_outliers(x, y)

    losses = spliced_losses(
        model,
        hooks,
        dictionaries,
        tokens,
        {name: each.reconstruct for name, each in counters.items()},
        batch_size=batch_size,
        exclude=exclude,
        progress=progress,
        unigram_loss=unigram_loss,
        baselines=baselines,
        on_outliers=add_outliers,
    )
    if remark := worse_than_unigrams(losses.ce_clean, losses.ce_unigram):
        log.warning("%s", remark)
    return {name: _quality(losses, name, each) for name, each in counters.items()}


def _quality(losses: Losses, name: str, counter: "_FiringCounter") -> Quality:
    n_tokens = losses.within_limit.n
    n_outliers = losses.above_limit.n
    fired = counter.fired
    ce = losses.ce[name]
    error = losses.squared_error[name]
    all_rows = losses.within_limit + losses.above_limit
    return Quality(
        **counter.reconstruction(error, losses.within_limit)._asdict(),
        fvu_all=float(ratio(error + counter.error_outside, all_rows.total_squares)),
        ce_clean=losses.ce_clean,
        ce_spliced=ce,
        ce_mean_ablated=losses.ce_mean_ablated,
        ce_zero_ablated=losses.ce_zero_ablated,
        ce_unigram=losses.ce_unigram,
        ce_recovered=recovered_share(losses.ce_clean, ce, losses.ce_nothing),
        ce_recovered_se=losses.recovered_se[name],
        ce_recovered_mean=recovered_share(losses.ce_clean, ce, losses.ce_mean_ablated),
        ce_recovered_zero=recovered_share(losses.ce_clean, ce, losses.ce_zero_ablated),
        ultra_low_share=float(((fired > 0) & (fired < ULTRA_LOW * n_tokens)).double().mean()),
        n_tokens=n_tokens,
        n_spliced=losses.n_spliced[name],
        outlier_share=n_outliers / (n_tokens + n_outliers),
    )
