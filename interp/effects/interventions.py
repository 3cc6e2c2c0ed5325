"""Change the values of some latents in a forward pass, and nothing else.

In:  a model, a hook, a dictionary, and a new value for each of some latents. With z the latents of x at the hook:

    x_new = x + Σ_j (z'_j − z_j) d_j,     d_j = W_dec[j],     z' = times · z + plus

The dictionary's error x − x_hat and the contributions of all other latents stay in x_new. A transcoder reads one hook
and writes another. Then z is read at its input hook, and x is the activation at its output hook.

    with intervene(model, hook, sae, {476: ABLATE}):                   the block runs without latent 476
        logits = model(tokens)
    with intervene(model, hook, sae, {476: pin(5 * features[476].facts["max"]), 12: add(3)}, positions=[4, 5]):
        …
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from interp.activations.hooks import Model, module_of
from interp.checks.arguments import check_latents
from interp.checks.errors import InterpError
from interp.codes.dictionary import Dictionary
from interp.codes.dictionary_hooks import dictionary_hooks


class Action(NamedTuple):
    """A change of a latent: z' = times · z + plus, in the unit of its activations."""

    times: float
    plus: float


ABLATE = Action(0.0, 0.0)


def pin(value: float) -> Action:
    """Hold the latent at a fixed value, such as a multiple of its maximum in the features' table."""
    return Action(0.0, float(value))


def add(value: float) -> Action:
    return Action(1.0, float(value))


Positions = Bool[Tensor, "seq pos"] | Sequence[int] | None
"""A mask over all tokens, or positions that are the same in each sequence (negative ones count from the end). None
means all tokens."""


@contextmanager
def intervene(
    model: Model,
    hook: str,
    dictionary: Dictionary,
    actions: Mapping[int, Action],
    *,
    positions: Positions = None,
    output_hook: str | None = None,
) -> Iterator[nn.Module]:
    """Run the model with changed latents inside the block. Afterwards, also after an error, the model is as before.
    Rows above the dictionary's norm limit keep their x.

    Raises ValueError as `dictionary_hooks` does, for a latent that does not exist, and for a change that is no finite
    Action.
    """
    hooks = dictionary_hooks(model, hook, dictionary, output_hook)
    latents = torch.tensor(check_latents(actions, dictionary.d_sae), device=dictionary.W_dec.device)
    for latent, action in actions.items():
        if not isinstance(action, Action) or not all(map(math.isfinite, action)):
            raise InterpError(
                f"actions[{latent}]={action!r} must be ABLATE, or pin(value) or add(value) of a finite value"
            )
    times, plus = torch.tensor(list(actions.values()), device=latents.device).to(dictionary.W_dec).unbind(1)
    change: dict[str, Tensor] = {}

    def read(acts: Tensor) -> None:
        codes, within_limit = hooks.codes(dictionary, acts)
        z = columns_of_latents(codes, latents).to(times)  # codes of a dictionary in half precision are in float32
        delta = (times * z + plus - z) @ dictionary.W_dec[latents]  # [row, d_out]
        chosen = within_limit & _mark_positions(positions, acts).to(within_limit.device)
        change["delta"] = delta * chosen[:, None]

    def write(acts: Tensor) -> Tensor:
        rows = acts.flatten(0, 1).flatten(1)
        return (rows + _check_change(change.get("delta"), rows).to(rows)).view(acts.shape)

    with hooks.input_hook.attach(read), hooks.output_hook.attach(write):
        yield module_of(model)


def _check_change(delta: Tensor | None, rows: Tensor) -> Tensor:
    if delta is None:
        raise InterpError("the hook that is written fires before the one that is read")
    if rows.shape != delta.shape:
        raise InterpError(f"the dictionary writes width {delta.shape[1]}, but its hook has width {rows.shape[1]}")
    return delta


def columns_of_latents(codes: Any, latents: Tensor) -> Float[Tensor, "row chosen"]:
    """Return the columns of some latents in the dense codes."""
    column = torch.full((codes.d_sae,), -1, device=latents.device)
    column[latents] = torch.arange(len(latents), device=latents.device)
    at = column[codes.latents.long()]
    stored = at >= 0
    z = codes.values.new_zeros(len(codes), len(latents))
    return z.index_put_((codes.rows[stored], at[stored]), codes.values[stored], accumulate=True)


def _mark_positions(positions: Positions, acts: Tensor) -> Bool[Tensor, " row"]:
    shape = acts.shape[:2]
    if positions is None:
        return torch.ones(shape, dtype=torch.bool).flatten()
    if isinstance(positions, Tensor):
        if positions.dtype != torch.bool or positions.shape != shape:
            raise InterpError(f"positions {tuple(positions.shape)} must be a mask of the tokens' shape {tuple(shape)}")
        return positions.flatten()
    if not all(-shape[1] <= at < shape[1] for at in positions):
        raise InterpError(f"positions {list(positions)} must be in 0..{shape[1] - 1}, or negative from the end")
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[:, list(positions)] = True
    return mask.flatten()
