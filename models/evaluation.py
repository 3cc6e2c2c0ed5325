"""What a language model reaches and writes: its loss on tokens, and samples of it as text."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import torch
from jaxtyping import Int
from torch import Tensor

from models.ngrams import bigram_cross_entropy, unigram_cross_entropy
from models.recipe import Precision, TrainingConfig, autocast
from models.transformer import Transformer

if TYPE_CHECKING:
    from models.language_model import LanguageModel
    from models.tokens import LabelledTokens

Progress = Callable[[int, int, str], None]


class TextTokenizer(Protocol):
    @property
    def bos_id(self) -> int: ...

    def decode(self, ids: Any) -> str: ...


@torch.no_grad()
def evaluate_loss(
    model: "Transformer | LanguageModel",
    tokens: Int[Tensor, "seq pos"],
    *,
    batch_size: int = 32,
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> float:
    """The model's next-token loss in nats a token, over every token but the first of each sequence."""
    device, total = next(model.parameters()).device, 0.0
    for start in range(0, len(tokens), batch_size):
        batch = tokens[start : start + batch_size].to(device)
        with autocast(device, precision):
            total += float(_loss(model, batch)) * len(batch)
        if progress is not None:
            progress(min(start + batch_size, len(tokens)), len(tokens), "validation")
    return total / len(tokens)


def _loss(model: "Transformer | LanguageModel", batch: Int[Tensor, "seq pos"]) -> Tensor:
    if isinstance(model, Transformer):
        return model(batch, return_type="loss")
    logits = model(batch.long())[:, :-1].flatten(0, 1).float()
    return torch.nn.functional.cross_entropy(logits, batch[:, 1:].flatten().long())


def evaluate_pretrained(
    model: "LanguageModel",
    train_tokens: Int[Tensor, "seq pos"],
    val: "LabelledTokens",
    *,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> dict[str, float | int]:
    """A pretrained model's loss beside that of counting on the training tokens: nats a token, over every validation
    token but the first of each sequence; and its size."""
    loss = evaluate_loss(model, val.tokens, batch_size=batch_size, precision="float32", progress=progress)
    return {
        "val_loss": loss,
        "bits_per_character": loss * val.tokens.numel() / (val.characters * math.log(2)),
        "unigram_cross_entropy": unigram_cross_entropy(train_tokens, val.tokens, model.d_vocab),
        "bigram_cross_entropy": bigram_cross_entropy(train_tokens, val.tokens, model.d_vocab),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def samples(model: Transformer, tokenizer: TextTokenizer, config: TrainingConfig) -> list[dict[str, Any]]:
    start = torch.full((config.n_samples, 1), tokenizer.bos_id, device=model.W_E.device)
    rows = model.generate(start, config.sample_tokens, temperature=0.8, seed=config.seed)
    return [{"text": decoded(tokenizer, row), "temperature": 0.8, "seed": config.seed} for row in rows]


def decoded(tokenizer: TextTokenizer, ids: Int[Tensor, " pos"]) -> str:
    return tokenizer.decode([token for token in ids.tolist() if token != tokenizer.bos_id])
