"""All evidence about every latent, beside the same evidence on shifted text.

In: tokens and the codes of their rows. Out: `Evidence`: an array a statistic, the sampled firings and their senses.

    1  Learn from the tokens the views in which two firings may be similar (`contexts`, `views`).
    2  One pass over the codes: pair sums of the firings on their text and on each shifted one, and a sample of firings,
       stratified by strength, at most one from a group and slice (`firings`). A window of the text that stands in
       several sequences counts in the first (`features.examples`). Whoever else counts firings listens.
    3  From the sample: cohesion with its replicates, and senses; both again on shifted text (`senses`).

`context_coherence` and `token_coherence` are the activation-weighted mean cosine of the contexts, and of the tokens'
vectors, of two firings in different groups (`firings.PairSums`; MonoScore, arXiv 2504.02821, centred embeddings).
Failing: one broad meaning (any verb) has incoherent contexts; a union of two narrow ones keeps half of its coherence.
`cohesion` has the other statistics.
"""

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int, Int64
from numpy.random import Generator as Random

from interp.codes.reading import CodeChunk, CodeSource, read_chunks
from interp.codes.sampling import FiringSampler
from interp.features.examples import first_windows
from interp.metrics.null_scale import MIN_BLOCK, MIN_GROUPS, NullScale, circular_shifts, null_scale, rows_per_group
from interp.monosemanticity import cohesion
from interp.monosemanticity.contexts import fit_contexts
from interp.monosemanticity.firings import Listener, PairSummer
from interp.monosemanticity.senses import FIRINGS_PER_SLICE, SLICES, HasOne, Measured, SampledFirings, measure_latents
from interp.monosemanticity.views import Views, fit_views
from interp.storage.files import Progress, no_progress

COHERENCES = ("context_coherence", "token_coherence")
NAMES = (*COHERENCES, *cohesion.NAMES)
REPLICATES = 16
NULL_LATENTS, NULL_SENSES = 512, 128
"""Latents whose firings are sampled on each shifted text, and of those, about how many are looked at for senses; enough
for the null, since latents are pooled."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evidence(Measured):
    coherences: Float64[np.ndarray, "text d_sae 2"]
    """COHERENCES on the text itself, then on each shifted one; NaN where all firings are in one group."""
    nulls: Sequence[Measured]
    """The same of some latents on each shifted text."""
    rows: Int64[np.ndarray, "d_sae firing"]
    """Sampled firings, seq * n_ctx + pos; −1 where there are fewer."""
    shares: Float64[np.ndarray, "d_sae firing"]
    """The share of its latent's activation mass that each stands for."""
    effective_groups: Float64[np.ndarray, " d_sae"]
    testable: Bool[np.ndarray, " d_sae"]
    """Fires in at least MIN_GROUPS groups."""

    def of(self, name: str) -> Float64[np.ndarray, " d_sae"]:
        return self._on_each_text(name)[0]

    def null(self, name: str) -> NullScale:
        """How far a latent's statistic stands above the shifted texts', and the band of the latter."""
        values = self._on_each_text(name)
        # Sampled statistics have one size for all; those over all pairs of firings get sharper with their number.
        exponent, spread = (1.0, 1e-6) if name in COHERENCES else (0.0, 0.02)
        return null_scale(values[0], values[1:], self.effective_groups, size_exponent=exponent, min_std=spread)

    @property
    def senses_null(self) -> NullScale:
        """The same of the number of senses: firings without a common meaning fall into parts too."""
        counts = np.stack([np.where(each.n_senses, each.n_senses, np.nan) for each in (self, *self.nulls)])
        return null_scale(counts[0], counts[1:], self.effective_groups, min_std=0.1)

    def sense_by_chance(self, latent: int, sense: int) -> float:
        """Of the senses of shifted text, the share that has one meaning with at least this sense's probability."""
        one = self.sense_one[latent, sense]
        shifted = np.concatenate([np.zeros(0), *(null.sense_one[np.isfinite(null.sense_one)] for null in self.nulls)])
        return float((shifted >= one).mean()) if len(shifted) and np.isfinite(one) else np.nan

    def _on_each_text(self, name: str) -> Float64[np.ndarray, "text d_sae"]:
        if name in COHERENCES:
            return self.coherences[:, :, COHERENCES.index(name)]
        return np.stack([each.statistics[0, :, cohesion.NAMES.index(name)] for each in (self, *self.nulls)])


def collect_evidence(
    tokens: Int[torch.Tensor, "seq pos"],
    codes: CodeSource,
    *,
    n_vocab: int,
    maxima: Float32[np.ndarray, " d_sae"],
    has_one: HasOne,
    vocab: Sequence[str] | None = None,
    nulls: int = 2,
    seed: int = 0,
    bootstraps: int = 0,
    listeners: Sequence[Listener] = (),
    chosen: Bool[np.ndarray, " d_sae"] | None = None,
    progress: Progress | None = None,
) -> Evidence:
    """Evidence from `codes` of the rows seq * n_ctx + pos of `tokens` (ids below `n_vocab`).

    vocab: None where nothing is known of how tokens are spelt. bootstraps: of the replicates, in which the senses are
    looked for again; 0: their stability is not known. listeners: each is handed every chunk, whole groups at a time.
    chosen: of other latents are no cohesion and no senses; the nulls are of all.
    """
    rng, (n_seq, n_ctx) = np.random.default_rng(seed), tokens.shape
    per_group, counted = rows_per_group(n_seq, n_ctx), first_windows(tokens.numpy())
    _warn_of_too_few(n_seq, n_ctx, per_group)
    views = fit_views(np.ascontiguousarray(tokens.numpy()), fit_contexts(tokens, n_vocab), vocab, seed)
    shifts = circular_shifts(n_seq, n_ctx, nulls, int((maxima > 0).sum()), seed, rng)
    summers = [PairSummer(codes.d_sae, partial(_embed, views, shift), per_group, n_blocks=2) for shift in (0, *shifts)]
    sampler = FiringSampler(codes.d_sae, SLICES, FIRINGS_PER_SLICE, seed, per_group)
    hearing = [*listeners, *(summer.add for summer in summers), sampler.add]
    note = "reading firings"
    parts = read_chunks(codes, per_group, maxima=maxima, counted=counted, progress=progress or no_progress, note=note)
    _read(parts, hearing)
    sums = [summer.result() for summer in summers]
    rows, shares = (part.reshape(codes.d_sae, -1) for part in (sampler.rows, sampler.shares))
    sampled = SampledFirings(views, rows, shares, per_group, sampler.count / max(counted.sum(), 1))
    testable = (sums[0].n_groups >= MIN_GROUPS) & sampled.is_in_both_halves
    wanted, size = np.flatnonzero(testable if chosen is None else testable & chosen), rows.shape[1]
    draws = np.vstack([np.ones(size), rng.poisson(1.0, (REPLICATES, size))])
    found = measure_latents(sampled, wanted, draws, has_one, bootstraps=bootstraps, progress=progress)
    fields = vars(found) | {"coherences": np.stack([each.coherences for each in sums]), "testable": testable}
    fields |= {"nulls": _measure_nulls(sampled, np.flatnonzero(testable), shifts, has_one, rng), "rows": rows}
    return Evidence(**fields, shares=shares, effective_groups=sums[0].effective_groups)


def _measure_nulls(
    sampled: SampledFirings, latents: Int64[np.ndarray, " latent"], shifts: Sequence[int], has_one: HasOne, rng: Random
) -> list[Measured]:
    """Of some of the latents, on each shifted text."""
    drawn = [np.sort(rng.permutation(latents)[:NULL_LATENTS]) for _ in shifts]
    every = max(1, min(len(latents), NULL_LATENTS) // NULL_SENSES)
    once = np.ones((1, sampled.rows.shape[1]))
    return [
        measure_latents(sampled, some, once, has_one, shift=shift, every=every)
        for shift, some in zip(shifts, drawn, strict=True)
    ]


def _warn_of_too_few(n_seq: int, n_ctx: int, per_group: int) -> None:
    n_groups = -(-n_seq * n_ctx // per_group)
    if n_groups < MIN_GROUPS:
        log.warning(
            "%d sequences of %d tokens are %d independent groups, and a latent is tested if it fires in at least %d: "
            "nothing can be. Scan at least %d sequences, or as many blocks of %d tokens in longer ones",
            *(n_seq, n_ctx, n_groups, MIN_GROUPS, MIN_GROUPS, MIN_BLOCK),
        )


def _read(parts: Iterable[CodeChunk], listeners: Sequence[Listener]) -> None:
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for chunk in parts:
            for task in [pool.submit(listener, chunk) for listener in listeners]:
                task.result()


def _embed(views: Views, shift: int, rows: Int64[np.ndarray, " row"]) -> Float32[np.ndarray, "row dim"]:
    """Context and token vector side by side, of the rows `shift` on."""
    rows = (rows + shift) % views.tokens.size
    tokens = views.contexts.token_vectors[views.tokens.reshape(-1)[rows]]
    return np.hstack([views.contexts.embed(views.tokens, rows), tokens])
