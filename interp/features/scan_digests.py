"""Digests of what a scan is made of: a dictionary, and tensors."""

from contextlib import suppress

import torch
from torch import Tensor

from interp.codes.dictionary import Dictionary
from interp.sae import SAE
from interp.storage.files import digest, digest_json


def dictionary_digest(dictionary: Dictionary) -> str:
    """Return a digest of the encoder and the decoder, which is the same on every device. For a foreign dictionary, or
    an encoder that cannot be stored, it covers the decoder and the codes of 32 fixed inputs."""
    if isinstance(dictionary, SAE):
        with suppress(ValueError):
            fields, tensors = dictionary.encoder.to_stored()
            stored = dictionary.stored()
            weights = (stored.W_enc, stored.W_dec, stored.b_enc, stored.b_dec, stored.W_skip)
            return digest(tensor_digest(*weights, *tensors.values()), digest_json([dictionary.encoder.name, fields]))
    probe = torch.randn(32, dictionary.d_in, generator=torch.Generator().manual_seed(0))
    codes = dictionary.codes(probe.to(dictionary.W_dec.device))
    return tensor_digest(dictionary.W_dec, dictionary.b_dec, codes.offsets, codes.latents, codes.values)


def tensor_digest(*tensors: Tensor | None) -> str:
    """Return the SHA-256 of the dtypes, shapes and bytes of tensors."""
    present = [tensor for tensor in tensors if tensor is not None]
    return digest(*(part for x in present for part in (str((x.dtype, tuple(x.shape))), x)))
