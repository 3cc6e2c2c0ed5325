"""The loss of a language model on tokens, beside that of n-gram counts (`models.ngrams`), and sample texts."""

import math
from typing import Any, Protocol

import torch
from jaxtyping import Int
from torch import Tensor

from interp.checks.limits import check_at_least
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress
from models.language_model import LanguageModel
from models.ngrams import bigram_cross_entropy, check_pairs, unigram_cross_entropy
from models.training_recipe import Precision, TrainingConfig, autocast_to
from models.transformer import Transformer

SAMPLE_TOKENS = 120
"""Tokens of each text that a trained model writes."""


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
    check_pairs(tokens.shape)
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
