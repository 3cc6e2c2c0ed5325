"""JSON from a file held against the shape that it must have: a TypedDict, checked strictly by pydantic.

class Meta(TypedDict):
    d_sae: Count

validated(Meta, read_json(file, "scan again"), file, "scan again")     # ValueError: file, entry, value, remedy
"""

from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

__all__ = ["Amount", "Count", "Digest", "FileName", "Finite", "TypedDict", "validated"]

STRICT = ConfigDict(strict=True, allow_inf_nan=False)
Count = Annotated[int, Field(ge=1, le=1 << 60)]
Amount = Annotated[int, Field(ge=0, le=1 << 60)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[^/\\]+$", max_length=255)]
"""Of a file in the same folder: no path leads out of it."""


def validated(kind: Any, content: Any, file: str | Path, remedy: str) -> Any:
    """`content`, as it is. Raises ValueError for the first entry that is missing or of another kind."""
    try:
        _adapter(kind).validate_python(content, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place, found = ".".join(map(str, first["loc"])) or "all of it", first["msg"]
        value = "" if first["type"] == "missing" else f" = {str(first['input'])[:50]!r}"
        raise ValueError(f"{file} is damaged, {place}{value}: {found}; {remedy}") from None
    return content


@cache
def _adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(kind)
