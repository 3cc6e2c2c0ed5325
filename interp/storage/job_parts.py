"""Parts of one job that machines do independently, such as a scheduler's job array, and how they are joined.

`part=(rank, count)` is the part rank + 1 of count; on the command line the third of sixteen is `--part 3/16`. A part
records the work it belongs to, so that only parts of the same work are joined.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from interp.checks.errors import InterpError
from interp.checks.limits import is_whole_number, shortened_repr


class PartNote(NamedTuple):
    """The record that a part keeps of itself."""

    name: str
    """Its name in error messages, such as its file name."""
    part: Any
    """(rank, count); None if it is not recorded."""
    made_of: Mapping[str, Any]
    """What the whole work depends on, as digests and settings."""


def parse_part(text: str) -> tuple[int, int]:
    """Return (rank, count) of "3/16", which is (2, 16). Raises ValueError for any other text."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise InterpError(f"part {text!r} must be a number and a count, such as 3/16")
    return int(number) - 1, int(count)


def check_part(part: Any) -> tuple[int, int]:
    """Return a part, (rank, count). Raises ValueError unless it is two whole numbers, with the rank in 0..count−1."""
    is_pair = isinstance(part, tuple | list) and len(part) == 2 and all(map(is_whole_number, part))
    if not is_pair or not 0 <= part[0] < part[1]:
        raise InterpError(f"part={shortened_repr(part)} must be (rank, count) with the rank in 0..count-1")
    return int(part[0]), int(part[1])


def order_parts(notes: Sequence[PartNote], made_of: Mapping[str, Any] | None = None) -> list[int]:
    """Return the indices of the parts of one work, in the order of their ranks.

    made_of: that of the work to which the parts must belong, or None for that of the first part.
    Raises ValueError for results that are not parts, for parts of another work, and for duplicate or missing parts."""
    if not notes:
        raise InterpError("no parts were named: name all parts of a work")
    first = notes[0]
    indices = dict[int, int]()
    for index, note in enumerate(notes):
        if not note.part:
            raise InterpError(
                f"{note.name} is not a part: give results that were made with part=(rank, count) (--part)"
            )
        rank, count = note.part
        wanted, other = (first.made_of, first.name) if made_of is None else (made_of, "this")
        differing = [key for key in {**wanted, **note.made_of} if wanted.get(key) != note.made_of.get(key)]
        if differing or count != first.part[1]:
            differing += [] if count == first.part[1] else ["number of parts"]
            raise InterpError(
                f"{note.name} belongs to different work than {other}: it differs in {' and '.join(differing)}"
            )
        if rank in indices:
            twice = f"{notes[indices[rank]].name} and {note.name} are both part {rank + 1}/{count}"
            raise InterpError(f"{twice}: name each part once")
        indices[rank] = index
    count = first.part[1]
    if missing := [f"{rank + 1}/{count}" for rank in range(count) if rank not in indices]:
        raise InterpError(f"part {', '.join(missing[:8])} is missing: make it, then join all {count}")
    return [indices[rank] for rank in range(count)]
