"""Check whether a model predicts next tokens, which losses, effects and steered text need.

In: a model and some tokens. The last token of a sequence is changed: in a model that predicts next tokens, the logits
at earlier positions do not change. In an encoder (BERT) they do, since every position reads all others.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.activations.hooks import Model, evaluating, module_of, to_model
from interp.checks.errors import InterpError
from interp.runtime.model_sizes import size_of

_N_SEQUENCES = 2
_N_TRIED_TOKENS = 32
"""Per sequence: a few suffice to detect look-ahead."""


class NoNextTokens(InterpError):
    """The model predicts no next tokens."""


def logits_of(output: Any) -> Float[Tensor, "seq pos d_vocab"]:
    """Return the logits in any model's output, in at least single precision. Raises NoNextTokens if there are none."""
    if not isinstance(output, Tensor):
        output = output[0] if isinstance(output, tuple) else getattr(output, "logits", None)
    if not isinstance(output, Tensor):
        raise NoNextTokens("the model has no logits, so it predicts no next tokens")
    return output if output.dtype == torch.float64 else output.float()


@torch.no_grad()
def check_predicts_next(model: Model, tokens: Int[Tensor, "seq pos"]) -> None:
    """Check that the model predicts next tokens. Raises NoNextTokens, with the reason, for a model without logits, and
    for one whose logits at a position depend on later tokens.

    A change counts only if it exceeds rounding, which is not negligible: the tokens of an expert in a mixture are
    multiplied together.
    """
    module = module_of(model)
    sample = to_model(module, tokens[:_N_SEQUENCES, :_N_TRIED_TOKENS])
    changed = sample.clone()
    changed[:, -1] = (sample[:, -1] + 1) % (size_of(module, "d_vocab") or int(sample.max()) + 1)
    with evaluating(module):
        before, after = (logits_of(module(tokens)) for tokens in (sample, changed))
    if before.shape[:2] != sample.shape:
        shapes = f"logits {tuple(before.shape)} for tokens {tuple(sample.shape)}"
        raise NoNextTokens(f"the model returns {shapes}, and so no logits of next tokens")
    before, after = before[:, :-1], after[:, :-1]
    weight = next(module.parameters(), before)
    rounding = torch.finfo(weight.dtype if weight.is_floating_point() else before.dtype).eps ** (2 / 3)
    moved = float((after - before).norm() / (before - before.mean(-1, keepdim=True)).norm().clamp(min=1e-30))
    if moved > rounding:
        raise NoNextTokens(
            f"the model's logits depend on later tokens (changing the last one moves them by {moved:.1%}): "
            "it is an encoder, and predicts no next tokens"
        )
