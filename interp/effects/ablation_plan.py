"""Estimate how long ablations take, and choose which latents to ablate if there is not enough time for all.

In: a feature store, the model downstream of a hook, the requested latents, sequences per latent, minutes. Out:
     `AblationPlan`.

The minutes are those of two ordinary processor cores. They are estimated from the size of what is run again, not with
a clock, so the same latents are drawn on every machine. If there is not enough time for all, each latent is ablated in
fewer sequences, down to MIN_SEQUENCES. If that is not enough either, latents are drawn at random among those that fire.
"""

from bisect import bisect_right
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from interp.codes.dictionary import Dictionary
from interp.effects.ablation_batch import NUMBERS_AT_ONCE
from interp.effects.ablation_config import AblationConfig
from interp.evaluation.downstream import Downstream
from interp.features.feature_store import FeatureStore

MIN_SEQUENCES = 16
"""The least number of sequences per latent: with fewer, the latents are in another order than by the loss over all of
their firings."""
OPERATIONS_PER_SECOND = 1.5e11
"""How many multiplications and additions of a model two cores do per second."""
OPERATIONS_PER_PROBABILITY = 256
"""The passes over one probability of a token (softmax, KL) cost as much as this many operations. It is fitted to the
quick demo."""
_QUADRATURE_STEPS = 64


def latents_at_once(d_state: int, sequences: int) -> int:
    """Return the number of latents to ablate in one pass over the text, so that their sums fit in memory.
    d_state: the input width of the model's last linear map."""
    return max(1, min(2 * NUMBERS_AT_ONCE // d_state, NUMBERS_AT_ONCE // 8 // sequences))


class AblationPlan(NamedTuple):
    latents: Int[Tensor, " latent"]
    """The latents to ablate, in ascending order. If the time does not suffice for all, they are latents that fire."""
    sequences: int
    """The largest number of sequences of each latent."""
    pairs: int
    """The number of pairs of a latent and a sequence."""
    minutes: float
    """The estimated time."""
    firing: int
    """The number of requested latents that fire."""


def draw_latents(features: FeatureStore, n: int, seed: int) -> list[int]:
    """Draw at random at most n of the latents that fire. Returns them in ascending order."""
    return sorted(_draw_order(features, torch.arange(features.d_sae), seed)[:n].tolist())


def plan_ablations(
    features: FeatureStore,
    downstream: Downstream,
    dictionary: Dictionary,
    latents: Int[Tensor, " latent"],
    config: AblationConfig,
) -> AblationPlan:
    """Choose the latents that can be ablated within the minutes of the config, each in at most its number of sequences.
    Without a limit of minutes, all latents are chosen."""
    order = _draw_order(features, latents, config.seed)
    counts_in_order = features.table().set_index("latent").loc[order.numpy()]
    n_sequences, n_active = (
        torch.tensor(counts_in_order[name].to_numpy(float)) for name in ("n_sequences", "n_active")
    )

    def estimate(n_latents: int, n: int) -> float:
        """Estimate the minutes that the first n_latents take, in at most n sequences each."""
        operations = ablation_operations(
            n_sequences[:n_latents],
            n_active[:n_latents],
            n,
            n_all=len(features.tokens),
            n_ctx=features.n_ctx,
            at_once=latents_at_once(downstream.readout.d_state, n),
            by_position=downstream.by_position,
            reading=downstream.n_weights_of_model - downstream.n_weights + dictionary.d_in * dictionary.d_sae,
            downstream=downstream.n_weights,
            d_vocab=downstream.d_vocab,
        )
        return operations / OPERATIONS_PER_SECOND / 60

    sequences = min(config.sequences, max(1, int(n_sequences.max()) if len(order) else 1))
    fit = len(order)
    if (minutes := config.minutes) is not None:
        while sequences > MIN_SEQUENCES and estimate(fit, sequences) > minutes:
            sequences -= 1
        if fit and estimate(fit, sequences) > minutes:
            fit = max(1, bisect_right(range(1, fit + 1), minutes, key=lambda k: estimate(k, sequences)))
            latents = order[:fit].sort().values
    pairs = int(n_sequences[:fit].clamp(max=sequences).sum())
    return AblationPlan(latents, sequences, pairs, estimate(fit, sequences), len(order))


def ablation_operations(
    n_sequences: Float64[Tensor, " latent"],
    n_active: Float64[Tensor, " latent"],
    at_most: int,
    *,
    n_all: int,
    n_ctx: int,
    at_once: int,
    by_position: bool,
    reading: float,
    downstream: float,
    d_vocab: int,
) -> float:
    """Count the multiplications and additions of ablating latents that fire in `n_sequences` sequences, at `n_active`
    tokens, each in `at_most` sequences of `n_all`.
    at_once: latents per pass over the text.
    by_position: whether only changed positions are run.
    reading, downstream: numbers of weights by which a position is multiplied, up to the hook (including the encoder)
    and after it."""
    distribution = OPERATIONS_PER_PROBABILITY * d_vocab
    pairs = n_sequences.clamp(max=at_most)
    positions = float((pairs * (n_active / n_sequences if by_position else n_ctx)).sum())
    # Once without the latent and once along others, with a multiplication and an addition per weight.
    ablating = positions * (4 * downstream + 2 * distribution)
    # Each sequence is run up to the hook and encoded, once for as many latents as fit in memory.
    n_read = n_ctx * sum(_count_distinct(block, at_most, n_all) for block in n_sequences.split(at_once))
    # For changed positions, the unchanged model is also run downstream, and backward from its loss to the hook.
    n_asked = min(n_read, positions) if by_position else n_read
    return ablating + n_read * 2 * reading + n_asked * (6 * downstream + distribution)


def _count_distinct(n_sequences: Float64[Tensor, " latent"], n: int, n_all: int) -> float:
    """Estimate the number of distinct sequences that latents use if they fire in `n_sequences` of `n_all` sequences.
    Each uses at most n, in one random order, so a latent that fires in a share f of the sequences uses about the first
    n / f."""
    share = n_sequences / n_all
    reach = (n / share).clamp(max=n_all)
    missed = torch.log1p(-share.clamp(max=1 - 1e-9))
    steps = (torch.arange(_QUADRATURE_STEPS) + 0.5) * n_all / _QUADRATURE_STEPS
    used = sum(1 - float(missed[reach > step].sum().exp()) for step in steps)
    return used * n_all / _QUADRATURE_STEPS


def _draw_order(features: FeatureStore, latents: Int[Tensor, " latent"], seed: int) -> Int[Tensor, " latent"]:
    """Draw an order of the latents that fire."""
    fires = torch.zeros(features.d_sae, dtype=torch.bool)
    table = features.table()
    fires[table["latent"][table["n_active"] > 0].tolist()] = True
    order = torch.randperm(features.d_sae, generator=torch.Generator().manual_seed(seed))
    return order[fires[order] & torch.isin(order, latents)]
