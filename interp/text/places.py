"""Name places that are numbers: the token of a line, its indentation, the token of a sequence; and several of them in
short, as ranges: token 9 or later, 7 and 8 are "7 or later".

In: values of a kind of place (`predicate_kinds`). Out: words.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

N_ORDINALS = 8
"""Tokens of a line or sentence that are told apart; the next value stands for all later ones."""
N_INDENTS, SPACES = 4, 4
"""Indentations that are told apart, each of as many spaces; the next value stands for all larger ones."""
ENDLESS = 1 << 40
"""The end of a range that has none."""
ORDINALS = [*(str(n) for n in range(1, N_ORDINALS + 1)), f"{N_ORDINALS + 1} or later"]


class Range(NamedTuple):
    first: int
    last: int


def _indent(value: int) -> Range:
    return Range(SPACES * (value - 1) + 1, SPACES * value if value <= N_INDENTS else ENDLESS)


def _spaces(spaces: Range) -> str:
    return f"more than {spaces.first - 1}" if spaces.last == ENDLESS else f"{spaces.first} to {spaces.last}"


NOT_INDENTED = "in lines that are not indented"
INDENTS = [NOT_INDENTED, *(f"in lines indented by {_spaces(_indent(n))} spaces" for n in range(1, N_INDENTS + 2))]


def ordinals(values: Sequence[int]) -> str:
    """Return several values of ORDINALS in short."""
    names: list[str] = []
    for low, high in _joined(Range(value + 1, value + 1 if value < N_ORDINALS else ENDLESS) for value in values):
        if high == ENDLESS:
            names.append(f"{low} or later")
        else:
            names += [f"{low} to {high}"] if high > low + 1 else map(str, range(low, high + 1))
    return _or(names)


def indents(values: Sequence[int]) -> str:
    """Return several values of INDENTS in short."""
    names = [NOT_INDENTED] if 0 in values else []
    ranges = _joined(_indent(value) for value in values if value)
    if ranges == [Range(1, ENDLESS)]:
        names.append("in indented lines")
    elif ranges:
        names.append(f"in lines indented by {_or([_spaces(one) for one in ranges])} spaces")
    return _or(names)


def sequence_place(value: int) -> str:
    """Return the name of a position in a sequence, to a factor of two."""
    if value < 3:
        return ("at the start of a sequence", "one token into a sequence", "2 or 3 tokens into a sequence")[value]
    low, high = _positions(value)
    return f"{low} to {high} tokens into a sequence"


def sequence_places(values: Sequence[int]) -> str | None:
    """Return several such names in short; None for places that do not adjoin, or for one alone."""
    (low, high), *others = _joined(map(_positions, values))
    if others or low == high:
        return None
    return f"{low} to {high} tokens into a sequence" if low else f"in the first {high + 1} tokens of a sequence"


def _positions(value: int) -> Range:
    return Range(value, value) if value < 2 else Range(1 << (value - 1), (1 << value) - 1)


def _joined(ranges: Iterable[Range]) -> list[Range]:
    """Return the ranges in order, those that adjoin as one."""
    out: list[Range] = []
    for one in sorted(ranges):
        if out and one.first <= out[-1].last + 1:
            out[-1] = Range(out[-1].first, one.last)
        else:
            out.append(one)
    return out


def _or(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    joint = ", or" if " or " in names[-1] else " or"
    return f"{', '.join(names[:-1])}{joint} {names[-1]}"
