"""Find the whole words in whose pieces a latent fires: "er" says little, "er" in "Berlin" says it all.

In: the tokens scanned, their strings and the firings. A piece is a token inside a word that has other tokens; the same
token at another place of the word is another piece. Out: for each latent, descriptions of its firings as "these pieces
of these words" (`naming.growing_lists`).

Words are looked for among the stored examples, and counted over all firings. Cost: one reading of the codes.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int64, UInt64

from interp.codes.code_chunks import read_chunks
from interp.display.byte_parts import has_parts
from interp.display.segments import Token
from interp.features.feature_store import FeatureStore
from interp.report.naming import Description, growing_lists, share_among
from interp.text.vocabulary import join_with_or
from interp.text.words import MAX_PIECES, Words

MAX_LETTERS = 24
"""A longer run of letters is a line of another kind of text, such as DNA."""
_WORD = re.compile(rf"[\W\d_]*([^\W\d_]{{2,{MAX_LETTERS}}})[\W\d_]*")
_CAPITALS_AND_SMALL = re.compile("[A-Z]{2,}[a-z]{1,2}|[a-z]+[A-Z]+|.*[A-Z][a-z]?[A-Z][a-z]?[A-Z].*")
"""Letters that are no word but of a code, such as base64."""
_WITHOUT_SPACES = re.compile("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]")
"""Letters of scripts that write no spaces between words."""
_MULTIPLIER = np.uint64(0xD1342543DE82EF95)


class _Piece(NamedTuple):
    token: str
    word: str


def whole_words(
    features: FeatureStore, n_active: Sequence[int], strongest: Mapping[int, Sequence[str]]
) -> dict[int, list[Description]]:
    """Return the words in whose pieces each latent fires. n_active: the number of firings of each. strongest: the
    tokens of the strongest ones."""
    words = Words.of(features.vocab)
    tokens = features.tokens.numpy()
    examples = features.sql('select distinct latent, "row" from examples order by latent, "row"')
    rows = examples["row"].to_numpy(np.int64)
    keys = _keys(tokens, rows, words)
    pieces = _pieces(features, rows, keys, words)
    known = np.array(sorted(pieces), np.uint64)
    place = _places(known, keys)
    pairs = np.unique((examples["latent"].to_numpy(np.int64) * len(known) + place)[place >= 0])
    is_known = np.isin(np.arange(len(features.vocab)), tokens.reshape(-1)[rows[place >= 0]])
    n_here, n_anywhere = _count(features, words, is_known, known, pairs)
    counts: dict[int, dict[_Piece, tuple[float, float]]] = defaultdict(dict)
    for pair, n in zip(pairs.tolist(), n_here.tolist(), strict=True):
        latent, k = divmod(pair, len(known))
        piece = pieces[int(known[k])]  # with a space before the word and without one
        here, anywhere = counts[latent].get(piece, (0, 0))
        counts[latent][piece] = here + n / n_active[latent], anywhere + int(n_anywhere[k]) / n_active[latent]
    return {
        latent: [_in_words(listed, f1, strongest.get(latent, [])) for listed, f1 in growing_lists(of_latent)]
        for latent, of_latent in counts.items()
    }


def _in_words(pieces: Sequence[_Piece], f1: float, strongest: Sequence[str]) -> Description:
    tokens, words = (dict.fromkeys(texts) for texts in zip(*pieces, strict=True))
    listed = [join_with_or([(Token(text),) for text in texts]) for texts in (tokens, words)]
    return Description("words", [*listed[0], " in ", *listed[1]], f1, share_among(strongest, list(tokens)))


def words_at(features: FeatureStore, rows: Int64[np.ndarray, " row"]) -> dict[int, str]:
    """Return the whole word at each row that is on a piece of one."""
    words = Words.of(features.vocab)
    keys = _keys(features.tokens.numpy(), rows, words)
    pieces = _pieces(features, rows, keys, words)
    return {row: pieces[key].word for row, key in zip(rows.tolist(), keys.tolist(), strict=True) if key in pieces}


def _pieces(
    features: FeatureStore, rows: Int64[np.ndarray, " row"], keys: UInt64[np.ndarray, " row"], words: Words
) -> dict[int, _Piece]:
    """Return key → piece, for the rows that are on a piece of a whole word."""
    vocab, n_ctx = features.vocab, features.n_ctx
    flat = features.tokens.reshape(-1).numpy()
    distinct, at = np.unique(keys, return_index=True)
    bounds = words.bounds(features.tokens.numpy(), rows[at])
    pieces = {}
    for key, row, first, last in zip(distinct.tolist(), rows[at].tolist(), *(b.tolist() for b in bounds), strict=True):
        strings = [vocab[token] for token in flat[first : last + 1].tolist()]
        beside = [vocab[flat[k]] for k in (first - 1, last + 1) if k // n_ctx == row // n_ctx and k >= 0]
        is_cut = not words.opens[flat[first]] and first % n_ctx == 0 or (last + 1) % n_ctx == 0
        is_long = row - first >= MAX_PIECES or last - row >= MAX_PIECES - 1
        word = _WORD.fullmatch("".join(strings))
        if first == last or is_cut or is_long or not word or _WITHOUT_SPACES.search(word[1]):
            continue
        if not word[1].isupper() and _CAPITALS_AND_SMALL.fullmatch(word[1]):
            continue
        if any(map(has_parts, beside)):  # a part of a letter of the same word
            continue
        pieces[key] = _Piece(vocab[flat[row]], word[1])
    return pieces


def _count(
    features: FeatureStore,
    words: Words,
    is_known: Bool[np.ndarray, " d_vocab"],
    known: UInt64[np.ndarray, " piece"],
    pairs: Int64[np.ndarray, " pair"],
) -> tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " piece"]]:
    """Return how many firings each pair, latent * len(known) + piece, has, and how often each piece stands in the
    text. is_known: whether a token is that of a piece."""
    n_here, n_anywhere = np.zeros(len(pairs), np.int64), np.zeros(len(known), np.int64)
    tokens = features.tokens.numpy()
    for chunk in read_chunks(features.codes, features.n_ctx) if len(pairs) else ():
        rows = chunk.start + np.flatnonzero(is_known[tokens.reshape(-1)[chunk.start : chunk.stop]])
        place = np.full(chunk.stop - chunk.start, -1, np.int64)
        place[rows - chunk.start] = _places(known, _keys(tokens, rows, words))
        n_anywhere += np.bincount(place[place >= 0], minlength=len(known))
        at = place[chunk.rows - chunk.start]
        pair = (chunk.latents.astype(np.int64) * len(known) + at)[at >= 0]
        k = _places(pairs, pair)
        n_here += np.bincount(k[k >= 0], minlength=len(pairs))
    return n_here, n_anywhere


def _places(known: np.ndarray, values: np.ndarray) -> Int64[np.ndarray, " value"]:
    """Return the place of each value among sorted ones; −1 for a value that is not there."""
    if not len(known):
        return np.full(len(values), -1, np.int64)
    at = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.where(known[at] == values, at, -1)


def _keys(
    tokens: Int[np.ndarray, "seq pos"], rows: Int64[np.ndarray, " row"], words: Words
) -> UInt64[np.ndarray, " row"]:
    """Return a hash of the tokens of the word that each row is in, and of its place in the word."""
    firsts, lasts = words.bounds(tokens, rows)
    flat = tokens.reshape(-1)
    keys = (rows - firsts).astype(np.uint64)
    inside = np.arange(len(rows))
    for k in range(2 * MAX_PIECES):
        inside = inside[firsts[inside] + k <= lasts[inside]]
        token = flat[firsts[inside] + k].astype(np.uint64)
        keys[inside] = (keys[inside] ^ (keys[inside] >> np.uint64(29))) * _MULTIPLIER + token + np.uint64(1)
    return keys
