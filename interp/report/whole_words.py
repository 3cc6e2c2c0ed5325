"""Find the whole words in whose pieces a latent fires: "er" says little, "er" in "Berlin" says it all.

In: the tokens scanned, their strings and the firings. A piece is a token inside a word that has other tokens; the same
token at another place of the word is another piece. Out: for each latent, descriptions of its firings as "these pieces
of these words" (`naming.growing_lists`), and what is said of the words in which one token stands.

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
from interp.display.segments import Segments, Token
from interp.features.feature_store import FeatureStore
from interp.report.naming import MOST, Description, growing_lists, share_among
from interp.text.vocabulary import join_with_or
from interp.text.words import MAX_PIECES, Words

MAX_LETTERS = 24
"""A longer run of letters is a line of another kind of text, such as DNA."""
_WORD = re.compile(rf"[\W\d_]*([^\W\d_]{{2,{MAX_LETTERS}}})[\W\d_]*")
_CAPITALS_AND_SMALL = re.compile("[A-Z]{2,}[a-z]{1,2}|[a-z]+[A-Z]+|.*[A-Z][a-z]?[A-Z][a-z]?[A-Z].*")
"""Letters that are no word but of a code, such as base64."""
_WITHOUT_SPACES = re.compile("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]")
"""Letters of scripts that write no spaces between words."""
N_WORDS = 3
"""Largest number of words that are told to make up most firings on a token."""
SOME = 0.1
"""Least share of the firings that are in longer words, or in one of them, for that to be told."""
_MULTIPLIER = np.uint64(0xD1342543DE82EF95)


class Piece(NamedTuple):
    token: str
    word: str


class LongerWords(NamedTuple):
    """In which words of several tokens a latent fires."""

    pieces: Mapping[Piece, tuple[float, float]]
    """How often each piece stands at its firings and anywhere, per firing of it."""
    share: float
    """The share of its firings on its commonest token that are in any such word, or before another digit."""


def longer_words(features: FeatureStore, n_active: Sequence[int]) -> dict[int, LongerWords]:
    """Return it for each latent whose commonest token is in any. n_active: the number of firings of each latent."""
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
    n_here, n_anywhere, n_inside = _count(features, words, is_known, known, pairs)
    counts: dict[int, dict[Piece, tuple[float, float]]] = defaultdict(dict)
    for pair, n in zip(pairs.tolist(), n_here.tolist(), strict=True):
        latent, k = divmod(pair, len(known))
        piece = pieces[int(known[k])]  # with a space before the word and without one
        here, anywhere = counts[latent].get(piece, (0, 0))
        counts[latent][piece] = here + n / n_active[latent], anywhere + int(n_anywhere[k]) / n_active[latent]
    n_on_commonest = np.array(n_active) * features.column("top_token_share")
    share = n_inside / np.maximum(np.nan_to_num(n_on_commonest), 1)
    latents = sorted({*counts, *np.flatnonzero(n_inside).tolist()})
    return {latent: LongerWords(counts[latent], float(share[latent])) for latent in latents}


def whole_words(longer: LongerWords, strongest: Sequence[str]) -> list[Description]:
    """Return the words in whose pieces a latent fires, the commonest first. strongest: the tokens of its strongest
    firings."""
    described = []
    for pieces, f1 in growing_lists(longer.pieces):
        in_order = sorted(pieces, key=lambda piece: -longer.pieces[piece][0])
        tokens, words = (list(dict.fromkeys(texts)) for texts in zip(*in_order, strict=True))
        segments = [*_listed(tokens), " in ", *_listed(words)]
        described.append(Description("words", segments, f1, share_among(strongest, tokens)))
    return described


def beyond_token(longer: LongerWords, token: str) -> Segments:
    """Return in which longer words or numbers the firings of a latent on its commonest token are: 'mostly in "plain" or
    "play"' if at most N_WORDS make up MOST of its firings; else, if MOST are in longer words, SOME of them in one, 'as
    in "keep"'; 'also in "thousand"' if SOME are in longer words; and so of a digit before others. [] if fewer are, and
    in scripts that write no spaces between words."""
    if longer.share < SOME or _WITHOUT_SPACES.search(token):
        return []
    if token[-1:].isdecimal():
        return [f"{'mostly' if longer.share >= MOST else 'also'} before further digits"]
    shares: dict[str, float] = defaultdict(float)
    for piece, (here, _) in longer.pieces.items():
        if piece.token.strip() == token.strip():
            shares[piece.word] += here
    commonest = sorted(shares.items(), key=lambda one: -one[1])[:N_WORDS]
    for n in range(1, len(commonest) + 1):
        if sum(share for _, share in commonest[:n]) >= MOST:
            return ["mostly in ", *_listed([word for word, _ in commonest[:n]])]
    word, share = commonest[0] if commonest else ("", 0.0)
    if longer.share >= MOST:
        return ["as in ", Token(word)] if share >= SOME else []
    return ["also in ", Token(word)] if share >= MOST * longer.share else ["also in longer words"]


def _listed(texts: Sequence[str]) -> Segments:
    return [*join_with_or([(Token(text),) for text in texts])]


def words_at(features: FeatureStore, rows: Int64[np.ndarray, " row"]) -> dict[int, str]:
    """Return the whole word at each row that is on a piece of one."""
    words = Words.of(features.vocab)
    keys = _keys(features.tokens.numpy(), rows, words)
    pieces = _pieces(features, rows, keys, words)
    return {row: pieces[key].word for row, key in zip(rows.tolist(), keys.tolist(), strict=True) if key in pieces}


def _pieces(
    features: FeatureStore, rows: Int64[np.ndarray, " row"], keys: UInt64[np.ndarray, " row"], words: Words
) -> dict[int, Piece]:
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
        pieces[key] = Piece(vocab[flat[row]], word[1])
    return pieces


def _count(
    features: FeatureStore,
    words: Words,
    is_known: Bool[np.ndarray, " d_vocab"],
    known: UInt64[np.ndarray, " piece"],
    pairs: Int64[np.ndarray, " pair"],
) -> tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " piece"], Int64[np.ndarray, " d_sae"]]:
    """Return how many firings each pair, latent * len(known) + piece, has, how often each piece stands in the text, and
    how many firings of each latent are on its commonest token in a longer word, or between digits. is_known: whether a
    token is that of a piece."""
    n_here, n_anywhere = np.zeros(len(pairs), np.int64), np.zeros(len(known), np.int64)
    n_inside = np.zeros(features.d_sae, np.int64)
    tokens, commonest = features.tokens.numpy(), features.column("top_token")
    first_is_digit, last_is_digit = (np.array([text[k:][:1].isdecimal() for text in features.vocab]) for k in (0, -1))
    for chunk in read_chunks(features.codes, features.n_ctx):
        every = np.arange(chunk.start, chunk.stop)
        firsts, lasts = words.bounds(tokens, every)
        own = tokens.reshape(-1)[chunk.start : chunk.stop]
        goes_on = np.append(last_is_digit[own[:-1]] & first_is_digit[own[1:]], False) & (
            every % features.n_ctx < features.n_ctx - 1
        )
        at = chunk.rows - chunk.start
        is_inside = ((firsts < lasts) | goes_on)[at] & (own[at] == commonest[chunk.latents])
        n_inside += np.bincount(chunk.latents[is_inside], minlength=features.d_sae)
        rows = chunk.start + np.flatnonzero(is_known[tokens.reshape(-1)[chunk.start : chunk.stop]])
        place = np.full(chunk.stop - chunk.start, -1, np.int64)
        place[rows - chunk.start] = _places(known, _keys(tokens, rows, words))
        n_anywhere += np.bincount(place[place >= 0], minlength=len(known))
        at = place[chunk.rows - chunk.start]
        pair = (chunk.latents.astype(np.int64) * len(known) + at)[at >= 0]
        k = _places(pairs, pair)
        n_here += np.bincount(k[k >= 0], minlength=len(pairs))
    return n_here, n_anywhere, n_inside


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
