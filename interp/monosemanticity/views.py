"""The views in which two firings may be similar, each a vector for every position of a text.

In: tokens and, where known, how they are spelt. Out: `Views`, which embeds any positions in each of

    surroundings   tokens from 16 before to 8 after, as `contexts` embeds them: topic, register
    token, role    the firing token's own vector from the tokens within eight of it, and from those right beside it
                   (`contexts`): what it is about, and what part it plays
    same           which token it is: a random direction a token
    form           how it is spelt: its script, shape, and character n-grams, hashed
    previous, previous_same, next, next_same      role and same of the tokens beside it
    recent         the `token` vectors of the five tokens before it
    position       where it is in its line, sentence, paragraph, brackets and word (`contexts`)

Each is centred and whitened over the text,

    e ← (Σ + λ tr(Σ)/dim · I)^(−½) (e − ē),      λ = RIDGE,

so that the text itself has about unit variance in every direction, and the mean of a set of firings, in standard
deviations of the text, says how well that view tells them from anything else: seven positions in ten are Latin
script, so being Latin says little. Vectors longer than CLIP · √dim are cut.

Source: own; hashed features, Weinberger et al. 2009; whitening with a ridge, as in shrinkage. Cost: 0.1 s of one core
beyond the contexts to fit, 2 µs a position to embed.
Failing: an idea, a tone, or what lies beyond the window is in no view. Random directions of 48 dimensions let a pair of
tokens look a little alike (cosines of ± 0.14) that are not.
"""

import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, Int64, UInt8

from interp.monosemanticity.contexts import Contexts, embed_windows, position_vectors, read_positions

LOOKED_UP = {
    "token": ("token", 0), "role": ("role", 0), "same": ("same", 0), "form": ("form", 0), "previous": ("role", -1),
    "previous_same": ("same", -1), "next": ("role", 1), "next_same": ("same", 1),
}  # fmt: skip
"""Views of one token: its table, and how far behind the firing it is."""
WINDOWS = ("surroundings", "recent", "position")
NAMES = ("surroundings", *LOOKED_UP, *WINDOWS[1:])
RECENT = 5
"""Tokens before the firing that the view `recent` holds."""
DIM = 48
RIDGE = 0.1
CLIP = 2.5
SAMPLE = 40_000
"""Positions from which mean and covariance are estimated."""


@dataclass(frozen=True)
class Views:
    """Whitened tables and windows; `embed` gives the vectors of any positions."""

    tokens: Int[np.ndarray, "seq pos"]
    tables: dict[str, Float32[np.ndarray, "d_vocab dim"]]
    """Vectors by token, whitened; the last row is for "no token there"."""
    contexts: Contexts
    positions: UInt8[np.ndarray, "row trait"]
    windows: dict[str, tuple[Float32[np.ndarray, " dim"], Float32[np.ndarray, "dim dim"]]]
    """Of the others: mean and whitening matrix."""

    def embed(self, rows: Int64[np.ndarray, " row"]) -> Float32[np.ndarray, "row view dim"]:
        """Vectors of the positions `rows` = seq * n_ctx + pos; rows beyond the end go on at the beginning."""
        n_ctx, flat = self.tokens.shape[1], self.tokens.reshape(-1)
        rows = rows % flat.size
        out = np.empty((len(rows), len(NAMES), DIM), np.float32)
        tokens = {}
        for offset in (-1, 0, 1):
            beside, nowhere = rows + offset, len(self.contexts.roles)
            tokens[offset] = np.where(beside // n_ctx == rows // n_ctx, flat[beside % flat.size], nowhere)
        for place, name in enumerate(NAMES):
            if name in LOOKED_UP:
                table, offset = LOOKED_UP[name]
                out[:, place] = self.tables[table][tokens[offset]]
            else:
                mean, whiten = self.windows[name]
                out[:, place] = _clip((self._window(name, rows) - mean) @ whiten)
        return out

    def _window(self, name: str, rows: Int64[np.ndarray, " row"]) -> Float32[np.ndarray, "row dim"]:
        if name == "surroundings":
            return _pad(self.contexts.embed(self.tokens, rows))
        if name == "position":
            return _pad(position_vectors(self.positions[rows]))
        return embed_windows(self.tokens, rows, self.tables["token"], past=RECENT, future=0)


def fit_views(
    tokens: Int[np.ndarray, "seq pos"], contexts: Contexts, vocab: Sequence[str] | None, seed: int = 0
) -> Views:
    """Views of a text. Without the vocabulary's strings `form` is zero, and `position` knows the sequence alone."""
    rng = np.random.default_rng(seed)
    d_vocab = len(contexts.token_vectors)
    share = np.bincount(tokens.reshape(-1), minlength=d_vocab) / tokens.size
    forms, seen = np.zeros((d_vocab, DIM), np.float32), np.flatnonzero(share).tolist()
    if vocab is not None:
        forms[seen] = token_forms([vocab[token] for token in seen])
    same = rng.normal(size=(d_vocab, DIM)).astype(np.float32) / np.float32(DIM**0.5)
    of_token = {"token": _pad(contexts.token_vectors), "role": _pad(contexts.roles), "same": same, "form": forms}
    tables = {name: _table(vectors, share) for name, vectors in of_token.items()}
    positions = read_positions(tokens, vocab, seen)
    views = Views(tokens, tables, contexts, positions, {})
    rows = np.arange(0, tokens.size, max(1, tokens.size // SAMPLE))
    for name in WINDOWS:
        vectors = views._window(name, rows)
        mean = vectors.mean(0)
        views.windows[name] = mean, _whitening(vectors - mean, np.full(len(vectors), 1 / len(vectors)))
    return views


def token_forms(vocab: Sequence[str]) -> Float32[np.ndarray, "d_vocab dim"]:
    """Spelling as a unit vector: signed hashes of a token's script, shape and character n-grams of 1 to 3."""
    out = np.zeros((len(vocab), DIM), np.float32)
    for token, string in enumerate(vocab):
        for trait, weight in _traits(string).items():
            code = zlib.crc32(trait.encode("utf-8", "backslashreplace"))
            out[token, code % DIM] += weight if code >> 16 & 1 else -weight
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)


def _traits(string: str) -> dict[str, float]:
    bare = string.strip()
    traits = {"space before": 1.0} if string[:1].isspace() else {}
    kinds = {_kind(character) for character in bare} or {"blank" if string else "empty"}
    traits |= {f"kind {kind}": 2.0 / len(kinds) ** 0.5 for kind in kinds}
    shape = "upper" if bare.isupper() else "title" if bare.istitle() else "lower" if bare.islower() else "other"
    traits |= {f"shape {shape}": 1.0, f"length {min(len(bare), 6)}": 0.7}
    marked = f"\x02{bare.casefold()}\x03"
    grams = [marked[i : i + n] for n in (1, 2, 3) for i in range(len(marked) - n + 1)]
    traits |= {f"gram {gram}": 2.0 / max(len(grams), 1) ** 0.5 for gram in grams}
    return traits


def _kind(character: str) -> str:
    """Script of a letter, "digit", or the general category of anything else."""
    if character.isalpha():
        return unicodedata.name(character, "unknown").split(" ")[0].split("-")[0]
    return "digit" if character.isdigit() else unicodedata.category(character)


def _table(vectors: Float32[np.ndarray, "d_vocab dim"], share: np.ndarray) -> Float32[np.ndarray, "d_vocab_plus_1 dim"]:
    mean = (share @ vectors).astype(np.float32)
    whitened = (vectors - mean) @ _whitening(vectors - mean, share)
    return np.vstack([_clip(whitened), np.zeros((1, vectors.shape[1]), np.float32)])


def _whitening(centred: Float32[np.ndarray, "n dim"], share: np.ndarray) -> Float32[np.ndarray, "dim dim"]:
    covariance = (centred * share[:, None]).T.astype(np.float64) @ centred
    values, vectors = np.linalg.eigh(covariance)
    level = RIDGE * max(values.sum(), 1e-12) / len(values)
    return ((vectors / np.sqrt(np.maximum(values, 0) + level)) @ vectors.T).astype(np.float32)


def _clip(vectors: Float32[np.ndarray, "n dim"]) -> Float32[np.ndarray, "n dim"]:
    longest = CLIP * vectors.shape[1] ** 0.5
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors * np.minimum(1, longest / np.maximum(norms, 1e-9))


def _pad(vectors: Float32[np.ndarray, "n dim"]) -> Float32[np.ndarray, "n dim"]:
    out = np.zeros((len(vectors), DIM), np.float32)
    out[:, : min(DIM, vectors.shape[1])] = vectors[:, :DIM]
    return out
