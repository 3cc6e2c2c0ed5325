"""Read folders of EleutherAI's sparsify: `cfg.json` and `sae.safetensors`.

The tensors are encoder.weight [d_sae, d_in], encoder.bias, W_dec, b_dec and, in some, W_skip [d_out, d_in]. All are
TopK, and transcoders read x unchanged.
"""

from pathlib import Path

import torch

from interp.checks.errors import InterpError
from interp.sae.architectures.topk import TopK
from interp.sae.file_tensors import read_truth, read_whole_number
from interp.sae.formats.dictionary_format import CONFIG_FILE, dictionary_format, read_config, read_weights
from interp.sae.formats.stored_dictionary import StoredDictionary

_WEIGHTS_FILE = "sae.safetensors"


@dictionary_format("sparsify", files=(CONFIG_FILE, _WEIGHTS_FILE))
def read_sparsify(folder: Path) -> StoredDictionary:
    """the format of EleutherAI's sparsify"""
    cfg = read_config(folder)
    parts = read_weights(folder / _WEIGHTS_FILE)
    source = str(folder / CONFIG_FILE)
    activation = cfg.get("activation", "topk")
    signed = read_truth(cfg, "signed", source, default=False)
    if activation != "topk" or signed:
        raise InterpError(
            f"{source}: activation={activation!r} with signed={signed!r} cannot be read; "
            "only 'topk' of positive latents can: train the coder with activation='topk'"
        )
    transcodes = read_truth(cfg, "transcode", source, default=False)
    parts.dtype = torch.float32
    encoder_rows = parts.pop("encoder.weight", None, None)
    d_sae, d_in = encoder_rows.shape
    W_dec = parts.pop("W_dec", d_sae, None if transcodes else d_in)
    b_enc = parts.pop("encoder.bias", d_sae)
    b_dec = parts.pop("b_dec", W_dec.shape[1])
    W_skip = parts.pop_skip_path(d_in, W_dec.shape[1]) if "W_skip" in parts else None
    topk = TopK(read_whole_number(cfg, "k", source, limit=d_sae))
    parts.end()
    if not transcodes and W_skip is not None:
        b_enc = b_enc - encoder_rows @ b_dec
    return StoredDictionary(
        kind="sae" if W_skip is None and not transcodes else "transcoder",
        W_enc=encoder_rows.T,
        W_dec=W_dec,
        b_enc=b_enc,
        b_dec=b_dec,
        encoder=topk,
        W_skip=W_skip,
    )
