"""What each latent does to what the model says: run again without it, on sampled sequences where it fires.

Of a latent, over its sampled sequences, with p the model's next-token probabilities as it is and p' those with the
latent ablated at all its firings (x − z_j d_j, the rest of x kept):

    loss_change           mean of CE' − CE at the firings, nats
    later_loss_change     the same at later positions of the sequence where it does not fire
    total_change          sum of CE' − CE over the sequence, per firing
    ce_rise               total_change × density: rise of the mean cross-entropy of all tokens without it, nats a token
    kl                    mean of KL(p ‖ p') at the firings, nats
    null_loss_change      the same two with as long a change along other latents, another at each position: any change
    null_kl               costs a model that is right on average its KL, so that a latent helps where it costs more
    gradient_effect       −z_j d_j · gradient of the sequence's loss, summed, per firing: what total_change is to first
                          order
    gradient_agreement    Spearman of the two over the latent's sequences
    integrated_effect     as gradient_effect, with the gradient averaged along the way from x to x − z_j d_j, and
    integrated_agreement  its Spearman; both where `integrated_steps` are asked for
    likelier_tokens       the tokens with the largest mean of log p − log p' at the firings; `likelier` has the nats
    less_likely_tokens    the smallest, `less_likely`

`_low` and `_high` are a 95 % interval: Student's t of the jackknife over sequences, of √kl for kl. Tails are heavy, and
few sequences cover less: on the demo 89 % by 4 of them, 93 % by 16, 95 % by 64; kl 84 %, 91 %, 95 %. Tokens that the
scan left out (BOS, rows above the norm limit) are neither changed nor counted. In half precision, changes below its
steps are lost.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.stats
import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from interp.checks import check_token_ids
from interp.codes import Dictionary
from interp.effects.ablation_batches import NUMBERS_AT_ONCE
from interp.effects.ablations import SUMS, Ablations, Part
from interp.effects.downstream import Downstream
from interp.effects.interventions import place_of
from interp.features.feature_store import FeatureStore
from interp.files import Progress, no_progress, ratio
from interp.hooks import Model, evaluating, module_of, size_of

_CHUNK_SEQUENCES = 64
_MIN_SEQUENCES = 4
"""For a correlation over a latent's sequences."""
Sums = Float64[np.ndarray, "latent sequence"]
_MEANS = {
    "loss_change": ("loss", "targets"),
    "later_loss_change": ("later_loss", "later"),
    "total_change": ("total", "firings"),
    "kl": ("kl", "firings"),
    "null_loss_change": ("null_loss", "targets"),
    "null_kl": ("null_kl", "firings"),
    "gradient_effect": ("gradient", "firings"),
    "integrated_effect": ("integrated", "firings"),
}


def feature_effects(
    features: FeatureStore,
    model: Model,
    hook: str,
    dictionary: Dictionary,
    *,
    latents: Sequence[int] | None = None,
    sequences: int = 16,
    n_tokens: int = 10,
    integrated_steps: int = 0,
    writes: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """One row a latent, with the columns above and latent, n_sequences, n_firings, mean_activation; NaN for a latent
    that does not fire. `latents` None: all. `sequences`: at most so many a latent, drawn from all where it fires; each
    costs a pass through the blocks behind the hook, or where there are none, through the unembedding at its firings.
    `integrated_steps` cost thrice as much each (Sundararajan et al. 2017, arXiv 1703.01365).

    `attrs`: way (what was run again), sequences, seed, and gradient_agreement (and integrated_agreement) over the
    latents. Raises ValueError if model, dictionary and scan are not of each other.
    """
    module, place = module_of(model), place_of(model, hook, dictionary, writes)
    check_token_ids(features.tokens, size_of(module, "d_vocab"))
    chosen = _chosen(features, dictionary, latents)
    if sequences < 1 or n_tokens < 1 or integrated_steps < 0:
        given = f"sequences={sequences}, n_tokens={n_tokens} and integrated_steps={integrated_steps}"
        raise ValueError(f"{given} must be at least 1, 1 and 0")
    with evaluating(module):
        sampled = _sample(features, chosen, sequences, seed)
        downstream = Downstream(module, place, features.tokens[:2])
        told = progress or no_progress, int((sampled >= 0).sum())
        run = Ablations(features, downstream, dictionary, n_tokens, *told, integrated_steps, seed)
        block = max(1, 2 * NUMBERS_AT_ONCE // downstream.d_vocab)
        parts = [run.of(*part) for part in zip(chosen.split(block), sampled.split(block), strict=True)]
    _check_found(run, features)
    gradients = ("gradient", "integrated") if integrated_steps else ("gradient",)
    table = _whole(features, chosen, parts, gradients)
    table.attrs |= {"way": downstream.way, "sequences": sequences, "seed": seed}
    return table


def _chosen(features: FeatureStore, dictionary: Dictionary, latents: Sequence[int] | None) -> Int[Tensor, " latent"]:
    """`latents`, by default all. ValueError where they, or the dictionary, are not of the scan."""
    chosen = torch.arange(features.d_sae) if latents is None else torch.tensor(list(latents), dtype=torch.long)
    if dictionary.d_sae != features.d_sae:
        raise ValueError(f"the scan {features.path} is of {features.d_sae} latents, not of {dictionary.d_sae}")
    if not 0 < len(chosen) == len(chosen.unique()) or not 0 <= int(chosen.min()) <= int(chosen.max()) < features.d_sae:
        raise ValueError(f"latents {chosen.tolist()[:8]} must be different ones of 0..{features.d_sae - 1}")
    return chosen


def _check_found(run: Ablations, features: FeatureStore) -> None:
    if run.found < run.done / 2:
        what = f"in {run.done - run.found} of {run.done} cases a latent does not fire where it was scanned"
        raise ValueError(f"{what}: give the model and the dictionary of the scan {features.path}")


def _whole(features: FeatureStore, chosen: Tensor, parts: Sequence[Part], gradients: Sequence[str]) -> pd.DataFrame:
    sums = {name: torch.cat([part.sums[name] for part in parts]).numpy() for name in SUMS}
    table = _table(chosen.numpy(), sums, gradients)
    for name in parts[0].tokens:
        table[name] = pd.Series([row for part in parts for row in part.tokens[name]])
    density = features.table().set_index("latent")["density"]
    table["ce_rise"] = table["total_change"] * density.reindex(table["latent"]).to_numpy()
    for name in gradients:
        agreement = table[f"{name}_effect"].corr(table["total_change"], method="spearman")
        table.attrs[f"{name}_agreement"] = float(agreement)
    return table


def _sample(
    features: FeatureStore, latents: Int[Tensor, " latent"], n: int, seed: int
) -> Int[Tensor, "latent sequences"]:
    """For each latent at most n of the sequences where it fires, −1 behind the last. All latents go by one order of the
    sequences, so that few sequences serve many latents."""
    n_seq, n_ctx = features.tokens.shape
    rank = torch.randperm(n_seq, generator=torch.Generator().manual_seed(seed))
    best = torch.full((len(latents), n), n_seq)
    for start in range(0, n_seq, _CHUNK_SEQUENCES):
        stop = min(start + _CHUNK_SEQUENCES, n_seq)
        codes = features.codes[start * n_ctx : stop * n_ctx]
        fires = torch.zeros(stop - start, features.d_sae, dtype=torch.bool)
        firing = codes.values > 0
        fires[codes.rows[firing] // n_ctx, codes.latents[firing].long()] = True
        ranks = torch.where(fires[:, latents].T, rank[start:stop], n_seq)  # [latent, seq]
        best = torch.cat([best, ranks], 1).topk(n, dim=1, largest=False).values
    order = torch.cat([rank.argsort(), torch.tensor([-1])])
    return order[best.sort(1).values]


def _table(latents: np.ndarray, sums: dict[str, Sums], gradients: Sequence[str]) -> pd.DataFrame:
    """sums: [latent, sequence] each; gradients: those of them that were taken."""
    fires = sums["firings"] > 0
    sums["total"] = sums["loss"] + sums["later_loss"]
    n = fires.sum(1)
    firings = sums["firings"].sum(1)
    table: dict[str, np.ndarray] = {"latent": latents, "n_sequences": n, "n_firings": firings.astype(int)}
    table["mean_activation"] = ratio(sums["activation"].sum(1), firings)
    means = {name: of for name, of in _MEANS.items() if of[0] != "integrated" or "integrated" in gradients}
    for name, (above, below) in means.items():
        table[name] = ratio(sums[above].sum(1), sums[below].sum(1))
        table[f"{name}_low"], table[f"{name}_high"] = _interval(
            sums[above], sums[below], fires, name in ("kl", "null_kl")
        )
    for name in gradients:
        table[f"{name}_agreement"] = _agreements(sums, name, n)
    return pd.DataFrame(table)


def _interval(
    above: Sums, below: Sums, counts: Bool[np.ndarray, "latent sequence"], squared: bool
) -> tuple[Float64[np.ndarray, " latent"], Float64[np.ndarray, " latent"]]:
    """Of each latent's ratio of sums over the sequences that count. squared: a KL, which is not below 0 and goes as
    the square of the change, so that its root is nearer to a normal one."""

    def scaled(values: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(values, 0)) if squared else values

    n = np.maximum(counts.sum(1), 1)
    without = scaled(ratio(above.sum(1, keepdims=True) - above, below.sum(1, keepdims=True) - below))
    without = np.where(counts, without, 0)
    off = np.where(counts, without - (without.sum(1) / n)[:, None], 0)
    reach = scipy.stats.t.ppf(0.975, n - 1) * np.sqrt((n - 1) / n * (off**2).sum(1))  # NaN for one sequence
    middle = scaled(ratio(above.sum(1), below.sum(1)))
    low, high = middle - reach, middle + reach
    return (np.maximum(low, 0) ** 2, high**2) if squared else (low, high)


def _agreements(sums: dict[str, np.ndarray], gradient: str, n: np.ndarray) -> np.ndarray:
    """Spearman over each latent's sequences of what a gradient says and what ablation does."""
    said, done = (np.where(sums["firings"] > 0, sums[name], np.nan) for name in (gradient, "total"))
    ranks = [pd.DataFrame(each).rank(axis=1) for each in (said, done)]
    found = ranks[0].corrwith(ranks[1], axis=1).to_numpy()
    return np.where(n >= _MIN_SEQUENCES, found, np.nan)
