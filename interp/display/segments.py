"""What is said of a latent in a line, as segments: a caption is a list of them, and every display draws the same list.

    "words"                    words; JSON: "words"
    Token("thou")              a token of the vocabulary, by its string; JSON: ["thou"]. One that holds parts of
                               characters has its pieces too, and is drawn by the labels of these parts, or in words:
                               ["א⟨d7⟩", ["א", ["א–ת…"]]], ["⟨d7⟩", [["א–ת…", "the first byte of a Hebrew letter"]], 1]
    Groups((Group(…), …))      a list of tokens that is shown in short: of each group its name, its first tokens and how
                               many more there are; JSON: {"groups": [[name, tokens, n shown], …], "like": 1}
    Part("muted", segments)    segments that are shown in one way; JSON: {"muted": […]}. The kinds of parts are those of
                               `report.captions`

In: rules as the ranking writes them, in words. Out: segments, their JSON and their text.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from interp.display.ranges import join_ranges

N_LISTED = 4
"""Tokens that are shown of a list; if only one more is left, that takes no more room than its number."""
MIN_FAMILY = 3
"""Least number of tokens of a long list that are named as a family."""
N_SAMPLES, N_FURTHER_SAMPLES = 3, 1
"""Tokens that are shown of a family, and of those in further lists of the same rule."""
PARTS_OF = "parts of "
"""How the names of families of parts of characters begin. Those of several scripts in one list are one family."""
MANY_SCRIPTS = 3
"""Scripts that are named of such a family."""
OF_SEVERAL = "characters of several scripts"
MANY_LINES = 3
"""Line ends in a row from which on they are counted."""


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
    is_in_words: bool = False
    """Whether these parts are named in words, and not by their labels alone."""


class Group(NamedTuple):
    name: str
    """What the tokens are, such as "Greek letters"; "" if nothing is said of them."""
    tokens: tuple[Token, ...]
    n_shown: int


class Groups(NamedTuple):
    groups: tuple[Group, ...]
    are_examples: bool = False
    """Whether the rule has "tokens like" before the list, which names of families replace."""


class Part(NamedTuple):
    kind: str
    content: Any
    """Segments, or what the kind needs."""


Segment = str | Token | Groups | Part
Segments = list[Segment]
NameFamily = Callable[[str], str | None]
"""Token → what it is one of, such as "numbers"; None if it is of no family."""


def read_rule(words: str, tokens: Mapping[str, str] | None = None) -> Segments:
    """Return the words and tokens of a rule.
    tokens: quoted token → its string (`quoted_tokens`). With it, no quote or backslash within a token misleads; without
    it, a quote ends before a space or a punctuation mark."""
    segments: Segments = []
    start = at = 0
    while (at := words.find('"', at)) >= 0:
        opens = at == 0 or words[at - 1] in " ("
        end = _end_of_token(words, at, tokens or {}) if opens else None
        if end is None:
            at += 1
            continue
        quoted = words[at:end]
        segments += [words[start:at]] * (start < at)
        segments.append(Token((tokens or {}).get(quoted) or _unescape(quoted[1:-1])))
        start = at = end
    return segments + [words[start:]] * (start < len(words))


def _unescape(text: str) -> str:
    """Return white space that is written with backslashes as it is; in other text, they may be those of LaTeX."""
    plain = text.replace(r"\n", "\n").replace(r"\t", "\t")
    return text if plain.strip() else plain


def _end_of_token(words: str, start: int, tokens: Mapping[str, str]) -> int | None:
    """Return the end of the quotes that open at `start`: the first that makes a token, else the first that may."""
    ends = [m.end() for m in re.compile(r'"(?=$|[\s,;:.)])').finditer(words, start + 1) if m.start() > start + 1]
    return next((end for end in ends if words[start:end] in tokens), ends[0] if ends else None)


def simplify_rule(rule: Segments, name_family: NameFamily | None = None) -> Segments:
    """Return a rule in short: lists of similar tokens as one list, each long list as `Groups`, white space in counts; a
    property that several kinds of tokens share is named once, and parts of characters are kept apart from the script
    that is named beside them."""
    if said := _count_white_space(rule):
        return [Groups((Group(said, tuple(token for token in rule if isinstance(token, Token)), 0),))]
    joined = _join_lists([_simplify_words(one) if isinstance(one, str) else one for one in rule])
    return _group_lists(joined, name_family or family_of)


def tokens_of(segments: Sequence[Segment]) -> Iterator[Token]:
    """Yield all tokens, in order."""
    for one in segments:
        if isinstance(one, Token):
            yield one
        elif isinstance(one, Groups):
            for group in one.groups:
                yield from group.tokens
        elif isinstance(one, Part) and isinstance(one.content, list):
            yield from tokens_of(one.content)
        elif isinstance(one, list):
            yield from tokens_of(one)


def listed_tokens(rule: Segments) -> list[Token]:
    """Return the tokens of a rule that is only a list of tokens; none for any other rule."""
    is_list = all(isinstance(one, Token | Groups) or one in SEPARATORS for one in rule)
    return list(tokens_of(rule)) if is_list else []


def first_tokens(rule: Segments) -> list[Token]:
    """Return the tokens that a rule lists, alone or before their context; none if it names other tokens, too."""
    is_listed = (isinstance(one, Token) or one in SEPARATORS for one in rule)
    n = next((k for k, is_in in enumerate(is_listed) if not is_in), len(rule))
    goes_on = n < len(rule) and str(rule[n]).startswith((",", " or"))
    return [] if goes_on else list(tokens_of(rule[:n]))


def map_tokens(segments: Segments, change: Callable[[Token], Token]) -> Segments:
    """Return the segments with each token changed."""

    def changed(one: Segment) -> Segment:
        if isinstance(one, Token):
            return change(one)
        if isinstance(one, Groups):
            groups = (group._replace(tokens=tuple(map(change, group.tokens))) for group in one.groups)
            return one._replace(groups=tuple(groups))
        if isinstance(one, Part) and isinstance(one.content, list):
            return one._replace(content=map_tokens(one.content, change))
        return one

    return [changed(one) for one in segments]


def to_text(segments: Sequence[Segment]) -> str:
    """Return the segments as text for a terminal, lists in short."""
    return "".join(map(_text, segments))


def _text(one: Segment) -> str:
    if isinstance(one, Token):
        text = one.text.replace("\n", r"\n").replace("\t", r"\t")
        return f'"{text}"'
    if isinstance(one, Groups):
        return to_text(short_list(one))
    if isinstance(one, Part):
        return to_text(one.content) if isinstance(one.content, list) else ""
    return one


def rule_text(words: str) -> str:
    """Return a rule in words in short."""
    return to_text(simplify_rule(read_rule(words)))


def short_list(groups: Groups) -> Segments:
    """Return a list as words and those of its tokens that are shown."""
    out: Segments = []
    for k, (name, tokens, n_shown) in enumerate(groups.groups):
        out += [*([" or "] if k else []), name + (" " if name and n_shown else "")]
        for place, token in enumerate(tokens[:n_shown]):
            out += [*([", "] if place else []), token]
        if 0 < n_shown < len(tokens):
            out.append(f" +{len(tokens) - n_shown}")
    return out


def to_json(segments: Sequence[Any]) -> list:
    """Return segments, or lists of them, as JSON."""

    def value(one: Any) -> Any:
        if isinstance(one, Token):
            pieces = [piece if isinstance(piece, str) else list(piece)[: 1 + one.is_in_words] for piece in one.pieces]
            return [one.text, *([pieces] if pieces else []), *([1] if one.is_in_words else [])]
        if isinstance(one, Groups):
            groups = [[name, [value(token) for token in tokens], n] for name, tokens, n in one.groups]
            return {"groups": groups} | ({"like": 1} if one.are_examples else {})
        if isinstance(one, Part):
            return {one.kind: value(one.content)}
        return to_json(one) if isinstance(one, list) else one

    return [value(one) for one in segments]


def as_text(segments: Sequence[Any]) -> str:
    """Return the JSON of segments, or of lists of them, as text: `columns_of` would store their parts one by one."""
    return json.dumps(to_json(segments), ensure_ascii=False, separators=(",", ":"))


def family_of(token: str) -> str | None:
    """Return the family of tokens of one kind of spelling; None if there is no name for it."""
    letters = token.removeprefix(" ")
    scripts = {_script(letter) for letter in letters}
    if len(letters) == 1 and letters.isalpha():
        if unicodedata.category(letters) == "Lu":
            return "single capital letters"
        if scripts <= {"Greek", "Cyrillic"}:
            return f"{_script(letters)} letters"
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
    "Hebrew": "Hebrew letters and pieces of words",
    "Arabic": "Arabic letters and pieces of words",
    "Han": "Han characters",
}


def _script(letter: str) -> str:
    first = unicodedata.name(letter, "?").split(" ")[0].split("-")[0]
    return "Han" if first == "CJK" else first.capitalize()


def _simplify_words(words: str) -> str:
    """Return words of a rule with a property that several kinds of tokens share named once, the names of parts of
    characters in all scripts as one, ranges that adjoin as one, and the place of a newline by what is before it."""
    once = re.sub(
        r"( with(?:out)? a [a-z ]*space[a-z ]*?)(?=(?:,| or|, or) (?:(?!space).)*\1)", "", words, flags=re.DOTALL
    )
    once = re.sub(r"bytes of characters|(?:[a-z-]+ )?tokens in Byte script", "parts of characters of any script", once)
    return re.sub("^a newline at token 1 of a (line|sentence)", _newline, join_ranges(once))


def _newline(found: re.Match) -> str:
    return "a newline after the end of a sentence or line" if found[1] == "sentence" else "the newline of an empty line"


def _join_lists(rule: Segments) -> Segments:
    """Return a rule with several lists of similar tokens as one: "tokens like A, B, C, or tokens like D, E"."""
    joined: Segments = []
    has_list = False
    for one in rule:
        if isinstance(one, str) and has_list:
            one = re.sub(r"^(,| or|, or) tokens like $", r"\1 ", one)
        has_list = has_list or (isinstance(one, str) and "tokens like " in one)
        joined.append(one)
    return joined


def _group_lists(rule: Segments, name_family: NameFamily) -> Segments:
    """Return a rule with each list of three tokens or more as `Groups`, unless it is short and of no family."""
    out: Segments = []
    n_samples = N_SAMPLES
    at = 0
    while at < len(rule):
        end = at
        while end < len(rule) and (isinstance(rule[end], Token) if (end - at) % 2 == 0 else rule[end] in SEPARATORS):
            end += 1
        end -= end > at and not isinstance(rule[end - 1], Token)
        tokens = [one for one in rule[at:end] if isinstance(one, Token)]
        if len(tokens) < MIN_FAMILY:
            out += rule[at : max(end, at + 1)]
            at = max(end, at + 1)
            continue
        before = out[-1] if out and isinstance(out[-1], str) else ""
        like = "tokens like " if before.endswith("tokens like ") else ""
        is_of_many = bool(like) or before.endswith("rich in ")
        least = MIN_FAMILY if len(tokens) > N_LISTED else len(tokens) if is_of_many else len(tokens) + 1
        families = _families(tokens, least, name_family)
        if not families and len(tokens) <= N_LISTED + 1:
            out += rule[at:end]
        else:
            if families and like:
                out[-1:] = [before.removesuffix(like)] if before != like else []
            others = [token for token in tokens if not any(token in own for own in families.values())]
            groups = [_group(name, own, n_samples) for name, own in families.items()]
            if families:
                n_samples = N_FURTHER_SAMPLES
            if others:
                n_others = N_LISTED if len(others) > N_LISTED + 1 else len(others)
                groups.append(_group(like.rstrip() if families else "", others, n_others))
            out.append(Groups(tuple(groups), bool(families and like)))
        at = end
    return out


def _group(name: str, tokens: Sequence[Token], n_shown: int) -> Group:
    return Group(name, tuple(tokens), len(tokens) if len(tokens) == n_shown + 1 else min(n_shown, len(tokens)))


def _families(tokens: Sequence[Token], least: int, name_family: NameFamily) -> dict[str, list[Token]]:
    """Return the families of at least `least` tokens, in the order of the list."""
    families: dict[str, list[Token]] = {}
    for token in tokens:
        if name := name_family(token.text):
            families.setdefault(name, []).append(token)
    scripts = [name for name in families if name.startswith(PARTS_OF)]
    nouns = [name.removeprefix(PARTS_OF) for name in scripts]
    is_named = "characters" not in nouns and len(nouns) <= MANY_SCRIPTS
    several = " and ".join(filter(None, [", ".join(nouns[:-1]), nouns[-1]])) if is_named and nouns else OF_SEVERAL
    for name in scripts if len(scripts) > 1 else ():
        families.setdefault(f"{PARTS_OF}{several}", []).extend(families.pop(name))
    return {name: own for name, own in families.items() if len(own) >= least}


def _count_white_space(rule: Segments) -> str | None:
    """Return, for a rule that lists several tokens of spaces and line ends, after how many line ends it has how many
    spaces; None for any other rule."""
    tokens = [token.text for token in listed_tokens(rule)]
    if len(tokens) < 2 or not all(re.fullmatch(r"\n* *", token) and token for token in tokens):
        return None
    counts = sorted((token.count("\n"), token.count(" ")) for token in tokens)
    parts = []
    for n_lines, of_lines in groupby(counts, lambda count: count[0]):
        spaces = [n for _, n in of_lines]
        sign = f"↵×{n_lines}" if n_lines > MANY_LINES else "↵" * n_lines
        some = [n for n in spaces if n]
        listed = " or ".join(filter(None, [", ".join(map(str, some[:-1])), *map(str, some[-1:])]))
        said = f"{listed} {'space' if some[-1] == 1 else 'spaces'}" if some else ""
        own = [sign] if len(spaces) > len(some) else []
        parts.append(", or ".join([*own, *([f"{sign} then {said}" if sign else said] if said else [])]))
    return ("; " if any("," in part for part in parts) else ", or ").join(parts)
