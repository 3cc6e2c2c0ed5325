"""Folders of transcoders as circuit-tracer writes them."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from interp.sae.model import SAE


def write_circuit_tracer(
    folder: Path, given: Mapping[str, SAE], hooks: tuple[str, str] = ("hook_resid_mid", "hook_mlp_out")
) -> None:
    """Write the transcoders of the layers, in their order, with the hooks that each reads and writes in its block."""
    folder.mkdir()
    for n, each in enumerate(given.values()):
        tensors = {"W_enc": each.W_enc.T, "W_dec": each.W_dec, "b_enc": each.b_enc, "b_dec": each.b_dec}
        tensors |= {"W_skip": each.W_skip.T} if each.W_skip is not None else {}
        tensors = {name: tensor.detach().float().contiguous() for name, tensor in tensors.items()}
        save_file(tensors | {"k": torch.tensor(6)}, folder / f"layer_{n}.safetensors")
    named = f"feature_input_hook: {hooks[0]}\nfeature_output_hook: {hooks[1]}\n"
    (folder / "config.yaml").write_text(f"model_kind: transcoder_set\n{named}")
