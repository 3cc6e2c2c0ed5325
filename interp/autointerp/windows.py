"""Windows of text to explain a latent from, and to judge its explanation by.

    to explain   firings of the fit half: the strongest, and some of each slice of (0, max]
    to judge     of the other half, as many windows in which it fires, drawn evenly from the slices of (0, max], as
                 windows in which it is silent throughout, drawn anywhere

Of a sequence at most one firing is taken. The windows are as long as those of the store's examples.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int64

from interp.explain.predicates import plain_strings
from interp.features.feature_store import FeatureStore

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 3
"""Windows of each kind, without which a latent is not judged."""
_CANDIDATES = 32
_ROWS_PER_CHUNK = 1 << 16


@dataclass(frozen=True)
class Window:
    pieces: tuple[str, ...]
    """The strings of its tokens."""
    values: tuple[float, ...]
    """The latent's activation on each."""
    marked: tuple[int, ...]
    """Places of the tokens that are marked: those that fire, or in a silent window others."""
    interval: int
    """Slice of (0, max] of its strongest firing; −1 in a silent window."""
    row: int
    """seq * n_ctx + pos of the firing that it was drawn for, or of the middle of a silent one."""

    @property
    def fires(self) -> bool:
        return self.interval >= 0

    def text(self, marks: tuple[str, str] | None = None) -> str:
        """As one string, with the signs of `marks` around each run of marked tokens."""
        if marks is None:
            return _readable("".join(self.pieces))
        marked = set(self.marked)
        parts = []
        for at, piece in enumerate(self.pieces):
            if at in marked and at - 1 not in marked:
                parts.append(marks[0])
            parts.append(piece)
            if at in marked and at + 1 not in marked:
                parts.append(marks[1])
        return _readable("".join(parts))


@dataclass(frozen=True)
class LatentWindows:
    latent: int
    maximum: float
    shown: tuple[Window, ...]
    """To explain it from."""
    firing: tuple[Window, ...]
    silent: tuple[Window, ...]
    """As many as `firing`, in the same order: silent[i] is marked at the places of firing[i]."""


def sample_windows(
    features: FeatureStore, latents: Sequence[int], *, n_windows: int, n_shown: int, seed: int
) -> list[LatentWindows]:
    """For each latent up to `n_windows` of each kind to judge by, and `n_shown` to explain from.

    Latents with fewer than `FEWEST` of a kind are left out.
    """
    if not latents:
        return []
    vocab = plain_strings(features.vocab)
    fit = features.fit_half().numpy()
    examples = _examples(features, latents)
    centres = _candidates(features, latents, ~fit, _CANDIDATES * n_windows, seed)
    silent = _silent(features, latents, centres)
    found, slices = [], features.meta["settings"]["n_intervals"]
    for i, latent in enumerate(latents):
        mine = examples[examples.latent == latent]
        if mine.empty:
            continue
        maximum, generator = float(mine.maximum.iloc[0]), np.random.default_rng([seed, latent])
        in_fit = fit[mine.row.to_numpy() // features.n_ctx]
        held = mine[~in_fit & (mine.kind == "interval").to_numpy()]
        shown, firing = (
            [_window(row, vocab, maximum, slices) for row in _one_a_sequence(rows, features.n_ctx, n, generator)]
            for rows, n in ((mine[in_fit], n_shown), (held, n_windows))
        )
        quiet = [_silent_window(features, row, vocab) for row in centres[i][silent[i]][: len(firing)]]
        n = min(len(firing), len(quiet))
        if n >= FEWEST:
            marked = [_marked_like(q, f) for q, f in zip(quiet[:n], firing[:n], strict=True)]
            found.append(LatentWindows(latent, maximum, tuple(shown), tuple(firing[:n]), tuple(marked)))
    return found


def _examples(features: FeatureStore, latents: Sequence[int]) -> "pd.DataFrame":
    listed = ", ".join(str(int(latent)) for latent in latents)
    return features.sql(
        "select e.latent, e.kind, e.interval, e.row, e.tokens, e.values, f.max as maximum "
        "from examples e join features f on e.latent = f.latent "
        f"where e.latent in ({listed}) order by e.latent, e.kind desc, e.interval desc, e.rank"
    )


def _one_a_sequence(examples: "pd.DataFrame", n_ctx: int, n: int, generator: np.random.Generator) -> "list[pd.Series]":
    """Up to n of them, turn and turn about from the slices of activation, each from another sequence."""
    shuffled = examples.iloc[generator.permutation(len(examples))]
    turn = shuffled.groupby("interval").cumcount()
    taken: list[pd.Series] = []
    sequences: set[int] = set()
    for i in np.lexsort([-shuffled.interval.to_numpy(), turn.to_numpy()]):
        row = shuffled.iloc[i]
        if row.row // n_ctx not in sequences and len(taken) < n:
            sequences.add(row.row // n_ctx)
            taken.append(row)
    return taken


def _candidates(
    features: FeatureStore, latents: Sequence[int], held: Bool[np.ndarray, " seq"], n: int, seed: int
) -> Int64[np.ndarray, "latent candidate"]:
    """Rows of the held-out half, drawn for each latent from a stream of its own."""
    sequences, n_ctx = np.flatnonzero(held), features.n_ctx
    drawn = []
    for latent in latents:
        generator = np.random.default_rng([seed, latent, 1])
        drawn.append(sequences[generator.integers(len(sequences), size=n)] * n_ctx + generator.integers(n_ctx, size=n))
    return np.stack(drawn)


def _span(features: FeatureStore, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    settings, first = features.meta["settings"], row - row % features.n_ctx
    start = np.maximum(row - settings["window_before"], first)
    return start, np.minimum(row + settings["window_after"] + 1, first + features.n_ctx)


def _silent(
    features: FeatureStore, latents: Sequence[int], centres: Int64[np.ndarray, "latent candidate"]
) -> Bool[np.ndarray, "latent candidate"]:
    """Whether the latent is silent in the window around each row; one pass over the codes."""
    start, stop = _span(features, centres)
    silent = np.ones(centres.shape, bool)
    place = np.full(features.d_sae, -1)
    place[list(latents)] = np.arange(len(latents))
    step = max(1, _ROWS_PER_CHUNK // features.n_ctx) * features.n_ctx
    for first in range(0, len(features.codes), step):
        codes = features.codes[first : first + step]
        which = place[codes.latents.numpy()]
        kept = (which >= 0) & (codes.values.numpy() > 0)
        rows, which = codes.rows.numpy()[kept] + first, which[kept]
        for i in np.unique(which):
            mine = rows[which == i]
            silent[i] &= np.searchsorted(mine, start[i]) == np.searchsorted(mine, stop[i])
    return silent


def _window(example: "pd.Series", vocab: list[str], maximum: float, n_slices: int) -> Window:
    values = np.asarray(example["values"], np.float64)
    interval = int(np.ceil(min(1.0, values.max() / maximum) * n_slices)) - 1
    pieces = tuple(vocab[token] for token in example.tokens)
    return Window(
        pieces, tuple(values.tolist()), tuple(np.flatnonzero(values > 0).tolist()), interval, int(example.row)
    )


def _silent_window(features: FeatureStore, row: int, vocab: list[str]) -> Window:
    start, stop = (int(edge) for edge in _span(features, np.asarray(row)))
    tokens = features.tokens.flatten()[start:stop].tolist()
    return Window(tuple(vocab[token] for token in tokens), (0.0,) * len(tokens), (), -1, int(row))


def _marked_like(silent: Window, firing: Window) -> Window:
    """The silent window with as many marks as the other, at the same places as far as it reaches."""
    length = len(silent.pieces)
    return replace(silent, marked=tuple(sorted({at % length for at in firing.marked})))


def _readable(text: str) -> str:
    """Stray bytes, which the vocabulary shows as ⟨d7⟩, joined to the characters that they make."""

    def joined(run: re.Match) -> str:
        read = bytes.fromhex(run[0].replace("⟨", "").replace("⟩", "")).decode("utf-8", "surrogateescape")
        return "".join(f"⟨{ord(c) - 0xDC00:02x}⟩" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in read)

    return re.sub(r"(?:⟨[0-9a-f]{2}⟩)+", joined, text)
