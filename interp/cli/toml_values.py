"""Values on the command line, written as in TOML."""

import tomllib
from typing import Any

from interp.checks.errors import InterpError


def toml_value(text: str) -> Any:
    """Parse `text` as TOML, but accept strings without quotes: 32, 1e-3, true, [0.5, 0.5], cosine.

    Raises ValueError for text that begins like a list, a table or a quoted string but is not valid.
    """
    text = text.strip()
    try:
        return _parsed(f"{'0' if text.startswith('.') else ''}{text}")
    except tomllib.TOMLDecodeError:
        if text.startswith(("[", "{", '"', "'")):
            raise InterpError(f'{text} is not a TOML value: write it like [1, 2], {{key = 1}} or "text"') from None
        return text


def toml_values(text: str) -> list[Any]:
    """Parse several values separated by commas: 16,32 or [0.5, 0.5],[0.25, 0.75] or linear,cosine."""
    try:
        return _parsed(f"[{text}]")
    except tomllib.TOMLDecodeError:
        return [toml_value(item) for item in text.split(",")]


def assignment(text: str) -> tuple[str, str]:
    """Split FIELD=VALUE in two; dashes in the field's name become underscores."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise InterpError(f"{text!r} must be FIELD=VALUE")
    return name.strip().replace("-", "_"), value


def _parsed(text: str) -> Any:
    """Parse `text` as one value. It stands in an inline table, where neither a comment nor another line may follow."""
    document = tomllib.loads(f"table = {{value = {text}}}")
    if [*document, *document["table"]] != ["table", "value"]:
        raise tomllib.TOMLDecodeError(f"{text} is more than one value")
    return document["table"]["value"]
