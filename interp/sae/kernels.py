"""Which implementation of the sparse operations serves where a tensor lives.

    CPU, float32 or float64    `numba_kernels`
    CUDA, float32              `triton_kernels`, where they are installed and give what the twin gives
    anything else              `torch_kernels`, which says what each operation is

The first time that a process works on a GPU, each Triton kernel runs on a small batch beside the twin in float64. Where
one fails or differs (another GPU, another Triton than were tested) the twin is used instead, with one warning.
"""

import logging
import threading
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor

from interp.codes import SparseCodes
from interp.sae.torch_kernels import AdamStep as AdamStep
from interp.sae.torch_kernels import ByLatent as ByLatent
from interp.sae.torch_kernels import LatentSum as LatentSum
from interp.sae.torch_kernels import PreActivations as PreActivations
from interp.sae.torch_kernels import Tiled as Tiled
from interp.sae.torch_kernels import TorchKernels

_ROWS, _WIDTH, _D, _K, _TALL = 6, 120, 40, 9, 600
"""Of the batch for the check; and rows enough for a latent to be summed in parts."""
_lock = threading.Lock()
logger = logging.getLogger(__name__)


def kernels(tensor: Tensor) -> TorchKernels:
    """The operations to use for tensors that live where `tensor` does."""
    return _kernels(tensor.device.type, tensor.dtype)


def pick_kernels(pre: PreActivations) -> TorchKernels:
    """Those to pick with; they take pre-activations in bfloat16 too."""
    return _kernels(pre.device.type, torch.float32 if pre.dtype == torch.bfloat16 else pre.dtype)


def _kernels(device: str, dtype: torch.dtype) -> TorchKernels:
    if device == "cpu" and dtype in (torch.float32, torch.float64):
        return _numba()
    if device == "cuda" and dtype == torch.float32 and find_spec("triton"):
        with _lock:
            return _triton()
    return TorchKernels()


@lru_cache
def _numba() -> TorchKernels:
    from interp.sae.numba_kernels import NumbaKernels

    return NumbaKernels()


@lru_cache
def _triton() -> TorchKernels:
    def make() -> TorchKernels:
        from interp.sae.triton_kernels import TritonKernels

        return TritonKernels()

    return checked(make, torch.device("cuda"))


def checked(make: Callable[[], TorchKernels], device: torch.device) -> TorchKernels:
    """What `make` gives, or the twin, with a warning, where it fails or differs on that device."""
    try:
        made = make()
        found = faults(made, device)
    except Exception as error:
        found = [f"{type(error).__name__}: {error}"]
    if not found:
        return made
    logger.warning("the Triton kernels are not used, since on %s they fail: %s", device, "; ".join(found))
    return TorchKernels()


def faults(ops: TorchKernels, device: torch.device) -> list[str]:
    """The operations that do not give on a small batch what the twin gives in float64."""
    found = []
    for name, results in _trials(device).items():
        try:
            pairs = list(zip(results(ops, torch.float32), results(TorchKernels(), torch.float64), strict=True))
            same = all(torch.allclose(mine.double(), twin.double(), rtol=1e-4, atol=1e-4) for mine, twin in pairs)
        except Exception as error:
            found.append(f"{name} ({type(error).__name__}: {str(error).partition(chr(10))[0]})")
        else:
            found += [] if same else [f"{name} (differs)"]
    return found


def _trials(device: torch.device) -> dict[str, Callable[[TorchKernels, torch.dtype], tuple[Tensor, ...]]]:
    """By name, what an operation gives on the same small batch at either precision."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    bits = torch.randperm(_ROWS * _WIDTH, generator=generator) + 0x3000  # of positive bfloat16 numbers, all different
    pre = bits.short().view(torch.bfloat16).view(_ROWS, _WIDTH).to(device) * draw(_ROWS, _WIDTH).sign().bfloat16()
    x, W_dec, b_dec, b_enc = draw(_ROWS, _D), draw(_WIDTH, _D), draw(_D), draw(_WIDTH)
    W_dec /= W_dec.norm(dim=1, keepdim=True)
    many = draw(_TALL, _D)
    z = draw(_ROWS, _WIDTH).abs() * (draw(_ROWS, _WIDTH) > 1.5)
    tall = SparseCodes.from_topk(torch.zeros(_TALL, 1, dtype=torch.int32, device=device), draw(_TALL, 1), 2)
    codes, ends = SparseCodes.from_dense(z), torch.tensor([20, _WIDTH], device=device)

    def given(dtype: torch.dtype) -> tuple[SparseCodes, Tensor, Tensor, Tensor]:
        cast = SparseCodes(codes.offsets, codes.latents, codes.values.to(dtype), _WIDTH)
        return cast, W_dec.to(dtype), b_dec.to(dtype), x.to(dtype)

    def dense(picked: SparseCodes) -> tuple[Tensor, ...]:
        return (picked.dense(),)

    def updated(ops: TorchKernels, dtype: torch.dtype, unit_norm: bool) -> tuple[Tensor, ...]:
        mine, W, _, rows = given(dtype)
        weight, mean, square = W.clone(), torch.zeros_like(W), torch.zeros_like(W)
        adam = AdamStep(0.01, 1, eps=1e-4)
        summed = LatentSum(ops.transpose(mine), mine.values, rows)
        ops.sum_by_latent_adam_(summed, weight, mean, square, adam, unit_norm)
        return weight, mean, square

    return {
        "top_k": lambda ops, dtype: dense(ops.top_k(pre.to(dtype), _K)),
        "top_k of bfloat16": lambda ops, dtype: dense(ops.top_k(pre, _K)),
        "batch_top_k": lambda ops, dtype: dense(ops.batch_top_k(pre.to(dtype), _ROWS * _K)),
        "above": lambda ops, dtype: dense(ops.above(pre.to(dtype), b_enc.to(dtype))),
        "keep_top_k": lambda ops, dtype: dense(ops.keep_top_k(given(dtype)[0], _K)),
        "rescore": lambda ops, dtype: (ops.rescore(*[given(dtype)[i] for i in (0, 3, 1)], b_enc.to(dtype)).values,),
        "decode_backward": lambda ops, dtype: ops.decode_backward(*given(dtype)),
        "nested_backward": lambda ops, dtype: ops.nested_backward(*given(dtype), ends),
        "sum_by_latent": lambda ops, dtype: (
            ops.sum_by_latent(ops.transpose(tall), tall.values.to(dtype), many.to(dtype)),
        ),
        "adam_": lambda ops, dtype: updated(ops, dtype, unit_norm=False),
        "adam_ of unit rows": lambda ops, dtype: updated(ops, dtype, unit_norm=True),
    }
