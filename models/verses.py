"""Verses of an installed SWORD module, each word with its lemma: a number of Strong's concordance, the same in all
languages.

In: the files of a zText module (Debian's `sword-text-kjv`, `sword-text-sparv`; public domain). Out: verses in the order
of the module, so that verse i of one is verse i of another with the same versification:

    xx.bzs   12 bytes a block: where it begins in xx.bzz, its size there, its size unpacked        xx: ot, nt
    xx.bzv   10 bytes a verse: its block, where it begins in that, its size
    xx.bzz   the blocks, zlib;    words in them as <w lemma="strong:G0976">book</w>

All numbers are checked before they are followed. Of a phrase the longest word carries the lemma, the last of them.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

MODULES = {"english": ("engKJV2006eb", "sword-text-kjv"), "spanish": ("spaRV1909eb", "sword-text-sparv")}
SWORD = Path("/usr/share/sword/modules/texts/ztext")
MAX_BLOCK = 1 << 26
"""Bytes of a block unpacked: a small file can hold a great deal of nothing."""
_UNREAD = re.compile(r"<(note|title)\b.*?</\1>", re.DOTALL)
_PIECE = re.compile(r'<w\b[^>]*?lemma="([^"]*)"[^>]*>(.*?)</w>|<[^>]*>|([^<]+)', re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_NUMBER = re.compile(r"strong:([GH]\d+)")
_WORD = re.compile(r"\w+|[^\w\s]")


class Word(NamedTuple):
    text: str
    lemma: str
    """ "" where none is given."""


def read_verses(language: str, folder: Path = SWORD) -> list[list[Word]]:
    """Of both testaments; a heading is a verse too. Raises ValueError where the module is not installed, or damaged."""
    module, package = MODULES[language]
    files = [folder / module / f"{part}.bz{kind}" for part in ("ot", "nt") for kind in "svz"]
    if missing := [file for file in files if not file.is_file()]:
        packages = " ".join(name for _, name in MODULES.values())
        raise ValueError(f"{missing[0]} is not there: apt-get install {packages} ({package} holds it)")
    return [words_of(verse) for at in (0, 3) for verse in _verses(*files[at : at + 3])]


def words_of(verse: str) -> list[Word]:
    """Words and marks of a verse in OSIS."""
    words = []
    for lemmas, phrase, plain in _PIECE.findall(_UNREAD.sub(" ", verse)):
        numbers = _NUMBER.findall(lemmas)
        texts = _WORD.findall(_TAG.sub(" ", phrase) if phrase else plain)
        longest = max(range(len(texts)), key=lambda i: (len(texts[i]), i)) if texts and numbers else -1
        words += [_word(text, numbers[0] if i == longest else "") for i, text in enumerate(texts)]
    return words


@lru_cache(1 << 17)
def _word(text: str, lemma: str) -> Word:
    """One object for all places of a word, of which there are a dozen."""
    return Word(text, lemma)


def _verses(blocks_file: Path, verses_file: Path, packed_file: Path) -> Iterator[str]:
    packed, blocks = packed_file.read_bytes(), list(_records("<III", blocks_file))
    unpacked: dict[int, bytes] = {}
    for block, start, size in _records("<IIH", verses_file):
        if size == 0:
            yield ""
            continue
        if block >= len(blocks):
            raise ValueError(f"{verses_file} names block {block} of {len(blocks)}: install its package again")
        if block not in unpacked:
            unpacked = {block: _unpack(packed, blocks[block], packed_file)}
        if start + size > len(unpacked[block]):
            raise ValueError(f"{verses_file}: a verse ends beyond block {block}: install its package again")
        yield unpacked[block][start : start + size].decode("utf-8", "replace")


def _unpack(packed: bytes, block: tuple[int, ...], file: Path) -> bytes:
    start, size, unpacked = block
    if start + size > len(packed) or unpacked > MAX_BLOCK:
        raise ValueError(
            f"{file}: a block at {start} of {size} bytes, {unpacked} unpacked, cannot be: install it again"
        )
    reader = zlib.decompressobj()
    try:
        text = reader.decompress(packed[start : start + size], MAX_BLOCK)
    except zlib.error as error:
        raise ValueError(f"{file}: the block at {start} cannot be unpacked ({error}): install it again") from error
    if len(text) != unpacked:
        raise ValueError(f"{file}: the block at {start} has {len(text)} bytes, not {unpacked}: install it again")
    return text


def _records(layout: str, file: Path) -> Iterator[tuple[int, ...]]:
    content = file.read_bytes()
    if len(content) % struct.calcsize(layout):
        raise ValueError(f"{file} has {len(content)} bytes, no whole number of entries: install its package again")
    return struct.iter_unpack(layout, content)
