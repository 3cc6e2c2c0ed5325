"""Encode numbers and text for the page, in few digits and few bytes."""

import gzip
import json
import math
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

import numpy as np

N_DIGITS = 3
"""Number of significant digits. The page shows no more."""
MAX_FIELDS = 8
"""Largest number of fields in a row of a table. Longer lists have equal lengths only by chance."""
_TWO_DIGITS = Context(prec=2, rounding=ROUND_HALF_UP)
"""Rounds a number that lies in the middle as JavaScript does."""
_POWERS_OF_TEN = np.array([10**i for i in range(16)], float)
_FIRST_CODE, _SURROGATES, _N_SURROGATES = 93, 0xD800, 0x800
_FIRST_PACKED, _BITS = 0x100, 15
"""The code point that stands for the bits 0, and the number of bits that a character holds. The 2¹⁵ code points from
there on lie before the surrogates. UTF-16 takes 16 bits for each; base64 in UTF-8 would take 20."""


def encode(payload: Any) -> str:
    """Encode JSON → gzip → text (`pack`). The same payload always gives the same text."""
    return pack(json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":")))


def pack(text: str) -> str:
    """Return the gzipped text with one character for every 15 bits. The first character counts the bits that are left
    over at the end. The text must be written in UTF-16."""
    packed = gzip.compress(text.encode(), 6, mtime=0)  # 9 takes twice the time for 0.5 %
    bits = np.unpackbits(np.frombuffer(packed, np.uint8))
    left_over = -len(bits) % _BITS
    codes = np.pad(bits, (0, left_over)).reshape(-1, _BITS) @ (1 << np.arange(_BITS)[::-1])
    return (np.array([left_over, *codes]) + _FIRST_PACKED).astype("<u2").tobytes().decode("utf-16-le")


def columns_of(values: Sequence[Any]) -> Any:
    """Store values of one kind in columns, so that similar values are neighbours. This saves a tenth of the packed
    bytes.

    Mappings become {"keys", "columns"}, with one column for each key and None if a mapping lacks it. Lists of one
    common length up to MAX_FIELDS become {"columns"}. Other lists become {"lengths", "all"}, where "all" has one after
    the other. Anything else stays a list. `missing` has the places of None among mappings or lists."""
    present = [value for value in values if value is not None]
    missing = {"missing": [place for place, value in enumerate(values) if value is None]}
    marked = missing if len(present) < len(values) else {}
    if present and all(isinstance(value, dict) for value in present):
        keys = list(dict.fromkeys(key for value in present for key in value))
        return {"keys": keys, "columns": [columns_of([value.get(key) for value in present]) for key in keys], **marked}
    if present and all(isinstance(value, list | tuple) for value in present):
        lengths = [len(value) for value in present]
        if 0 < lengths[0] <= MAX_FIELDS and len(set(lengths)) == 1:
            return {"columns": [columns_of(column) for column in zip(*present, strict=True)], **marked}
        return {"lengths": lengths, "all": columns_of([item for value in present for item in value]), **marked}
    return list(values)


def number(value: Any, digits: int = N_DIGITS) -> Any:
    """Return a JSON number with `digits` significant digits. Integers stay exact. None and non-finite values become
    null."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    value = float(value)
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 1e15 else float(f"{value:.{digits}g}")


def format_percent(share: float) -> str:
    """Format a share in [0, 1] as the page writes it, with two digits (`inPercent` in elements/format.js)."""
    percent = 100 * share
    if not share or share >= 0.0995:
        return f"{math.floor(percent + 0.5)} %"
    rounded = _TWO_DIGITS.create_decimal(percent)
    size = rounded.adjusted()
    if share < 1e-5:
        return f"{rounded.scaleb(-size):.1f}e−{-size} %"
    return f"{rounded.quantize(Decimal(1).scaleb(size - 1))} %"


def numbers(values: np.ndarray, digits: int = N_DIGITS) -> list:
    """Return `number` of each value. Values of common sizes are computed together. Each is a whole number multiplied or
    divided by an exact power of ten, so it is rounded once, like a number that is read from text. Values near half of
    their last digit are computed one by one."""
    size = np.abs(values, dtype=float)
    common = (size > 1e-8) & (size < 1e8)
    x = np.where(common, values, 0.5).astype(float)
    powers = digits - 1 - np.floor(np.log10(np.abs(x))).astype(int)
    tens = _POWERS_OF_TEN[np.abs(powers)]
    divides = powers > 0
    scaled = np.where(divides, x * tens, x / tens)
    common &= (np.abs(scaled - np.floor(scaled) - 0.5) > 1e-9) & (x != np.rint(x))
    rounded = np.where(divides, np.rint(scaled) / tens, np.rint(scaled) * tens).tolist()
    for at in np.flatnonzero(~common).tolist():
        rounded[at] = number(values[at], digits)
    return rounded


def encode_tokens(tokens: Sequence[int] | np.ndarray) -> str:
    """Encode each token id as one character. Code points start after the quote and the backslash and skip the
    surrogates."""
    codes = np.asarray(tokens, dtype="<u4") + _FIRST_CODE
    return np.where(codes < _SURROGATES, codes, codes + _N_SURROGATES).astype("<u4").tobytes().decode("utf-32-le")
