"""What a language model reaches and writes: its loss on tokens, and samples of it as text."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from jaxtyping import Int
from torch import Tensor

from models.recipe import Precision, TrainingConfig, autocast
from models.transformer import Transformer

Progress = Callable[[int, int, str], None]


class TextTokenizer(Protocol):
    @property
    def bos_id(self) -> int: ...

    def decode(self, ids: Any) -> str: ...


@torch.no_grad()
def evaluate_loss(
    model: Transformer,
    tokens: Int[Tensor, "seq pos"],
    *,
    batch_size: int = 32,
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> float:
    """The model's next-token loss in nats a token, over every token but the first of each sequence."""
    device, total = model.W_E.device, 0.0
    for start in range(0, len(tokens), batch_size):
        batch = tokens[start : start + batch_size].to(device)
        with autocast(device, precision):
            total += float(model(batch, return_type="loss")) * len(batch)
        if progress is not None:
            progress(min(start + batch_size, len(tokens)), len(tokens), "validation")
    return total / len(tokens)


def samples(model: Transformer, tokenizer: TextTokenizer, config: TrainingConfig) -> list[dict[str, Any]]:
    start = torch.full((config.n_samples, 1), tokenizer.bos_id, device=model.W_E.device)
    rows = model.generate(start, config.sample_tokens, temperature=0.8, seed=config.seed)
    return [{"text": decoded(tokenizer, row), "temperature": 0.8, "seed": config.seed} for row in rows]


def decoded(tokenizer: TextTokenizer, ids: Int[Tensor, " pos"]) -> str:
    return tokenizer.decode([token for token in ids.tolist() if token != tokenizer.bos_id])
