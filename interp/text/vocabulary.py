"""What the strings of a vocabulary say about its tokens: their classes (scripts and shapes), and their affixes.

In: one string a token. Out, for each: the Unicode script of its letters (a stray lead byte of UTF-8, shown as ⟨d7⟩,
counts as its script), its shapes, such as "numbers" or "words in capitals", and the beginnings and endings that it
shares with other tokens. Nothing here knows a text. Of tokens that have only names, their ids for instance, nothing is
said but which they are.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from jaxtyping import UInt64

MAX_SCRIPTS = 24
MIN_LONG = 6
"""Letters of a long word."""
AFFIX_LENGTHS = (1, 2, 3, 4)
MIN_SHARING = 4
"""Tokens that must share an affix."""


@dataclass(frozen=True)
class Vocabulary:
    strings: list[str]
    class_names: list[tuple[str, str]]
    """Of each class: what its tokens are called, and what one is inside of."""
    classes: UInt64[np.ndarray, " d_vocab"]
    """Bit c: the token is in class c."""
    affixes: list[tuple[str, bool]]
    """The affix, and whether it is an ending."""
    affix_tokens: scipy.sparse.csr_matrix
    """[affix, d_vocab]: 1 where the token has the affix."""

    @classmethod
    def read(cls, vocab: Sequence[str], *, spelt: bool = True) -> "Vocabulary":
        if not spelt:
            return cls(list(vocab), [], np.zeros(len(vocab), np.uint64), [], scipy.sparse.csr_matrix((0, len(vocab))))
        strings = plain_strings(vocab)
        return cls(strings, *token_classes(strings), *token_affixes(strings))

    def __len__(self) -> int:
        return len(self.strings)


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
    names += [(called, inside) for called, inside, _ in _SHAPES]
    members = [[script == name for script in scripts] for name in common]
    members += [[is_member(string) for string in strings] for _, _, is_member in _SHAPES]
    bits = np.zeros(len(strings), np.uint64)
    for place, member in enumerate(members):
        bits |= np.array(member, np.uint64) << np.uint64(place)
    return names, bits


def token_affixes(strings: Sequence[str]) -> tuple[list[tuple[str, bool]], scipy.sparse.csr_matrix]:
    """Beginnings (after a space) and endings that MIN_SHARING tokens share, each shorter than the token's word; the
    longest first."""
    having: dict[tuple[str, bool], list[int]] = defaultdict(list)
    for token, string in enumerate(strings):
        word = characters(string.strip())
        for length in AFFIX_LENGTHS:
            if length < len(word):
                having["".join(word[:length]), False].append(token)
                having["".join(word[-length:]), True].append(token)
    kept = [affix for affix, tokens in having.items() if len(tokens) >= MIN_SHARING]
    kept.sort(key=lambda affix: (-len(affix[0]), affix))
    rows = np.repeat(np.arange(len(kept)), [len(having[affix]) for affix in kept])
    columns = np.array([token for affix in kept for token in having[affix]], np.int64)
    shape = (len(kept), len(strings))
    return kept, scipy.sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)


def characters(string: str) -> list[str]:
    """The characters of a token's string; a stray byte, shown as ⟨d7⟩, is one."""
    return re.findall(rf"{_STRAY}|.", string, re.DOTALL)


def quoted(string: str) -> str:
    """A token's string to read: common marks by name, others in quotes with what cannot be seen escaped."""
    if string in _NAMED:
        return _NAMED[string]
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in string)
    return f'"{shown}"'


def listed(names: Sequence[str]) -> str:
    """The names, the last after "or"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


_NAMED = {
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


def _is(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda string: compiled.fullmatch(string) is not None


def _is_punctuation(string: str) -> bool:
    stripped = string.strip()
    return bool(stripped) and all(unicodedata.category(c)[0] in "PS" for c in stripped) and "⟨" not in stripped


_STRAY = r"⟨[0-9a-f]{2}⟩"
is_control = _is(r"<\|.*\|>|</?(?:s|bos|eos|pad|unk)>|\[(?:CLS|SEP|PAD|BOS|EOS|UNK|MASK)\]")
"""Marks the edge of a text, not a part of it."""

_SHAPES: list[tuple[str, str, Callable[[str], bool]]] = [
    ("numbers", "numbers", _is(r"\s*\d+")),
    ("hex digits", "hex digits", _is(r"\s*[0-9a-f]+")),
    ("strings of A, C, G, T", "strings of A, C, G, T", _is(r"\s*[ACGT]+")),
    ("letters mixed with digits or capitals", "random-looking letters", _is(
        r"\s*(?=[A-Za-z0-9+/=]*(?:[a-z0-9][A-Z]|[A-Za-z][0-9]|[0-9][A-Za-z]))[A-Za-z0-9+/=]+")),
    ("words in capitals", "capitals", lambda s: s.strip().isalpha() and s.strip().isupper()),
    ("capitalised words", "capitalised words", lambda s: len(s.strip()) > 1 and s.strip().isalpha() and s.istitle()),
    ("lower-case words", "lower-case words", lambda s: s.strip().isalpha() and s.strip().islower()),
    ("tokens that begin with a letter", "pieces of words", lambda s: s[:1].isalpha()),
    ("starts of words", "words", lambda s: len(s) > 1 and s[0] == " " and s[1:2].isalpha()),
    ("single letters", "single letters", lambda s: len(s.strip()) == 1 and s.strip().isalpha()),
    ("long pieces of words", "long pieces of words", lambda s: s.strip().isalpha() and len(s.strip()) >= MIN_LONG),
    ("punctuation", "punctuation", _is_punctuation),
    ("ends of sentences", "ends of sentences", _is(r"\s*[.!?。！？؟…]+\s*")),
    ("brackets", "brackets", _is(r"\s*[()\[\]{}]+\s*")),
    ("opening brackets", "opening brackets", _is(r".*[(\[{]\s*")),
    ("closing brackets", "closing brackets", _is(r"\s*[)\]}].*")),
    ("quotation marks", "quotation marks", _is(r"""\s*(?:["'`“”‘’«»]+)\s*""")),
    ("operators", "operators", _is(r"\s*[-+*/%=<>!&|^~@:]+\s*")),
    ("markup", "markup", lambda s: any(c in s for c in "<>&") and len(s.strip()) > 0),
    ("backslashes", "backslash commands", lambda s: "\\" in s),
    ("names with underscores", "names with underscores", lambda s: "_" in s and len(s.strip()) > 0),
    ("newlines", "line breaks", lambda s: "\n" in s),
    ("indentation", "indentation", _is(r"\n*[ \t]{2,}")),
    ("white space", "white space", lambda s: bool(s) and s.isspace()),
    ("tokens that begin amid a character", "broken characters", _is(r"⟨[89ab][0-9a-f]⟩.*")),
    ("tokens that end amid a character", "broken characters", _is(r"(?s:.*)(?:⟨[c-f][0-9a-f]⟩(?:⟨[89ab][0-9a-f]⟩)?)")),
    ("control tokens", "control tokens", is_control),
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


def _script(string: str) -> str:
    """The script of a token: of its first stray lead byte, else of most of its letters; else ''."""
    stray = [int(byte[1:3], 16) for byte in re.findall(_STRAY, string)]
    if stray:
        return next((_LEAD_BYTES[byte] for byte in stray if byte in _LEAD_BYTES), "")
    letters = Counter(unicodedata.name(c, "").split(" ")[0].split("-")[0] for c in string if c.isalpha())
    if not letters:
        return ""
    name = letters.most_common(1)[0][0].capitalize()
    return {"Cjk": "Chinese", "Halfwidth": "Katakana", "Fullwidth": "Latin"}.get(name, name)
