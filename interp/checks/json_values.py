"""Check the content of a JSON file of ours, or of a request, against a TypedDict: strictly, by pydantic.

For example:

    class Meta(TypedDict):                             # from typing_extensions
        d_sae: AtLeastOne
    validate_json(Meta, read_json(file, "scan again"), file, "scan again")     # DamagedError: file, entry, remedy
"""

from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from interp.checks.errors import DamagedError
from interp.checks.limits import first_fault

AtLeastOne = Annotated[int, Field(ge=1, le=1 << 60)]
AtLeastZero = Annotated[int, Field(ge=0, le=1 << 60)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[^/\\]+$", max_length=255)]
"""Name of a file in the same folder; it cannot lead out of the folder."""


def validate_json(json_type: Any, content: Any, file: str | Path, remedy: str) -> Any:
    """Return `content` unchanged. Raises DamagedError for the first entry that is missing or of the wrong type."""
    try:
        _adapter(json_type).validate_python(content, strict=True)
    except ValidationError as error:
        raise DamagedError(f"{file} is damaged, {first_fault(error)}; {remedy}") from None
    return content


@cache
def _adapter(json_type: Any) -> TypeAdapter:
    return TypeAdapter(json_type)
