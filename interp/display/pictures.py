"""Convert the pictures of rows that are not text, which a user's function draws, for the page and for notebooks.

In: the result of the user's function for a row. It is an array [height, width] or [height, width, 3 or 4] of bytes or
of floats in 0..1, a picture of PIL, or the bytes of a PNG file. Out: a PNG file in base64. Only this enters HTML;
markup and other formats, which could contain scripts, are refused.
"""

import base64
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from interp.checks.errors import InterpError

Renderer = Callable[[int], Any]
"""Row id (sequence · n_ctx + position) → picture."""
PNG_PREFIX = "data:image/png;base64,"
MOST_BYTES = 1 << 16
"""Largest size of a picture in bytes. The page contains one per example."""
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_COLOUR_TYPES = {2: 0, 3: 2, 4: 6}
"""PNG's colour type by the number of an array's dimensions or channels; 2 is grey."""


def picture_of(render: Renderer, row: int) -> str:
    """Return the picture of a row as PNG in base64. Raises ValueError if the function returns no picture, or if it is
    too large."""
    drawn = render(row)
    if isinstance(drawn, bytes | bytearray):
        png = bytes(drawn)
        if not png.startswith(_SIGNATURE):
            raise InterpError(
                f"render({row}) returned bytes that are not a PNG file: return an array, a PIL image or a PNG file"
            )
    elif hasattr(drawn, "save"):  # of PIL
        buffer = io.BytesIO()
        drawn.save(buffer, format="PNG")
        png = buffer.getvalue()
    else:
        png = _encode_png(drawn, row)
    if len(png) > MOST_BYTES:
        raise InterpError(
            f"render({row}) returned a picture of {len(png):,} bytes, above the limit of {MOST_BYTES:,}: make it "
            "smaller, as the page holds one per example"
        )
    return base64.b64encode(png).decode("ascii")


def _encode_png(drawn: Any, row: int) -> bytes:
    if hasattr(drawn, "detach"):
        drawn = drawn.detach().cpu()
        drawn = drawn.float() if drawn.is_floating_point() else drawn  # numpy has no bfloat16
    pixels = np.asarray(drawn)
    channels = 2 if pixels.ndim == 2 else pixels.shape[-1] if pixels.ndim == 3 else 0
    if channels not in _PNG_COLOUR_TYPES or (channels == 2 and pixels.ndim == 3) or not pixels.size:
        raise InterpError(
            f"render({row}) returned {type(drawn).__name__} of shape {pixels.shape}: return an array [height, width] "
            "or [height, width, 3 or 4], or a PNG file"
        )
    if pixels.dtype != np.uint8:
        if pixels.dtype.kind not in "fbiu" or not (pixels.min() >= 0 and pixels.max() <= 1):
            raise InterpError(
                f"render({row}) returned {pixels.dtype} from {pixels.min()} to {pixels.max()}: scale it to 0..1, or "
                "return bytes (uint8)"
            )
        pixels = np.round(255 * pixels.astype(float)).astype(np.uint8)
    height, width = pixels.shape[:2]
    lines = np.hstack([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)])  # filter 0: none
    header = struct.pack(">IIBBBBB", width, height, 8, _PNG_COLOUR_TYPES[channels], 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
