"""The codes of a token set: encoded shard by shard from activations, or taken from another producer. z > 0 only."""

import logging
from collections.abc import Callable

import scipy.sparse
import torch
from jaxtyping import Int
from torch import Tensor

from interp.activations import ActivationStore
from interp.activations.outliers import limit_on
from interp.codes import CodeStore, Dictionary, SparseCodes
from interp.features.contributions import Contributions

log = logging.getLogger(__name__)

_ENCODE_BYTES = 1 << 27
_RUN_ROWS = 1 << 20


def encode_store(
    sae: Dictionary,
    store: ActivationStore,
    hook: str,
    codes: CodeStore,
    contributions: Contributions,
    advance: Callable,
) -> None:
    """Encode shard after shard into runs; those that are there stay. Rows above the dictionary's limit have none."""
    batch = max(64, min(8192, _ENCODE_BYTES // (4 * sae.d_sae)))
    device, limit = sae.W_dec.device, limit_on(sae, store, hook)
    for i in range(store.n_shards):
        name = f"{i:05d}"
        if codes.has_run(name):
            advance(store.shard_rows[i], "encoding")
            continue
        shard = store.shard(i, hook).within(limit)
        advance(store.shard_rows[i] - len(shard.row_ids), "encoding")
        parts = []
        for ids, acts in zip(shard.row_ids.split(batch), shard.acts.split(batch), strict=True):
            x = acts.to(device, torch.float32)
            found = sae.codes(x)
            contributions.add(x, found)
            parts.append(_firing(found, ids))
            advance(len(ids), "encoding")
        contributions.keep(name)
        codes.write_run(name, shard.row_ids, SparseCodes.cat(parts))


def write_codes(codes: SparseCodes, store: CodeStore) -> None:
    """Store codes that are in token order already."""
    for start in range(0, len(codes), _RUN_ROWS):
        name = f"{start // _RUN_ROWS:05d}"
        if store.has_run(name):
            continue
        part = codes[start : start + _RUN_ROWS]
        row_ids = torch.arange(start, start + len(part))
        store.write_run(name, row_ids, _firing(part, row_ids))


def _firing(codes: SparseCodes, row_ids: Int[Tensor, " row"]) -> SparseCodes:
    """The entries z > 0, on the CPU; ValueError where z is not finite."""
    codes = SparseCodes(codes.offsets.cpu(), codes.latents.cpu(), codes.values.detach().float().cpu(), codes.d_sae)
    finite = codes.values.isfinite()
    if not finite.all():
        at = int((~finite).nonzero()[0])
        what = f"latent {int(codes.latents[at])} is {float(codes.values[at])} at row {int(row_ids[codes.rows[at]])}"
        raise ValueError(f"{what}: codes must be finite")
    keep = codes.values > 0
    if keep.all():
        return codes
    if (codes.values < 0).any():
        log.warning("negative activations do not count as firing: they are left out")
    counts = torch.bincount(codes.rows[keep], minlength=len(codes))
    return SparseCodes.from_counts(counts, codes.latents[keep], codes.values[keep], codes.d_sae)


def as_codes(codes: SparseCodes | scipy.sparse.csr_matrix, tokens: Tensor, W_dec: Tensor | None) -> SparseCodes:
    """Codes of one row a token, each latent once a row; ValueError if the shapes do not fit."""
    if not isinstance(codes, SparseCodes):
        codes = scipy.sparse.csr_matrix(codes, copy=True)
        codes.sum_duplicates()
        codes = SparseCodes.from_scipy(codes)
    if codes.d_sae < 1:
        raise ValueError(f"codes have d_sae={codes.d_sae} latents: at least one is needed")
    if W_dec is not None and len(W_dec) != codes.d_sae:
        raise ValueError(f"W_dec has {len(W_dec)} rows, but the codes have {codes.d_sae} latents")
    codes.check(tokens.numel())
    return codes
