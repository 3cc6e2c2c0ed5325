"""What a rule may say about a token position: atoms, their truth and their words.

    TOKEN        x_t ∈ T                      "Enter" or "Exit"
    AFTER        x_{t−1} ∈ T                  after "(" or "["
    NEAR         a ∈ x_{t−8..t−1}             within 8 tokens after "class"
    CLASS        x_t ∈ C                      tokens in Hebrew script
    AFTER_CLASS  x_{t−1} ∈ C                  after a newline
    INSIDE       5 of x_{t−8..t−1} ∈ C        inside hex digits

A rule is one atom, or two joined by "and". Nothing looks across the edge of a sequence. Classes come from the
vocabulary's strings alone: Unicode scripts (a stray lead byte of UTF-8, shown as ⟨d7⟩, counts as its script), shapes.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt64
from numba import njit

NONE, TOKEN, AFTER, CLASS, AFTER_CLASS, INSIDE, NEAR = range(7)
REACH = 8
"""How many tokens back INSIDE and NEAR look."""
INSIDE_LEAST = 5
MAX_TOKENS = 8
"""Tokens in one set; a longer list is no explanation."""
MAX_SCRIPTS = 24


@dataclass(frozen=True)
class Atom:
    kind: int
    tokens: tuple[int, ...] = ()
    """Of TOKEN, AFTER and NEAR (which has one)."""
    of_class: int = -1

    @property
    def length(self) -> int:
        """Items to read."""
        return max(1, len(self.tokens))


Rule = tuple[Atom, ...]


@dataclass(frozen=True)
class Text:
    """Token positions with what the atoms ask of them; row = seq * n_ctx + pos."""

    tokens: Int[np.ndarray, " row"]
    n_ctx: int
    strings: list[str]
    class_names: list[tuple[str, str]]
    """Of each class: what its tokens are called, and what one is inside of."""
    classes: UInt64[np.ndarray, " d_vocab"]
    """Bit c: the token is in class c."""
    inside: UInt64[np.ndarray, " row"]
    """Bit c: INSIDE holds for class c."""

    @classmethod
    def read(cls, tokens: Int[np.ndarray, "seq pos"], vocab: Sequence[str]) -> "Text":
        strings = plain_strings(vocab)
        names, classes = token_classes(strings)
        flat = np.ascontiguousarray(tokens.reshape(-1))
        inside = _inside(flat, tokens.shape[1], classes, len(names))
        return cls(flat, tokens.shape[1], strings, names, classes, inside)

    def phrase(self, rule: Rule) -> str:
        """The rule in words."""
        first, *rest = rule
        words = [] if first.kind in (TOKEN, CLASS) else ["tokens"]
        return " ".join(words + [self._words(atom) for atom in (first, *rest)])

    def _words(self, atom: Atom) -> str:
        names = _listed([_quoted(self.strings[token]) for token in atom.tokens])
        called, inside = self.class_names[atom.of_class] if atom.of_class >= 0 else ("", "")
        return {
            TOKEN: names,
            AFTER: f"after {names}",
            NEAR: f"within {REACH} tokens after {names}",
            CLASS: called,
            AFTER_CLASS: f"after {called}",
            INSIDE: f"inside {inside}",
        }[atom.kind]


def plain_strings(vocab: Sequence[str]) -> list[str]:
    """Token strings with GPT-2's and SentencePiece's marks for space and newline read as what they are."""
    marked = sum(string[:1] in "Ġ▁" for string in vocab if string) > len(vocab) / 20
    if not marked:
        return list(vocab)
    marks = str.maketrans({"Ġ": " ", "▁": " ", "Ċ": "\n", "ĉ": "\t"})
    return [string.translate(marks) for string in vocab]


def token_classes(strings: Sequence[str]) -> tuple[list[tuple[str, str]], UInt64[np.ndarray, " d_vocab"]]:
    """Names and membership bits of the scripts and shapes that occur in the vocabulary."""
    scripts = [_script(string) for string in strings]
    common = [script for script, _ in Counter(s for s in scripts if s).most_common(MAX_SCRIPTS)]
    names = [(f"tokens in {script} script", f"{script} script") for script in common]
    members = [[script == name for script in scripts] for name in common]
    for called, inside, is_member in _SHAPES:
        names.append((called, inside))
        members.append([is_member(string) for string in strings])
    bits = np.zeros(len(strings), np.uint64)
    for place, member in enumerate(members):
        bits |= np.array(member, np.uint64) << np.uint64(place)
    return names, bits


def _is(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda string: compiled.fullmatch(string) is not None


def _is_punctuation(string: str) -> bool:
    stripped = string.strip()
    return bool(stripped) and all(unicodedata.category(c)[0] in "PS" for c in stripped) and "⟨" not in stripped


_SHAPES: list[tuple[str, str, Callable[[str], bool]]] = [
    ("numbers", "numbers", _is(r"\s*\d+")),
    ("hex digits", "hex digits", _is(r"\s*[0-9a-f]+")),
    ("strings of A, C, G, T", "strings of A, C, G, T", _is(r"\s*[ACGT]+")),
    ("letters mixed with digits or capitals", "random-looking letters", _is(
        r"\s*(?=[A-Za-z0-9+/=]*(?:[a-z0-9][A-Z]|[A-Za-z][0-9]|[0-9][A-Za-z]))[A-Za-z0-9+/=]+")),
    ("words in capitals", "capitals", lambda s: s.strip().isalpha() and s.strip().isupper()),
    ("capitalised words", "capitalised words", lambda s: len(s.strip()) > 1 and s.strip().isalpha() and s.istitle()),
    ("lower-case words", "lower-case words", lambda s: s.strip().isalpha() and s.strip().islower()),
    ("pieces within a word", "pieces of words", lambda s: s[:1].isalpha()),
    ("starts of words", "words", lambda s: len(s) > 1 and s[0] == " " and s[1:2].isalpha()),
    ("punctuation", "punctuation", _is_punctuation),
    ("brackets", "brackets", _is(r"\s*[()\[\]{}]+\s*")),
    ("quotation marks", "quotation marks", _is(r"""\s*(?:["'`“”‘’«»]+)\s*""")),
    ("operators", "operators", _is(r"\s*[-+*/%=<>!&|^~@:]+\s*")),
    ("markup", "markup", lambda s: any(c in s for c in "<>&") and len(s.strip()) > 0),
    ("backslashes", "backslash commands", lambda s: "\\" in s),
    ("names with underscores", "names with underscores", lambda s: "_" in s and len(s.strip()) > 0),
    ("a newline", "line breaks", lambda s: "\n" in s),
    ("indentation", "indentation", _is(r"\n*[ \t]{2,}")),
    ("white space", "white space", lambda s: bool(s) and s.isspace()),
    ("control tokens", "control tokens", _is(r"<\|.*\|>|<[a-z/]+>|\[[A-Z]+\]")),
]  # fmt: skip

_LEAD_BYTES = {
    **dict.fromkeys(range(0xC3, 0xCA), "Latin"),
    **dict.fromkeys((0xCE, 0xCF), "Greek"),
    **dict.fromkeys(range(0xD0, 0xD4), "Cyrillic"),
    **dict.fromkeys((0xD6, 0xD7), "Hebrew"),
    **dict.fromkeys(range(0xD8, 0xDC), "Arabic"),
    0xE3: "Hiragana",
    **dict.fromkeys(range(0xE4, 0xEA), "Chinese"),
    **dict.fromkeys(range(0xEA, 0xEE), "Hangul"),
}


_STRAY = r"⟨([0-9a-f]{2})⟩"


def _script(string: str) -> str:
    """The script of a token: of its first stray lead byte, else of most of its letters; else ''."""
    stray = [int(byte, 16) for byte in re.findall(_STRAY, string)]
    if stray:
        return next((_LEAD_BYTES[byte] for byte in stray if byte in _LEAD_BYTES), "")
    letters = Counter(unicodedata.name(c, "").split(" ")[0].split("-")[0] for c in string if c.isalpha())
    if not letters:
        return ""
    name = letters.most_common(1)[0][0].capitalize()
    return {"Cjk": "Chinese", "Halfwidth": "Katakana", "Fullwidth": "Latin"}.get(name, name)


def _quoted(string: str) -> str:
    named = {"\n": "a newline", " ": "a space", "\t": "a tab", "": "an empty token"}
    if string in named:
        return named[string]
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in string)
    return f'"{shown}"'


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1] if names else ""


@njit(cache=True, nogil=True)
def _inside(tokens, n_ctx, classes, n_classes):
    """Bit c of a row: at least INSIDE_LEAST of the REACH tokens before it are in class c."""
    out = np.zeros(len(tokens), np.uint64)
    counts = np.zeros(64, np.int64)
    one = np.uint64(1)
    for row in range(len(tokens)):
        position = row % n_ctx
        if position == 0:
            counts[:] = 0
        else:
            entering = classes[tokens[row - 1]]
            leaving = classes[tokens[row - 1 - REACH]] if position > REACH else np.uint64(0)
            for c in range(n_classes):
                counts[c] += np.int64((entering >> np.uint64(c)) & one) - np.int64((leaving >> np.uint64(c)) & one)
        bits = np.uint64(0)
        for c in range(n_classes):
            if counts[c] >= INSIDE_LEAST:
                bits |= one << np.uint64(c)
        out[row] = bits
    return out
