"""The devices of this machine: which one a name means, and whether it multiplies bfloat16 fast."""

import torch

from interp.checks.errors import InterpError


def device_named(name: str) -> torch.device:
    """Return a device by its name; `auto` is the GPU if there is one. Raises ValueError for a missing device."""
    if name != "auto":
        try:
            torch.empty(0, device=name)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise InterpError(f"device={name!r} does not exist on this machine: use 'cpu', or 'auto'") from error
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether a bfloat16 matmul is faster than a float32 one on the device: a processor without bfloat16 units
    (AVX-512 BF16 or AMX) emulates it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, probe, bool)() for probe in probes)
