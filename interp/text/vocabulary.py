"""The strings of tokens: converted to text, split into characters, and named for a reader among words."""

import re
import unicodedata
from collections.abc import Sequence

from interp.display.byte_parts import STRAY
from interp.display.segments import MARK_NAMES, Token, escape_invisible

Wording = tuple[str | Token, ...]
"""Words, and tokens by their strings: ("tokens that end in ", Token("ing"))."""


def plain_strings(vocab: Sequence[str]) -> list[str]:
    """Return the strings of tokens, with GPT-2's and SentencePiece's marks replaced by spaces and newlines."""
    marked = sum(string[:1] in "Ġ▁" for string in vocab if string) > len(vocab) / 20
    if not marked:
        return list(vocab)
    marks = str.maketrans({"Ġ": " ", "▁": " ", "Ċ": "\n", "ĉ": "\t"})
    return [string.translate(marks) for string in vocab]


def split_characters(string: str) -> list[str]:
    """Split a token's string into characters; a stray byte, shown as ⟨d7⟩, is one."""
    return re.findall(rf"{STRAY}|.", string, re.DOTALL)


def is_letter(character: str) -> bool:
    """Return whether a character is a letter, or a mark on one, such as a vowel sign of Hindi or Thai. "" is neither,
    nor is a variation selector, which follows an emoji."""
    if character.isalpha():
        return True
    return unicodedata.category(character or " ") in ("Mn", "Mc") and not "\ufe00" <= character <= "\ufe0f"


def quote_token(string: str) -> str:
    """Quote a token's string for a reader. Common marks get their name; all other strings are put in quotes, with
    invisible characters escaped."""
    return MARK_NAMES.get(string) or f'"{escape_invisible(string)}"'


def quoted_text(wording: Wording) -> str:
    """Return a wording as text, with its tokens quoted."""
    return "".join(one if isinstance(one, str) else quote_token(one.text) for one in wording)


def join_with_commas(names: Sequence[Wording]) -> Wording:
    return tuple(part for k, name in enumerate(names) for part in ((", ",) if k else ()) + tuple(name))


def join_with_or(names: Sequence[Wording]) -> Wording:
    """Join names by commas, the last by "or"."""
    return names[0] if len(names) == 1 else (*join_with_commas(names[:-1]), " or ", *names[-1])


_CONTROL = re.compile(
    r"<[|｜].*[|｜]>|</?(?:s|bos|eos|pad|unk|cls|sep|mask|(?:start|end)_of_turn)>|\[(?:CLS|SEP|PAD|BOS|EOS|UNK|MASK)\]"
)
"""The control tokens of common tokenizers. DeepSeek's have wide bars: <｜begin▁of▁sentence｜>."""


def is_control(string: str) -> bool:
    """Return whether the token marks the edge of a text and is not part of it."""
    return _CONTROL.fullmatch(string) is not None
