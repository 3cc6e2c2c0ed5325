"""What is said of a latent in a line, as segments: a caption is a list of them, and every display draws the same list.

    "words"                    words; JSON: "words"
    Token("thou")              a token of the vocabulary, by its string; JSON: ["thou"]. One that has a name is drawn by
                               that: ["\\n", "a newline"]. One that holds parts of characters has its pieces too, and is
                               drawn by these in words: ["⟨d7⟩", [["א–ת…", "the first byte of a Hebrew letter"]]]
    TokenList((TokenGroup(…), …))
                               a list of tokens that is shown in short: of each group its name, its first tokens and how
                               many more there are; JSON: {"groups": [[name, tokens, n shown], …], "like": 1}
    Part("muted", segments)    segments that are shown in one way; JSON: {"muted": […]}. The kinds of parts are those of
                               `report.captions`

In: words and tokens. Out: segments, their JSON and their text.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

N_LISTED = 4
"""Tokens that are shown of a list; if only one more is left, that takes no more room than its number."""
N_AROUND = 3
"""The same of a list of tokens that are only around those on which a rule holds."""
MIN_FAMILY = 3
"""Least number of tokens of a long list that are named as a family."""
N_SAMPLES, N_FURTHER_SAMPLES = 3, 1
"""Tokens that are shown of a family, and of those in further lists of the same rule."""
CHARACTERS = "characters"
"""What those are of which parts are in tokens, if nothing else is known of them."""
MANY_SCRIPTS = 3
"""Scripts that are named of a family of parts of characters of several scripts."""
MARK_NAMES = {
    "\n": "a newline",
    "\n\n": "a blank line",
    " ": "a space",
    "\t": "a tab",
    "": "an empty token",
    ",": "a comma",
    ".": "a full stop",
    ":": "a colon",
    ";": "a semicolon",
    "'": "an apostrophe",
    '"': "a double quote",
}
"""What common marks are called, in rules of a ranking too."""
LIKE = "tokens like "
"""The first words of the name of a class of tokens that is named by some of them."""
SEPARATORS = (", ", " or ", ", or ")
"""What stands between the tokens of a list."""


class CharacterPart(NamedTuple):
    """A part of a character in a token."""

    label: str
    words: str


class Token(NamedTuple):
    text: str
    pieces: tuple[str | CharacterPart, ...] = ()
    """Of a token with parts of characters: its pieces in order."""


class TokenGroup(NamedTuple):
    name: str
    """What the tokens are, such as "Greek letters"; "" if nothing is said of them."""
    tokens: tuple[Token, ...]
    n_shown: int
    parts_of: tuple[str, ...] = ()
    """Of which characters they are parts, such as "Hebrew letters"; () if they are whole."""


class TokenList(NamedTuple):
    groups: tuple[TokenGroup, ...]
    are_examples: bool = False
    """Whether the rule has LIKE before the list, which names of families replace."""


class Part(NamedTuple):
    kind: str
    content: Any
    """Segments, or what the kind needs."""


Segment = str | Token | TokenList | Part
Segments = list[Segment]


class Family(NamedTuple):
    """What several tokens are, such as "numbers"."""

    name: str
    parts_of: tuple[str, ...] = ()
    """Of which characters they are parts, such as "Hebrew letters". Those of several scripts in one list are one
    family."""
    is_counted: bool = False
    """Whether its name says all of its tokens, so that none is shown."""


NameFamily = Callable[[str], Family | None]
"""Token → what it is one of; None if it is of no family."""


def tokens_of(segments: Sequence[Segment]) -> Iterator[Token]:
    """Yield all tokens, in order."""
    for one in segments:
        if isinstance(one, Token):
            yield one
        elif isinstance(one, TokenList):
            for group in one.groups:
                yield from group.tokens
        elif isinstance(one, Part) and isinstance(one.content, list):
            yield from tokens_of(one.content)
        elif isinstance(one, list):
            yield from tokens_of(one)


def listed_tokens(rule: Segments) -> list[Token]:
    """Return the tokens of a rule that is only a list of tokens; none for any other rule."""
    is_list = all(isinstance(one, Token | TokenList) or one in SEPARATORS for one in rule)
    return list(tokens_of(rule)) if is_list else []


def map_tokens(segments: Segments, change: Callable[[Token], Token]) -> Segments:
    """Return the segments with each token changed."""

    def changed(one: Segment) -> Segment:
        if isinstance(one, Token):
            return change(one)
        if isinstance(one, TokenList):
            groups = (group._replace(tokens=tuple(map(change, group.tokens))) for group in one.groups)
            return one._replace(groups=tuple(groups))
        if isinstance(one, Part) and isinstance(one.content, list):
            return one._replace(content=map_tokens(one.content, change))
        return one

    return [changed(one) for one in segments]


def to_text(segments: Sequence[Segment]) -> str:
    """Return the segments as text, lists in short and parts of characters in words."""
    return "".join(map(_text, segments))


def _text(one: Segment) -> str:
    if isinstance(one, Token) and one.pieces:
        whole = "".join(piece for piece in one.pieces if isinstance(piece, str))
        parts = " and ".join(piece.words for piece in one.pieces if not isinstance(piece, str))
        return f'"{whole}" with {parts}' if whole else parts
    if isinstance(one, Token):
        return name_of_token(one.text) or f'"{escape_invisible(one.text)}"'
    if isinstance(one, TokenList):
        return to_text(short_list(one))
    if isinstance(one, Part):
        return to_text(one.content) if isinstance(one.content, list) else ""
    return one


def escape_invisible(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def short_list(tokens: TokenList) -> Segments:
    """Return a list as words and those of its tokens that are shown."""
    out: Segments = []
    for k, (name, own, n_shown, _) in enumerate(tokens.groups):
        out += [*([" or "] if k else []), name + (" " if name and n_shown else "")]
        for index, token in enumerate(own[:n_shown]):
            out += [*([", "] if index else []), token]
        if 0 < n_shown < len(own):
            out.append(f" +{len(own) - n_shown}")
    return out


def to_json(segments: Sequence[Any]) -> list:
    """Return segments, or lists of them, as JSON."""

    def value(one: Any) -> Any:
        if isinstance(one, Token):
            if one.pieces:
                return [one.text, [piece if isinstance(piece, str) else list(piece) for piece in one.pieces]]
            name = name_of_token(one.text)
            return [one.text, *([name] if name else [])]
        if isinstance(one, TokenList):
            groups = [[name, [value(token) for token in tokens], n] for name, tokens, n, _ in one.groups]
            return {"groups": groups} | ({"like": 1} if one.are_examples else {})
        if isinstance(one, Part):
            return {one.kind: value(one.content)}
        return to_json(one) if isinstance(one, list) else one

    return [value(one) for one in segments]


def to_json_text(segments: Sequence[Any]) -> str:
    """Return the JSON of segments, or of lists of them, as text: `columns_of` would store their parts one by one."""
    return json.dumps(to_json(segments), ensure_ascii=False, separators=(",", ":"))


def family_of_parts(*nouns: str) -> Family:
    """Return the family of parts of some characters, such as "Hebrew letters"."""
    is_named = len(nouns) == 1 or (CHARACTERS not in nouns and len(nouns) <= MANY_SCRIPTS)
    return Family(f"parts of {join_with_and(nouns) if is_named else CHARACTERS}", nouns)


def join_with_and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def family_of(token: str) -> Family | None:
    """Return the family of tokens of one kind of spelling; None if there is no name for it."""
    name = _family_name(token)
    return None if name is None else Family(name)


def _family_name(token: str) -> str | None:
    letters = token.removeprefix(" ")
    scripts = {_script(letter) for letter in letters}
    if len(letters) == 1 and letters.isalpha():
        if scripts <= {"Greek", "Cyrillic"}:
            return f"{_script(letters)} letters"
        if unicodedata.category(letters) == "Lu":
            return "single capital letters"
        if unicodedata.category(letters) == "Ll":
            return "single small letters"
    if letters and all(unicodedata.category(letter) == "Nd" for letter in letters):
        return "numbers"
    if len(scripts) != 1 or not letters.isalpha():
        return None
    (script,) = scripts
    return _FAMILIES.get(script) if script != "Han" or letters == token else None


_FAMILIES = {
    "Cyrillic": "pieces of Cyrillic words",
    "Hebrew": "pieces of Hebrew words",
    "Arabic": "pieces of Arabic words",
    "Han": "Han characters",
}


def _script(letter: str) -> str:
    first = unicodedata.name(letter, "?").split(" ")[0].split("-")[0]
    return "Han" if first == "CJK" else first.capitalize()


def group_lists(
    rule: Segments,
    name_family: NameFamily,
    n_samples: int = N_SAMPLES,
    n_listed: int = N_LISTED,
    *,
    is_of_many: bool = False,
) -> Segments:
    """Return words of a rule with each list of three tokens or more as a `TokenList`, unless it is short and of no
    family, and so each list with several tokens of spaces.
    n_samples: tokens that are shown of the first family. n_listed: of those of no family; if these are N_AROUND, the
    list is only around those on which a rule holds, and says less.
    is_of_many: the first tokens are examples, as they are after LIKE, so that three alike are named as a family."""
    out: Segments = []
    at = 0
    while at < len(rule):
        end = at
        while end < len(rule) and (isinstance(rule[end], Token) if (end - at) % 2 == 0 else rule[end] in SEPARATORS):
            end += 1
        end -= end > at and not isinstance(rule[end - 1], Token)
        tokens = [one for one in rule[at:end] if isinstance(one, Token)]
        is_like = out[-1:] == [LIKE]
        are_examples = is_like or (is_of_many and len(out) == 1)
        least = MIN_FAMILY if len(tokens) > N_LISTED or are_examples else len(tokens) + 1
        families = _blanks(tokens) | _families(tokens, least, name_family)
        if not families and len(tokens) <= n_listed + 1:
            out += rule[at : max(end, at + 1)]
        else:
            others = [token for token in tokens if not any(token in own for own in families.values())]
            is_around = n_listed < N_LISTED
            is_in_short = is_like and (bool(families) or is_around)
            if is_in_short:
                out.pop()
            if is_around and others:
                n_samples = 0
            groups = []
            for family, own in families.items():
                groups.append(_group(family, own, 0 if family.is_counted else n_samples))
                n_samples = n_samples if family.is_counted else min(n_samples, N_FURTHER_SAMPLES)
            if others:
                n_others = n_listed if len(others) > n_listed + 1 else len(others)
                groups.append(_group(Family(LIKE.rstrip() if is_in_short and not is_around else ""), others, n_others))
            groups.sort(key=lambda group: tokens.index(group.tokens[0]))
            out.append(TokenList(tuple(groups), is_in_short))
        at = max(end, at + 1)
    return out


def _group(family: Family, tokens: Sequence[Token], n_shown: int) -> TokenGroup:
    n = len(tokens) if n_shown and len(tokens) == n_shown + 1 else min(n_shown, len(tokens))
    return TokenGroup(family.name, tuple(tokens), n, family.parts_of)


def _blanks(tokens: Sequence[Token]) -> dict[Family, list[Token]]:
    """Return the tokens of line ends and spaces as a family that is named by their numbers, if there are several."""
    blanks = [token for token in tokens if _WHITE_SPACE.fullmatch(token.text)]
    if len(blanks) < 2 or all(token.text in MARK_NAMES for token in blanks):
        return {}
    return {Family(count_white_space([token.text for token in blanks]), is_counted=True): blanks}


def _families(tokens: Sequence[Token], least: int, name_family: NameFamily) -> dict[Family, list[Token]]:
    """Return the families of at least `least` tokens, in the order of the list."""
    families: dict[Family, list[Token]] = {}
    for token in tokens:
        if family := name_family(token.text):
            families.setdefault(family, []).append(token)
    of_parts = [family for family in families if family.parts_of]
    if len(of_parts) > 1:
        several = family_of_parts(*(noun for family in of_parts for noun in family.parts_of))
        for family in of_parts:
            families.setdefault(several, []).extend(families.pop(family))
    return {family: own for family, own in families.items() if len(own) >= (2 if family.parts_of else least)}


def name_of_token(text: str) -> str | None:
    """Return the name of a common mark, or of white space: "a newline and 7 spaces"; None for any other token."""
    if text in MARK_NAMES:
        return MARK_NAMES[text]
    if text == '"""':
        return "three double quotes"
    return count_white_space([text]) if _WHITE_SPACE.fullmatch(text) else None


def name_of_letter(text: str) -> str | None:
    """Name a token of one Hebrew or Arabic letter, or Arabic mark, which are hard to tell on their own: "Hebrew qof",
    "shadda"; None for any other token."""
    letter = text.strip()
    name = unicodedata.name(letter, "") if len(letter) == 1 else ""
    if is_letter := re.fullmatch("(HEBREW|ARABIC) LETTER (.+)", name):
        return f"{is_letter[1].capitalize()} {is_letter[2].lower()}"
    return (
        name.removeprefix("ARABIC ").lower() if name.startswith("ARABIC ") and unicodedata.combining(letter) else None
    )


_WHITE_SPACE = re.compile(r"\n* *")


def count_white_space(tokens: Sequence[str]) -> str:
    """Name some tokens of line ends and spaces by their numbers: "a newline and 3, 7 or 11 spaces"."""
    counts = sorted((token.count("\n"), token.count(" ")) for token in tokens)
    parts = []
    for n_lines, of_lines in groupby(counts, lambda count: count[0]):
        lines = MARK_NAMES.get("\n" * n_lines, f"{n_lines} newlines") if n_lines else ""
        numbers = [n for _, n in of_lines]
        if not numbers[0] and lines:
            parts.append(lines)
        if some := [str(n) for n in numbers if n]:
            listed = " or ".join([*([", ".join(some[:-1])] if some[1:] else []), some[-1]])
            spaces = "a space" if some == ["1"] else f"{listed} spaces"
            parts.append(f"{lines} and {spaces}" if lines else spaces)
    return ", or ".join(parts)
