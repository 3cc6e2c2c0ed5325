"""Name the parts of characters that tokens hold. A vocabulary writes a byte that is no character as ⟨d7⟩; a reader is
shown the bytes, with … where others are missing, and then what is known of them: the letters that they may begin,
"d7… א–ת", the letter that a later byte ends in the script of the same text, "…a9 ש", or the script, "e6 8e… Han".

The page names them by the characters that were seen with the bytes (`report.byte_words`).
"""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby, takewhile

STRAY = r"⟨[0-9a-f]{2}⟩"
_IS_STRAY = re.compile(STRAY)
BYTES = "bytes of characters"
"""The name of tokens that begin with a byte that is no character."""
_NAMES = (
    (0xC2, "sign"), (0xCB, "Latin letter"), (0xCF, "Greek letter"), (0xD4, "Cyrillic letter"),
    (0xD5, "Armenian letter"), (0xD6, "Armenian or Hebrew letter"), (0xD7, "Hebrew letter"), (0xDB, "Arabic letter"),
    (0xDF, "letter"), (0xE2, "letter or sign"), (0xE3, "kana letter or sign"), (0xE9, "Han character"),
    (0xED, "Korean syllable"), (0xEF, "letter or sign"), (0xF4, "emoji or rare character"),
)  # fmt: skip
"""The first bytes of characters in UTF-8, up to the one named, and what they begin."""
_COMMON_LETTER = re.compile("[Α-ώА-яא-תء-غف-ي]")
"""A letter that a byte alone is taken for; the same byte also ends rare ones."""
LEADS = range(0xC2, 0xF5)
"""The first bytes of characters of several bytes."""
LATER = range(0x80, 0xC0)
"""The bytes that go on with a character."""
TWO_BYTES = frozenset(name.removesuffix(" letter") for last, name in _NAMES if last < 0xE0 and " " in name)
"""Scripts whose letters have two bytes."""
_LEAST_FIRST = 0xC0
"""The bytes from here on never follow another byte of a character."""


def has_parts(text: str) -> bool:
    """Return whether a text has a part of a character, and not only angle brackets."""
    return _IS_STRAY.search(text) is not None


def script_byte(text: str) -> int | None:
    """Return a first byte of the script of a text: that of a character of which it has a part, else that of its first
    letter outside ASCII and Latin; None if it has neither."""
    first_byte = next(filter(length_of, _bytes_of(text)), None)
    letters = (
        c for c in re.sub(STRAY, "", text) if c.isalpha() and name_of(c.encode()[0]) not in (None, "Latin letter")
    )
    letter = next(letters, None)
    return first_byte if first_byte is not None or letter is None else letter.encode()[0]


def split_byte_parts(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield the pieces of a text: (piece, None) as it stands, or (name, bytes) of a part of a character, whose name has
    its bytes in it."""
    script = script_byte(text)
    for k, piece in enumerate(re.split(f"((?:{STRAY})+)", text)):
        if k % 2:
            run = bytes(_bytes_of(piece))
            yield from _parts(run, next(filter(length_of, run), script))
        elif piece:
            yield piece, None


def name_byte_parts(text: str) -> str:
    """Return a text with the names of the parts of characters, in brackets, in place of their bytes."""
    return "".join(piece if its_bytes is None else f"⟨{piece}⟩" for piece, its_bytes in split_byte_parts(text))


def join_pieces(tokens: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Yield the pieces of a text with the positions of their tokens. A piece is a token, or a character
    that the stray bytes of several tokens make."""
    parted = (re.split(f"({STRAY})", token) for token in tokens)
    units = [(unit, position) for position, units in enumerate(parted) for unit in units if unit]
    for is_stray, run in groupby(units, lambda unit: re.fullmatch(STRAY, unit[0]) is not None):
        parts = list(run)
        if not is_stray:
            yield from ((text, [position]) for text, position in parts)
            continue
        read = bytes(int(byte[1:3], 16) for byte, _ in parts).decode("utf-8", "surrogateescape")
        start = 0
        for character in read:
            stop = start + len(character.encode("utf-8", "surrogateescape"))
            is_whole = stop > start + 1 or character.isascii()
            yield character if is_whole else parts[start][0], [position for _, position in parts[start:stop]]
            start = stop


def common_letters(lead: int) -> list[str]:
    """Return the common letters of two bytes that begin with a byte."""
    return [letter for byte in LATER if (letter := _letter(lead, byte))]


def length_of(byte: int) -> int:
    """Return the length, in bytes, of the characters that a byte begins; 0 if it begins none."""
    return next((n for least, n in ((0xF5, 0), (0xF0, 4), (0xE0, 3), (0xC2, 2)) if byte >= least), 0)


def name_of(byte: int) -> str | None:
    """Return what a byte begins, as the page says it; None if it begins no character."""
    return next((name for last, name in _NAMES if byte <= last), None) if length_of(byte) else None


def _parts(run: bytes, script: int | None) -> Iterator[tuple[str, str]]:
    while run:
        length = length_of(run[0])
        later = takewhile(lambda byte: not length_of(byte), run[1 : max(length - 1, 1)])
        n = 1 + sum(1 for _ in later)
        name = f"{run[:n].hex(' ')}… {_letters_or_script(run[:n])}" if length else _end(run[0], script)
        yield name, "".join(f"⟨{byte:02x}⟩" for byte in run[:n])
        run = run[n:]


def _letters_or_script(begun: bytes) -> str:
    """Return the range of the letters that some first bytes may become; or the script, if more than one byte is
    missing."""
    if len(begun) == 1:
        letters = common_letters(begun[0])
    else:
        ended = ((begun + bytes([byte])).decode(errors="ignore") for byte in LATER)
        letters = [letter for letter in ended if letter.isalpha()]
    return f"{letters[0]}–{letters[-1]}" if letters else _script(name_of(begun[0]))


def _end(byte: int, script: int | None) -> str:
    """Return a later byte with the letter that it ends in a script, or else with the script, if that is known."""
    missing = "…" if byte < _LEAST_FIRST else ""
    if script is None:
        return f"{missing}{byte:02x}"
    leads = [each for each in LEADS if length_of(script) == 2 and name_of(each) == name_of(script)]
    letters = [letter for each in leads if (letter := _letter(each, byte))]
    return f"{missing}{byte:02x} {letters[0] if letters else _script(name_of(script))}"


def _letter(lead: int, byte: int) -> str | None:
    letter = bytes([lead, byte]).decode(errors="ignore")
    return letter if _COMMON_LETTER.fullmatch(letter) else None


def _script(name: str | None) -> str:
    """Return the last word for a script in a name, else its first word."""
    scripts = re.findall(r"[A-Z]\w+", name or "character")
    return scripts[-1] if scripts else (name or "character").split(" ")[0]


def _bytes_of(text: str) -> list[int]:
    return [int(stray[1:3], 16) for stray in re.findall(STRAY, text)]
