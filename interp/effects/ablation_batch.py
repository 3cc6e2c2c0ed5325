"""Run a batch of sequences up to a hook, and then the downstream model without some of the latents that fire in them.

In:  a feature store; tokens, the model downstream of a hook (`evaluation.downstream`), a dictionary.
Out: sequences where latents fire; firings of pairs (latent, sequence); for a few pairs at a time, the predictions
without the latent compared with the unchanged model.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.activations.hooks import to_model
from interp.codes.code_chunks import read_chunks
from interp.codes.dictionary import Dictionary
from interp.evaluation.downstream import Downstream
from interp.features.feature_store import FeatureStore
from interp.runtime.threads import slices

NUMBERS_AT_ONCE = 1 << 25
"""Upper bound on the number of elements that a step holds. Peak use is about three times as much."""
_KEYS_AT_ONCE = 1 << 20
"""Pairs of a latent and a sequence that are added before the first of each latent are picked."""


class Firings(NamedTuple):
    """The firings of pairs (latent, sequence) of a batch, sorted by pair, then by position."""

    pair: Int[Tensor, " firing"]
    """The index of its sums: (index of the latent) · (number of sequences) + (index of the sequence)."""
    latent: Int[Tensor, " firing"]
    row: Int[Tensor, " firing"]
    """The row of each firing in the batch, seq · n_ctx + pos."""
    z: Float[Tensor, " firing"]

    def select(self, entries: slice | Tensor) -> "Firings":
        return Firings(*(column[entries] for column in self))


class NullDirections:
    """Null changes, which have the same length but go along the directions of other latents that fire. The seed fixes
    their random order."""

    def __init__(self, features: FeatureStore, dictionary: Dictionary, seed: int):
        self.lengths = dictionary.W_dec.detach().norm(dim=1).cpu()
        n_active = torch.tensor(features.column("n_active"))
        order = torch.randperm(len(n_active), generator=torch.Generator().manual_seed(seed))
        self.latents = order[((n_active > 0) & (self.lengths > 0))[order]]
        self.index_of = torch.zeros_like(order).index_copy_(0, self.latents, torch.arange(len(self.latents)))

    def with_other_latents(self, firings: Firings, n_ctx: int) -> Firings:
        """Return firings at the same rows, with another latent at each position. Without two latents that fire there is
        no null, and all activations are NaN."""
        if len(self.latents) < 2:
            return firings._replace(z=torch.full_like(firings.z, torch.nan))
        latent = firings.latent.cpu()
        step = firings.row.cpu() % n_ctx
        step = step % (len(self.latents) - 1) + 1  # no latent replaces itself
        other = self.latents[(self.index_of[latent] + step) % len(self.latents)]
        z = firings.z * (self.lengths[latent] / self.lengths[other]).to(firings.z)
        return firings._replace(latent=other.to(firings.latent.device), z=z)


class CleanRows(NamedTuple):
    """The results of the unchanged model at the requested rows of a batch."""

    where: Int[Tensor, " row"]
    """The index of each row of the batch in the fields below. −1 for a row that is not requested."""
    states: Float[Tensor, "asked d_state"]
    log_p: Float[Tensor, "asked d_vocab"]
    expected: Float[Tensor, "asked d_state"]
    """The gradient of log Σ exp(logits) with respect to the states: the mean of the readout's rows under p."""
    gradient: Float[Tensor, "asked d_out"]
    """The gradient of the sequence's loss with respect to the activations at the hook."""


class AblationEffect(NamedTuple):
    """The model without a latent compared with the unchanged model, at some rows."""

    kl: Float[Tensor, " row"]
    loss: Float[Tensor, " row"]
    """CE' − CE of the next token, in nats. Undefined if there is no next token."""
    normaliser: Float[Tensor, " row"]
    """log Σ exp(logits') minus log Σ exp(logits)."""
    states: Float[Tensor, "row d_state"]
    """The change of the states. The `readout` of it, minus the normaliser, is log p' − log p."""


def sampled_sequences(
    features: FeatureStore, latents: Int[Tensor, " latent"], n: int, seed: int
) -> Int[Tensor, "latent sequences"]:
    """Return, for each latent, at most n of the sequences where it fires. −1 fills the rest. All latents use the same
    order of the sequences, so that few sequences serve many latents."""
    n_seq, n_ctx = features.tokens.shape
    rank = torch.randperm(n_seq, generator=torch.Generator().manual_seed(seed))
    column = torch.full((features.d_sae,), -1)
    column[latents] = torch.arange(len(latents))

    def first(keys: Int[Tensor, " key"]) -> tuple[Int[Tensor, " kept"], Int[Tensor, " kept"], Int[Tensor, " kept"]]:
        """Return the keys of the first n sequences of each latent by rank, the latent of each key, and its index among
        those of the latent."""
        keys = keys.unique()
        latent = keys // n_seq
        ordinal = torch.arange(len(keys)) - torch.searchsorted(latent, torch.arange(len(latents)))[latent]
        return keys[ordinal < n], latent[ordinal < n], ordinal[ordinal < n]

    parts = [torch.zeros(0, dtype=torch.long)]  # keys, latent · n_seq + rank
    # The rank of each latent's n-th sequence so far: later ones are not needed. The last is for all other latents.
    reach = torch.full((len(latents) + 1,), n_seq)
    reach[-1] = 0
    for chunk in read_chunks(features.codes, n_ctx):
        latent = column[torch.from_numpy(chunk.latents).long()]
        rank_of_firing = rank[torch.from_numpy(chunk.rows) // n_ctx]
        is_needed = rank_of_firing < reach[latent]
        parts.append((latent * n_seq + rank_of_firing)[is_needed].unique())
        if sum(map(len, parts[1:])) > max(_KEYS_AT_ONCE, len(parts[0])):
            keys, latent, ordinal = first(torch.cat(parts))
            reach[latent[ordinal == n - 1]] = keys[ordinal == n - 1] % n_seq
            parts = [keys]
    keys, latent, ordinal = first(torch.cat(parts))
    sampled = torch.full((len(latents), n), -1)
    sampled[latent, ordinal] = rank.argsort()[keys % n_seq]
    return sampled


class AblationBatch:
    """Some sequences after a clean pass up to the hook, and the firings in them that are to be ablated."""

    def __init__(
        self, downstream: Downstream, dictionary: Dictionary, tokens: Tensor, present: Bool[Tensor, "seq pos"]
    ):
        self.downstream = downstream
        self.tokens = to_model(downstream.module, tokens)
        self.W_dec = dictionary.W_dec.detach().to(self.tokens.device)
        self.at_hook = downstream.run_to_hook(self.tokens)
        self.codes, within_limit = downstream.hooks.codes(dictionary, self.at_hook.acts)
        self.usable = within_limit.view(tokens.shape).to(self.tokens.device) & present.to(self.tokens.device)
        self.counted = self.usable.clone()  # positions with a next token
        self.counted[:, -1] = False
        self.next_tokens = self.tokens.roll(-1, 1).flatten()

    def firings(self, column: Int[Tensor, " d_sae"], pair_of: Int[Tensor, "latent seq"]) -> Firings:
        """Return the firings.
        column: each latent's index among the selected ones, or −1.
        pair_of: −1 for a pair that is not sampled."""
        rows = self.codes.rows.cpu()
        latents = self.codes.latents.cpu().long()
        z = self.codes.values.cpu()
        column_of = column[latents]
        pair = torch.where(column_of >= 0, pair_of[column_of, rows // self.tokens.shape[1]], -1)
        keep = (pair >= 0) & (z > 0) & self.usable.flatten().cpu()[rows]
        firings = Firings(pair[keep], latents[keep], rows[keep], z[keep])
        firings = firings.select((firings.pair * self.tokens.numel() + firings.row).argsort())
        return Firings(*(column.to(self.W_dec.device) for column in firings))

    def clean(self, rows: Int[Tensor, " asked"]) -> CleanRows:
        """Return the results of the clean model at the rows. Unless positions are independent, these are all rows."""
        readout = self.downstream.readout
        with torch.enable_grad():
            if self.downstream.by_position:
                change = self.W_dec.new_zeros(len(rows), self.W_dec.shape[1], requires_grad=True)
                states = self._states(rows, change)
            else:
                rows = torch.arange(self.tokens.numel(), device=rows.device)
                change = self.W_dec.new_zeros(*self.tokens.shape, self.W_dec.shape[1], requires_grad=True)
                states = self.downstream.states(self.tokens, self.at_hook.stream, change).flatten(0, 1)
        log_p = readout.logits(states.detach()).log_softmax(1)
        p = log_p.exp()
        expected = readout.expected(p)
        error_of_states = (expected - readout.of_tokens(self.next_tokens[rows])) * self.counted.flatten()[rows, None]
        gradient = torch.autograd.grad(states, change, error_of_states.to(states))[0].flatten(0, -2)
        where = torch.full_like(self.next_tokens, -1)
        where[rows] = torch.arange(len(rows), device=rows.device)
        return CleanRows(where, states.detach().to(log_p), log_p, expected, gradient)

    def compare(
        self, clean: CleanRows, rows: Int[Tensor, " row"], states: Float[Tensor, "row d_state"]
    ) -> Iterator[tuple[slice, AblationEffect]]:
        """Compare changed states of some rows with the clean model, block by block.

        With δ the change of the logits and c = log Σ p exp δ, KL(p ‖ p') = c − Σ p δ and CE' − CE = c − δ_next. Only c
        takes a pass over the vocabulary."""
        for part in slices(len(rows), max(1, NUMBERS_AT_ONCE // 32 // self.downstream.d_vocab)):
            at, target = clean.where[rows[part]], self.next_tokens[rows[part], None]
            change = states[part].to(clean.states) - clean.states[at]
            log_p = clean.log_p[at]
            before = log_p.gather(1, target)
            after = log_p.add_(self.downstream.readout.differences(change))
            normaliser = after.logsumexp(1)
            loss = normaliser - (after.gather(1, target) - before)[:, 0]
            yield part, AblationEffect(normaliser - (change * clean.expected[at]).sum(1), loss, normaliser, change)

    def changes(self, firings: Firings) -> Float[Tensor, "firing d_out"]:
        return -firings.z[:, None].to(self.W_dec) * self.W_dec[firings.latent]

    def ablate(self, firings: Firings) -> Iterator["AblatedStates"]:
        """Yield the states without the latents, block by block. A block has all firings of a pair."""
        if self.downstream.by_position:
            nothing = firings.pair[:0]
            for block in self._firings_at_once(firings):
                states = self._states(block.row, self.changes(block))
                yield AblatedStates(block, states, nothing, nothing, states[:0])
            return
        pos = self.tokens.shape[1]
        later = self.later(firings)
        for pairs in self._pairs_at_once(firings):
            states = pairs.states(pairs.change)
            pair_at, pos_at = later[pairs.numbers].nonzero().unbind(1)
            states_at_firings = states[pairs.pair_at, pairs.firings.row % pos]
            rows = pairs.seq[pair_at] * pos + pos_at
            yield AblatedStates(pairs.firings, states_at_firings, pairs.pairs[pair_at], rows, states[pair_at, pos_at])

    def _firings_at_once(self, firings: Firings) -> Iterator[Firings]:
        """Yield blocks of firings. Yields nothing if nothing fires."""
        if not len(firings.pair):
            return
        for part in slices(len(firings.pair), max(1, NUMBERS_AT_ONCE // 8 // self.downstream.d_vocab)):
            yield firings.select(part)

    def _pairs_at_once(self, firings: Firings) -> Iterator["_PairBlock"]:
        """Yield blocks of pairs with all their firings, so that their states fit in memory. Yields nothing if nothing
        fires."""
        if not len(firings.pair):
            return
        pos = self.tokens.shape[1]
        pairs, group, counts = firings.pair.unique_consecutive(return_inverse=True, return_counts=True)
        ends = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        for part in slices(len(counts), max(1, NUMBERS_AT_ONCE // 4 // (pos * self.downstream.readout.d_state))):
            entries = slice(int(ends[part.start]), int(ends[part.stop]))
            firings_of_pairs = firings.select(entries)
            pair_at = group[entries] - part.start
            seq = firings.row[ends[part]] // pos
            change = self.W_dec.new_zeros(len(seq), pos, self.W_dec.shape[1])
            change[pair_at, firings_of_pairs.row % pos] = self.changes(firings_of_pairs)
            stream = None if self.at_hook.stream is None else self.at_hook.stream[seq]
            states = partial(self.downstream.states, self.tokens[seq], stream)
            yield _PairBlock(part, pairs[part], seq, firings_of_pairs, pair_at, states, change)

    def later(self, firings: Firings) -> Bool[Tensor, "pair pos"]:
        """Mark, for each pair, the positions after its first firing that have a next token and are not firings."""
        pos = self.tokens.shape[1]
        pairs, group = firings.pair.unique_consecutive(return_inverse=True)
        fires = torch.zeros(len(pairs), pos, dtype=torch.bool, device=group.device)
        fires[group, firings.row % pos] = True
        seq = torch.zeros_like(pairs).index_copy_(0, group, firings.row // pos)
        return (fires.cumsum(1) > 0) & ~fires & self.counted[seq]

    def _states(self, rows: Int[Tensor, " row"], change: Float[Tensor, "row d_out"]) -> Float[Tensor, "row d_state"]:
        stream = None if self.at_hook.stream is None else self.at_hook.stream.flatten(0, 1)[rows, None]
        return self.downstream.states(self.tokens.flatten()[rows, None], stream, change[:, None])[:, 0]


class _PairBlock(NamedTuple):
    """Some of the pairs (latent, sequence), and what the downstream model needs to run with a change in each."""

    numbers: slice
    """The numbers of these pairs, counted among all pairs."""
    pairs: Int[Tensor, " pair"]
    seq: Int[Tensor, " pair"]
    """The index of each pair's sequence in the batch."""
    firings: Firings
    pair_at: Int[Tensor, " firing"]
    """The index of each firing's pair, counted within the block."""
    states: Callable[[Tensor], Tensor]
    """A function from a change of the activations to the states."""
    change: Float[Tensor, "pair pos d_out"]
    """The change: minus the latent's output, at its firings."""


class AblatedStates(NamedTuple):
    """The states without some latents, at each firing, and at the positions after the first firing of each pair."""

    firings: Firings
    states: Float[Tensor, "firing d_state"]
    later_pair: Int[Tensor, " later"]
    later_row: Int[Tensor, " later"]
    later_states: Float[Tensor, "later d_state"]
