"""Facts that the string of a token shows by itself: its script, shape, length and letters.

Each of these functions takes the string of a token. Tokens with the same result form a class, which the function
`…_name` names. `predicate_kinds` makes them kinds of predicates.
"""

import re
import unicodedata
from collections.abc import Callable

from interp.display.byte_parts import BYTES, name_of, script_byte
from interp.display.segments import Token
from interp.text.vocabulary import Wording, split_characters

CATEGORIES = {
    "byte": BYTES, "blank": "white space", "digit": "numbers", "CJK": "Han characters",
    "Po": "punctuation marks", "Ps": "opening brackets", "Pe": "closing brackets", "Pd": "dashes",
    "Pc": "underscores", "Pi": "opening quotes", "Pf": "closing quotes", "Sm": "mathematical signs",
    "Sc": "currency signs", "Sk": "accents and backticks", "So": "symbols", "Cc": "control characters",
    "Mn": "combining marks", "Mc": "combining marks", "Me": "combining marks", "Cf": "invisible marks",
    "Lm": "modifying letters", "Nl": "numerals", "No": "fractions and numerals", "Co": "characters for private use",
    "Cn": "unassigned characters", "Cs": "halves of characters", "?": "letters without a name",
}  # fmt: skip
"""The names of tokens whose first character has one of these Unicode categories, or no script."""
CASES = {"upper": "tokens in capitals", "title": "capitalised tokens", "lower": "lower-case tokens", "other": "tokens"}


def lower_letters(string: str) -> str:
    """Return the string without the spaces around it, in lower case."""
    return string.strip().lower()


def script(string: str) -> str:
    """Return the script of the first letter, or the Unicode category of the first character. A letter in another form,
    such as ª, ℝ or ʰ, is in the script of the letter itself. For stray bytes, return what they are parts of, if
    that is known."""
    stripped = string.strip()
    if not stripped:
        return "blank"
    if stripped.startswith("⟨"):
        first_byte = script_byte(stripped)
        return "byte" if first_byte is None else f"byte of {name_of(first_byte)}"
    first = stripped[0]
    if first.isalpha():
        plain = unicodedata.normalize("NFKC", first)[0]
        word = unicodedata.name(plain if plain.isalpha() else first, "?").split(" ")[0]
        return "Lm" if word == "MODIFIER" else word
    return "digit" if first.isdigit() else unicodedata.category(first)


def is_byte(script: str) -> bool:
    return script.startswith("byte")


def script_name(script: str) -> str:
    if is_byte(script) and script not in CATEGORIES:
        return re.sub(r"\b(letter|sign|character|syllable|emoji)\b", r"\1s", script.replace("byte", "parts", 1))
    return CATEGORIES.get(script) or f"tokens in {script.capitalize()} script"


def shape(string: str) -> tuple[str, str]:
    """Return the script and the case. Bytes have no case: that of ⟨d7⟩ is that of its hexadecimal digits."""
    stripped, written_in = string.strip(), script(string)
    if is_byte(written_in):
        case = "other"
    elif stripped.isupper():
        case = "upper"
    elif stripped.istitle():
        case = "title"
    elif stripped.islower():
        case = "lower"
    else:
        case = "other"
    return written_in, case


def shape_name(shape: tuple[str, str]) -> str:
    script, case = shape
    if case == "other":
        return script_name(script)
    first = f"that begin with {CATEGORIES[script]}" if script in CATEGORIES else f"in {script.capitalize()} script"
    return f"{CASES[case]} {first}"


def start(string: str) -> tuple[bool, tuple[str, str]]:
    """Return whether a space comes first, and the shape."""
    return string[:1].isspace(), shape(string)


def start_name(start: tuple[bool, tuple[str, str]]) -> Wording:
    has_space, shape = start
    if shape[0] == "blank":
        return (shape_name(shape),)
    return shape_name(shape), f" {'with' if has_space else 'without'} a leading space"


def letters_name(letters: str) -> Wording:
    return (Token(letters), " in any case") if letters else ("white space",)


def first_letters(n: int) -> Callable[[str], str]:
    """Return the function that keeps the first `n` letters; a stray byte, shown as ⟨d7⟩, counts as one."""
    return lambda string: "".join(split_characters(lower_letters(string))[:n])


def last_letters(n: int) -> Callable[[str], str]:
    """Return the function that keeps the last `n` letters, counted in the same way."""
    return lambda string: "".join(split_characters(lower_letters(string))[-n:])


def affix_name(n: int, words: str) -> Callable[[str], Wording]:
    """Return the function that names a class of tokens by the `n` first or last letters that they share. A shorter
    string is the whole token."""
    return lambda affix: (f"{words} ", Token(affix)) if len(split_characters(affix)) == n else letters_name(affix)


def length(string: str) -> tuple[int, str]:
    """Return the number of characters, without spaces around them, and the script."""
    return len(string.strip()), script(string)


def length_name(length: tuple[int, str]) -> str:
    n, script = length
    if script == "blank" or is_byte(script):  # as written, a byte has four characters, and white space none
        return script_name(script)
    return f"{script_name(script)} of {n} character{'' if n == 1 else 's'}"
