"""Say in words of which characters a token holds parts: " ק⟨d7⟩" is " ק" and "the first byte of another Hebrew letter".

In a byte-level vocabulary a token may hold some bytes of a character alone, which it writes as ⟨d7⟩. Nobody knows
characters by their bytes, so a caption names a part by the characters of which it is a part where its latent fires, and
the page, wherever it draws a token, by those of which it is a part in the script around it.

In: the tokens around stored firings, and `characters_of_parts` for tokens that are not among these. Out: for each
latent a `ByteReader`, and for each token its `readings`.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from interp.display.byte_parts import STRAY, TWO_BYTES, common_letters, has_parts, length_of, name_of
from interp.display.segments import CHARACTERS, CharacterPart, Family, Token, family_of_parts
from interp.features.feature_store import FeatureStore
from interp.report.characters import characters_of_token

MAX_BYTES = 3
"""Tokens on either side of a firing that may hold other bytes of the same character."""
N_EXAMPLES = 2
N_LETTERS = 3
"""Letters that are named of parts of letters."""
MIN_SCRIPT = 0.1
"""Share of the characters of a part from which on their script is named."""
MIN_ONLY = 0.95
"""Share of the characters of a part from which on one of them names it."""
_NUMBERS = {1: "", 2: "two ", 3: "three "}


class SeenCharacters(NamedTuple):
    """The characters of which a token was seen to be a part."""

    ended: Counter[str]
    begun: Counter[str]
    passed: Counter[str]
    """Those that neither begin nor end in it."""


@dataclass(frozen=True)
class ByteReader:
    """Reads the parts of characters in the tokens of one latent."""

    seen: Mapping[str, SeenCharacters] = field(default_factory=dict)
    """At its own stored firings."""
    elsewhere: Mapping[str, tuple[Sequence[str], Sequence[str]]] = field(default_factory=dict)
    """Anywhere: `characters_of_parts`."""
    script: str | None = None
    """The commonest noun for the letters on which it fires, such as "Hebrew letter"."""

    def token(self, text: str) -> Token:
        """Return a token of a caption, with its parts of characters as such."""
        if not has_parts(text):
            return Token(text)
        pieces: list[str | CharacterPart] = []
        before = ""
        for k, piece in enumerate(re.split(f"((?:{STRAY})+)", text)):
            if k % 2:
                for lead, own, characters in self._parts(text, piece):
                    pieces.append(self._part(text, before, lead, own, characters))
                    before = ""
            elif piece:
                pieces.append(piece)
                before = piece
        return Token(text, tuple(pieces))

    def family(self, text: str) -> Family | None:
        """Return the family of tokens that are only parts of characters of one script, such as "parts of Hebrew
        letters"; None for any other token."""
        if not re.fullmatch(f" ?(?:{STRAY})+", text):
            return None
        parts = list(self._parts(text, text.strip()))
        nouns = {noun for lead, _, own in parts for noun in self._nouns(own, lead)}
        return family_of_parts(_plural(nouns.pop()) if len(nouns) == 1 else CHARACTERS)

    def letters(self, texts: Sequence[str]) -> str:
        """Return the characters of which some tokens hold the known parts, in brackets: " (ש, ר …)"; "" if none is
        known."""
        parts = (part.label for text in texts for part in self.token(text).pieces if not isinstance(part, str))
        known = list(dict.fromkeys(label.strip("…").split(" ")[0] for label in parts if "–" not in label))
        single = [letter for letter in known if len(letter) == 1]
        more = " …" if len(single) > N_LETTERS else ""
        return f" ({', '.join(single[:N_LETTERS])}{more})" if single else ""

    def _parts(self, text: str, run: str) -> Iterator[tuple[int, bytes, Counter[str]]]:
        """Yield the parts of a run of bytes: the first byte of its character, 0 if it is not in the part, its bytes,
        and the characters of which it is a part."""
        for own in _split_bytes(run):
            lead = own[0] if length_of(own[0]) else 0
            yield lead, own, self._characters(text, own, bool(lead))

    def _characters(self, text: str, own: bytes, begins: bool) -> Counter[str]:
        if seen := self.seen.get(text):
            if own_characters := seen.begun if begins else seen.ended + seen.passed:
                return own_characters
        return Counter(self._characters_elsewhere(text, begins))

    def _characters_elsewhere(self, text: str, begins: bool) -> list[str]:
        """Return the commonest characters of which a token is a part anywhere, in the script of the latent if there are
        any, with … for others: by these the page names it wherever it is drawn."""
        by_script = self.elsewhere.get(text, ((), ()))[begins]
        fitting = [names for names in by_script if noun_of(names[0]) == self.script] or list(by_script[:1])
        return fitting[0].split(" ") if fitting else []

    def _nouns(self, characters: Counter[str], lead: int) -> list[str]:
        """Return the names of the scripts of some characters, the commonest first; where none are known, that of those
        that may begin with a byte, or of the letters around."""
        counts = Counter[str]()
        for character, n in characters.items():
            if character != "…":
                counts[noun_of(character)] += n
        named = [noun for noun, n in counts.most_common() if n >= MIN_SCRIPT * counts.total()]
        known = (name_of(lead) if lead else None) or self.script or "character"
        return named or [known]

    def _part(self, text: str, before: str, lead: int, own: bytes, characters: Counter[str]) -> CharacterPart:
        """Return a part of a character, whose token has `before` just before it."""
        nouns = self._nouns(characters, lead)
        known = [character for character, _ in characters.most_common() if character != "…"]
        elsewhere = self._characters_elsewhere(text, bool(lead))
        named = [character for character in elsewhere if character != "…" and noun_of(character) in nouns]
        examples = (named or known)[:N_EXAMPLES]
        whole = _object(nouns, characters, known, examples, lead, own, before)
        words = f"{self._place(text, own, lead)} of {whole}"
        if shown := _range(lead, own, nouns[0]) or " ".join(map(_drawn, examples)):
            return CharacterPart(f"{shown}…" if lead else f"…{shown}", words)
        script = "" if nouns[0] == "character" else f" {nouns[0].split(' ')[0]}"
        return CharacterPart(f"{own.hex(' ')}…{script}" if lead else f"…{own.hex(' ')}{script}", words)

    def _place(self, text: str, own: bytes, lead: int) -> str:
        number = _NUMBERS.get(len(own), "")
        bytes_ = f"{number}byte{'s' if number else ''}"
        if lead:
            return f"the first {bytes_}"
        seen = self.seen.get(text)
        if seen and seen.passed.total() > seen.ended.total():
            return "the middle byte" if len(own) == 1 else f"the middle {bytes_}"
        is_end = (seen and seen.ended) or (self.script or "").split(" ")[0] in TWO_BYTES
        return f"the last {bytes_}" if is_end else "a later byte" if len(own) == 1 else f"{number}later bytes"


def byte_readers(
    features: FeatureStore, characters: Mapping[str, tuple[Sequence[str], Sequence[str]]], scripts: Mapping[int, str]
) -> dict[int, ByteReader]:
    """Return the reader of each latent that has a stored firing on a token with parts of characters.
    scripts: latent → the noun for the letters of its commonest tokens, for those that have such."""
    is_part = np.array([has_parts(token) for token in features.vocab])
    tokens = features.tokens.numpy()
    examples = features.sql('select distinct latent, "row" from examples order by latent, "row"')
    rows = examples["row"].to_numpy(np.int64)
    on_part = is_part[tokens.reshape(-1)[rows]] if len(rows) else np.zeros(0, bool)
    seen: dict[int, dict[str, SeenCharacters]] = {}
    for latent, row in zip(examples["latent"][on_part].tolist(), rows[on_part].tolist(), strict=True):
        sequence, place = divmod(row, features.n_ctx)
        start = max(place - MAX_BYTES, 0)
        texts = [features.vocab[token] for token in tokens[sequence, start : place + MAX_BYTES + 1].tolist()]
        no_characters = SeenCharacters(Counter(), Counter(), Counter())
        own = seen.setdefault(latent, {}).setdefault(texts[place - start], no_characters)
        for character, is_first, is_last in characters_of_token(texts, place - start):
            (own.begun if is_first else own.ended if is_last else own.passed)[character] += 1
    readers = {}
    for latent, of_latent in seen.items():
        nouns = Counter[str]()
        for counters in of_latent.values():
            for counter in counters:
                for character, n in counter.items():
                    nouns[noun_of(character)] += n
        script = nouns.most_common(1)[0][0] if nouns else scripts.get(latent)
        readers[latent] = ByteReader(of_latent, characters, script)
    return readers


def readings(
    vocab: Iterable[str], characters: Mapping[str, tuple[Sequence[str], Sequence[str]]]
) -> dict[str, list[tuple[str | None, list[CharacterPart]]]]:
    """Return for each token with parts of characters what these are, in order: first in any script, then for each noun
    for the letters around it by which they are others. characters: `characters_of_parts`."""
    told = {}
    for token in filter(has_parts, vocab):
        nouns = {noun_of(names[0]): None for by_script in characters.get(token, ()) for names in by_script}
        of_nouns = [(noun, _parts_alone(ByteReader({}, characters, noun).token(token))) for noun in (None, *nouns)]
        told[token] = [one for k, one in enumerate(of_nouns) if not k or one[1] != of_nouns[0][1]]
    return told


def _parts_alone(token: Token) -> list[CharacterPart]:
    return [piece for piece in token.pieces if not isinstance(piece, str)]


def noun_of(character: str) -> str:
    """Return what a character is: "Hebrew letter", "Han character", "sign"."""
    first = unicodedata.name(character, "?").split(" ")[0].split("-")[0]
    named = {"CJK": "Han character", "HANGUL": "Korean syllable", "HIRAGANA": "kana letter", "KATAKANA": "kana letter"}
    if first in named:
        return named[first]
    if character.isalpha() or unicodedata.category(character) in ("Mn", "Mc"):
        return f"{first.capitalize()} letter"
    is_emoji = length_of(character.encode()[0]) == 4
    return "emoji or rare character" if is_emoji else "sign"


def script_of(texts: Iterable[str]) -> str | None:
    """Return the commonest noun for the letters outside ASCII and Latin in some texts; None if there are none."""
    letters = (c for text in texts for c in re.sub(STRAY, "", text) if ord(c) >= 0x370 and c.isalpha())
    counts = Counter(map(noun_of, letters))
    return counts.most_common(1)[0][0] if counts else None


def _split_bytes(run: str) -> Iterator[bytes]:
    """Yield the parts of characters in a run: bytes that go on from what is before, and each first byte with those that
    follow it."""
    values = bytes(int(stray, 16) for stray in re.findall(r"⟨(..)⟩", run))
    starts = [k for k, byte in enumerate(values) if k == 0 or length_of(byte)]
    for start, stop in zip(starts, [*starts[1:], len(values)], strict=True):
        yield values[start:stop]


def _object(
    nouns: Sequence[str],
    characters: Counter[str],
    known: Sequence[str],
    examples: Sequence[str],
    lead: int,
    own: bytes,
    before: str,
) -> str:
    """Return of what some bytes are a part: one character, a letter between two, or a few as examples."""
    noun = nouns[0]
    if len(nouns) == 1:
        if lead and before.strip() and known and noun_of(before.strip()[-1]) == noun:
            return f"another {noun}"
        if known and characters[known[0]] >= MIN_ONLY * characters.total():
            return _one_character(known[0])
        if span := _range(lead, own, noun):
            return _a(noun) if noun == "Hebrew letter" else f"{_a(noun)} from {span.replace('–', ' to ')}"
    return f"{', '.join(examples)}{' …' if len(characters) > len(examples) else ''}" if examples else _a(noun)


def _one_character(character: str) -> str:
    """Return a character by what it is, and a mark or a letter that looks like one by its name."""
    noun = noun_of(character)
    if noun.endswith("letter") and unicodedata.category(character) in ("Lm", "Mn", "Mc", "Me"):
        script, _, name = unicodedata.name(character).lower().partition(" ")
        return f"the {script.capitalize()} {name}"
    return f"the {noun} {character}" if noun.endswith("letter") else character


def _drawn(character: str) -> str:
    """Return a character, or the name of a mark, which is hard to tell on its own."""
    is_mark = unicodedata.category(character).startswith("M")
    return unicodedata.name(character).lower() if is_mark else character


def _range(lead: int, own: bytes, noun: str) -> str | None:
    """Return the range of the common letters that a first byte begins; None if it begins none."""
    letters = common_letters(lead) if lead and len(own) == 1 and noun.endswith("letter") else []
    return f"{letters[0]}–{letters[-1]}" if len(letters) > 1 else None


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'AEIOUaeiou' else 'a'} {noun}"


def _plural(noun: str) -> str:
    return "emoji and rare characters" if noun.startswith("emoji") else f"{noun}s"
