"""Ablate latents one at a time in sequences where they fire, many (latent, sequence) pairs a batch.

In:  a feature store, the model from a hook on, and for each latent its sampled sequences. Out: sums over each pair's
     firings and later positions, and for each latent what its firings make likelier.

1. Each sequence goes through the model once as it is: its latents, log-probabilities, and the gradient of its loss.
2. Of a pair, every firing loses z_j d_j; the rest of the model is run again (`effects.ablation_batches`).
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.codes import Dictionary
from interp.effects.ablation_batches import NUMBERS_AT_ONCE, Batch, Firings
from interp.effects.downstream import Downstream
from interp.features.feature_store import FeatureStore
from interp.files import Progress
from interp.hooks import to_model

SUMS = ("firings", "activation", "targets", "loss", "later", "later_loss", "kl", "gradient", "integrated")


class Part(NamedTuple):
    sums: dict[str, Float[Tensor, "latent sequences"]]
    tokens: dict[str, list[np.ndarray]]


class Ablations:
    def __init__(
        self,
        features: FeatureStore,
        downstream: Downstream,
        dictionary: Dictionary,
        n_tokens: int,
        progress: Progress,
        n_pairs: int,
        steps: int,
    ):
        """steps: of integrated gradients; 0: none."""
        self.tokens, self.downstream, self.dictionary = features.tokens, downstream, dictionary
        self.present = features.codes.present(0, len(features.codes)).view(self.tokens.shape)
        self.n_tokens = min(n_tokens, downstream.d_vocab)
        self.progress, self.done, self.n_pairs = progress, 0, n_pairs
        self.found, self.steps = 0, steps

    def of(self, latents: Int[Tensor, " latent"], sampled: Int[Tensor, "latent sequences"]) -> Part:
        """Of some latents, each on its own sequences."""
        device = to_model(self.downstream.module, latents).device
        sums = {name: torch.zeros(sampled.numel(), dtype=torch.float64, device=device) for name in SUMS}
        likelier = torch.zeros(len(latents), self.downstream.d_vocab, device=device)
        column = torch.full((self.dictionary.d_sae,), -1)
        column[latents] = torch.arange(len(latents))
        together = max(1, NUMBERS_AT_ONCE // (self.tokens.shape[1] * self.downstream.d_vocab))
        for seqs in sampled[sampled >= 0].unique().split(together):
            batch = Batch(self.downstream, self.dictionary, self.tokens[seqs], self.present[seqs])
            pair_of = torch.full((len(latents), len(seqs)), -1)
            latent, k = torch.isin(sampled, seqs).nonzero().unbind(1)
            pair_of[latent, torch.searchsorted(seqs, sampled[latent, k])] = latent * sampled.shape[1] + k
            self._add(batch, batch.firings(column, pair_of), sums, likelier, sampled.shape[1])
            self.done += len(latent)
            self.progress(self.done, self.n_pairs, "ablations of a latent in a sequence")
        by_latent = {name: values.view(sampled.shape).cpu() for name, values in sums.items()}
        likelier = likelier.cpu() / by_latent["firings"].sum(1, keepdim=True).float()
        top, bottom = (likelier.topk(self.n_tokens, dim=1, largest=largest) for largest in (True, False))
        tokens = {"likelier_tokens": top.indices, "likelier": top.values}
        tokens |= {"less_likely_tokens": bottom.indices, "less_likely": bottom.values}
        return Part(by_latent, {name: list(values.numpy()) for name, values in tokens.items()})

    def _add(self, batch: Batch, firings: Firings, sums: dict[str, Tensor], likelier: Tensor, n: int) -> None:
        """Of the firings of a batch, to each pair's sums."""

        def add(name: str, pair: Tensor, values: Tensor) -> None:
            sums[name].index_add_(0, pair, values.double())

        if not len(firings.pair):
            return
        self.found += len(firings.pair.unique())
        clean = batch.clean(firings.row.unique())
        add("firings", firings.pair, torch.ones_like(firings.z))
        add("activation", firings.pair, firings.z)
        add("later", firings.pair.unique(), batch.later(firings).sum(1))
        has_next = batch.counted.flatten()[firings.row]
        add("targets", firings.pair, has_next)
        gradient = clean.gradient[clean.where[firings.row]]
        add("gradient", firings.pair, (batch.changes(firings) * gradient).sum(1))
        for pair, values in batch.integrated(firings, self.steps) if self.steps else ():
            add("integrated", pair, values)
        for some, log_p, later_pair, later_row, later_loss in batch.ablated(firings):
            at, target = clean.where[some.row], batch.next[some.row, None]
            change = clean.log_p[at] - log_p
            likelier.index_add_(0, some.pair // n, change.float())
            add("kl", some.pair, torch.einsum("rv,rv->r", clean.p[at], change))
            add("loss", some.pair, change.gather(1, target)[:, 0] * batch.counted.flatten()[some.row])
            was = clean.log_p[clean.where[later_row]].gather(1, batch.next[later_row, None])[:, 0]
            add("later_loss", later_pair, later_loss + was)
