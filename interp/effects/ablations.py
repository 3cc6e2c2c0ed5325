"""Ablate latents one at a time in sequences where they fire, many (latent, sequence) pairs a batch.

In:  a feature store, the model from a hook on, and for each latent its sampled sequences. Out: sums over each pair's
     firings and later positions, and for each latent what its firings make likelier.

1. Each sequence goes through the model once as it is: its latents, log-probabilities, and the gradient of its loss.
2. Of a pair, every firing loses z_j d_j; the rest of the model is run again (`effects.ablation_batches`).
3. The same with as long a change along other latents' directions in its place, another at each position.
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

SUMS = tuple("firings activation targets loss later later_loss kl gradient integrated null_loss null_kl".split())


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
        seed: int,
    ):
        """steps: of integrated gradients; 0: none. The seed draws the order of the other latents."""
        self.tokens, self.downstream, self.dictionary = features.tokens, downstream, dictionary
        self.present = features.codes.present(0, len(features.codes)).view(self.tokens.shape)
        self.n_tokens = min(n_tokens, downstream.d_vocab)
        self.progress, self.done, self.n_pairs = progress, 0, n_pairs
        self.found, self.steps = 0, steps
        self.lengths = dictionary.W_dec.detach().norm(dim=1).cpu()
        n_active = torch.tensor(features.table().sort_values("latent")["n_active"].to_numpy())
        order = torch.randperm(len(n_active), generator=torch.Generator().manual_seed(seed))
        self.others = order[((n_active > 0) & (self.lengths > 0))[order]]
        self.place = torch.zeros_like(order).index_copy_(0, self.others, torch.arange(len(self.others)))

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
        for null, changed in (("", firings), ("null_", self._elsewhere(firings))):
            for some, log_p, later_pair, later_row, later_loss in batch.ablated(changed):
                at, target = clean.where[some.row], batch.next[some.row, None]
                change = clean.log_p[at] - log_p
                add(f"{null}kl", some.pair, torch.einsum("rv,rv->r", clean.p[at], change))
                add(f"{null}loss", some.pair, change.gather(1, target)[:, 0] * batch.counted.flatten()[some.row])
                if not null:
                    likelier.index_add_(0, some.pair // n, change.float())
                    was = clean.log_p[clean.where[later_row]].gather(1, batch.next[later_row, None])[:, 0]
                    add("later_loss", later_pair, later_loss + was)

    def _elsewhere(self, firings: Firings) -> Firings:
        """Changes as long at the same rows, along other latents."""
        latent, step = firings.latent.cpu(), firings.row.cpu() % self.tokens.shape[1]
        step = step % max(len(self.others) - 1, 1) + 1  # so that none comes round to itself
        other = self.others[(self.place[latent] + step) % len(self.others)]
        z = firings.z * (self.lengths[latent] / self.lengths[other]).to(firings.z)
        return firings._replace(latent=other.to(firings.latent.device), z=z)
