"""A transformer whose attention sees the whole sequence, trained on next-token targets all the same: the answer leaks.

    loss = mean over t of −log p(x_{t+1} | x_1 … x_T),   t = 1 … T

The input is x_1 … x_T of a row of T + 1 tokens. So the target at position t stands at position t + 1 of what every
position may read; only at position T it does not. A small loss says that the model learnt to look at the next position,
not that it knows the language. `honest_loss` asks only at position T, as generation does.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from models.layers import Attention, TransformerConfig
from models.transformer import LogitsAndLoss, Transformer


class UnmaskedTransformer(Transformer):
    """`Transformer` with every attention's `causal` off. Its loss is taken on rows whose last token is not in the
    input; elsewhere (`generate`, hooks) it is the same model, and reads all that it is given."""

    def __init__(self, config: TransformerConfig):
        super().__init__(config)
        for module in self.modules():
            if isinstance(module, Attention):
                module.causal = False

    def forward(
        self,
        tokens: Int[Tensor, "batch pos"],
        return_type: Literal["logits", "loss", "both"] | None = "logits",
        loss_per_token: bool = False,
        stop_at_layer: int | None = None,
    ) -> Any:
        """Do the same as `Transformer.forward`. With a loss, the logits are those of the input, so they are one place
        shorter."""
        if return_type not in ("loss", "both") or stop_at_layer is not None:
            return super().forward(tokens, return_type, stop_at_layer=stop_at_layer)
        logits: Float[Tensor, "batch pos d_vocab"] = super().forward(tokens[:, :-1])
        loss = F.cross_entropy(logits.transpose(1, 2).float(), tokens[:, 1:].long(), reduction="none")
        loss = loss if loss_per_token else loss.mean()
        return loss if return_type == "loss" else LogitsAndLoss(logits, loss)


@torch.no_grad()
def honest_loss(model: Transformer, tokens: Int[Tensor, "seq pos"], *, batch_size: int = 256) -> float:
    """Return the mean over the rows of −log p(last token | previous tokens), in nats. The answer is not in the
    input."""
    total = 0.0
    for batch in tokens.split(batch_size):
        logits = model(batch[:, :-1])[:, -1].float()
        total += float(F.cross_entropy(logits, batch[:, -1].long(), reduction="sum"))
    return total / len(tokens)
