"""The loss of a language model on tokens, sample texts, and the loss of n-gram counts for comparison.

The corpus's own unigram and bigram cross-entropy, in nats per token, at the same positions as a language model's loss,
each token of a sequence except the first:

    p(b)     = (c(b) + α) / (N + α d_vocab)
    p(b | a) = (max(c(a, b) − δ, 0) + (κ + δ n(a)) p(b)) / (c(a) + κ)

c are counts on the training tokens, n(a) is the number of distinct tokens seen after a. δ = 0 is a Dirichlet prior of
weight κ centred on the unigram, κ = 0 is absolute discounting. α, and the pair (δ, κ), are the best of a grid on the
last tenth of the training sequences, with counts of the other nine tenths; then all of them are counted. The
validation tokens choose nothing.
"""

import math
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from interp.checks.errors import InterpError
from interp.checks.limits import check_at_least
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress
from models.language_model import LanguageModel
from models.training_recipe import Precision, TrainingConfig, autocast_to
from models.transformer import Transformer

SAMPLE_TOKENS = 120
"""Tokens of each text that a trained model writes."""

ALPHAS = (0.01, 0.03, 0.1, 0.3, 1.0)
DISCOUNTS = (0.0, 0.25, 0.5, 0.7, 0.8, 0.9)
BIGRAM_WEIGHTS = (0.0, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class TextTokenizer(Protocol):
    @property
    def bos_id(self) -> int: ...

    def decode(self, ids: Any) -> str: ...


@shows_progress
@torch.no_grad()
def evaluate_loss(
    model: Transformer | LanguageModel,
    tokens: Int[Tensor, "seq pos"],
    *,
    batch_size: int = 32,
    precision: Precision = "auto",
    progress: Progress = no_progress,
) -> float:
    """Measure the model's next-token loss in nats per token, over every token except the first of each sequence.

    Raises ValueError if no token follows another, and for batch_size below 1."""
    _check_pairs(tokens.shape)
    check_at_least(1, batch_size=batch_size)
    device = next(model.parameters()).device
    total = 0.0
    for start in range(0, len(tokens), batch_size):
        batch = tokens[start : start + batch_size].to(device)
        with autocast_to(device, precision):
            total += float(_loss(model, batch)) * len(batch)
        progress(min(start + batch_size, len(tokens)), len(tokens), "validation")
    return total / len(tokens)


def _loss(model: Transformer | LanguageModel, batch: Int[Tensor, "seq pos"]) -> Tensor:
    if isinstance(model, Transformer):
        return model(batch, return_type="loss")
    logits = model(batch.long())[:, :-1].flatten(0, 1).float()
    return torch.nn.functional.cross_entropy(logits, batch[:, 1:].flatten().long())


def measure_losses(
    model: Transformer | LanguageModel,
    train_tokens: Int[Tensor, "seq pos"],
    val_tokens: Int[Tensor, "seq pos"],
    val_characters: int | None,
    **options: Any,
) -> dict[str, Any]:
    """Measure the model's loss on the validation tokens, the loss of n-gram counts from the training tokens, and the
    model's size.

    Losses are in nats per token. `options` go to `evaluate_loss`.
    """
    loss = evaluate_loss(model, val_tokens, **options)
    return {
        "val_loss": loss,
        "bits_per_character": loss * val_tokens.numel() / (val_characters * math.log(2)) if val_characters else None,
        "unigram_cross_entropy": unigram_cross_entropy(train_tokens, val_tokens, model.d_vocab),
        "bigram_cross_entropy": bigram_cross_entropy(train_tokens, val_tokens, model.d_vocab),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def sample_texts(model: Transformer, tokenizer: TextTokenizer, config: TrainingConfig) -> list[dict[str, Any]]:
    start = torch.full((config.n_samples, 1), tokenizer.bos_id, device=model.W_E.device)
    rows = model.generate(start, SAMPLE_TOKENS, temperature=0.8, seed=config.seed)
    return [{"text": decode_without_bos(tokenizer, row), "temperature": 0.8, "seed": config.seed} for row in rows]


def decode_without_bos(tokenizer: TextTokenizer, ids: Int[Tensor, " pos"]) -> str:
    return tokenizer.decode([token for token in ids.tolist() if token != tokenizer.bos_id])


def unigram_cross_entropy(
    train_tokens: Int[Tensor, "seq pos"], val_tokens: Int[Tensor, "seq pos"], d_vocab: int
) -> float:
    """Return the loss of predicting each token by its frequency alone, in nats per token.

    Raises ValueError if a token lies outside 0..d_vocab − 1 or there are no pairs to count.
    """
    train, val = _pairs(train_tokens, d_vocab), _pairs(val_tokens, d_vocab)
    return unigram_of(train, d_vocab).cross_entropy(val)


def bigram_cross_entropy(
    train_tokens: Int[Tensor, "seq pos"], val_tokens: Int[Tensor, "seq pos"], d_vocab: int
) -> float:
    """Return the loss of predicting each token from the previous one, in nats per token, with the smoothing above.
    Raises as `unigram_cross_entropy` does."""
    train, val = _pairs(train_tokens, d_vocab), _pairs(val_tokens, d_vocab)
    fit, held = _split(train)
    counts = Bigrams(fit, d_vocab)
    unigram = unigram_of(fit, d_vocab)
    grid = [(discount, weight) for discount in DISCOUNTS for weight in BIGRAM_WEIGHTS if discount + weight > 0]
    best = min(grid, key=lambda smoothing: counts.cross_entropy(held, unigram, *smoothing))
    return Bigrams(train, d_vocab).cross_entropy(val, unigram_of(train, d_vocab), *best)


class Unigram(NamedTuple):
    p: np.ndarray  # [d_vocab]

    def cross_entropy(self, pairs: np.ndarray) -> float:
        return float(-np.log(self.p[pairs[:, 1]]).mean())


class Bigrams:
    """Counts of the pairs that occur, sorted by pair, so that memory is bounded by the corpus and not by d_vocab²."""

    def __init__(self, pairs: np.ndarray, d_vocab: int):
        self.d_vocab = d_vocab
        self.keys, self.counts = np.unique(pairs[:, 0] * d_vocab + pairs[:, 1], return_counts=True)
        first = self.keys // d_vocab
        self.context = np.bincount(first, self.counts, minlength=d_vocab)  # c(a)
        self.followers = np.bincount(first, minlength=d_vocab)  # n(a)

    def cross_entropy(self, pairs: np.ndarray, unigram: Unigram, discount: float, weight: float) -> float:
        first, second = pairs.T
        key = first * self.d_vocab + second
        nearest = np.searchsorted(self.keys, key).clip(max=len(self.keys) - 1)
        count = np.where(self.keys[nearest] == key, self.counts[nearest], 0)
        context, prior = self.context[first], unigram.p[second]
        backed_off = np.maximum(count - discount, 0) + (weight + discount * self.followers[first]) * prior
        p = np.where(context > 0, backed_off / np.maximum(context + weight, 1e-9), prior)
        return float(-np.log(p).mean())


def unigram_of(pairs: np.ndarray, d_vocab: int) -> Unigram:
    """Fit the unigrams to pairs, with the smoothing that fits a held-out part best."""

    def fit(pairs: np.ndarray, alpha: float) -> Unigram:
        counts = np.bincount(pairs[:, 1], minlength=d_vocab) + alpha
        return Unigram(counts / counts.sum())

    kept, held = _split(pairs)
    return fit(pairs, min(ALPHAS, key=lambda alpha: fit(kept, alpha).cross_entropy(held)))


def _split(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    held = max(1, len(pairs) // 10)
    return pairs[: max(1, len(pairs) - held)], pairs[-held:]


def _pairs(tokens: Int[Tensor, "seq pos"], d_vocab: int) -> np.ndarray:
    """Return [pair, 2]: each token of a sequence except the first, together with its predecessor."""
    array = tokens.cpu().numpy().astype(np.int64)
    _check_pairs(array.shape)
    if array.min() < 0 or array.max() >= d_vocab:
        raise InterpError(f"token {array.max() if array.min() >= 0 else array.min()} must be in 0..{d_vocab - 1}")
    return np.stack([array[:, :-1].ravel(), array[:, 1:].ravel()], 1)


def _check_pairs(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or shape[0] == 0 or shape[1] < 2:
        raise InterpError(f"tokens of shape {tuple(shape)} hold no pair: at least one sequence of two tokens is needed")
