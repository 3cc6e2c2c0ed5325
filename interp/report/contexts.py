"""Show where latents fire in context: the text of all scanned tokens, and the activations of a latent in a sequence.

In: a FeatureStore, and the firings to show. Out: the files that the page reads.

    text-0000, text-0001, …    token ids of whole sequences, about TOKENS_A_FILE a file, one character an id: code point
                               = id + 93, past the surrogates, which is 10 % smaller than digits
    pictures-0000, …           row → PNG in base64, for rows that are not text, if the store has a function that draws
                               them; each file covers PICTURES_A_FILE rows
    an example                 [kind, row, labels, value, activations]

        kind the interval of its activation, −1 if it is among the strongest, or the number of its sense
        row            seq * n_ctx + pos of the firing
        labels         index of its set of labels in the page's list, None if no token carries labels
        value          the activation there
        activations    [pos, value, pos, value, …] of the tokens of its sequence where the latent fires, in few digits

Many examples share the same text, so they only refer to it, and the page loads it when it is viewed. Activations take
most of the page's bytes, so `encode_examples` writes the examples of a latent in columns, and activations as text.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from jaxtyping import Int

from interp.codes.code_chunks import read_chunks
from interp.display.pictures import picture_of
from interp.features.feature_store import FeatureStore
from interp.report.json_text import encode_tokens, numbers

TOKENS_A_FILE = 1 << 16
PICTURES_A_FILE = 1 << 9
FEW_DIGITS = 2
N_PARTS = 8
MIN_FIRINGS_FOR_POSITIONS, UNEVEN = 100, 0.25
"""If 100 firings are placed at random, fewer than this share are out of place in 9,999 of 10,000 draws."""

Labels = Mapping[str, Any]
"""Label → Bool "seq pos" over the tokens scanned."""


def sequences_a_file(features: FeatureStore) -> int:
    return max(TOKENS_A_FILE // features.n_ctx, 1)


def text_files(features: FeatureStore) -> Iterator[tuple[str, str]]:
    """Yield the name and the tokens of each file. Yields nothing if the rows are not text."""
    for number, tokens in enumerate(features.tokens.split(sequences_a_file(features)) if features.has_text else ()):
        yield f"text-{number:04d}", encode_tokens(tokens.reshape(-1).numpy())


def picture_files(features: FeatureStore, rows: Iterable[int]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the name and the pictures of each file. Yields nothing if the store has no function that draws."""
    if features.render is None or features.has_text:
        return
    for number, inside in groupby(sorted(set(rows)), lambda row: row // PICTURES_A_FILE):
        yield f"pictures-{number:04d}", {str(row): picture_of(features.render, row) for row in inside}


class Contexts:
    """The labels of the shown firings, and the activations around them.
    rows: the rows of all these firings."""

    def __init__(self, features: FeatureStore, labels: Labels, rows: Int[np.ndarray, " firing"]):
        self.features = features
        self.label_sets = list[list[str]]()
        self._rows = np.unique(rows)
        self._set_of = np.zeros(0, np.int64)
        if labels:
            masks = [np.asarray(labels[name]).reshape(-1)[self._rows] for name in labels]
            sets, self._set_of = np.unique(np.stack(masks, 1), axis=0, return_inverse=True)
            names = np.array(list(labels), dtype=object)
            self.label_sets = [names[has].tolist() for has in sets]

    def examples(self, kinds: Iterable[int], latents: Collection[int], rows: Collection[int]) -> list[list]:
        """Return the firings of `latents` in `rows`, pair by pair, as the page reads them."""
        row_of, latent_of = (np.array(list(values), dtype=np.int64) for values in (rows, latents))
        at = np.searchsorted(self._rows, row_of)
        sets: list = self._set_of[at].tolist() if self.label_sets else [None] * len(rows)
        around = activations_around(self.features, latent_of, row_of)
        examples = zip(kinds, rows, sets, *around, strict=True)
        return [[int(kind), int(row), *rest] for kind, row, *rest in examples]


def encode_examples(examples: Sequence[list], n_ctx: int) -> list:
    """Write examples as columns: [kinds, rows, labels, values, exponent, counts, gaps, activations], which the page
    decodes.

    The last three are texts (`encode_tokens`). They have, for each example, the number of other tokens of its sequence
    on which the latent fires; for each of these, the number of tokens since the previous one; and its activation ±m ·
    10^(exponent − 1 − e), with m in 10..99, as 180 e + m − 10, and 90 more if it is below 0."""
    others = [[(pos, z) for pos, z in zip(e[4][::2], e[4][1::2], strict=True) if pos != e[1] % n_ctx] for e in examples]
    places = [[pos for pos, _ in firings] for firings in others]
    gaps = [pos - last - 1 for example_places in places for last, pos in pairwise([-1, *example_places])]
    columns = ([example[field] for example in examples] for field in range(4))
    digits = [_two_digits(z) for firings in others for _, z in firings]
    exponent = max((exponent_of_code for _, exponent_of_code in digits), default=0)
    activations = [code + 180 * (exponent - exponent_of_code) for code, exponent_of_code in digits]
    texts = (encode_tokens(codes) for codes in ([*map(len, places)], gaps, activations))
    return [*columns, exponent, *texts]


def positions(features: FeatureStore) -> dict[int, list[int]]:
    """Return where in a context a latent fires, for latents that do not fire evenly over it. The result counts a
    latent's firings in each of N_PARTS equal parts of a context. It has the latents whose firings differ by more than
    UNEVEN, in total variation, from the firings of all latents together. Reads the codes once."""
    n_ctx = features.n_ctx
    if not features.has_text or n_ctx < 2 * N_PARTS:
        return {}
    flat = np.zeros(features.d_sae * N_PARTS, np.int64)
    for chunk in read_chunks(features.codes):
        part = chunk.rows % n_ctx * N_PARTS // n_ctx
        flat += np.bincount(chunk.latents * N_PARTS + part, minlength=len(flat))
    counts = flat.reshape(-1, N_PARTS)
    total = counts.sum(1)
    shares = counts / np.maximum(total, 1)[:, None]
    elsewhere = np.abs(shares - counts.sum(0) / max(total.sum(), 1)).sum(1) / 2
    return {
        j: counts[j].tolist()
        for j in np.flatnonzero((total >= MIN_FIRINGS_FOR_POSITIONS) & (elsewhere > UNEVEN)).tolist()
    }


@cache
def _two_digits(value: float) -> tuple[int, int]:
    """Return m − 10 (plus 90 if the value is below 0), and the exponent of the first digit."""
    first, exponent = f"{abs(value):.1e}".split("e")
    return round(10 * float(first)) - 10 + 90 * (value < 0), int(exponent)


def activations_around(
    features: FeatureStore, latents: Int[np.ndarray, " firing"], rows: Int[np.ndarray, " firing"]
) -> tuple[list, list[list]]:
    """Return the activation of each latent in its row, and [pos, value, pos, value, …] of the latent in the sequence
    that contains the row. Reads the codes once."""
    n_ctx = features.n_ctx
    n_sequences = int(features.meta["n_sequences"])
    distinct, column = np.unique(latents, return_inverse=True)
    sequences = rows // n_ctx
    columns, at, values = _firings_in(features, distinct, column, sequences)
    pairs: list = [None] * (2 * len(at))
    pairs[::2] = (at % n_ctx).tolist()
    pairs[1::2] = numbers(values, FEW_DIGITS)
    keys = columns * n_sequences + at // n_ctx
    keys_wanted = column * n_sequences + sequences
    starts, stops = (2 * np.searchsorted(keys, keys_wanted, side) for side in ("left", "right"))
    around = [pairs[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]
    entries = columns * n_sequences * n_ctx + at
    entries_wanted = column * n_sequences * n_ctx + rows
    fired = np.isin(entries_wanted, entries)
    value = np.zeros(len(rows))
    value[fired] = values[np.searchsorted(entries, entries_wanted[fired])]
    return numbers(value), around


def _firings_in(
    features: FeatureStore,
    distinct: Int[np.ndarray, " column"],
    column: Int[np.ndarray, " firing"],
    sequences: Int[np.ndarray, " firing"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all firings of some latents in some sequences, as columns (numbers in `distinct`), rows and activations,
    sorted by column and row. The wanted pairs of latent and sequence are (shown[column[i]], sequences[i])."""
    n_ctx = features.n_ctx
    column_of = np.full(features.d_sae, -1, np.int64)
    column_of[distinct] = np.arange(len(distinct))
    order = np.argsort(sequences, kind="stable")
    sequences_in_order = sequences[order]
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))]
    for chunk in read_chunks(features.codes, n_ctx):
        first, stop = chunk.start // n_ctx, chunk.stop // n_ctx
        block = order[slice(*np.searchsorted(sequences_in_order, [first, stop]))]
        wanted = np.zeros((len(distinct), stop - first), bool)
        wanted[column[block], sequences[block] - first] = True
        part = chunk.of_latents(column_of >= 0)
        columns, at = column_of[part.latents], part.rows
        is_wanted = wanted[columns, at // n_ctx - first]
        parts.append((columns[is_wanted], at[is_wanted], part.activations[is_wanted]))
    columns, at, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.lexsort((at, columns))
    return columns[order], at[order], values[order]
