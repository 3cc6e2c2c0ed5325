"""All evidence about every latent, beside the same evidence on shifted text.

    1  Learn from the tokens the views in which two firings may be similar.
    2  One pass over the codes: pair sums of the firings on their text and on each shifted one, and a sample of firings,
       stratified by strength, at most one from a group and slice. Whoever else counts firings listens (`listeners`).
    3  From the sample: cohesion, replicates of it over firings, and senses; cohesion and senses again on shifted text.

A shift lays the codes on the text that stands some tokens further on, in a ring: a latent keeps its rate, its bursts,
its documents' clumps and its company, and loses its meaning. Groups are `groups`'; nulls are pooled over latents, so
where few fire more shifted texts make up the pool.

`context_coherence` and `token_coherence` are the activation-weighted mean cosine of the contexts, and of the tokens'
vectors, of two firings in different groups (`firings.PairSums`; MonoScore, arXiv 2504.02821, centred embeddings).
Failing: one broad meaning (any verb) has incoherent contexts; a union of two narrow ones keeps half of its coherence.
`cohesion` has the others.

Cost, of one core: in the pass some 40 ns a firing for the sample and again for each text; then 4 ms a latent for
cohesion with its replicates, and for each part that its senses look at; 4 ms for each of NULL_UNITS latents a shifted
text, and for each part of SENSE_UNITS of them.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int, Int64

from interp.metrics.null_scale import NullScale, null_scale
from interp.monosemanticity import cohesion, firings
from interp.monosemanticity.contexts import ContextConfig, Contexts, fit_contexts
from interp.monosemanticity.groups import MIN_BLOCK, circular_shifts, rows_per_group
from interp.monosemanticity.senses import MAX_SENSES, MIN_GROUPS, HasOne, one_each, part_senses, sense_stability
from interp.monosemanticity.views import Views, fit_views

NAMES = ("context_coherence", "token_coherence", *cohesion.NAMES)
SLICES, FIRINGS_PER_SLICE = 5, 32
STRONG_SLICE = 2
"""Slices from this one on hold strong firings: above 0.4 of the latent's maximum."""
REPLICATES = 16
NULL_UNITS, SENSE_UNITS = 512, 128
"""Latents whose firings are sampled on each shifted text, and of those, whose senses are looked for; enough for the
null, since latents are pooled."""
UNITS_PER_BLOCK = 64

log = logging.getLogger(__name__)
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Evidence:
    values: Float64[np.ndarray, "d_sae evidence"]
    """Columns are NAMES. NaN for latents that are not testable (their two coherences are there all the same)."""
    replicates: Float64[np.ndarray, "replicate d_sae statistic"]
    """The statistics of `cohesion` had other firings been sampled."""
    shifted: Float64[np.ndarray, "null d_sae evidence"]
    """NaN where not sampled."""
    best_view: Int64[np.ndarray, " d_sae"]
    """Place in `views.NAMES`; −1 where not testable."""
    rows: Int64[np.ndarray, "d_sae firing"]
    """Sampled firings, seq * n_ctx + pos; −1 where there are fewer."""
    shares: Float64[np.ndarray, "d_sae firing"]
    """The share of its latent's activation mass that each stands for."""
    senses: Int64[np.ndarray, "d_sae firing"]
    """The sense of each sampled firing, 0 for the largest; −1 for none."""
    stability: Float64[np.ndarray, "d_sae sense"]
    """Of each sense, where there are several (`senses`); NaN beyond."""
    sense_one: Float64[np.ndarray, "d_sae sense"]
    """The probability that a sense has one meaning itself; NaN likewise."""
    shifted_senses: Float64[np.ndarray, "null d_sae"]
    """Their number; NaN where not sampled."""
    shifted_one: Float64[np.ndarray, " shifted_sense"]
    """`sense_one` of all senses of shifted text that were looked at."""
    n_groups: Int64[np.ndarray, " d_sae"]
    """Groups of neighbouring rows (`groups`) that a latent fires in; its independent observations."""
    effective_groups: Float64[np.ndarray, " d_sae"]
    testable: Bool[np.ndarray, " d_sae"]
    """Fires in at least MIN_GROUPS groups."""

    @property
    def n_senses(self) -> Int64[np.ndarray, " d_sae"]:
        """0 where not testable."""
        return self.senses.max(1, initial=-1) + 1

    def of(self, name: str) -> Float64[np.ndarray, " d_sae"]:
        return self.values[:, NAMES.index(name)]

    def null(self, name: str) -> NullScale:
        """How far a latent's statistic stands above the shifted texts', and the band of the latter."""
        column = NAMES.index(name)
        # Sampled statistics have one size for all; those over all pairs of firings get sharper with their number.
        exponent = 1.0 if name in NAMES[:2] else 0.0
        return null_scale(
            self.values[:, column],
            self.shifted[:, :, column],
            self.effective_groups,
            size_exponent=exponent,
            least_std=1e-6 if exponent else 0.02,
        )

    @property
    def senses_null(self) -> NullScale:
        """The same of the number of senses: firings without a common meaning fall into parts too."""
        observed = np.where(self.testable, self.n_senses, np.nan)
        return null_scale(observed, self.shifted_senses, self.effective_groups, least_std=0.1)

    def sense_by_chance(self, latent: int, sense: int) -> float:
        """Of the senses of shifted text, the share that has one meaning with at least this sense's probability."""
        one = self.sense_one[latent, sense]
        return float((self.shifted_one >= one).mean()) if len(self.shifted_one) and np.isfinite(one) else np.nan


@dataclass(frozen=True, kw_only=True)
class EvidenceConfig:
    nulls: int = 2
    """Shifted texts; where few latents fire, more (`nulls.n_repetitions`)."""
    seed: int = 0
    contexts: ContextConfig = ContextConfig()
    bootstraps: int = 0
    """Of the replicates, in which the senses are looked for again; 0: their stability is not known."""

    def __post_init__(self) -> None:
        if self.nulls < 0:
            raise ValueError(f"nulls={self.nulls} must not be negative")
        if not 0 <= self.bootstraps <= REPLICATES:
            raise ValueError(f"bootstraps={self.bootstraps} must be in 0..{REPLICATES}")


@dataclass(frozen=True)
class _Text:
    """The text as embeddings of its rows; rows beyond the end go on at the beginning."""

    tokens: Int[np.ndarray, "seq pos"]
    contexts: Contexts
    views: Views
    rows_per_group: int

    def pairs(self, rows: Int64[np.ndarray, " row"]) -> Float32[np.ndarray, "row dim"]:
        """Context and token vector side by side."""
        rows = rows % self.tokens.size
        tokens = self.contexts.token_vectors[self.tokens.reshape(-1)[rows]]
        return np.hstack([self.contexts.embed(self.tokens, rows), tokens])


def collect_evidence(
    tokens: Int[torch.Tensor, "seq pos"],
    codes: firings.CodeSource,
    *,
    n_vocab: int,
    maxima: Float32[np.ndarray, " d_sae"],
    has_one: HasOne,
    vocab: Sequence[str] | None = None,
    config: EvidenceConfig | None = None,
    listeners: Sequence[firings.Listener] = (),
    progress: Progress | None = None,
) -> Evidence:
    """Evidence from `codes` of the rows seq * n_ctx + pos of `tokens` (ids below `n_vocab`).

    maxima: the largest value of each latent, 0 where it never fires. has_one: see `senses`. Without the vocabulary's
    strings nothing is known of how tokens are spelt. listeners: each is handed every chunk of the codes, one after the
    other, whole groups (`groups`) at a time.
    """
    config = config or EvidenceConfig()
    rng = np.random.default_rng(config.seed)
    array = np.ascontiguousarray(tokens.numpy())
    n_seq, n_ctx = array.shape
    per_group = rows_per_group(n_seq, n_ctx)
    _warn_of_too_few(n_seq, n_ctx, per_group)
    contexts = fit_contexts(tokens, n_vocab, config.contexts)
    text = _Text(array, contexts, fit_views(array, contexts, vocab, config.seed), per_group)
    shifts = [0, *circular_shifts(n_seq, n_ctx, config.nulls, int((maxima > 0).sum()), config.seed, rng)]
    summers = [firings.PairSummer(codes.d_sae, 2 * contexts.dim, n_blocks=2) for _ in shifts]
    sampler = firings.FiringSampler(codes.d_sae, SLICES, FIRINGS_PER_SLICE, config.seed)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for chunk in firings.chunks(codes, maxima, text.rows_per_group, progress, "reading firings"):
            _add(pool, chunk, text, shifts, summers, sampler, listeners)
    sums = [summer.result() for summer in summers]
    rows, shares = (a.reshape(codes.d_sae, -1) for a in (sampler.rows, sampler.shares))
    testable = (sums[0].n_groups >= MIN_GROUPS) & _in_both_halves(rows, text.rows_per_group)
    found = _measure(text, rows, shares, np.flatnonzero(testable), rng, has_one, config.bootstraps, progress)
    shifted = np.full((len(shifts) - 1, codes.d_sae, len(NAMES)), np.nan)
    shifted_senses, shifted_one = np.full(shifted.shape[:2], np.nan), [np.zeros(0)]
    for null, shift in enumerate(shifts[1:]):
        some = np.sort(rng.permutation(np.flatnonzero(testable))[:NULL_UNITS])
        found_there = _measure_shifted(text, rows[some] + shift * (rows[some] >= 0), shares[some], shift, has_one)
        shifted[null, some, 2:], shifted_senses[null, some] = found_there.values, found_there.n_senses
        shifted_one.append(found_there.sense_one)
        shifted[null, :, :2] = np.stack([sums[1 + null].coherence(block) for block in (0, 1)], 1)
    values = np.column_stack([sums[0].coherence(0), sums[0].coherence(1), found.values[0]])
    return Evidence(
        values,
        found.values[1:],
        shifted,
        found.best_view,
        rows,
        shares,
        found.senses,
        found.stability,
        found.sense_one,
        shifted_senses,
        np.concatenate(shifted_one),
        sums[0].n_groups,
        sums[0].effective_groups,
        testable,
    )


def _warn_of_too_few(n_seq: int, n_ctx: int, per_group: int) -> None:
    n_groups = -(-n_seq * n_ctx // per_group)
    if n_groups < MIN_GROUPS:
        log.warning(
            "%d sequences of %d tokens are %d independent groups, and a latent is tested if it fires in at least %d: "
            "nothing can be. Scan at least %d sequences, or as many blocks of %d tokens in longer ones",
            *(n_seq, n_ctx, n_groups, MIN_GROUPS, MIN_GROUPS, MIN_BLOCK),
        )


@dataclass(frozen=True)
class _Found:
    values: Float64[np.ndarray, "1+replicate d_sae statistic"]
    best_view: Int64[np.ndarray, " d_sae"]
    senses: Int64[np.ndarray, "d_sae firing"]
    stability: Float64[np.ndarray, "d_sae sense"]
    sense_one: Float64[np.ndarray, "d_sae sense"]


def _add(
    pool: ThreadPoolExecutor,
    chunk: firings.CodeChunk,
    text: _Text,
    shifts: list[int],
    summers: list[firings.PairSummer],
    sampler: firings.FiringSampler,
    listeners: Sequence[firings.Listener],
) -> None:
    fires = np.diff(chunk.offsets) > 0
    rows, places = chunk.start + np.flatnonzero(fires), np.where(fires, np.cumsum(fires) - 1, -1)

    def add(shift: int, summer: firings.PairSummer) -> None:
        summer.add(chunk, text.pairs(rows + shift), text.rows_per_group, places)

    tasks = [pool.submit(listener, chunk) for listener in listeners]
    tasks.append(pool.submit(sampler.add, chunk, text.rows_per_group))
    tasks += [pool.submit(add, shift, summer) for shift, summer in zip(shifts, summers, strict=True)]
    for task in tasks:
        task.result()


def _in_both_halves(rows: Int64[np.ndarray, "d_sae firing"], rows_per_group: int) -> Bool[np.ndarray, " d_sae"]:
    test, present = cohesion.halves(rows // rows_per_group), rows >= 0
    return (present & test).any(1) & (present & ~test).any(1)


def _measure(
    text: _Text,
    rows: Int64[np.ndarray, "d_sae firing"],
    shares: Float64[np.ndarray, "d_sae firing"],
    todo: Int64[np.ndarray, " unit"],
    rng: np.random.Generator,
    has_one: HasOne,
    bootstraps: int,
    progress: Progress | None,
) -> _Found:
    """Cohesion with its replicates, and senses with their stability, of the latents in `todo`."""
    found = _Found(
        np.full((1 + REPLICATES, len(rows), len(cohesion.NAMES)), np.nan),
        np.full(len(rows), -1, np.int64),
        np.full(rows.shape, -1, np.int64),
        *np.full((2, len(rows), MAX_SENSES), np.nan),
    )
    draws = np.vstack([np.ones(rows.shape[1]), rng.poisson(1.0, (REPLICATES, rows.shape[1]))])
    strong = _is_strong(rows.shape[1])

    def measure(unit: int, points: Float32[np.ndarray, "firing view dim"]) -> None:
        present = rows[unit] >= 0
        test = cohesion.halves(rows[unit, present] // text.rows_per_group)
        weights = shares[unit, present] * draws[:, present]
        # A replicate without any firing in one half says nothing; it repeats the sample.
        empty = (weights[:, test].sum(1) == 0) | (weights[:, ~test].sum(1) == 0)
        weights[empty] = shares[unit, present]
        first = cohesion.measure_cohesion(points, test, weights, strong[present])
        found.values[:, unit], found.best_view[unit] = first.values, first.best_view
        own = points, test, weights[0], strong[present]
        senses = part_senses(*own, first, has_one)
        found.senses[unit, present] = senses
        if senses.max() > 0:
            found.sense_one[unit, : senses.max() + 1] = one_each(*own, senses, has_one)
        if bootstraps and senses.max() > 0:
            again = draws[1 : 1 + bootstraps, present]
            found.stability[unit, : senses.max() + 1] = sense_stability(*own, senses, again, has_one)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for start in range(0, len(todo), UNITS_PER_BLOCK):
            units = todo[start : start + UNITS_PER_BLOCK]
            points = _points(text, rows[units])
            for task in [pool.submit(measure, unit, own) for unit, own in zip(units, points, strict=True)]:
                task.result()
            if progress:
                progress(start + len(units), len(todo), "comparing firings")
    return found


@dataclass(frozen=True)
class _Shifted:
    values: Float64[np.ndarray, "unit statistic"]
    n_senses: Float64[np.ndarray, " unit"]
    """NaN but for some SENSE_UNITS of them."""
    sense_one: Float64[np.ndarray, " sense"]


def _measure_shifted(
    text: _Text,
    rows: Int64[np.ndarray, "unit firing"],
    shares: Float64[np.ndarray, "unit firing"],
    shift: int,
    has_one: HasOne,
) -> _Shifted:
    """Cohesion and senses of the firings at `rows`, `shift` behind where they fired; their halves are those of where
    they fired."""
    values, n_senses = np.empty((len(rows), len(cohesion.NAMES))), np.full(len(rows), np.nan)
    one = np.full((len(rows), MAX_SENSES), np.nan)
    strong, every = _is_strong(rows.shape[1]), max(1, len(rows) // SENSE_UNITS)

    def measure(unit: int, points: Float32[np.ndarray, "firing view dim"]) -> None:
        present = rows[unit] >= 0
        test = cohesion.halves((rows[unit, present] - shift) // text.rows_per_group)
        first = cohesion.measure_cohesion(points, test, shares[unit, present][None], strong[present])
        values[unit] = first.values[0]
        if unit % every == 0:
            own = points, test, shares[unit, present], strong[present]
            senses = part_senses(*own, first, has_one)
            n_senses[unit] = senses.max() + 1
            if senses.max() > 0:
                one[unit, : senses.max() + 1] = one_each(*own, senses, has_one)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for start in range(0, len(rows), UNITS_PER_BLOCK):
            points = _points(text, rows[start : start + UNITS_PER_BLOCK])
            for task in [pool.submit(measure, unit, own) for unit, own in enumerate(points, start)]:
                task.result()
    return _Shifted(values, n_senses, one[np.isfinite(one)])


def _points(text: _Text, rows: Int64[np.ndarray, "unit firing"]) -> list[Float32[np.ndarray, "firing view dim"]]:
    present = rows >= 0
    points = text.views.embed(rows[present])
    return np.split(points, np.cumsum(present.sum(1))[:-1])


def _is_strong(n_firings: int) -> Bool[np.ndarray, " firing"]:
    return np.repeat(np.arange(SLICES), n_firings // SLICES) >= STRONG_SLICE
