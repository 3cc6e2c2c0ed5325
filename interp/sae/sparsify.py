"""Reading dictionaries of EleutherAI's sparsify.

A folder, one for each hook point, holds `cfg.json` and `sae.safetensors`: encoder.weight [d_sae, d_in], encoder.bias,
W_dec [d_sae, d_out], b_dec, and W_skip [d_out, d_in] where there is a skip. All of them are TopK,

    z = TopK_k(ReLU(x' W_encᵀ + b_enc)),     y = z W_dec + b_dec [+ W_skip x],     x' = x − b_dec, in a transcoder x
"""

from typing import Any

import torch

from interp.sae.folders import Parts, whole_number
from interp.sae.model import SAE, Transcoder
from interp.sae.rules import TopK

SPARSIFY_WEIGHTS = "sae.safetensors"


def from_sparsify(cfg: dict[str, Any], parts: Parts, source: str) -> SAE:
    """`source` is the name of the config in errors. Raises ValueError for groupmax and for signed TopK."""
    if cfg.get("activation", "topk") != "topk" or cfg.get("signed", False):
        activation, signed = cfg.get("activation", "topk"), cfg.get("signed", False)
        raise ValueError(
            f"{source}: activation={activation!r} with signed={signed!r} cannot be read; "
            "only 'topk' of positive latents can: train the coder with activation='topk'"
        )
    single, transcodes = torch.float32, bool(cfg.get("transcode", False))
    encoder = parts.take("encoder.weight", None, None, dtype=single)
    d_sae, d_in = encoder.shape
    W_dec = parts.take("W_dec", d_sae, None if transcodes else d_in, dtype=single)
    b_enc = parts.take("encoder.bias", d_sae, dtype=single)
    b_dec = parts.take("b_dec", W_dec.shape[1], dtype=single)
    rule = TopK(whole_number(cfg, "k", d_sae, source))
    W_skip = parts.take("W_skip", W_dec.shape[1], d_in, dtype=single).T.contiguous() if "W_skip" in parts else None
    parts.end()
    given: dict[str, Any] = {"W_enc": encoder.T, "W_dec": W_dec, "b_dec": b_dec, "rule": rule}
    if not transcodes and W_skip is None:
        return SAE(**given, b_enc=b_enc)
    return Transcoder(**given, b_enc=b_enc if transcodes else b_enc - encoder @ b_dec, W_skip=W_skip)
