"""Compute what two latents have in common: how often they fire on the same tokens, and how each acts in the other's
examples.

In: a FeatureStore and pairs of its latents. Out, of each pair (a, b), from one pass over the codes for all of them:

    [n_both, correlation, cosine, at_a, at_b, others]

    n_both         tokens on which both fire
    correlation    Pearson's, of their activations over all tokens scanned; None if one of them never changes
    cosine         of their decoder directions; None without W_dec
    at_a           those of a's examples at which b fires too, by their places in the order of the page (`payloads`)
    at_b           those of b's examples at which a fires
    others         the activation of the other latent at each example of the longer of the two lists (of the lower
                   latent's if both are equally long)
"""

from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from interp.codes.code_chunks import read_chunks
from interp.features.feature_store import FeatureStore
from interp.report.contexts import FEW_DIGITS
from interp.report.json_text import number, numbers
from interp.report.payloads import TABLE_QUERIES
from interp.runtime.threads import slices
from interp.statistics.directions import unit_rows

N_OTHERS = 2
"""Number of nearest latents, and of latents that fire most often with a latent, whose pairs with it are on the page."""
PAIRS_AT_ONCE = 1 << 12
"""Number of pairs whose columns of codes are in memory at a time."""


def pairs_shown(features: FeatureStore) -> Int[np.ndarray, "pair 2"]:
    """Return the pairs whose common properties the page shows, each with its smaller latent first."""
    condition = f'from {{}} where "rank" < {N_OTHERS} and latent <> other'
    tables = " union all ".join(
        f"select latent, other {condition.format(name)}" for name in ("neighbours", "coactivations")
    )
    pairs = features.sql(
        f"select distinct least(latent, other) a, greatest(latent, other) b from ({tables}) order by a, b"
    )
    return pairs.to_numpy(np.int64)


def common_properties(features: FeatureStore, pairs: Int[np.ndarray, "pair 2"]) -> list[list]:
    """Return the common properties of each pair's latents, as the page reads them."""
    examples = features.sql(TABLE_QUERIES["examples"].format(where=""))
    latent_of, row_of = (examples[name].to_numpy(np.int64) for name in ("latent", "row"))
    starts, stops = (
        np.searchsorted(latent_of, pairs, side) for side in ("left", "right")
    )  # the examples are sorted by latent
    counts = stops - starts
    ends = np.cumsum(counts.reshape(-1))
    places = np.arange(counts.sum()) + np.repeat(starts.reshape(-1) - ends + counts.reshape(-1), counts.reshape(-1))
    rows = row_of[places]
    partners = np.repeat(pairs[:, ::-1].reshape(-1), counts.reshape(-1))
    both, products, moments, values = _sums(features, pairs, rows, partners)
    mean, deviation = moments
    n = features.meta["n_tokens"]
    a, b = pairs.T
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = (products / n - mean[a] * mean[b]) / (deviation[a] * deviation[b])
    examples_of = [values[start:stop] for start, stop in pairwise([0, *ends.tolist()])]
    numbered = zip(both.tolist(), correlation, _cosines(features, pairs), strict=True)
    rows = []
    for (n_both, r, cosine), is_first, *sides in zip(numbered, a < b, examples_of[::2], examples_of[1::2], strict=True):
        fires_a, fires_b = (np.flatnonzero(values_at_places) for values_at_places in sides)
        is_of_a = len(fires_a) > len(fires_b) or (len(fires_a) == len(fires_b) and is_first)
        longer = sides[0][fires_a] if is_of_a else sides[1][fires_b]
        rows.append(
            [n_both, number(r), number(cosine), fires_a.tolist(), fires_b.tolist(), numbers(longer, FEW_DIGITS)]
        )
    return rows


def _sums(
    features: FeatureStore,
    pairs: Int[np.ndarray, "pair 2"],
    rows: Int[np.ndarray, " place"],
    latents: Int[np.ndarray, " place"],
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Return, for each pair, the number of rows on which both fire, and Σ z_a z_b; for each latent, the mean and
    standard deviation over all tokens; and the activation of each of `latents` in the row of `rows` with the same
    index."""
    both, products = np.zeros(len(pairs), np.int64), np.zeros(len(pairs))
    total, squares = np.zeros(features.d_sae), np.zeros(features.d_sae)
    values = np.zeros(len(rows))
    order = np.argsort(rows, kind="stable")
    for chunk in read_chunks(features.codes):
        columns = chunk.by_latent.astype(np.float64)
        block = order[slice(*np.searchsorted(rows[order], [chunk.start, chunk.stop]))]
        if len(block):
            values[block] = np.asarray(chunk.by_row[rows[block] - chunk.start, latents[block]]).reshape(-1)
        total += np.asarray(columns.sum(0)).reshape(-1)
        squares += np.asarray(columns.multiply(columns).sum(0)).reshape(-1)
        for block_of_pairs in slices(len(pairs), PAIRS_AT_ONCE):
            a, b = pairs[block_of_pairs].T
            common = columns[:, a].multiply(columns[:, b]).tocsc()
            both[block_of_pairs] += np.diff(common.indptr)
            products[block_of_pairs] += np.asarray(common.sum(0)).reshape(-1)
    n = features.meta["n_tokens"]
    mean = total / n
    return both, products, (mean, np.sqrt(np.maximum(squares / n - mean**2, 0))), values


def _cosines(features: FeatureStore, pairs: Int[np.ndarray, "pair 2"]) -> Float[np.ndarray, " pair"] | list[None]:
    if features.W_dec is None:
        return [None] * len(pairs)
    rows = unit_rows(np.asarray(features.W_dec, dtype=np.float32))
    blocks = (pairs[block].T for block in slices(len(pairs), PAIRS_AT_ONCE))
    return np.concatenate([(rows[a] * rows[b]).sum(1) for a, b in blocks])
