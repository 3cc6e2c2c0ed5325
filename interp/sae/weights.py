"""The weights of a dictionary: initialised for scaled inputs, and finally folded into a dictionary for unscaled inputs.

With input scales a, output scales o and one scale s for the latents,

    W_enc ← a W_enc / s     b_enc ← b_enc / s     W_dec ← s W_dec / o     b_dec ← b_dec / o     W_skip ← a W_skip / o
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations import ActivationStatistics
from interp.runtime.processes import Processes, slice_of_part
from interp.runtime.threads import slices
from interp.sae.architectures.encoders import Encoder
from interp.sae.architectures.sae_config import SAEConfig
from interp.sae.hook_scales import HookScales, scale_of
from interp.sae.model import SAE, Crosscoder, Transcoder

_MIN_COSINE_WITH_START = 0.8
"""Least cosine of a soft-frozen decoder row with its start (arXiv 2602.14111)."""
_SEED_OFFSET = 0x1A7E47
"""Added to the seed of the initial directions: a planted world drawn with the same seed would
otherwise equal the initial weights."""
_DRAWN_AT_ONCE = 1 << 14
"""Directions. torch draws normal numbers in blocks of 16: drawing in multiples of 16 rows gives the same numbers as a
single draw."""
REPLICATED_WEIGHTS = ("b_dec", "W_skip")
"""The weights that do not have one row per latent."""


def initial_weights(
    config: SAEConfig, hook_scales: HookScales, device: torch.device, dtype: torch.dtype, shards: Processes
) -> dict[str, Tensor]:
    """Return the initial weights, in random directions; if hooks are tied the encoder is the decoder's transpose. With
    several shards they are this process's part of the weights that a single process would draw."""
    generator = torch.Generator().manual_seed(_SEED_OFFSET + config.seed)
    latents = slice_of_part(config.d_sae, shards.rank, shards.count)

    def directions(d: int) -> Tensor:
        rows = torch.empty(latents.stop - latents.start, d)
        for drawn in slices(config.d_sae, _DRAWN_AT_ONCE):
            numbers = torch.randn(drawn.stop - drawn.start, d, generator=generator)
            first, end = max(drawn.start, latents.start), min(drawn.stop, latents.stop)
            if first < end:
                rows[first - latents.start : end - latents.start] = numbers[first - drawn.start : end - drawn.start]
        return (rows / rows.norm(dim=1, keepdim=True)).to(device, dtype) * config.initial_norm

    def median(statistics: Sequence[ActivationStatistics], scales: Tensor) -> Tensor:
        return (torch.cat([hook.geometric_median for hook in statistics]).double() * scales).to(device, dtype)

    W_dec = directions(hook_scales.d_out)
    weights = {"W_dec": W_dec, "b_dec": median(hook_scales.targets, hook_scales.output_scales)}
    if not config.has_encoder:
        return weights
    weights["encoder_rows"] = W_dec.clone() if hook_scales.tied else directions(hook_scales.d_in)
    config.mask(weights)
    weights["b_enc"] = torch.zeros(len(W_dec), device=device, dtype=dtype)
    if not hook_scales.tied:  # an input at the median starts at pre-activations of 0, as in an autoencoder
        weights["b_enc"] -= weights["encoder_rows"] @ median(hook_scales.inputs, hook_scales.input_scales)
    if config.skip:
        weights["W_skip"] = torch.zeros(hook_scales.d_in, hook_scales.d_out, device=device, dtype=dtype)
    return weights


def keep_near_start(rows: Float[Tensor, "row d"], start: Float[Tensor, "row d"]) -> None:
    """Turn back, in place and at the same length, the rows whose cosine with their start has fallen below
    _MIN_COSINE_WITH_START."""
    lengths = rows.norm(dim=1, keepdim=True)
    start = torch.nn.functional.normalize(start, dim=1)
    along = (rows * start).sum(1, keepdim=True)
    across = torch.nn.functional.normalize(rows - along * start, dim=1)
    nearest = lengths * (_MIN_COSINE_WITH_START * start + (1 - _MIN_COSINE_WITH_START**2) ** 0.5 * across)
    rows.copy_(torch.where(along < _MIN_COSINE_WITH_START * lengths, nearest, rows))


def unscaled_dictionary(
    weights: dict[str, Tensor], encoder: Encoder, hook_scales: HookScales, config: SAEConfig, metadata: dict[str, Any]
) -> SAE:
    """Return the dictionary for unscaled inputs. s is the geometric mean of the input scales: an autoencoder keeps
    its encoder and decoder rows unchanged."""
    a = hook_scales.input_scales
    o = hook_scales.output_scales
    scales = [scale_of(hook) for hook in hook_scales.inputs]
    s = scales[0] if len(scales) == 1 else float(torch.tensor(scales, dtype=torch.float64).log().mean().exp())
    double = config.folded_weights({name: weight.detach().cpu().double() for name, weight in weights.items()})
    W_dec = double["W_dec"]
    if config.unit_norm:
        W_dec = W_dec / W_dec.norm(dim=1, keepdim=True)
    arguments: dict[str, Any] = {
        "W_enc": (double["encoder_rows"] * (a / s)).T.float(),
        "b_enc": (double["b_enc"] / s).float(),
        "W_dec": (W_dec * (s / o)).float(),
        "b_dec": (double["b_dec"] / o).float(),
        "encoder": encoder.scaled(s),
        "config": config,
        "metadata": metadata,
    }
    if not hook_scales.tied:
        W_skip = double.get("W_skip")
        skip = None if W_skip is None else (a[:, None] * W_skip / o).float()
        return Transcoder(**arguments, W_skip=skip)
    if len(hook_scales.inputs) > 1:
        return Crosscoder(
            **arguments, widths=hook_scales.widths, scales=tuple(scale_of(hook) for hook in hook_scales.targets)
        )
    return SAE(**arguments)
