"""Endless text from a random source whose every probability is known.

    P(x_t | x_<t) = Σ_k w_k P_k(x_t) / Σ_k w_k,   k = 0..min(t, K)
    P_0 = Zipf's law over the vocabulary, ∝ 1 / rank^s
    P_k = all on one token, f_k(x_{t−k}, …, x_{t−1}), for k ≥ 1

The tables f_k are drawn once from P_0. A sequence starts without context, and its start leaves out the orders that it
has no context for. There are V^k facts of order k to learn, one for each context. Frequent tokens make frequent
contexts, so facts come at every scale of frequency, and a model that can hold more of them, or has seen more text,
gains from it. The mean of −ln P(x_t | x_<t) is the floor: the loss in nats a token that no model beats except by the
luck of the sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    d_vocab: int = 64
    weights: tuple[float, ...] = (0.2, 0.2, 0.6)
    """w_0..w_K."""
    zipf: float = 1.0
    """s."""
    seed: int = 0
    """Seed of the tables."""

    def __post_init__(self) -> None:
        if self.d_vocab < 2:
            raise ValueError(f"d_vocab={self.d_vocab} must be at least 2")
        if len(self.weights) < 1 or min(self.weights) <= 0 or abs(sum(self.weights) - 1) > 1e-9:
            raise ValueError(f"weights={self.weights} must be positive and sum to 1")

    @property
    def order(self) -> int:
        return len(self.weights) - 1


class Source:
    """The tables, and what can be drawn from them."""

    def __init__(self, config: SourceConfig):
        self.config = config
        ranks = torch.arange(1, config.d_vocab + 1, dtype=torch.double)
        self.unigram = ranks**-config.zipf / (ranks**-config.zipf).sum()
        """P_0 [d_vocab]."""
        generator = torch.Generator().manual_seed(config.seed)
        self.tables = [
            torch.multinomial(self.unigram, config.d_vocab**k, replacement=True, generator=generator)
            for k in range(1, config.order + 1)
        ]
        """f_1..f_K, each [d_vocab^k]; a context is read as a number in base d_vocab."""

    def sample(self, n_sequences: int, n_ctx: int, *, seed: int) -> Int[Tensor, "seq pos"]:
        """Return new sequences. Another seed gives other text in the same language."""
        generator = torch.Generator().manual_seed(seed)
        shape, weights = (n_sequences, n_ctx), torch.tensor(self.config.weights, dtype=torch.double)
        tokens = torch.multinomial(self.unigram, n_sequences * n_ctx, replacement=True, generator=generator).view(shape)
        for t in range(1, n_ctx):
            weights_here = weights[: min(t, self.config.order) + 1]
            orders = torch.multinomial(weights_here, n_sequences, replacement=True, generator=generator)
            for k in range(1, len(weights_here)):
                tokens[:, t] = torch.where(orders == k, self._continuation(tokens, t, k), tokens[:, t])
        return tokens

    def log_probs(self, tokens: Int[Tensor, "seq pos"]) -> Float[Tensor, "seq pos"]:
        """Return ln P(x_t | x_<t) at every place of whole sequences."""
        weights, columns = self.config.weights, []
        for t in range(tokens.shape[1]):
            weights_here: Sequence[float] = weights[: min(t, self.config.order) + 1]
            p = weights_here[0] * self.unigram[tokens[:, t]]
            for k in range(1, len(weights_here)):
                p = p + weights_here[k] * (self._continuation(tokens, t, k) == tokens[:, t])
            columns.append((p / sum(weights_here)).log())
        return torch.stack(columns, 1)

    def floor(self, tokens: Int[Tensor, "seq pos"]) -> float:
        """Return the loss of the source itself on `tokens`, in nats a token, over all but the first of each
        sequence."""
        return float(-self.log_probs(tokens)[:, 1:].mean())

    def _continuation(self, tokens: Tensor, t: int, k: int) -> Int[Tensor, " seq"]:
        """Return f_k at place t."""
        context = torch.zeros_like(tokens[:, t])
        for place in range(t - k, t):
            context = context * self.config.d_vocab + tokens[:, place]
        return self.tables[k - 1][context]
