"""Sequences after a clean pass to the hook, and the model from there on without latents that fire in them.

In:  a feature store; tokens, the model from a hook on (`evaluation.downstream`), a dictionary.
Out: sequences where latents fire; firings of pairs (latent, sequence); of some pairs at a time the log-probabilities
     without the latent, or the gradient along the way there.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.activations.hooks import to_model
from interp.codes.sparse_codes import Dictionary
from interp.evaluation.downstream import Downstream
from interp.features.feature_store import FeatureStore
from interp.storage.processes import slices

NUMBERS_AT_ONCE = 1 << 25
"""Log-probabilities in memory, thrice or so."""
_CHUNK_SEQUENCES = 64
FunctionOfChange = Callable[[Tensor], Tensor]
"""What follows from a change of the activations: logits, or a loss."""


class Firings(NamedTuple):
    """The firings of pairs (latent, sequence) of a batch, pair after pair, position after position."""

    pair: Int[Tensor, " firing"]
    """Where its sums are: the latent's number · sequences + the sequence's."""
    latent: Int[Tensor, " firing"]
    row: Int[Tensor, " firing"]
    """seq · n_ctx + pos in the batch."""
    z: Float[Tensor, " firing"]

    def take(self, part: slice | Tensor) -> "Firings":
        return Firings(*(column[part] for column in self))


class Others:
    """As long changes along the directions of other latents that fire, in an order drawn by the seed."""

    def __init__(self, features: FeatureStore, dictionary: Dictionary, seed: int):
        self.lengths = dictionary.W_dec.detach().norm(dim=1).cpu()
        n_active = torch.tensor(features.table().sort_values("latent")["n_active"].to_numpy())
        order = torch.randperm(len(n_active), generator=torch.Generator().manual_seed(seed))
        self.latents = order[((n_active > 0) & (self.lengths > 0))[order]]
        self.place = torch.zeros_like(order).index_copy_(0, self.latents, torch.arange(len(self.latents)))

    def instead(self, firings: Firings, n_ctx: int) -> Firings:
        """Firings at the same rows, along another latent at each position."""
        latent, step = firings.latent.cpu(), firings.row.cpu() % n_ctx
        step = step % max(len(self.latents) - 1, 1) + 1  # so that none comes round to itself
        other = self.latents[(self.place[latent] + step) % len(self.latents)]
        z = firings.z * (self.lengths[latent] / self.lengths[other]).to(firings.z)
        return firings._replace(latent=other.to(firings.latent.device), z=z)


class Clean(NamedTuple):
    """The model as it is, at the rows of a batch that are asked for."""

    where: Int[Tensor, " row"]
    """Of each row of the batch, where it is below; −1 for one that is not asked for."""
    log_p: Float[Tensor, "asked d_vocab"]
    p: Float[Tensor, "asked d_vocab"]
    gradient: Float[Tensor, "asked d_out"]


def sampled_sequences(
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
        fires[codes.rows[codes.fires] // n_ctx, codes.latents[codes.fires].long()] = True
        ranks = torch.where(fires[:, latents].T, rank[start:stop], n_seq)  # [latent, seq]
        best = torch.cat([best, ranks], 1).topk(n, dim=1, largest=False).values
    order = torch.cat([rank.argsort(), torch.tensor([-1])])
    return order[best.sort(1).values]


class AblationBatch:
    """Some sequences after a clean pass to the hook, and the firings in them that are to be ablated."""

    def __init__(
        self, downstream: Downstream, dictionary: Dictionary, tokens: Tensor, present: Bool[Tensor, "seq pos"]
    ):
        self.downstream, self.tokens = downstream, to_model(downstream.module, tokens)
        self.W_dec = dictionary.W_dec.detach().to(self.tokens.device)
        self.entered = downstream.enter(self.tokens)
        self.codes, usable = downstream.hooks.codes(dictionary, self.entered.acts)
        self.usable = usable.view(tokens.shape).to(self.tokens.device) & present.to(self.tokens.device)
        self.counted = self.usable.clone()  # what has a next token
        self.counted[:, -1] = False
        self.next = self.tokens.roll(-1, 1).flatten()

    def firings(self, column: Int[Tensor, " d_sae"], pair_of: Int[Tensor, "latent seq"]) -> Firings:
        """column: each latent's number among those looked at, or −1; pair_of: −1 where a pair is not sampled."""
        rows, latents, z = self.codes.rows.cpu(), self.codes.latents.cpu().long(), self.codes.values.cpu()
        of = column[latents]
        pair = torch.where(of >= 0, pair_of[of, rows // self.tokens.shape[1]], -1)
        keep = (pair >= 0) & (z > 0) & self.usable.flatten().cpu()[rows]
        firings = Firings(pair[keep], latents[keep], rows[keep], z[keep])
        firings = firings.take((firings.pair * self.tokens.numel() + firings.row).argsort())
        return Firings(*(column.to(self.W_dec.device) for column in firings))

    def clean(self, rows: Int[Tensor, " asked"]) -> Clean:
        """The clean model at the rows; at all rows, unless each position stands for itself."""
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
        return Clean(where, log_p.detach(), log_p.detach().exp(), gradient)

    def changes(self, firings: Firings) -> Float[Tensor, "firing d_out"]:
        return -firings.z[:, None].to(self.W_dec) * self.W_dec[firings.latent]

    def ablated(self, firings: Firings) -> Iterator["Ablated"]:
        """Some firings at a time; all those of a pair together."""
        if self.downstream.by_position:
            for some in self._firings_at_once(firings):
                nothing = some.pair[:0]
                log_p = self._logits(some.row, self.changes(some)).log_softmax(1)
                yield Ablated(some, log_p, nothing, nothing, nothing.to(log_p))
            return
        pos, later = self.tokens.shape[1], self.later(firings)
        for pairs in self._pairs_at_once(firings):
            logits = pairs.logits(pairs.change)
            pair_at, pos_at = later[pairs.part].nonzero().unbind(1)
            row = pairs.seq[pair_at] * pos + pos_at
            loss = F.cross_entropy(logits[pair_at, pos_at], self.next[row], reduction="none")
            log_p = logits[pairs.pair_at, pairs.firings.row % pos].log_softmax(1)
            yield Ablated(pairs.firings, log_p, pairs.pairs[pair_at], row, loss)

    def integrated(self, firings: Firings, steps: int) -> Iterator[tuple[Int[Tensor, " part"], Float[Tensor, " part"]]]:
        """Pairs and −z_j d_j · the gradient of the sequence's loss, averaged over the middles of `steps` equal parts of
        the way from x to x − z_j d_j (integrated gradients)."""
        if self.downstream.by_position:
            for some in self._firings_at_once(firings):
                yield some.pair, _along(self.changes(some), steps, partial(self._loss, some.row))
            return
        for pairs in self._pairs_at_once(firings):
            yield pairs.pairs, _along(pairs.change, steps, partial(self._loss_of_pairs, pairs))

    def _firings_at_once(self, firings: Firings) -> Iterator[Firings]:
        """Some firings at a time; none where nothing fires."""
        if not len(firings.pair):
            return
        for part in slices(len(firings.pair), max(1, NUMBERS_AT_ONCE // 8 // self.downstream.d_vocab)):
            yield firings.take(part)

    def _pairs_at_once(self, firings: Firings) -> Iterator["_SomePairs"]:
        """Some pairs at a time, with all of their firings; none where nothing fires."""
        if not len(firings.pair):
            return
        pos = self.tokens.shape[1]
        pairs, group, counts = firings.pair.unique_consecutive(return_inverse=True, return_counts=True)
        ends = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        for part in slices(len(counts), max(1, NUMBERS_AT_ONCE // 2 // (pos * self.downstream.d_vocab))):
            entries = slice(int(ends[part.start]), int(ends[part.stop]))
            some, pair_at = firings.take(entries), group[entries] - part.start
            seq = firings.row[ends[part]] // pos
            change = self.W_dec.new_zeros(len(seq), pos, self.W_dec.shape[1])
            change[pair_at, some.row % pos] = self.changes(some)
            stream = None if self.entered.stream is None else self.entered.stream[seq]
            logits = partial(self.downstream.logits, self.tokens[seq], stream)
            yield _SomePairs(part, pairs[part], seq, some, pair_at, logits, change)

    def _loss_of_pairs(self, some: "_SomePairs", change: Float[Tensor, "pair pos d_out"]) -> Float[Tensor, ""]:
        """The summed loss of the sequences of some pairs."""
        counted, following = self.counted[some.seq], self.next.view(self.tokens.shape)[some.seq]
        return F.cross_entropy(some.logits(change)[counted], following[counted], reduction="sum")

    def _loss(self, row: Tensor, change: Float[Tensor, "row d_out"]) -> Float[Tensor, ""]:
        log_p = self._logits(row, change).log_softmax(1)
        return -(log_p.gather(1, self.next[row, None])[:, 0] * self.counted.flatten()[row]).sum()

    def later(self, firings: Firings) -> Bool[Tensor, "pair pos"]:
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


class _SomePairs(NamedTuple):
    """Some of the pairs (latent, sequence), and the model from the hook on as a function of a change in each."""

    part: slice
    """Where they are among all pairs."""
    pairs: Int[Tensor, " pair"]
    seq: Int[Tensor, " pair"]
    """The sequence of each, in the batch."""
    firings: Firings
    pair_at: Int[Tensor, " firing"]
    """The pair of each firing, counted from the first of these."""
    logits: FunctionOfChange
    change: Float[Tensor, "pair pos d_out"]
    """Minus what the latent writes, at its firings."""


class Ablated(NamedTuple):
    """The model without some firings: log-probabilities at each, and the losses behind the first of each pair."""

    firings: Firings
    log_p: Float[Tensor, "firing d_vocab"]
    later_pair: Int[Tensor, " later"]
    later_row: Int[Tensor, " later"]
    later_loss: Float[Tensor, " later"]


def _along(change: Float[Tensor, "part ..."], steps: int, loss: FunctionOfChange) -> Float[Tensor, " part"]:
    total = torch.zeros_like(change)
    for k in range(steps):
        at = (change * ((k + 0.5) / steps)).requires_grad_(True)
        with torch.enable_grad():
            total += torch.autograd.grad(loss(at), at)[0]
    return (total / steps * change).flatten(1).sum(1)
