"""The flags `--part` and `--join`, which divide the work of a command among machines that are not connected."""

import glob
from collections.abc import Mapping
from typing import Any

from typer import Option

from interp.checks.errors import InterpError
from interp.cli.field_flags import flag_of
from interp.cli.option_groups import HOW_IT_RUNS
from interp.storage.job_parts import parse_part

PART = Option(
    metavar="K/N", help="do only this part, such as 3/16; --join merges all parts", rich_help_panel=HOW_IT_RUNS
)
JOIN = Option(metavar="GLOB", help="merge what --part made of all parts: these paths", rich_help_panel=HOW_IT_RUNS)


def named_parts(part: str | None, join: str | None) -> tuple[tuple[int, int], list[str]]:
    """Return the part that --part names, by default all, and the paths that --join matches, by default none."""
    if part and join:
        raise InterpError("--part makes a part and --join merges all parts: give only one of the two")
    return parse_part(part or "1/1"), _matches(join)


def refuse_beside(flag: str, remedy: str, settings: Mapping[str, Any], **options: Any) -> None:
    """Refuse settings, and options other than None, since `flag` does not use them. Raises ValueError if there are
    any."""
    names = [name for name, value in options.items() if value is not None] + list(settings)
    if names:
        given = ", ".join(map(flag_of, names))
        raise InterpError(f"{flag} does not use {given}: {remedy}")


def _matches(pattern: str | None) -> list[str]:
    """Return the paths that match a glob, sorted; an empty list for None. Raises ValueError if nothing matches."""
    if pattern is None:
        return []
    if not (matches := sorted(glob.glob(pattern))):
        raise InterpError(f"--join {pattern} matches nothing: name the output of --part, such as 'parts/*'")
    return matches
