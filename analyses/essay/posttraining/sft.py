"""Supervised fine-tuning: next-token prediction with the loss on the responses only (Ouyang et al. 2022, §3.5).

    L = − (1 / Σ_i |y_i|) Σ_i Σ_t log π(y_it | x_i, y_i<t)          nats a token

over conversations with prompt x_i and response y_i, where `<end>` is the last token of y_i. The prompt is read, never
predicted. Logits are computed only where the loss needs them.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from analyses.essay.posttraining.descent import PostTrainingConfig, descend
from analyses.essay.posttraining.turns import Sequences
from models.training_recipe import token_loss
from models.transformer import Transformer


def before_responses(
    model: Transformer, sequences: Sequences
) -> tuple[Float[Tensor, "token d_model"], Int[Tensor, " token"]]:
    """Return what the unembedding reads at the places from which a token of a response is predicted, and those
    tokens."""
    predicted = sequences.response[:, 1:]
    resid = model(sequences.tokens[:, :-1], stop_at_layer=model.config.n_layers)
    return model.ln_final(resid[predicted]), sequences.tokens[:, 1:][predicted]


def response_loss(model: Transformer, sequences: Sequences) -> Float[Tensor, ""]:
    """Return L as above."""
    x, targets = before_responses(model, sequences)
    return token_loss(x, model.W_U, model.b_U, targets)


def response_log_probs(model: Transformer, sequences: Sequences) -> Float[Tensor, " seq"]:
    """Return log π(y_i | x_i) = Σ_t log π(y_it | x_i, y_i<t), in nats."""
    x, targets = before_responses(model, sequences)
    losses = F.cross_entropy(F.linear(x, model.W_U.T, model.b_U), targets, reduction="none")
    rows = sequences.response[:, 1:].nonzero()[:, 0]
    return -losses.new_zeros(len(sequences)).index_add(0, rows, losses)


@torch.no_grad()
def mean_response_loss(model: Transformer, sequences: Sequences, *, batch_size: int = 256) -> float:
    """L over all of them, a batch at a time."""
    total = sum(
        float(response_log_probs(model, sequences[start : start + batch_size]).sum())
        for start in range(0, len(sequences), batch_size)
    )
    return -total / int(sequences.response.sum())


def tune_on_responses(
    model: Transformer,
    sequences: Sequences,
    config: PostTrainingConfig,
    watch: Callable[[int, float], None] | None = None,
) -> None:
    """Tune the model in place (SFT). `watch` is as in `descend`."""
    descend(model, len(sequences), config, lambda rows: response_loss(model, sequences[rows]), watch)
