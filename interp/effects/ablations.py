"""Ablate latents one at a time in sequences where they fire, many (latent, sequence) pairs a batch.

In:  a feature store, the model from a hook on, and for each latent its sampled sequences. Out: sums over each pair's
     firings and later positions, and for each latent what its firings make likelier.

1. Each sequence goes through the model once as it is: its latents, log-probabilities, and the gradient of its loss.
2. Of a pair, every firing loses z_j d_j; the rest of the model is run again (`effects.downstream`).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.codes import Dictionary
from interp.effects.downstream import Downstream
from interp.features.feature_store import FeatureStore
from interp.files import Progress
from interp.hooks import to_model

NUMBERS_AT_ONCE = 1 << 25
"""Log-probabilities in memory, thrice or so."""
SUMS = ("firings", "activation", "targets", "loss", "later", "later_loss", "kl", "gradient")


class _Firings(NamedTuple):
    """Of the pairs (latent, sequence) of a batch, pair after pair, position after position."""

    pair: Int[Tensor, " firing"]
    """Where its sums are: the latent's number · sequences + the sequence's."""
    latent: Int[Tensor, " firing"]
    row: Int[Tensor, " firing"]
    """seq · n_ctx + pos in the batch."""
    z: Float[Tensor, " firing"]

    def take(self, part: slice | Tensor) -> "_Firings":
        return _Firings(*(column[part] for column in self))


class _Clean(NamedTuple):
    """The model as it is, at the rows of a batch that are asked for."""

    where: Int[Tensor, " row"]
    """Of each row of the batch, where it is below; −1 for one that is not asked for."""
    log_p: Float[Tensor, "asked d_vocab"]
    p: Float[Tensor, "asked d_vocab"]
    gradient: Float[Tensor, "asked d_out"]


class _Batch:
    """Some sequences after a clean pass to the hook, and the firings in them that are to be ablated."""

    def __init__(
        self, downstream: Downstream, dictionary: Dictionary, tokens: Tensor, present: Bool[Tensor, "seq pos"]
    ):
        self.downstream, self.tokens = downstream, to_model(downstream.module, tokens)
        self.W_dec = dictionary.W_dec.detach().to(self.tokens.device)
        self.entered = downstream.enter(self.tokens)
        self.codes, usable = downstream.place.codes(dictionary, self.entered.acts)
        self.usable = usable.view(tokens.shape).to(self.tokens.device) & present.to(self.tokens.device)
        self.counted = self.usable.clone()  # what has a next token
        self.counted[:, -1] = False
        self.next = self.tokens.roll(-1, 1).flatten()

    def firings(self, column: Int[Tensor, " d_sae"], pair_of: Int[Tensor, "latent seq"]) -> _Firings:
        """column: each latent's number among those looked at, or −1; pair_of: −1 where a pair is not sampled."""
        rows, latents, z = self.codes.rows.cpu(), self.codes.latents.cpu().long(), self.codes.values.cpu()
        of = column[latents]
        pair = torch.where(of >= 0, pair_of[of, rows // self.tokens.shape[1]], -1)
        keep = (pair >= 0) & (z > 0) & self.usable.flatten().cpu()[rows]
        found = _Firings(pair[keep], latents[keep], rows[keep], z[keep])
        found = found.take((found.pair * self.tokens.numel() + found.row).argsort())
        return _Firings(*(each.to(self.W_dec.device) for each in found))

    def clean(self, rows: Int[Tensor, " asked"]) -> _Clean:
        """Of all rows, unless each position stands for itself."""
        with torch.enable_grad():
            if self.downstream.by_position:
                change = self.W_dec.new_zeros(len(rows), self.W_dec.shape[1], requires_grad=True)
                logits = self._logits(rows, change)
            else:
                rows = torch.arange(self.tokens.numel(), device=rows.device)
                change = self.W_dec.new_zeros(*self.tokens.shape, self.W_dec.shape[1], requires_grad=True)
                logits = self.downstream.logits(self.tokens, self.entered.stream, change).flatten(0, 1)
            log_p = logits.log_softmax(1)
            counted = self.counted.flatten()[rows]
            loss = -log_p[counted].gather(1, self.next[rows[counted], None]).sum()
            gradient = torch.autograd.grad(loss, change)[0].flatten(0, -2)
        where = torch.full_like(self.next, -1)
        where[rows] = torch.arange(len(rows), device=rows.device)
        return _Clean(where, log_p.detach(), log_p.detach().exp(), gradient)

    def changes(self, firings: _Firings) -> Float[Tensor, "firing d_out"]:
        return -firings.z[:, None].to(self.W_dec) * self.W_dec[firings.latent]

    def ablated(self, firings: _Firings) -> Iterator["_Ablated"]:
        """Some firings at a time; all those of a pair together."""
        if self.downstream.by_position:
            for part in _slices(len(firings.pair), NUMBERS_AT_ONCE // 8 // self.downstream.d_vocab):
                some = firings.take(part)
                nothing = some.pair[:0]
                log_p = self._logits(some.row, self.changes(some)).log_softmax(1)
                yield _Ablated(some, log_p, nothing, nothing, nothing.to(log_p))
            return
        pos = self.tokens.shape[1]
        pairs, group, counts = firings.pair.unique_consecutive(return_inverse=True, return_counts=True)
        ends, later = torch.cat([counts.new_zeros(1), counts.cumsum(0)]), self.later(firings)
        for groups in _slices(len(counts), NUMBERS_AT_ONCE // 2 // (pos * self.downstream.d_vocab)):
            part = slice(int(ends[groups.start]), int(ends[groups.stop]))
            some, own = firings.take(part), group[part] - groups.start
            seq = firings.row[ends[groups]] // pos
            change = self.W_dec.new_zeros(len(seq), pos, self.W_dec.shape[1])
            change[own, some.row % pos] = self.changes(some)
            stream = None if self.entered.stream is None else self.entered.stream[seq]
            logits = self.downstream.logits(self.tokens[seq], stream, change)
            pair_at, pos_at = later[groups].nonzero().unbind(1)
            row = seq[pair_at] * pos + pos_at
            loss = F.cross_entropy(logits[pair_at, pos_at], self.next[row], reduction="none")
            log_p = logits[own, some.row % pos].log_softmax(1)
            yield _Ablated(some, log_p, pairs[groups][pair_at], row, loss)

    def later(self, firings: _Firings) -> Bool[Tensor, "pair pos"]:
        """The positions behind a pair's first firing, other than its firings, that have a next token."""
        pos = self.tokens.shape[1]
        pairs, group = firings.pair.unique_consecutive(return_inverse=True)
        fires = torch.zeros(len(pairs), pos, dtype=torch.bool, device=group.device)
        fires[group, firings.row % pos] = True
        seq = torch.zeros_like(pairs).index_copy_(0, group, firings.row // pos)
        return (fires.cumsum(1) > 0) & ~fires & self.counted[seq]

    def _logits(self, rows: Int[Tensor, " row"], change: Float[Tensor, "row d_out"]) -> Float[Tensor, "row d_vocab"]:
        stream = None if self.entered.stream is None else self.entered.stream.flatten(0, 1)[rows, None]
        return self.downstream.logits(self.tokens.flatten()[rows, None], stream, change[:, None])[:, 0]


class _Ablated(NamedTuple):
    firings: _Firings
    log_p: Float[Tensor, "firing d_vocab"]
    later_pair: Int[Tensor, " later"]
    later_row: Int[Tensor, " later"]
    later_loss: Float[Tensor, " later"]


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
    ):
        self.tokens, self.downstream, self.dictionary = features.tokens, downstream, dictionary
        self.present = features.codes.present(0, len(features.codes)).view(self.tokens.shape)
        self.n_tokens = min(n_tokens, downstream.d_vocab)
        self.progress, self.done, self.n_pairs = progress, 0, n_pairs
        self.found = 0

    def of(self, latents: Int[Tensor, " latent"], sampled: Int[Tensor, "latent sequences"]) -> Part:
        """Of some latents, each on its own sequences."""
        device = to_model(self.downstream.module, latents).device
        sums = {name: torch.zeros(sampled.numel(), dtype=torch.float64, device=device) for name in SUMS}
        likelier = torch.zeros(len(latents), self.downstream.d_vocab, device=device)
        column = torch.full((self.dictionary.d_sae,), -1)
        column[latents] = torch.arange(len(latents))
        together = max(1, NUMBERS_AT_ONCE // (self.tokens.shape[1] * self.downstream.d_vocab))
        for seqs in sampled[sampled >= 0].unique().split(together):
            batch = _Batch(self.downstream, self.dictionary, self.tokens[seqs], self.present[seqs])
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

    def _add(self, batch: _Batch, firings: _Firings, sums: dict[str, Tensor], likelier: Tensor, n: int) -> None:
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
        for some, log_p, later_pair, later_row, later_loss in batch.ablated(firings):
            at, target = clean.where[some.row], batch.next[some.row, None]
            change = clean.log_p[at] - log_p
            likelier.index_add_(0, some.pair // n, change.float())
            add("kl", some.pair, torch.einsum("rv,rv->r", clean.p[at], change))
            add("loss", some.pair, change.gather(1, target)[:, 0] * batch.counted.flatten()[some.row])
            was = clean.log_p[clean.where[later_row]].gather(1, batch.next[later_row, None])[:, 0]
            add("later_loss", later_pair, later_loss + was)


def _slices(length: int, size: int) -> Iterator[slice]:
    size = max(1, size)
    return (slice(start, min(start + size, length)) for start in range(0, length, size))
