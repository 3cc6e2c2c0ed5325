"""Pool firings over documents: matrices with one row per document, for statistics of texts and for probes.

In: codes of rows in token order, and the document that each position is in. Out, for document i and latent j,

    how="max"    the largest z_j of the rows in i            how="mean"    their mean, with 0 for rows on which it is
                                                                           silent

and, from the same rows, the counts of tokens, the activations pooled in the same way, and the share of rows that carry
a label. So you can compare a probe on latents with the two baselines that it should beat: the token counts, and the
model's own activations.

`documents` has the id of the document at each position; an id below 0 means that the position is in no document
(`LabelledTokens.document_ids` of `models.tokenize`). Without ids, each sequence counts as one document, even if it
contains only a piece of a text, or parts of two texts. If only the token that opens a document is known, `(tokens ==
bos).flatten().cumsum(0).view_as(tokens)` numbers them. `torch.arange(n).view_as(tokens)` makes each token a document,
so that the matrix has a row per token. Rows left out at harvest are in no document.

Memory: the result, and a chunk of the codes. Cost: a sort of the firings of each chunk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast, get_args

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from jaxtyping import Bool, Float32, Int, Int32, Int64, Shaped
from torch import Tensor

from interp.activations import StoredRows
from interp.checks.errors import InterpError
from interp.codes.code_chunks import read_chunks
from interp.codes.code_store import CodeStore
from interp.codes.offsets import offsets_from_lengths
from interp.features.label_masks import as_mask
from interp.runtime.progress import Progress, no_progress
from interp.runtime.threads import slices
from interp.statistics.estimates import ratio

Pooling = Literal["max", "mean"]
_ROWS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class DocumentMatrix:
    """Matrices whose row i is the document `documents[i]`."""

    documents: Int64[np.ndarray, " document"]
    """The ids of the documents, ascending. Without ids, the numbers of the sequences."""
    latents: scipy.sparse.csr_matrix
    """Float32 [document, d_sae]."""
    tokens: scipy.sparse.csr_matrix | None
    """Int32 [document, d_vocab]: the counts of each token in the document. None if the rows are not text."""
    activations: Float32[np.ndarray, "document d_in"] | None
    """The activations that the dictionary reads, pooled in the same way as the latents. None without a store."""
    labels: pd.DataFrame
    """The share of the document's tokens that carry each label. NaN for a document without a token."""
    lengths: Int64[np.ndarray, " document"]
    """Tokens of each document that were encoded."""

    def __repr__(self) -> str:
        n, d_sae = self.latents.shape
        return f"DocumentMatrix({n:,} documents, {d_sae:,} latents, {self.latents.nnz / max(n, 1):,.0f} fire in each)"


@dataclass(frozen=True)
class Documents:
    """The documents of a scan's rows."""

    ids: Int64[np.ndarray, " document"]
    document_of_row: Int32[np.ndarray, " row"]
    """The index in `ids` of each row's document. −1 for a row that is in no document, or was not encoded."""
    lengths: Int64[np.ndarray, " document"]
    """Rows of each document."""

    @classmethod
    def of(cls, codes: CodeStore, shape: Sequence[int], ids: Int[Tensor, "seq pos"] | None = None) -> "Documents":
        """Return the documents of a scan, given the id at each position. Without ids, each sequence is a document.
        Raises ValueError if the ids do not have the shape of the scanned tokens [seq, pos], or if there is no
        document."""
        if ids is None:
            ids = torch.arange(shape[0])[:, None].expand(shape)
        ids = torch.as_tensor(ids)
        if tuple(ids.shape) != tuple(shape) or ids.is_floating_point() or ids.dtype == torch.bool:
            raise InterpError(
                f"documents of shape {tuple(ids.shape)} and {ids.dtype} "
                f"must be integers {tuple(shape)}, one id for each token scanned"
            )
        distinct_ids, document_of_row = np.unique(ids.numpy(force=True).reshape(-1), return_inverse=True)
        n_below_0 = int(np.searchsorted(distinct_ids, 0))  # ids below 0 are not documents
        if n_below_0 == len(distinct_ids):
            raise InterpError("documents has no id from 0 on: no position is in a document")
        document_of_row = np.maximum(document_of_row.astype(np.int32).reshape(-1) - np.int32(n_below_0), np.int32(-1))
        for block in slices(len(document_of_row), _ROWS_AT_ONCE):
            document_of_row[block][~codes.present(block.start, block.stop).numpy()] = -1
        ids_kept = distinct_ids[n_below_0:].astype(np.int64)
        return cls(
            ids_kept, document_of_row, np.bincount(document_of_row[document_of_row >= 0], minlength=len(ids_kept))
        )

    def beginnings(self, n_tokens: int | None) -> "Documents":
        """Keep the first `n_tokens` rows of each document, and drop documents with fewer rows. With None, keep all rows
        of documents that have any."""
        is_long = self.lengths >= (n_tokens or 1)
        number = np.where(is_long, is_long.cumsum() - 1, -1).astype(np.int32)
        document_of_row = np.full(len(self.document_of_row), -1, np.int32)
        rows = np.flatnonzero(self.document_of_row >= 0)
        if n_tokens is not None:
            rows = rows[self.document_of_row[rows].argsort(kind="stable")]
            ordinal = np.arange(len(rows)) - np.repeat(self.lengths.cumsum() - self.lengths, self.lengths)
            rows = rows[ordinal < n_tokens]
        document_of_row[rows] = number[self.document_of_row[rows]]
        lengths = np.minimum(self.lengths, n_tokens or self.lengths)
        return Documents(self.ids[is_long], document_of_row, lengths[is_long])

    def share(self, mask: Bool[np.ndarray, " row"]) -> np.ndarray:
        """Return the share of each document's rows that a mask marks. It is NaN for a document without rows."""
        marked = self.document_of_row[(self.document_of_row >= 0) & mask]
        return ratio(np.bincount(marked, minlength=len(self.ids)), self.lengths)


class Pooled(NamedTuple):
    """The activations of the latents first .. last, pooled over every document."""

    matrix: scipy.sparse.csr_matrix
    """[document, last − first]."""
    rows: Int64[np.ndarray, " nnz"]
    """For how="max", the row of each entry's activation. Of equal activations it is the first row."""


def document_matrix(
    codes: CodeStore,
    tokens: Int[Tensor, "seq pos"],
    documents: Documents,
    *,
    n_vocab: int | None,
    how: Pooling,
    labels: Mapping[str, Bool[Tensor, "seq pos"]],
    store: StoredRows | None,
    hook: str,
    progress: Progress = no_progress,
) -> DocumentMatrix:
    """Make the matrices of `FeatureStore.matrix`.
    n_vocab: None if the tokens are not text."""
    shares = {name: documents.share(as_mask(labels[name], f"label {name!r}").reshape(-1)) for name in labels}
    return DocumentMatrix(
        documents.ids,
        pool_codes(codes, documents, how, tokens.shape[1], progress=progress).matrix,
        None if n_vocab is None else _token_counts(tokens.numpy().reshape(-1), n_vocab, documents),
        None if store is None else _activations(store, hook, documents, how),
        pd.DataFrame(shares, index=documents.ids),
        documents.lengths,
    )


def pool_codes(
    codes: CodeStore,
    documents: Documents,
    how: Pooling,
    n_ctx: int,
    *,
    first: int = 0,
    last: int | None = None,
    progress: Progress = no_progress,
) -> Pooled:
    """Pool the codes in one pass over them. Raises ValueError for an unknown `how`."""
    if how not in get_args(Pooling):
        raise InterpError(f"how={how!r} must be one of {', '.join(get_args(Pooling))}")
    last = codes.d_sae if last is None else last
    width = last - first
    n = len(documents.ids)
    parts = [_Entries.empty()]
    for chunk in read_chunks(codes, n_ctx, progress=progress, note="documents"):
        rows = chunk.rows
        document_of_entry = documents.document_of_row[rows]
        is_pooled = (document_of_entry >= 0) & (chunk.latents >= first) & (chunk.latents < last)
        keys = document_of_entry[is_pooled].astype(np.int64) * width + (chunk.latents[is_pooled] - first)
        parts.append(_Entries(keys, chunk.activations[is_pooled].astype(np.float64), rows[is_pooled]).reduce(how))
    entries = _Entries(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True))).reduce(how)
    document_of_value, latents = np.divmod(entries.keys, max(width, 1))
    values = entries.values if how == "max" else entries.values / documents.lengths[document_of_value]
    offsets = offsets_from_lengths(np.bincount(document_of_value, minlength=n))
    arrays = (values.astype(np.float32), latents, offsets)
    return Pooled(scipy.sparse.csr_matrix(arrays, shape=(n, width)), entries.rows)


class _Entries(NamedTuple):
    """Codes of documents that are not yet pooled to one entry per document and latent."""

    keys: Int64[np.ndarray, " entry"]
    """Each entry's document · (number of latents) + latent."""
    values: np.ndarray
    rows: Int64[np.ndarray, " entry"]

    @classmethod
    def empty(cls) -> "_Entries":
        return cls(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))

    def reduce(self, how: Pooling) -> "_Entries":
        """Return one entry per key, in the order of the keys: the largest value with the first row that has it, or the
        sum."""
        if not len(self.keys):
            return self
        order = self.keys.argsort(kind="stable")  # within a key rows stay in order, so sums do not depend on chunks
        keys, values, rows = self.keys[order], self.values[order], self.rows[order]
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        if how == "mean":
            return _Entries(keys[starts], np.add.reduceat(values, starts), rows[starts])
        largest = np.maximum.reduceat(values, starts)
        is_largest = values == np.repeat(largest, np.diff(starts, append=len(keys)))
        first_rows = np.minimum.reduceat(np.where(is_largest, rows, np.iinfo(np.int64).max), starts)
        return _Entries(keys[starts], largest, first_rows)


def _token_counts(tokens: Int32[np.ndarray, " row"], n_vocab: int, documents: Documents) -> scipy.sparse.csr_matrix:
    counts = scipy.sparse.csr_matrix((len(documents.ids), n_vocab), dtype=np.int32)
    for block in slices(len(tokens), _ROWS_AT_ONCE):
        document_of = documents.document_of_row[block]
        ids = tokens[block]
        entries = document_of[document_of >= 0], ids[document_of >= 0]
        ones = np.ones(len(entries[0]), np.int32)
        counts = counts + scipy.sparse.coo_matrix((ones, entries), shape=counts.shape).tocsr()
    return counts


def _activations(
    store: StoredRows, hook: str, documents: Documents, how: Pooling
) -> Float32[np.ndarray, "document d_in"]:
    """Pool each document's activations over its rows that were encoded, read shard after shard."""
    shape = (len(documents.ids), store.d(hook))
    document_of_row = torch.from_numpy(documents.document_of_row)
    # float32 would lose what is added to the sum of a document of millions of rows
    total = torch.zeros(shape, dtype=torch.float64) if how == "mean" else torch.full(shape, -torch.inf)
    for i in range(store.n_shards):
        shard = store.shard(i, hook)
        document_of = document_of_row[shard.row_ids].long()
        has_document = document_of >= 0
        acts = shard.acts[has_document].to(total)
        if how == "mean":
            total.index_add_(0, document_of[has_document], acts)
        else:
            total.scatter_reduce_(0, document_of[has_document, None].expand_as(acts), acts, "amax")
    lengths = torch.from_numpy(documents.lengths)[:, None]
    total = total / lengths.clamp(min=1) if how == "mean" else total
    return cast(Shaped[np.ndarray, "document d_in"], torch.where(lengths > 0, total, 0.0).float().numpy())
