"""Find of which characters tokens with parts of characters are parts in the tokens scanned.

In: the tokens, and a vocabulary that writes a byte that is no character as ⟨d7⟩. Out: for each token that begins or
ends such characters, the commonest of them, by script: "⟨88⟩" ends 么 and 览. The page names such a token by them
(`byte_words`), since nobody knows characters by their bytes.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Int

from interp.display.byte_parts import STRAY, common_letters, has_parts, length_of, name_of

N_READ = 1 << 17
"""Tokens with parts of characters that are read, in whole sequences evenly spaced over those scanned."""
N_NAMED = 2
MIN_NAMED = 0.5
"""Share of a token's characters from which on those named are most of them."""

_Parts = tuple[list[str], list[str]]


def characters_of_parts(vocab: Sequence[str], tokens: Int[np.ndarray, "seq pos"]) -> dict[str, _Parts]:
    """Return token → (the characters that it ends, those that it begins), each as one text a script, the commonest
    script first: "么 览 …", with … if there are others. A part within a character counts among the ends."""
    pieces = [_bytes_of(token) if has_parts(token) else b"" for token in vocab]
    counts: dict[tuple[str, bool], Counter[str]] = defaultdict(Counter)
    for run, n in Counter(_runs(tokens, np.array([len(piece) > 0 for piece in pieces]))).items():
        for character, places in _divided_characters([pieces[token] for token in run]):
            for place in places:
                counts[vocab[run[place]], place == places[0]][character] += n
    parts: dict[str, _Parts] = {}
    for (token, begins), characters in counts.items():
        if names := _named(characters, begins=begins):
            parts.setdefault(token, ([], []))[begins].extend(names)
    return parts


def characters_of_token(tokens: Sequence[str], place: int) -> Iterator[tuple[str, bool, bool]]:
    """Yield the characters of which the token at a place among others holds a part, and whether they begin and whether
    they end in it."""
    is_part = [has_parts(token) for token in tokens]
    start, stop = place, place + 1
    while start > 0 and is_part[start - 1]:
        start -= 1
    while stop < len(tokens) and is_part[stop]:
        stop += 1
    for character, places in _divided_characters([_bytes_of(token) for token in tokens[start:stop]]):
        if place - start in places:
            yield character, place - start == places[0], place - start == places[-1]


def _runs(tokens: Int[np.ndarray, "seq pos"], is_part: Bool[np.ndarray, " token"]) -> Iterator[tuple[int, ...]]:
    """Yield the runs of tokens that have parts of characters."""
    n_parts = int(is_part[tokens].sum())
    for sequence in tokens[:: max(1, n_parts // N_READ)]:
        at = np.flatnonzero(is_part[sequence])
        for run in np.split(at, np.flatnonzero(np.diff(at) > 1) + 1):
            if len(run) > 1:
                yield tuple(sequence[run].tolist())


def _divided_characters(pieces: list[bytes]) -> Iterator[tuple[str, list[int]]]:
    """Yield the characters of joined pieces that lie in several of them, with the places of these pieces."""
    text = b"".join(pieces)
    owner = np.repeat(np.arange(len(pieces)), [len(piece) for piece in pieces])
    start = 0
    while start < len(text):
        length = length_of(text[start]) or 1
        places = sorted(set(owner[start : start + length].tolist()))
        character = text[start : start + length].decode(errors="ignore")
        if len(places) > 1 and len(character) == 1:
            yield character, places
        start += length if character else 1


def _named(characters: Counter[str], *, begins: bool) -> list[str]:
    """Return the commonest characters of each script, the commonest script first. Those that begin alike are left out
    where the page names them better by the range of the letters that begin so, unless a few are most of them."""
    scripts: dict[str | None, Counter[str]] = defaultdict(Counter)
    for character, n in characters.items():
        scripts[name_of(character.encode()[0])][character] = n
    names = []
    for own in sorted(scripts.values(), key=lambda own: (-own.total(), min(own))):
        commonest = sorted(own, key=lambda character: (-own[character], character))[:N_NAMED]
        is_most = sum(own[character] for character in commonest) >= MIN_NAMED * own.total()
        if is_most or not (begins and common_letters(commonest[0].encode()[0])):
            names.append(" ".join([*commonest, "…"] if len(own) > len(commonest) else commonest))
    return names


def _bytes_of(token: str) -> bytes:
    stray = re.compile(f"({STRAY})")
    return b"".join(
        bytes([int(piece[1:3], 16)]) if stray.fullmatch(piece) else piece.encode() for piece in stray.split(token)
    )
