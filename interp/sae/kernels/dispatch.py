"""Choose the implementation of the sparse operations by a tensor's device and type.

    CPU, float32 or float64    `numba_kernels`
    CUDA, float32              `triton_kernels`, if they are installed and agree with the reference
    anything else              `torch_kernels`, the reference, which defines each operation

The first time that a process works on a GPU, each Triton kernel runs on a small batch, as does the reference in
float64. If one fails or differs, the reference is used instead, with one warning.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor

from interp.codes.sparse_codes import SparseCodes
from interp.sae.kernels.torch_kernels import AdamStep, LatentSum, PreActivations, TorchKernels

_CHECK_ROWS, _WIDTH, _D, _K = 6, 120, 40, 9
"""Sizes of the batch for the check."""
_TALL_ROWS = 600
"""Rows enough for a latent to be summed in parts."""
_lock = threading.Lock()
log = logging.getLogger(__name__)


def kernels(tensor: Tensor) -> TorchKernels:
    """Return the operations to use for tensors on the device of `tensor`."""
    with _lock:  # a GPU is checked once
        return _choose_kernels(tensor.device.type, tensor.dtype)


def pick_kernels(pre: PreActivations) -> TorchKernels:
    """Return the operations that pick from pre-activations, which may be in bfloat16."""
    with _lock:
        return _choose_kernels(pre.device.type, torch.float32 if pre.dtype == torch.bfloat16 else pre.dtype)


@lru_cache
def _choose_kernels(device: str, dtype: torch.dtype) -> TorchKernels:
    if device == "cpu" and dtype in (torch.float32, torch.float64):
        from interp.sae.kernels.numba_kernels import NumbaKernels

        return NumbaKernels()
    if device == "cuda" and dtype == torch.float32 and find_spec("triton"):
        return check_kernels(_triton, torch.device("cuda"))
    return TorchKernels()


def _triton() -> TorchKernels:
    from interp.sae.kernels.triton_kernels import TritonKernels

    return TritonKernels()


def check_kernels(make: Callable[[], TorchKernels], device: torch.device) -> TorchKernels:
    """Return the result of `make`, or, with a warning, the reference if that fails or differs on that device."""
    try:
        made = make()
        failures = failing_operations(made, device)
    except Exception as error:  # compilers and drivers raise errors of their own kinds; the reference takes over
        failures = [f"{type(error).__name__}: {error}"]
    if not failures:
        return made
    log.warning("the Triton kernels are not used, since on %s they fail: %s", device, "; ".join(failures))
    return TorchKernels()


def failing_operations(ops: TorchKernels, device: torch.device) -> list[str]:
    """Return the operations whose result on a small batch differs from the reference's in float64."""
    failing = []
    reference = _trials(TorchKernels(), torch.float64, device)
    for name, trial in _trials(ops, torch.float32, device).items():
        try:
            pairs = zip(trial(), reference[name](), strict=True)
            if not all(
                torch.allclose(result.double(), theirs.double(), rtol=1e-4, atol=1e-4) for result, theirs in pairs
            ):
                failing.append(f"{name} (differs)")
        except Exception as error:  # as in `check_kernels`
            failing.append(f"{name} ({type(error).__name__}: {str(error).partition(chr(10))[0]})")
    return failing


def _trials(ops: TorchKernels, dtype: torch.dtype, device: torch.device) -> dict[str, Callable[[], Sequence[Tensor]]]:
    """Return each operation by its name, to be tried on a small batch: the same batch whatever the dtype."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    bits = (
        torch.randperm(_CHECK_ROWS * _WIDTH, generator=generator) + 0x3000
    )  # of positive bfloat16 numbers, all different
    low = (
        bits.short().view(torch.bfloat16).view(_CHECK_ROWS, _WIDTH).to(device)
        * draw(_CHECK_ROWS, _WIDTH).sign().bfloat16()
    )
    pre = low.to(dtype)
    x = draw(_CHECK_ROWS, _D)
    many = draw(_TALL_ROWS, _D)
    W_dec = draw(_WIDTH, _D)
    b_dec, b_enc = draw(_D), draw(_WIDTH)
    W_dec /= W_dec.norm(dim=1, keepdim=True)
    codes = SparseCodes.from_dense(draw(_CHECK_ROWS, _WIDTH).abs() * (draw(_CHECK_ROWS, _WIDTH) > 1.5))
    tall = SparseCodes.from_topk(torch.zeros(_TALL_ROWS, 1, dtype=torch.int32, device=device), draw(_TALL_ROWS, 1), 2)

    def updated(unit_norm: bool) -> Sequence[Tensor]:
        weight = W_dec.clone()
        mean = torch.zeros_like(W_dec)
        square = torch.zeros_like(W_dec)
        summed = LatentSum(ops.transpose(codes), codes.values, x)
        ops.adam_(weight, summed, mean, square, AdamStep(0.01, 1, eps=1e-4, unit_norm=unit_norm))
        return weight, mean, square

    return {
        "top_k": lambda: [ops.top_k(pre, _K).dense()],
        "top_k of bfloat16": lambda: [ops.top_k(low, _K).dense()],
        "batch_top_k": lambda: [ops.batch_top_k(pre, _CHECK_ROWS * _K).dense()],
        "above": lambda: [ops.above(pre, b_enc).dense()],
        "keep_top_k": lambda: [ops.keep_top_k(codes, _K).dense()],
        "rescore": lambda: [ops.rescore(codes, x, W_dec, b_enc).values],
        "decode_backward": lambda: ops.decode_backward(codes, W_dec, b_dec, x),
        "decode_backward of prefixes": lambda: ops.decode_backward(codes, W_dec, b_dec, x, (20, _WIDTH)),
        "sum_by_latent": lambda: [ops.sum_by_latent(ops.transpose(tall), tall.values, many)],
        "adam_": lambda: updated(unit_norm=False),
        "adam_ of unit rows": lambda: updated(unit_norm=True),
    }
