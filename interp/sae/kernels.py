"""Which implementation of the sparse operations serves where a tensor lives, and the codes that a rule picks by it.

    CPU, float32 or float64    `numba_kernels`
    CUDA, float32              `triton_kernels`, where they are installed and give what the twin gives
    anything else              `torch_kernels`, which says what each operation is

The first time that a process works on a GPU, each Triton kernel runs on a small batch beside the twin in float64. Where
one fails or differs the twin is used instead, with one warning.

`encode` never holds all pre-activations x W_encᵀ + b_enc: rows are taken in pieces, and the rule picks from each on its
own or, where it looks at all rows, comes to one after the other. At low precision a piece's matmul is one of bfloat16
numbers, from which the rule takes a shortlist that is longer than its picks by a margin; the values of the shortlist
are computed again from the inputs and weights as they are, and the rule chooses among these. So values are always
exact, and picks differ from those at full precision only where rounding moved an entry past the whole margin.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from interp.codes.sparse_codes import SparseCodes
from interp.sae.torch_kernels import AdamStep, LatentSum, PreActivations, Tiled, TorchKernels
from interp.storage.processes import share, share_pieces, slices

Multiply = Callable[[slice, slice, Tensor], object]
_FULL_AT_ONCE, _LOW_AT_ONCE = 1 << 22, 1 << 25
"""Pre-activations of a piece: 16 MiB of float32, which stay near, and at most 64 MiB of bfloat16 (tiled on a CPU)."""
_MOST_ROWS = 1024
"""Matmuls of fewer rows than this take up to twice the time a row in bfloat16; more rows leave threads idle."""
_LATENTS_AT_ONCE = 512
"""Of a tile, on a CPU: with as many rows of bfloat16 it leaves room in the cache for the weights."""
_FURTHER_COLUMNS = 16
"""Of the bfloat16 matrices: room for the bias, and for rows to stay aligned."""
_ROWS, _WIDTH, _D, _K, _TALL = 6, 120, 40, 9, 600
"""Of the batch for the check; and rows enough for a latent to be summed in parts."""
_lock = threading.Lock()
logger = logging.getLogger(__name__)


class PickingRule(Protocol):
    by_row: ClassVar[bool]
    """Whether a row's picks depend on that row alone."""

    def pick(self, pre: PreActivations) -> SparseCodes:
        """From pre-activations that are `Tiled` where the rule does not go by row."""

    def shortlist(self, pre: PreActivations) -> SparseCodes:
        """From bfloat16 pre-activations: what `pick` would pick, and those that rounding may have put behind."""

    def choose(self, codes: SparseCodes) -> SparseCodes:
        """The picks among the entries of a shortlist, whose values are exact now."""


class Workspace:
    """Memory that `encode` fills again each time, so that a training loop does not ask the system for it each step."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, int], Tensor] = {}

    def take(self, name: str, rows: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Each thread has its own; what is taken under the same name before is overwritten."""
        key = name, threading.get_ident()
        held = self._held.get(key)
        if held is None or held.numel() < rows * width or held.dtype != dtype or held.device != device:
            held = self._held[key] = torch.empty(rows * width, dtype=dtype, device=device)
        return held[: rows * width].view(rows, width)


def kernels(tensor: Tensor) -> TorchKernels:
    """The operations to use for tensors that live where `tensor` does."""
    with _lock:  # a GPU is checked once
        return _chosen(tensor.device.type, tensor.dtype)


def pick_kernels(pre: PreActivations) -> TorchKernels:
    """Those to pick with; they take pre-activations in bfloat16 too."""
    with _lock:
        return _chosen(pre.device.type, torch.float32 if pre.dtype == torch.bfloat16 else pre.dtype)


@lru_cache
def _chosen(device: str, dtype: torch.dtype) -> TorchKernels:
    if device == "cpu" and dtype in (torch.float32, torch.float64):
        from interp.sae.numba_kernels import NumbaKernels

        return NumbaKernels()
    if device == "cuda" and dtype == torch.float32 and find_spec("triton"):
        return checked(_triton, torch.device("cuda"))
    return TorchKernels()


def _triton() -> TorchKernels:
    from interp.sae.triton_kernels import TritonKernels

    return TritonKernels()


def encode(
    x: Float[Tensor, "row d_in"],
    encoder: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, " d_sae"],
    rule: PickingRule,
    *,
    low_precision: bool = False,
    workspace: Workspace | None = None,
) -> SparseCodes:
    """x: centred already. `low_precision` pays off where `has_fast_bfloat16`."""
    workspace = workspace or Workspace()
    pieces = slices(len(x), piece_rows(len(x), len(encoder), low_precision))
    multiply = _bfloat16_matmul(x, encoder, b_enc, workspace) if low_precision else _matmul(x, encoder, b_enc)
    dtype = torch.bfloat16 if low_precision else x.dtype
    tile_width = _LATENTS_AT_ONCE if x.device.type == "cpu" else max(1, len(encoder))

    def pre_of(rows: slice, latents: slice) -> Tensor:
        pre = workspace.take("pre", rows.stop - rows.start, latents.stop - latents.start, dtype, x.device)
        multiply(rows, latents, pre)
        return pre

    def tiles(rows: slice) -> Iterator[tuple[int, Tensor]]:
        for start in range(0, len(encoder), tile_width):
            yield start, pre_of(rows, slice(start, min(start + tile_width, len(encoder))))

    def codes_of(rows: slice, parts: list[slice]) -> SparseCodes:
        if rule.by_row and not (low_precision and x.device.type == "cpu"):
            pre: PreActivations = pre_of(rows, slice(0, len(encoder)))
        else:
            shape, first = torch.Size((rows.stop - rows.start, len(encoder))), rows.start
            pre = Tiled(shape, dtype, parts, lambda part: tiles(slice(first + part.start, first + part.stop)), x.device)
        if low_precision:
            return rule.choose(kernels(x).rescore(rule.shortlist(pre), x[rows], encoder, b_enc))
        return rule.pick(pre)

    if not rule.by_row:
        return codes_of(slice(0, len(x)), pieces)
    parts = share_pieces(pieces, lambda piece: codes_of(piece, [slice(0, piece.stop - piece.start)]))
    return parts[0] if len(parts) == 1 else SparseCodes.cat(parts)


def piece_rows(rows: int, d_sae: int, low_precision: bool = False) -> int:
    """How many rows `encode` takes at a time: the same for any number of threads, as a matmul's last bits follow it."""
    at_once = _LOW_AT_ONCE if low_precision else _FULL_AT_ONCE
    return max(1, min(rows, _MOST_ROWS, at_once // d_sae))


def has_fast_bfloat16(x: Tensor) -> bool:
    """Whether a bfloat16 matmul is the faster one where x lives (on a CPU: AVX-512 BF16 or AMX units)."""
    if x.dtype != torch.float32:
        return False
    if x.device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return x.device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in probes)


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
    found, twin = [], _trials(TorchKernels(), torch.float64, device)
    for name, trial in _trials(ops, torch.float32, device).items():
        try:
            pairs = zip(trial(), twin[name](), strict=True)
            if not all(torch.allclose(mine.double(), theirs.double(), rtol=1e-4, atol=1e-4) for mine, theirs in pairs):
                found.append(f"{name} (differs)")
        except Exception as error:
            found.append(f"{name} ({type(error).__name__}: {str(error).partition(chr(10))[0]})")
    return found


def _trials(ops: TorchKernels, dtype: torch.dtype, device: torch.device) -> dict[str, Callable[[], Sequence[Tensor]]]:
    """By name, what an operation gives on a small batch, the same one whatever the dtype."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    bits = torch.randperm(_ROWS * _WIDTH, generator=generator) + 0x3000  # of positive bfloat16 numbers, all different
    low = bits.short().view(torch.bfloat16).view(_ROWS, _WIDTH).to(device) * draw(_ROWS, _WIDTH).sign().bfloat16()
    pre, x, many, W_dec = low.to(dtype), draw(_ROWS, _D), draw(_TALL, _D), draw(_WIDTH, _D)
    b_dec, b_enc = draw(_D), draw(_WIDTH)
    W_dec /= W_dec.norm(dim=1, keepdim=True)
    codes = SparseCodes.from_dense(draw(_ROWS, _WIDTH).abs() * (draw(_ROWS, _WIDTH) > 1.5))
    tall = SparseCodes.from_topk(torch.zeros(_TALL, 1, dtype=torch.int32, device=device), draw(_TALL, 1), 2)

    def updated(unit_norm: bool) -> Sequence[Tensor]:
        weight, mean, square = W_dec.clone(), torch.zeros_like(W_dec), torch.zeros_like(W_dec)
        summed = LatentSum(ops.transpose(codes), codes.values, x)
        ops.adam_(weight, summed, mean, square, AdamStep(0.01, 1, eps=1e-4, unit_norm=unit_norm))
        return weight, mean, square

    return {
        "top_k": lambda: [ops.top_k(pre, _K).dense()],
        "top_k of bfloat16": lambda: [ops.top_k(low, _K).dense()],
        "batch_top_k": lambda: [ops.batch_top_k(pre, _ROWS * _K).dense()],
        "above": lambda: [ops.above(pre, b_enc).dense()],
        "keep_top_k": lambda: [ops.keep_top_k(codes, _K).dense()],
        "rescore": lambda: [ops.rescore(codes, x, W_dec, b_enc).values],
        "decode_backward": lambda: ops.decode_backward(codes, W_dec, b_dec, x),
        "decode_backward of prefixes": lambda: ops.decode_backward(codes, W_dec, b_dec, x, (20, _WIDTH)),
        "sum_by_latent": lambda: [ops.sum_by_latent(ops.transpose(tall), tall.values, many)],
        "adam_": lambda: updated(unit_norm=False),
        "adam_ of unit rows": lambda: updated(unit_norm=True),
    }


def _matmul(x: Tensor, encoder: Tensor, b_enc: Tensor) -> Multiply:
    return lambda rows, latents, pre: torch.addmm(b_enc[latents], x[rows], encoder[latents].T, out=pre)


def _bfloat16_matmul(x: Tensor, encoder: Tensor, b_enc: Tensor, workspace: Workspace) -> Multiply:
    """The bias is two further columns of the weights, its leading bits and the rest, against ones in x."""
    leading = b_enc.bfloat16()
    columns = torch.stack([leading, (b_enc - leading).bfloat16()], 1)
    ones = columns.new_ones(len(x), columns.shape[1])
    rounded_x = _rounded(x, ones, "x", workspace)
    weights = _rounded(encoder, columns, "encoder", workspace)
    return lambda rows, latents, pre: torch.mm(rounded_x[rows], weights[latents].T, out=pre)


def _rounded(tensor: Tensor, columns: Tensor, name: str, workspace: Workspace) -> Tensor:
    """In bfloat16, with further columns."""
    rows, width = tensor.shape
    rounded = workspace.take(name, rows, width + _FURTHER_COLUMNS, torch.bfloat16, tensor.device)

    def fill(start: int, stop: int) -> None:
        rounded[start:stop, :width] = tensor[start:stop]
        rounded[start:stop, width:] = padded[start:stop]

    padded = F.pad(columns, (0, _FURTHER_COLUMNS - columns.shape[1]))
    share(rows, tensor.numel(), fill)
    return rounded
