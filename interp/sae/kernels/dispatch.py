"""Choose the implementation of the sparse operations by a tensor's device and type.

    CPU, float32 or float64    `numba_kernels`
    CUDA, float32              `triton_kernels`, if Triton is installed and they agree with the reference
    anything else              `torch_kernels`, the reference, which defines each operation

A backend is a file with a subclass of `TorchKernels`, which says its name and its types of numbers, and one line of
`BACKENDS`. The first time that a process uses one, each of its operations runs on a small batch, as does the reference
in float64. If one fails or differs, the reference is used instead, with one warning.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from pkgutil import resolve_name

import torch
from torch import Tensor

from interp.codes.sparse_codes import SparseCodes
from interp.sae.kernels.torch_kernels import AdamStep, LatentSum, PreActivations, TorchKernels

BACKENDS = {"cpu": "numba_kernels:NumbaKernels", "cuda": "triton_kernels:TritonKernels"}
"""The backend of each kind of device, "file:class". The file is imported when it is first needed."""
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
    if device not in BACKENDS:
        return TorchKernels()
    try:
        backend: type[TorchKernels] = resolve_name(f"{__package__}.{BACKENDS[device]}")
    except ImportError as error:
        if not isinstance(error, ModuleNotFoundError):  # what it needs is installed, and broken
            log.warning("%s cannot be used: %s", BACKENDS[device], error)
        return TorchKernels()
    if dtype not in backend.dtypes:
        return TorchKernels()
    return try_kernels(backend, torch.device(device)) if backend.is_tried else backend()


def try_kernels(backend: type[TorchKernels], device: torch.device) -> TorchKernels:
    """Return the operations of a backend, or, with a warning, the reference if one fails or differs on that device."""
    try:
        made = backend()
        failures = failing_operations(made, device)
    except Exception as error:  # compilers and drivers raise errors of their own kinds; the reference takes over
        failures = [f"{type(error).__name__}: {error}"]
    if not failures:
        return made
    log.warning("the %s kernels are not used, since on %s they fail: %s", backend.name, device, "; ".join(failures))
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
        except Exception as error:  # of any kind, as in `try_kernels`
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
        "keep_batch_top_k": lambda: [ops.keep_batch_top_k(codes, _CHECK_ROWS).dense()],
        "keep_above": lambda: [ops.keep_above(codes, b_enc).dense()],
        "rescore": lambda: [ops.rescore(codes, x, W_dec, b_enc).values],
        "decode": lambda: [ops.decode(codes, W_dec, b_dec)],
        "decode_backward": lambda: ops.decode_backward(codes, W_dec, b_dec, x),
        "decode_backward of prefixes": lambda: ops.decode_backward(codes, W_dec, b_dec, x, (20, _WIDTH)),
        "transpose": lambda: ops.transpose(codes),
        "latent_sums": lambda: [ops.latent_sums(ops.transpose(codes), codes.values)],
        "sum_by_latent": lambda: [ops.sum_by_latent(ops.transpose(tall), tall.values, many)],
        "adam_": lambda: updated(unit_norm=False),
        "adam_ of unit rows": lambda: updated(unit_norm=True),
    }
