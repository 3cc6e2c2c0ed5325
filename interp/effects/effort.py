"""How long ablations take, and which latents are ablated where the time does not suffice for all.

In:  a feature store, the model from a hook on, the latents asked for, sequences a latent, minutes. Out: `Effort`.

The minutes are those of two ordinary processor cores, told from the size of what is run again and not from a clock: so
the same latents are drawn on every machine. Where all cannot be had, each latent is ablated in fewer sequences, down to
FEWEST; where that does not suffice either, latents are drawn by chance among those that fire, not the loudest.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import Tensor

from interp.evaluation.downstream import Downstream
from interp.features.feature_store import FeatureStore

FEWEST = 16
"""Sequences of a latent below which its loss says little: on the demo its rank correlation with that of all firings is
.83 by 16, .60 by 4."""
OPERATIONS_A_SECOND = 4e10
"""Multiplications and additions of the model by two cores, the passes over its vocabulary included."""


class Effort(NamedTuple):
    latents: Int[Tensor, " latent"]
    """In order; where not all that were asked for can be had, only such as fire."""
    sequences: int
    """At most so many of each."""
    pairs: int
    """How many pairs of a latent and a sequence that is."""
    minutes: float
    """The estimate."""
    firing: int
    """How many of the latents asked for fire."""


def drawn_latents(features: FeatureStore, n: int, seed: int) -> list[int]:
    """At most n latents, drawn by chance among those that fire, in order."""
    return sorted(_drawn(features, torch.arange(features.d_sae), seed)[:n].tolist())


def effort(
    features: FeatureStore,
    downstream: Downstream,
    latents: Int[Tensor, " latent"],
    sequences: int,
    minutes: float | None,
    seed: int,
) -> Effort:
    """What can be had within the minutes (None: all) of these latents, each in at most so many sequences."""
    table = features.table().set_index("latent")
    order = _drawn(features, latents, seed)
    of_order = table.loc[order.numpy()]
    n_sequences = torch.tensor(of_order["n_sequences"].to_numpy(np.int64))
    firings_a_pair = torch.tensor(of_order["n_active"].to_numpy(float)) / n_sequences
    positions = firings_a_pair if downstream.by_position else torch.tensor(float(features.n_ctx))
    # Once without the latent and once along others, a multiplication and an addition a weight.
    minutes_a_pair = 4 * downstream.weights * positions / OPERATIONS_A_SECOND / 60

    def estimates(n: int) -> Float64[Tensor, " latent"]:
        """The minutes that each latent takes, in at most n sequences."""
        return n_sequences.clamp(max=n) * minutes_a_pair

    sequences = min(sequences, max([1, *n_sequences.tolist()]))
    if minutes is not None and float(estimates(sequences).sum()) > minutes:
        while sequences > FEWEST and float(estimates(sequences).sum()) > minutes:
            sequences -= 1
        fit = max(1, int((estimates(sequences).cumsum(0) <= minutes).sum()))
        latents = latents if fit == len(order) else order[:fit].sort().values
    else:
        fit = len(order)
    pairs = int(n_sequences[:fit].clamp(max=sequences).sum())
    return Effort(latents, sequences, pairs, float(estimates(sequences)[:fit].sum()), len(order))


def _drawn(features: FeatureStore, latents: Int[Tensor, " latent"], seed: int) -> Int[Tensor, " latent"]:
    """Those of the latents that fire, in an order drawn by the seed."""
    fires = torch.zeros(features.d_sae, dtype=torch.bool)
    table = features.table()
    fires[table["latent"][table["n_active"] > 0].tolist()] = True
    order = torch.randperm(features.d_sae, generator=torch.Generator().manual_seed(seed))
    return order[fires[order] & torch.isin(order, latents)]
