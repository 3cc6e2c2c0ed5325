"""Encode rows: the matmul with the encoder and the picks from it, without all pre-activations at once.

    x [row, d_in], encoder rows [d_sae, d_in], b_enc, a `Picker`  →  SparseCodes of pre = x W_enc + b_enc

Rows are processed in pieces. The picker picks from each piece independently or, if it considers all rows, visits one
piece after the other. At low precision a piece's matmul is in bfloat16, and the picker picks with a margin: more
entries than fire. Their values are computed again from the unrounded inputs and weights, and the picker picks among
these. Values are exact. A pick differs from the full-precision pick only if rounding moved an entry by more than the
margin.
"""

import threading
from collections.abc import Callable, Iterator
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from interp.codes.sparse_codes import SparseCodes
from interp.runtime.devices import multiplies_bfloat16
from interp.runtime.threads import loop_in_threads, map_in_threads, slices
from interp.sae.kernels.dispatch import kernels
from interp.sae.kernels.torch_kernels import PreActivations, Tiled

Multiply = Callable[[slice, slice, Tensor], object]
MARGIN = 8
"""Picks beyond k from pre-activations of low precision, to be ranked at full precision."""
BFLOAT16_ERROR = 2.0**-6
"""Error of a bfloat16 pre-activation that a margin allows for, relative to what it is compared with."""
_FULL_AT_ONCE = 1 << 22
"""Pre-activations per piece of float32: 16 MiB, which stay in the cache."""
_LOW_AT_ONCE = 1 << 25
"""Pre-activations per piece of bfloat16: at most 64 MiB, tiled on a CPU."""
_MOST_ROWS = 1024
"""Rows per piece: matmuls of fewer rows take more time per row in bfloat16; more leave threads idle."""
_LATENTS_AT_ONCE = 512
"""Width of a tile on a CPU: with as many rows of bfloat16 it leaves room in the cache for the weights."""
_FURTHER_COLUMNS = 16
"""Columns added to the bfloat16 matrices: room for the bias, and for rows to stay aligned."""


class Picker(Protocol):
    """A picker takes entries from pre-activations: the k largest of a row, those above a threshold, …"""

    by_row: ClassVar[bool]
    """Whether a row's picks depend on that row alone."""

    def pick(self, pre: PreActivations) -> SparseCodes:
        """Return the entries that fire. Pre-activations are `Tiled` if the picker does not pick by row."""

    def pick_with_margin(self, pre: PreActivations) -> SparseCodes:
        """Return the picks from bfloat16 pre-activations, and the entries that rounding may have ranked below them."""

    def pick_among(self, codes: SparseCodes) -> SparseCodes:
        """Return the picks among the entries that were picked with a margin, whose values are now exact."""


class Workspace:
    """Memory that `encode` reuses each time, so that a training loop does not request it from the system each step."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, int], Tensor] = {}

    def buffer(self, name: str, rows: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return a buffer. Each thread has its own buffers; an earlier one with the same name is overwritten."""
        key = name, threading.get_ident()
        buffer = self._buffers.get(key)
        if buffer is None or buffer.numel() < rows * width or buffer.dtype != dtype or buffer.device != device:
            buffer = torch.empty(rows * width, dtype=dtype, device=device)
            self._buffers[key] = buffer
        return buffer[: rows * width].view(rows, width)


def encode(
    x: Float[Tensor, "row d_in"],
    encoder_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, " d_sae"],
    picker: Picker,
    *,
    low_precision: bool = False,
    workspace: Workspace | None = None,
) -> SparseCodes:
    """Return the picks from pre = x encoder_rowsᵀ + b_enc.

    x: centred already.
    encoder_rows: one row per latent, W_enc transposed. `low_precision` pays off if `has_fast_bfloat16`; `workspace`
    holds the reused buffers.
    """
    workspace = workspace or Workspace()
    pieces = slices(len(x), piece_rows(len(x), len(encoder_rows), low_precision))
    multiply = _bfloat16_matmul(x, encoder_rows, b_enc, workspace) if low_precision else _matmul(x, encoder_rows, b_enc)
    dtype = torch.bfloat16 if low_precision else x.dtype
    tile_width = _LATENTS_AT_ONCE if x.device.type == "cpu" else max(1, len(encoder_rows))

    def pre_of(rows: slice, latents: slice) -> Tensor:
        pre = workspace.buffer("pre", rows.stop - rows.start, latents.stop - latents.start, dtype, x.device)
        multiply(rows, latents, pre)
        return pre

    def tiles(rows: slice) -> Iterator[tuple[int, Tensor]]:
        for start in range(0, len(encoder_rows), tile_width):
            yield start, pre_of(rows, slice(start, min(start + tile_width, len(encoder_rows))))

    def codes_of(rows: slice, parts: list[slice]) -> SparseCodes:
        if picker.by_row and not (low_precision and x.device.type == "cpu"):
            pre: PreActivations = pre_of(rows, slice(0, len(encoder_rows)))
        else:
            shape = torch.Size((rows.stop - rows.start, len(encoder_rows)))
            first = rows.start
            pre = Tiled(shape, dtype, parts, lambda part: tiles(slice(first + part.start, first + part.stop)), x.device)
        if low_precision:
            return picker.pick_among(kernels(x).rescore(picker.pick_with_margin(pre), x[rows], encoder_rows, b_enc))
        return picker.pick(pre)

    if not picker.by_row:
        return codes_of(slice(0, len(x)), pieces)
    parts = map_in_threads(pieces, lambda piece: codes_of(piece, [slice(0, piece.stop - piece.start)]))
    return parts[0] if len(parts) == 1 else SparseCodes.cat(parts)


def piece_rows(rows: int, d_sae: int, low_precision: bool = False) -> int:
    """Count the rows that `encode` takes at a time. It does not depend on the number of threads, because the last bits
    of a matmul depend on it."""
    at_once = _LOW_AT_ONCE if low_precision else _FULL_AT_ONCE
    return max(1, min(rows, _MOST_ROWS, at_once // d_sae))


def has_fast_bfloat16(x: Tensor) -> bool:
    """Return whether a bfloat16 matmul is faster for float32 tensors on the device of x; False for other tensors."""
    return x.dtype == torch.float32 and multiplies_bfloat16(x.device)


def _matmul(x: Tensor, encoder_rows: Tensor, b_enc: Tensor) -> Multiply:
    return lambda rows, latents, pre: torch.addmm(b_enc[latents], x[rows], encoder_rows[latents].T, out=pre)


def _bfloat16_matmul(x: Tensor, encoder_rows: Tensor, b_enc: Tensor, workspace: Workspace) -> Multiply:
    """Multiply in bfloat16. The bias is two further columns of the weights, its leading bits and the rest, against ones
    in x."""
    leading = b_enc.bfloat16()
    columns = torch.stack([leading, (b_enc - leading).bfloat16()], 1)
    ones = columns.new_ones(len(x), columns.shape[1])
    rounded_x = _round_to_bfloat16(x, ones, "x", workspace)
    weights = _round_to_bfloat16(encoder_rows, columns, "encoder_rows", workspace)
    return lambda rows, latents, pre: torch.mm(rounded_x[rows], weights[latents].T, out=pre)


def _round_to_bfloat16(tensor: Tensor, columns: Tensor, name: str, workspace: Workspace) -> Tensor:
    """Return the tensor in bfloat16, with further columns."""
    rows, width = tensor.shape
    rounded = workspace.buffer(name, rows, width + _FURTHER_COLUMNS, torch.bfloat16, tensor.device)

    def fill(start: int, stop: int) -> None:
        rounded[start:stop, :width] = tensor[start:stop]
        rounded[start:stop, width:] = padded[start:stop]

    padded = F.pad(columns, (0, _FURTHER_COLUMNS - columns.shape[1]))
    loop_in_threads(rows, tensor.numel(), fill)
    return rounded
