"""Join ranges that a rule lists: "at token 9 or later, 7 or 8 of a sentence" is "at token 7 or later of a sentence".

In: the words of a rule between its tokens, in which the values of one kind of place are listed as they were found. Out:
the same with ranges that adjoin as one, in order.
"""

import re
from typing import NamedTuple

ENDLESS = 1 << 30
"""The end of a range that has none."""


class Range(NamedTuple):
    first: int
    last: int


def join_ranges(words: str) -> str:
    """Return the words of a rule with the ranges that it lists joined."""
    return _STARTS.sub(_starts, _ORDINALS.sub(_ordinals, _INDENTS.sub(_indents, words)))


def _indents(found: re.Match) -> str:
    ranges = _joined(found[0])
    if ranges == [Range(1, ENDLESS)]:
        return "in indented lines"
    names = [f"more than {low - 1}" if high == ENDLESS else f"{low} to {high}" for low, high in ranges]
    return f"in lines indented by {_or(names)} spaces"


def _ordinals(found: re.Match) -> str:
    names: list[str] = []
    for low, high in _joined(found[1]):
        if high == ENDLESS:
            names.append(f"{low} or later")
        else:
            names += [f"{low} to {high}"] if high > low + 1 else map(str, range(low, high + 1))
    return f"at token {_or(names)} of a {found[2]}"


def _starts(found: re.Match) -> str:
    ranges = _joined(found[0])
    (low, high), *others = ranges
    if others or low == high:
        return found[0]
    return f"{low} to {high} tokens into a sequence" if low else f"in the first {high + 1} tokens of a sequence"


def _joined(words: str) -> list[Range]:
    """Return the ranges in some words in order, those that adjoin as one."""
    out: list[Range] = []
    for one in sorted(map(_range, _RANGE.finditer(words))):
        if out and one.first <= out[-1].last + 1:
            out[-1] = Range(out[-1].first, max(out[-1].last, one.last))
        else:
            out.append(one)
    return out


def _range(found: re.Match) -> Range:
    least, more_than, low, high, only = (None if n is None else int(n) for n in found.groups())
    if least is not None or more_than is not None:
        return Range((more_than or 0) + 1 if least is None else least, ENDLESS)
    if low is not None and high is not None:
        return Range(low, high)
    place = {"the start": 0, "one token": 1}.get(found[0], only or 0)
    return Range(place, place)


def _or(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    joint = ", or" if " or " in names[-1] else " or"
    return f"{', '.join(names[:-1])}{joint} {names[-1]}"


def _list_of(one: str, before: str = "", after: str = "") -> re.Pattern:
    return re.compile(rf"{before}((?:{one})(?:(?:, | or )(?:{one}))*){after}")


_RANGE = re.compile(
    r"(\d+) or later|more than (\d+)|(\d+) (?:to|or) (\d+)(?= spaces| tokens)|the start|one token|(\d+)"
)
_INDENTS = _list_of(r"\d+ to \d+ spaces|more than \d+ spaces", before="in lines indented by ")
_ORDINALS = _list_of(r"\d+ or later|\d+", before="at token ", after=" of a (line|sentence)")
_STARTS = _list_of("at the start of a sequence|one token into a sequence|\\d+ (?:to|or) \\d+ tokens into a sequence")
