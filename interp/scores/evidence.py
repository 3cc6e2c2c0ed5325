"""All evidence about every latent, beside the same evidence about made-up latents whose truth is known.

    1  Learn contexts from the tokens.
    2  One pass over the codes: pair sums of the firings on their text and on each shifted one, and a stratified sample.
    3  From the sample: consistency, senses, and bootstrap replicates over firings for the intervals.
    4  The same for chimeras, mixed from the samples and sums of latents with one mode.

A shift lays the codes on the text that stands some tokens further on, in a ring: a latent keeps its rate, its bursts,
its documents' clumps and its company, and loses its meaning. A chimera is an equal mixture of two or three latents that
fire about equally often: a made-up latent of several meanings.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int, Int64

from interp.scores import firings
from interp.scores.coherence import null_z, sample_coherence
from interp.scores.contexts import ContextConfig, Contexts, fit_contexts
from interp.scores.senses import MIN_SEQUENCES, count_senses

NAMES = ("coherence", "token_coherence", "consistency", "n_senses", "valley")
SLICES, FIRINGS_PER_SLICE = 5, 32
REPLICATES = 16
N_CHIMERAS = 1024
NULL_UNITS = 1024
"""Latents whose firings are sampled on each shifted text; enough for the null, since latents are pooled."""
UNITS_PER_BLOCK = 128

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Evidence:
    latents: Float64[np.ndarray, "d_sae evidence"]
    """Columns are NAMES. NaN for latents that are not testable (their two coherences are there all the same)."""
    replicates: Float64[np.ndarray, "replicate d_sae evidence"]
    """`latents` had other firings been sampled."""
    shifted: Float64[np.ndarray, "null d_sae evidence"]
    """NaN where not sampled."""
    one_mode: Bool[np.ndarray, " d_sae"]
    """Testable, above the null, and with one mode: what chimeras are made of."""
    chimeras: Float64[np.ndarray, "chimera evidence"]
    """None where fewer than three latents have one mode."""
    n_groups: Int64[np.ndarray, " d_sae"]
    """Groups of sequences that a latent fires in; its independent observations."""
    effective_groups: Float64[np.ndarray, " d_sae"]
    testable: Bool[np.ndarray, " d_sae"]
    """Fires in at least MIN_SEQUENCES groups."""

    def of(self, name: str) -> Float64[np.ndarray, " d_sae"]:
        return self.latents[:, NAMES.index(name)]

    def z(self, name: str) -> Float64[np.ndarray, " d_sae"]:
        """How far a latent's statistic stands above the shifted texts', in their standard deviations."""
        return _z(self.latents, self.shifted, self.effective_groups, name)


@dataclass(frozen=True, kw_only=True)
class EvidenceConfig:
    nulls: int = 2
    """Shifted texts."""
    seed: int = 0
    sequences_per_group: int | None = None
    """Neighbouring sequences often share a document, so they count as one observation. None: up to 8, while 512 groups
    are left."""
    contexts: ContextConfig = ContextConfig()

    def __post_init__(self) -> None:
        if self.nulls < 1:
            raise ValueError(f"nulls={self.nulls} must be at least 1: without a null no score has a scale")


class _Sample(NamedTuple):
    """Sampled firings, and the share of its unit's activation mass that each stands for."""

    rows: Int64[np.ndarray, "unit firing"]
    shares: Float64[np.ndarray, "unit firing"]


class _Text:
    """The text as embeddings of its rows; rows beyond the end go on at the beginning."""

    def __init__(self, tokens: Int[np.ndarray, "seq pos"], contexts: Contexts, sequences_per_group: int):
        self.tokens, self.contexts = tokens, contexts
        self.rows_per_group = sequences_per_group * tokens.shape[1]

    def context(self, rows: Int64[np.ndarray, " row"]) -> Float32[np.ndarray, "row dim"]:
        return self.contexts.embed(self.tokens, rows % self.tokens.size)

    def token(self, rows: Int64[np.ndarray, " row"]) -> Float32[np.ndarray, "row dim"]:
        return self.contexts.token_vectors[self.tokens.reshape(-1)[rows % self.tokens.size]]


def collect_evidence(
    tokens: Int[torch.Tensor, "seq pos"],
    codes: firings.CodeSource,
    *,
    n_vocab: int,
    maxima: Float32[np.ndarray, " d_sae"],
    config: EvidenceConfig | None = None,
    progress: Progress | None = None,
) -> Evidence:
    """Evidence from `codes` of the rows seq * n_ctx + pos of `tokens` (ids below `n_vocab`).

    maxima: the largest value of each latent, 0 where it never fires.
    """
    config = config or EvidenceConfig()
    rng = np.random.default_rng(config.seed)
    per_group = config.sequences_per_group or max(1, min(8, len(tokens) // 512))
    array = np.ascontiguousarray(tokens.numpy())
    text = _Text(array, fit_contexts(tokens, n_vocab, config.contexts), per_group)
    margin = min(text.rows_per_group, array.size // 4)
    shifts = [0, *rng.integers(margin, max(array.size - margin, margin + 1), config.nulls).tolist()]
    summers = [firings.PairSummer(codes.d_sae, 2 * text.contexts.dim) for _ in shifts]
    sampler = firings.FiringSampler(codes.d_sae, SLICES, FIRINGS_PER_SLICE, config.seed)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for chunk in firings.chunks(codes, maxima, text.rows_per_group, progress, "reading firings"):
            _add(pool, chunk, text, shifts, summers, sampler)
    sums = [summer.result() for summer in summers]
    sample = _Sample(sampler.rows.reshape(codes.d_sae, -1), sampler.shares.reshape(codes.d_sae, -1))
    testable = sums[0].n_groups >= MIN_SEQUENCES
    measured = [_measure(text, sample, 0, testable, rng, REPLICATES, progress)]
    for shift in shifts[1:]:
        some = rng.permutation(np.flatnonzero(testable))[:NULL_UNITS]
        measured.append(_measure(text, sample, shift, np.isin(np.arange(codes.d_sae), some), rng, 0, progress))
    for values, part in zip(measured, sums, strict=True):
        own = np.stack([part.coherence(0), part.coherence(1)], 1)
        values[1:, :, :2] += own - values[0, :, :2]
        values[0, :, :2] = own
    latents, shifted = measured[0][0], np.stack([values[0] for values in measured[1:]])
    size, n_groups = sums[0].effective_groups, sums[0].n_groups
    one_mode = testable & (latents[:, 3] == 1)
    one_mode &= np.maximum(*(_z(latents, shifted, size, name) for name in NAMES[:2])) > 3
    chimeras = _chimeras(text, sample, sums[0], np.flatnonzero(one_mode), rng, progress)
    return Evidence(latents, measured[0][1:], shifted, one_mode, chimeras, n_groups, size, testable)


def _add(
    pool: ThreadPoolExecutor,
    chunk: firings.CodeChunk,
    text: _Text,
    shifts: list[int],
    summers: list[firings.PairSummer],
    sampler: firings.FiringSampler,
) -> None:
    rows = np.arange(chunk.start, chunk.start + len(chunk.offsets) - 1)

    def add(shift: int, summer: firings.PairSummer) -> None:
        summer.add(chunk, np.hstack([text.context(rows + shift), text.token(rows + shift)]), text.rows_per_group)

    tasks = [pool.submit(sampler.add, chunk, text.rows_per_group)]
    tasks += [pool.submit(add, shift, summer) for shift, summer in zip(shifts, summers, strict=True)]
    for task in tasks:
        task.result()


def _measure(
    text: _Text,
    sample: "_Sample",
    shift: int,
    testable: Bool[np.ndarray, " unit"],
    rng: np.random.Generator,
    replicates: int,
    progress: Progress | None,
) -> Float64[np.ndarray, "1+replicate unit evidence"]:
    """Evidence from sampled firings, and bootstrap replicates of it; NaN for units that are not testable."""
    rows = sample.rows
    values = np.full((1 + replicates, len(rows), len(NAMES)), np.nan)
    slices = torch.arange(SLICES).repeat_interleave(FIRINGS_PER_SLICE)
    draws = rng.poisson(1.0, (len(slices), replicates))
    weights = torch.from_numpy(np.hstack([np.ones((len(slices), 1)), draws]).astype(np.float32))
    todo = np.flatnonzero(testable)
    for start in range(0, len(todo), UNITS_PER_BLOCK):
        units = todo[start : start + UNITS_PER_BLOCK]
        present, groups = rows[units] >= 0, rows[units] // text.rows_per_group
        places = (rows[units] + shift).reshape(-1)
        contexts, tokens = (
            (embed(places) * present.reshape(-1, 1)).reshape(*present.shape, -1) for embed in (text.context, text.token)
        )
        moments = sample_coherence(
            torch.from_numpy(contexts),
            torch.from_numpy(tokens),
            slices,
            torch.from_numpy(groups),
            torch.from_numpy(present),
            weights,
        )
        senses = count_senses(contexts, tokens, groups % 2 == 1, present, sample.shares[units])
        values[:, units, :3] = np.stack([moments.context, moments.token, moments.consistency], 2)
        values[:, units, 3], values[:, units, 4] = senses.count, senses.valley
        # A valley is a difference of counts over its standard deviation: its sampling error is one by construction.
        values[1:, units, 4] += rng.normal(size=(replicates, len(units)))
        if progress:
            progress(start + len(units), len(todo), "comparing contexts")
    return values


def _z(
    latents: Float64[np.ndarray, "d_sae evidence"],
    shifted: Float64[np.ndarray, "null d_sae evidence"],
    size: Float64[np.ndarray, " d_sae"],
    name: str,
) -> Float64[np.ndarray, " d_sae"]:
    column = NAMES.index(name)
    # Sampled statistics have one size for all; those over all pairs of firings get sharper with their number.
    exponent = 1.0 if name in ("coherence", "token_coherence") else 0.0
    least = 0.5 if name == "n_senses" else 1e-6
    return null_z(latents[:, column], shifted[:, :, column], size, size_exponent=exponent, least_std=least)


def _chimeras(
    text: _Text,
    sample: "_Sample",
    sums: firings.PairSums,
    members: Int64[np.ndarray, " member"],
    rng: np.random.Generator,
    progress: Progress | None,
) -> Float64[np.ndarray, "chimera evidence"]:
    """Evidence of N_CHIMERAS mixtures of two or three of `members`."""
    if len(members) < 3:
        return np.empty((0, len(NAMES)))
    mixes = _draw_mixes(members, sums.n_groups, rng)
    part = np.arange(sample.rows.shape[1])[None, :] % (1 + (mixes >= 0)[:, 1:].sum(1))[:, None]
    rows, shares = (np.take_along_axis(a[mixes], part[:, None, :], axis=1)[:, 0] for a in sample)
    mixed = _Sample(rows, shares / np.maximum(shares.sum(1, keepdims=True), 1e-30))
    measured = _measure(text, mixed, 0, np.ones(len(mixes), bool), rng, 0, progress)[0]
    half = sums.centre.shape[1] // 2
    for block, centre in enumerate((sums.centre[:, :half], sums.centre[:, half:])):
        pairs = np.einsum("cid,cjd->cij", centre[mixes], centre[mixes])
        own = np.arange(mixes.shape[1])
        pairs[:, own, own] = np.nan_to_num(sums.coherence(block))[mixes]
        used = (mixes >= 0).astype(float)
        measured[:, block] = np.einsum("cij,ci,cj->c", pairs, used, used) / used.sum(1) ** 2
    return measured


def _draw_mixes(
    members: Int64[np.ndarray, " member"], n_groups: Int64[np.ndarray, " d_sae"], rng: np.random.Generator
) -> Int64[np.ndarray, "chimera 3"]:
    """Neighbours in the order of firing counts, jittered; the third place is −1 in half of them."""
    mixes = np.empty((0, 3), np.int64)
    while len(mixes) < N_CHIMERAS:
        jitter = rng.normal(0, 0.25, len(members))
        order = members[np.argsort(np.log(n_groups[members]) + jitter)]
        mixes = np.concatenate([mixes, order[: len(order) // 3 * 3].reshape(-1, 3)])
    mixes = mixes[:N_CHIMERAS]
    mixes[rng.random(len(mixes)) < 0.5, 2] = -1
    return mixes
