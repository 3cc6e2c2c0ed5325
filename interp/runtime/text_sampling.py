"""Sample text from any language model, token by token."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.checks.errors import InterpError


def sample_tokens(
    next_logits: Callable[[Int[Tensor, "seq pos"]], Float[Tensor, "seq d_vocab"]],
    tokens: Int[Tensor, "seq pos"],
    n_tokens: int,
    *,
    temperature: float,
    seed: int,
) -> Int[Tensor, "seq pos_plus_n"]:
    """Return each text followed by `n_tokens` more tokens, drawn from softmax(logits / temperature); at temperature 0
    each is the likeliest.
    next_logits: returns the logits after the last token of each text. Raises ValueError if they are NaN.
    """
    generator = torch.Generator(tokens.device).manual_seed(seed)
    for _ in range(n_tokens):
        logits = next_logits(tokens).float()
        if logits.isnan().any():
            raise InterpError("the model's logits are NaN: hold its latents at lower values, or check its weights")
        if temperature == 0:
            chosen = logits.argmax(1, keepdim=True)
        else:  # the largest is 0, so that no temperature is so low that exp overflows
            below = (logits - logits.amax(1, keepdim=True)).double() / temperature
            chosen = torch.multinomial(below.softmax(1).float(), 1, generator=generator)
        tokens = torch.cat([tokens, chosen.to(tokens.dtype)], 1)
    return tokens
