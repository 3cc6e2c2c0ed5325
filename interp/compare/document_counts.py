"""Count the documents of two corpora, A and B, in which each latent is strong.

In: scans of documents, and which documents are A's. Out: `DocumentCounts`. With m_ij the largest activation of latent j
in document i, a latent is strong in the documents in which m_ij is above t_j, the median of m_ij over the documents of
both corpora.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float64, Int64

from interp.features.by_document import Documents, pool_codes
from interp.features.feature_store import FeatureStore
from interp.features.scan_input import latent_blocks
from interp.runtime.progress import Progress

COUNTS_AT_ONCE = 1 << 24
"""Largest number of pairs of a document and a latent in memory. Each takes some 40 bytes."""
N_SNIPPETS = 3


class ScannedDocuments(NamedTuple):
    """The documents of one scan. They are those of one corpus, or of both if the scan covers both."""

    features: FeatureStore
    documents: Documents


class DocumentCounts(NamedTuple):
    """The counts of each latent in the documents of A and of B."""

    above: Int64[np.ndarray, "d_sae side"]
    """Number of documents of A, and of B, above the threshold."""
    means: Float64[np.ndarray, "d_sae side"]
    thresholds: Float64[np.ndarray, " d_sae"]
    strongest: Int64[np.ndarray, "d_sae side snippet"]
    """Rows of its strongest firings, each in another document. Rows of a second scan are numbered after those of the
    first. −1 fills the rest."""
    shuffled: Int64[np.ndarray, "d_sae shuffle"]
    """Number of documents above the threshold among those that a shuffle assigns to A."""


def count_documents(
    scans: Sequence[ScannedDocuments],
    in_a: Bool[np.ndarray, " document"],
    shuffled_in_a: Bool[np.ndarray, "document shuffle"],
    progress: Progress,
) -> DocumentCounts:
    """Count the documents of each side in which a latent is above its threshold, a block of latents at a time."""
    d_sae = scans[0].features.d_sae
    fired = sum(np.minimum(scan.features.column("n_active"), len(scan.documents.ids)) for scan in scans)
    above = np.zeros((d_sae, 2), np.int64)
    means = np.zeros((d_sae, 2))
    thresholds = np.zeros(d_sae)
    strongest = np.full((d_sae, 2, N_SNIPPETS), -1, np.int64)
    shuffled = np.zeros((d_sae, shuffled_in_a.shape[1]), np.int64)
    for low, high in latent_blocks(fired, d_sae, COUNTS_AT_ONCE):
        maxima, rows = _maxima(scans, low, high, progress)
        thresholds[low:high] = _medians(maxima)
        for side, members in enumerate((in_a, ~in_a)):
            means[low:high, side] = maxima.T @ (members / members.sum())
            strongest[low:high, side] = _strongest_rows(maxima, rows, members)
        is_above = maxima.copy()
        is_above.data = (maxima.data > np.repeat(thresholds[low:high], np.diff(maxima.indptr))).astype(np.float32)
        above[low:high] = is_above.T @ np.stack([in_a, ~in_a], 1).astype(np.float32)
        shuffled[low:high] = is_above.T @ shuffled_in_a.astype(np.float32)
    return DocumentCounts(above, means, thresholds, strongest, shuffled)


def _maxima(
    scans: Sequence[ScannedDocuments], low: int, high: int, progress: Progress
) -> tuple[scipy.sparse.csc_matrix, Int64[np.ndarray, " nnz"]]:
    """Return the largest activation of each latent in each document, sorted by latent, and its row. Rows of a second
    scan are numbered after those of the first."""
    matrices = []
    rows = []
    offset = 0
    for features, documents in scans:
        maxima_of_scan = pool_codes(
            features.codes, documents, "max", features.n_ctx, first=low, last=high, progress=progress
        )
        matrices.append(maxima_of_scan.matrix)
        rows.append(maxima_of_scan.rows + offset)
        offset += features.tokens.numel()
    stacked = scipy.sparse.vstack(matrices, format="csr")
    entry_numbers = scipy.sparse.csr_matrix(
        (np.arange(1, stacked.nnz + 1), stacked.indices, stacked.indptr), stacked.shape
    )
    entry_columns = entry_numbers.tocsc()
    entry_order = entry_columns.data - 1
    maxima = scipy.sparse.csc_matrix(
        (stacked.data[entry_order], entry_columns.indices, entry_columns.indptr), stacked.shape
    )
    return maxima, np.concatenate(rows)[entry_order]


def _medians(maxima: scipy.sparse.csc_matrix) -> Float64[np.ndarray, " latent"]:
    """Return the lower median of each column, including its zeros. It is 0 if at least half are zeros."""
    n = maxima.shape[0]
    medians = np.zeros(maxima.shape[1])
    n_zero = n - np.diff(maxima.indptr)
    for latent in np.flatnonzero(n_zero <= (n - 1) // 2):
        values = maxima.data[maxima.indptr[latent] : maxima.indptr[latent + 1]]
        middle = (n - 1) // 2 - n_zero[latent]
        medians[latent] = np.partition(values, middle)[middle]
    return medians


def _strongest_rows(
    maxima: scipy.sparse.csc_matrix, rows: Int64[np.ndarray, " nnz"], members: Bool[np.ndarray, " document"]
) -> Int64[np.ndarray, "latent snippet"]:
    """Return, for each latent, the rows of its largest maxima in a corpus; of equal ones, the earlier document. −1
    fills the rest."""
    out = np.full((maxima.shape[1], N_SNIPPETS), -1, np.int64)
    latents = np.repeat(np.arange(maxima.shape[1]), np.diff(maxima.indptr))
    inside = members[maxima.indices]
    latents, rows = latents[inside], rows[inside]
    order = np.lexsort((rows, -maxima.data[inside], latents))
    latents, rows = latents[order], rows[order]
    rank = np.arange(len(latents)) - np.searchsorted(latents, latents)
    is_first = rank < N_SNIPPETS
    out[latents[is_first], rank[is_first]] = rows[is_first]
    return out
