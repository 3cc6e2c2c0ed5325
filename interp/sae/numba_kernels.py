"""The operations of `kernels` as loops on a CPU: same names, arguments and results.

The pick has two stages: maxima of groups of latents give a lower bound of the k-th largest pre-activation that at
least k latents reach; the few that do are then ranked exactly. Rows (or latents) are shared out among
`torch.get_num_threads()` threads of our own, whose loops hold no lock: numba's own thread pools would compete with
torch's, or break when forked.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.codes import SparseCodes
from interp.sae import loops
from interp.sae.kernels import AdamStep, ByLatent, Decoded

_SPANS_PER_THREAD = 4


def top_k(pre: Float[Tensor, "row d_sae"], k: int) -> SparseCodes:
    rows, width = pre.shape
    latents, values = np.empty((rows, k), np.int32), np.empty((rows, k), pre.numpy().dtype)
    counts = np.empty(rows, np.int64)
    _share(rows, loops.top_k, pre.numpy(), k, _groups(width, k), latents, values, counts)
    if counts.min(initial=k) == k:
        return SparseCodes.from_topk(torch.from_numpy(latents), torch.from_numpy(values), width)
    kept = np.arange(k) < counts[:, None]
    return _codes(_offsets(counts), latents[kept], values[kept], width)


def batch_top_k(pre: Float[Tensor, "row d_sae"], n: int) -> SparseCodes:
    rows, width = pre.shape
    array = pre.numpy()
    maxima = np.empty((rows, _groups(width, -(-n // max(rows, 1)))), array.dtype)
    _share(rows, loops.all_group_maxima, array, maxima)
    bound = _bound(maxima, n)
    counts = np.empty(rows, np.int64)
    _share(rows, loops.count_survivors, array, maxima, bound, counts)
    offsets = _offsets(counts)
    latents, values = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], array.dtype)
    _share(rows, loops.fill_survivors, array, maxima, bound, offsets, latents, values)
    if offsets[-1] <= n:
        return _codes(offsets, latents, values, width)
    least = np.partition(values, len(values) - n)[len(values) - n]
    kept = np.empty_like(offsets)
    loops.keep_largest(offsets, latents, values, least, n - int((values > least).sum()), kept)
    return _codes(kept, latents[:n], values[:n], width)


def above(pre: Float[Tensor, "row d_sae"], threshold: Float[Tensor, " d_sae"]) -> SparseCodes:
    rows, width = pre.shape
    counts = np.empty(rows, np.int64)
    _share(rows, loops.count_above, pre.numpy(), threshold.numpy(), counts)
    offsets = _offsets(counts)
    latents, values = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], pre.numpy().dtype)
    _share(rows, loops.fill_above, pre.numpy(), threshold.numpy(), offsets, latents, values)
    return _codes(offsets, latents, values, width)


def rescore(
    codes: SparseCodes,
    x: Float[Tensor, "row d_in"],
    encoder: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, " d_sae"],
) -> SparseCodes:
    dots = torch.empty(codes.nnz, dtype=x.dtype)
    _share(len(codes), loops.row_dots, *_arrays(codes.offsets, codes.latents, x, encoder, dots))
    return SparseCodes(codes.offsets, codes.latents, (dots + b_enc[codes.latents]).clamp_(min=0), codes.d_sae)


def decode(
    codes: SparseCodes, W_dec: Float[Tensor, "d_sae d_in"], b_dec: Float[Tensor, " d_in"]
) -> Float[Tensor, "row d_in"]:
    out = torch.empty(len(codes), W_dec.shape[1], dtype=W_dec.dtype)
    arrays = _arrays(codes.offsets, codes.latents, codes.values, W_dec, b_dec, out)
    _share(len(codes), loops.decode, *arrays)
    return out


def decode_backward(
    codes: SparseCodes,
    W_dec: Float[Tensor, "d_sae d_in"],
    b_dec: Float[Tensor, " d_in"],
    x: Float[Tensor, "row d_in"],
) -> Decoded:
    error, gradient = torch.empty_like(x), torch.empty_like(codes.values)
    arrays = _arrays(codes.offsets, codes.latents, codes.values, W_dec, b_dec, x, error, gradient)
    _share(len(codes), loops.decode_backward, *arrays)
    return Decoded(error, gradient)


def transpose(codes: SparseCodes) -> ByLatent:
    offsets = np.zeros(codes.d_sae + 1, np.int64)
    rows, entries = np.empty(codes.nnz, np.int64), np.empty(codes.nnz, np.int64)
    loops.count_latents(codes.latents.numpy(), offsets)
    loops.transpose(codes.offsets.numpy(), codes.latents.numpy(), offsets, rows, entries)
    return ByLatent(torch.from_numpy(offsets), torch.from_numpy(rows), torch.from_numpy(entries))


def sum_by_latent(
    by_latent: ByLatent,
    weights: Float[Tensor, " nnz"],
    dense: Float[Tensor, "row d_in"],
    out: Float[Tensor, "d_sae d_in"] | None = None,
) -> Float[Tensor, "d_sae d_in"]:
    latents = len(by_latent.offsets) - 1
    out = torch.empty(latents, dense.shape[1], dtype=dense.dtype) if out is None else out
    arrays = _arrays(by_latent.offsets, by_latent.rows, weights[by_latent.entries], dense, out)
    _share(latents, loops.sum_by_latent, *arrays)
    return out


def adam_(
    weight: Float[Tensor, "row d"],
    gradient: Float[Tensor, "row d"],
    mean: Float[Tensor, "row d"],
    square: Float[Tensor, "row d"],
    adam: AdamStep,
    unit_norm: bool = False,
) -> None:
    rate = adam.lr / (1 - adam.beta1**adam.step)
    numbers = (rate, (1 - adam.beta2**adam.step) ** -0.5, adam.beta1, adam.beta2, adam.eps)
    arrays = _arrays(weight, gradient, mean, square, torch.tensor(numbers, dtype=weight.dtype))
    _share(len(weight), loops.adam, *arrays, unit_norm)


def _share(n: int, loop: Callable[..., None], *arguments: Any) -> None:
    """Run loop(*arguments, start, stop) over 0..n, in spans shared out among the threads."""
    threads = torch.get_num_threads()
    if threads == 1 or n < threads * _SPANS_PER_THREAD:
        return loop(*arguments, 0, n)
    cuts = np.linspace(0, n, threads * _SPANS_PER_THREAD + 1).astype(int).tolist()
    pool = _pool(threads, os.getpid())
    for done in [pool.submit(loop, *arguments, a, b) for a, b in zip(cuts[:-1], cuts[1:], strict=True)]:
        done.result()


@lru_cache(maxsize=1)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """One pool a process: the threads of a parent do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"interp-{process}")


def _bound(maxima: np.ndarray, n: int) -> np.floating:
    """A bound that at least n of the maxima reach (0 if fewer are positive), by a histogram of their leading bits.

    Positive floats are ordered as their bits are; 16 leading bits of a float32 tell them apart to 1 in 128.
    """
    positive = maxima[maxima > 0].astype(np.float32)
    counts = np.bincount(positive.view(np.uint32) >> 16, minlength=1 << 15)
    reached = counts[::-1].cumsum()[::-1] >= n
    leading = np.uint32(np.flatnonzero(reached)[-1]) if reached.any() else np.uint32(0)
    return maxima.dtype.type(np.array(leading << np.uint32(16), np.uint32).view(np.float32))


def _groups(width: int, k: int) -> int:
    """Groups of 16, or more and smaller ones where k is large: four a pick keeps the lower bound close."""
    return min(width, max(4 * k, -(-width // 16)))


def _offsets(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), counts.cumsum()])


def _codes(offsets: np.ndarray, latents: np.ndarray, values: np.ndarray, d_sae: int) -> SparseCodes:
    return SparseCodes(torch.from_numpy(offsets), torch.from_numpy(latents), torch.from_numpy(values), d_sae)


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().contiguous().numpy() for tensor in tensors]
