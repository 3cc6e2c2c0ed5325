"""Compute the null of each measure, from shifted text or random directions, and the z-score of a value against it.

A circular shift by s rows gives row i the tokens of row (i + s) mod n_rows and leaves the codes unchanged. So a latent
keeps its rate, its bursts and the latents that it fires with, but loses its meaning. Both s and n_rows − s are
at least a group and a sequence long, or a quarter of the text if it is too short for that. Rows that were left out at
harvest, such as padding, are not part of the circle, as no latent can fire there (`shift_rows`).

Firings in one passage share its subject, so evidence is counted only between groups of rows (`rows_per_group`).

The z-score and the band of an observation come from the mean and standard deviation of the null among at least
POOL_SIZE latents of similar size. So few shifts suffice; if there are few latents, more shifts are used. Each measure
names its null (`measures.Measure`):

    shift         the measure of another store, of the same tokens and labels, with the codes of some latents moved
                  circularly by one shift. That store has the latents of all shifts side by side, and one scan counts
                  them; MAX_SAMPLED_LATENTS suffice
    directions    the measure with decoder rows and encoder columns redrawn, v ∝ N(0, C), C = mean of Ŵ Ŵᵀ, shrunk:
                  as anisotropic as the dictionary, but not learnt
    ranks         ½ ± 1 / √(12 G), with G effective groups of sequences: the spread of the mean rank of the next tokens
                  if they are random text; the store has no unembedding to rank them
    none          burstiness and density do not depend on the text

Sources: Harris 2020 (arXiv 2012.06862) for shifts against autocorrelation; Ledoit & Wolf 2004 for the shrinkage,
without which C fits its own rows. The pooling is our own.
Cost: per shift, a scan of MAX_SAMPLED_LATENTS latents; for directions, d_sae² d operations.
Limits of the text: blocks of one document are less independent than documents. A topic of one long document counts once
per block, and the two halves of the groups share their documents. So a peculiarity of a document can look like a
meaning of a latent that fires only there. Many short sequences are better evidence than a few long ones.
Limits of the statistics: mean ∓ 1.96 standard deviations assumes a symmetric null, but the largest cosine has a skewed
one. The largest latents share the null of somewhat smaller ones, and the smallest that of larger ones. All latents of a
repetition are on the same shifted text, so the errors of their nulls are correlated. If latents are dense and the text
is long, fewer than MAX_SAMPLED_LATENTS are kept (MAX_SHIFTED_FIRINGS).
Limits of the meaning: a latent above its null need not have one meaning, because a union of two tokens is as far from
shifted text as either. A latent that fires by its position in the sequence correlates with its twin on any text.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, get_args

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor

from interp.checks.errors import InterpError
from interp.codes.code_chunks import CodeChunk
from interp.codes.sparse_codes import SparseCodes
from interp.features.decoder import Decoder
from interp.features.feature_store import FeatureStore
from interp.features.label_masks import check_labelled, labels_digest, masks_of
from interp.features.scan_config import ScanConfig
from interp.features.scan_folder import ScanFolder
from interp.runtime.processes import SINGLE_PROCESS, Processes
from interp.verdict.measures import MEASURES, Directions, LatentValues, Null

POOL_SIZE = 100
"""Number of null values from which a mean and a standard deviation are computed, if so many exist."""
TARGET_GROUPS = 160
"""Number of groups into which a text of few sequences is divided, if its sequences are long enough."""
MIN_BLOCK = 128
"""Least number of rows of a block of a long sequence."""
MAX_SEQUENCES = 8
"""Largest number of sequences per group."""
MIN_LEFT = 512
"""Least number of groups that remain if a group has several sequences."""
MIN_GROUPS = 20
"""A latent that fires in fewer groups of sequences is not tested. Each half of the text should have five firings of
each of two senses."""
MAX_SAMPLED_LATENTS = 512
"""Number of latents that are shifted. It suffices for the null, since latents are pooled."""
MAX_SHIFTED_FIRINGS = 1 << 23
"""Firings of the shifted latents on all shifts. Each takes 16 bytes, and three times as much while they are sorted."""
MIN_STD = 1e-3
"""The least standard deviation of a null: smaller differences do not matter."""

Masks = Mapping[str, Bool[Tensor, "seq pos"]]


class NullComparison(NamedTuple):
    """The z-score of each observation against the null for units of the same size. NaN if the observation is NaN, or if
    no null is finite."""

    z: Float64[np.ndarray, " unit"]
    """(observed − null mean) / null standard deviation"""
    low: Float64[np.ndarray, " unit"]
    high: Float64[np.ndarray, " unit"]
    """Mean ∓ 1.96 standard deviations."""


def rows_per_group(n_seq: int, n_ctx: int) -> int:
    """Return the rows of a group in a text of `n_seq` sequences of `n_ctx` rows.

        sequences ≥ 1024    up to 8 sequences per group, so that 512 groups remain: neighbours often share a document
        160 to 1023         one sequence per group
        fewer               a sequence is min(⌊n_ctx / 128⌋, ⌈160 / n_seq⌉) groups, so that about 160 are reached

    160 is the number of firings sampled per latent; sequences of fewer than 256 rows are never divided. Rows are
    counted through the text in groups of one size, so a block may lie across the edge between two sequences.
    """
    blocks = min(n_ctx // MIN_BLOCK, -(-TARGET_GROUPS // max(n_seq, 1)))
    if blocks > 1:
        return -(-n_ctx // blocks)
    return max(1, min(MAX_SEQUENCES, n_seq // MIN_LEFT)) * n_ctx


def circular_shifts(
    n_seq: int, n_ctx: int, n_shifts: int, n_latents: int, seed: int, rng: np.random.Generator | None = None
) -> list[int]:
    """Draw by how many rows each null shifts the text. There are `n_shifts` shifts, or more if so few latents fire that
    their nulls together would be fewer than POOL_SIZE, too few for a standard deviation. With n_shifts = 0 there are
    none.
    rng: draws the first `n_shifts`; by default a new one from the seed."""
    n_rows = n_seq * n_ctx
    least = min(max(rows_per_group(n_seq, n_ctx), n_ctx), n_rows // 4)
    end = max(n_rows - least, least + 1)
    shifts = (rng or np.random.default_rng(seed)).integers(least, end, n_shifts).tolist()
    n_more = max(0, -(-POOL_SIZE // n_latents) - n_shifts) if n_shifts and n_latents else 0
    return shifts + np.random.default_rng([seed, POOL_SIZE]).integers(least, end, n_more).tolist()


def shift_rows(
    rows: Int[np.ndarray, " firing"], shift: int, along: Int64[np.ndarray, " row"], n_rows: int
) -> Int64[np.ndarray, " firing"]:
    """Move rows circularly along some rows of a text, by as large a share of these as `shift` is of all rows.
    along: the rows on which a firing may be, ascending, such as those that were encoded."""
    step = round(shift * len(along) / n_rows)
    return along[(np.searchsorted(along, rows) + step) % len(along)]


def against_pooled_nulls(
    observed: Float64[np.ndarray, " unit"],
    nulls: Float64[np.ndarray, "repetition unit"],
    size: Float64[np.ndarray, " unit"],
    *,
    min_std: float = 1e-6,
) -> NullComparison:
    """Return the z-scores of the observations against the pooled nulls of units of similar size."""
    sizes = np.broadcast_to(size, nulls.shape)
    usable = np.isfinite(nulls) & (sizes > 0)
    if not usable.any():
        return against_normal(observed, np.nan, np.nan)
    order = np.argsort(sizes[usable], kind="stable")
    sizes, values = sizes[usable][order], nulls[usable][order]
    width = min(len(values), max(POOL_SIZE, len(values) // 20))
    mean = _moving_mean(values, width)
    std = np.sqrt(_moving_mean((values - mean) ** 2, width) * width / max(width - 1, 1))
    place = np.minimum(np.searchsorted(sizes, size), len(sizes) - 1)
    return against_normal(observed, mean[place], np.where(size > 0, np.maximum(std[place], min_std), np.nan))


def against_normal(observed: Float64[np.ndarray, " unit"], mean: Any, std: Any) -> NullComparison:
    """Return the z-scores of the observations against a null with this mean and standard deviation. They are NaN if the
    null is not finite."""
    is_defined = np.isfinite(observed) & np.isfinite(std)
    low, high = (np.where(is_defined, mean + side * 1.96 * std, np.nan) for side in (-1, 1))
    return NullComparison(np.where(is_defined, (observed - mean) / std, np.nan), low, high)


def _moving_mean(values: Float64[np.ndarray, " n"], width: int) -> Float64[np.ndarray, " n"]:
    """Return, for each entry, the mean over the `width` entries around it; at the ends, over the first or last `width`
    entries."""
    prefix = np.concatenate([[0.0], np.cumsum(values)])
    start = np.clip(np.arange(len(values)) - width // 2, 0, len(values) - width)
    return (prefix[start + width] - prefix[start]) / width


class _NoLabelsError(InterpError):
    """The masks of the labels of the observed scan are not known."""


class _ShiftedStore(FeatureStore):
    """A scan of shifted codes. What it does not have as the observed scan does is refused, with the remedy: values
    computed from nothing would be no null."""

    d_in = None

    def __init__(self, path: Path, *, knows_labels: bool):
        super().__init__(path)
        remedies = {
            "examples": "read its codes instead",
            "coactivations": "a shift does not change it, so declare null='none'",
            "neighbours": "a shift does not change it, so declare null='directions' or 'none'",
        }
        self._refused = remedies | ({} if knows_labels else {"labels": "give the labels that were scanned"})
        self.table_names = tuple(name for name in self.table_names if name not in self._refused)

    def table(self, name: str = "features") -> pd.DataFrame:
        self._check_tables([name])
        return super().table(name)

    def sql(self, query: str) -> pd.DataFrame:
        try:
            return super().sql(query)
        except InterpError:
            self._check_tables(re.findall(r"\w+", query))
            raise

    def column(self, name: str) -> Float64[np.ndarray, " d_sae"]:
        if name in ("dec_norm", "enc_dec_cosine", "fvu_rise"):
            raise InterpError(f"it reads {name}: a shift does not change it, so declare null='directions' or 'none'")
        return super().column(name)

    @property
    def W_dec(self) -> None:  # type: ignore[override]
        raise InterpError("it reads W_dec: a shift does not change it, so declare null='directions' or 'none'")

    def _check_tables(self, names: Iterable[str]) -> None:
        for name in sorted(set(names) & set(self._refused)):
            error = _NoLabelsError if name == "labels" else InterpError
            raise error(f"it reads the table {name!r}: {self._refused[name]}")


class SampledCodes:
    """Keep the codes of some latents (`add` takes each chunk while the codes are read), and write them shifted. Latents
    that fire too rarely to be tested are included only if there are too few other latents for a null. Each process of a
    world keeps some of these latents."""

    def __init__(self, features: FeatureStore, shifts: Sequence[int], seed: int, world: Processes = SINGLE_PROCESS):
        self._features = features
        self.shifts = shifts
        self.world = world
        n_active = features.column("n_active").astype(np.int64)
        drawn = np.random.default_rng(seed).permutation(np.flatnonzero(n_active))
        n_frequent = int((n_active >= MIN_GROUPS).sum())
        most = min(MAX_SAMPLED_LATENTS, max(n_frequent, -(-POOL_SIZE // len(shifts))))
        drawn = drawn[np.argsort(n_active[drawn] < MIN_GROUPS, kind="stable")][:most]
        fits = len(shifts) * np.cumsum(n_active[drawn]) <= MAX_SHIFTED_FIRINGS
        self.units = np.sort(drawn[: max(1, fits.sum())])[world.rank :: world.count]
        self._unit_of = np.full(features.d_sae, -1, np.int32)
        self._unit_of[self.units] = np.arange(len(self.units))
        self._parts: list[tuple[np.ndarray, ...]] = []  # row, unit and activation of each firing

    def add(self, chunk: CodeChunk) -> None:
        units = self._unit_of[chunk.latents]
        kept = units >= 0
        rows = chunk.rows[kept].astype(np.int32 if self._features.tokens.numel() < 1 << 31 else np.int64)
        self._parts.append((rows, units[kept], chunk.activations[kept]))

    def write_shifted(self, labels: Masks | None, folder: str | Path) -> FeatureStore:
        """Write a store of the same text, in which latent s · n_units + u is unit u moved by `shifts[s]` rows. The same
        rows are encoded, so that its measures leave out the same padding. It has the counts of firings and of tokens,
        but no examples, pairs of latents or directions."""
        features = self._features
        masks = {name: labels[name] for name in features.meta["labels"]} if labels else None
        config = ScanConfig(
            n_before=features.meta["settings"]["n_before"],
            n_tokens=features.meta["settings"]["n_tokens"],
            n_logits=1,
            n_top=0,
            n_per_interval=0,
            n_coactivations=0,
            n_neighbours=0,
        )
        n_rows = features.tokens.numel()
        encoded = np.flatnonzero(features.codes.present(0, n_rows).numpy())
        scan = ScanFolder(features.tokens, vocab=features.vocab, labels=masks, config=config)
        with scan.begin(folder, {}, d_sae=len(self.units) * len(self.shifts)) as store:
            assert store is not None, "the folder holds no scan yet"
            store.write_file("shifted", torch.from_numpy(encoded), self._shifted_codes(encoded, n_rows))
            scan.finish(store, Decoder(None, None))
        return _ShiftedStore(Path(folder), knows_labels=bool(masks or not features.meta["labels"]))

    def _shifted_codes(self, encoded: Int64[np.ndarray, " row"], n_rows: int) -> SparseCodes:
        """Return the codes of the encoded rows. What they are sorted from is freed before the scan begins."""
        n_units = len(self.units)
        n_shifts = len(self.shifts)
        rows, units, values = (np.concatenate(arrays) for arrays in zip(*self._parts, strict=True))
        moved = np.concatenate([shift_rows(rows, shift, encoded, n_rows).astype(rows.dtype) for shift in self.shifts])
        latents = np.concatenate([units + np.int32(s * n_units) for s in range(n_shifts)])
        entries = np.tile(values, n_shifts), (moved, latents)
        shifted = scipy.sparse.coo_matrix(entries, shape=(n_rows, n_units * n_shifts)).tocsr()
        offsets = np.append(shifted.indptr[encoded], shifted.indptr[-1])  # the rows between them have no firing
        tensors = [torch.from_numpy(array) for array in (offsets, shifted.indices, shifted.data)]
        return SparseCodes(tensors[0], tensors[1], tensors[2], shifted.shape[1])


def compare_measures(
    values: Mapping[str, LatentValues],
    features: FeatureStore,
    sample: SampledCodes,
    testable: Bool[np.ndarray, " d_sae"],
    effective_groups: Float64[np.ndarray, " d_sae"],
    *,
    labels: Masks | None = None,
    twin: FeatureStore | None = None,
    seed: int = 0,
) -> dict[str, NullComparison]:
    """Compare each measure that has a null with its null. Returns the z-scores and bands, which are NaN for latents
    that are not testable.

    effective_groups: effective number of groups over which the firings of each latent spread (`evidence`).
    labels: the masks that were scanned. Without them, a measure of labels has no null.
    """
    tested = {name: np.where(testable, scores, np.nan) for name, scores in values.items()}
    wanted: dict[str, list[str]] = {null: [] for null in get_args(Null)}
    for name, scores in tested.items():
        if np.isfinite(scores).any():
            wanted[MEASURES[name].null].append(name)
    n_active = features.column("n_active")
    comparisons = {}
    names = sorted(set().union(*sample.world.gather_results(lambda: wanted["shift"])))
    parts = sample.world.gather_results(lambda: (sample.units, _measure_shifted(names, sample, labels, twin)))
    for name in names:
        nulls = np.full((len(sample.shifts), features.d_sae), np.nan)
        for units, values_of_units in parts:
            nulls[:, units] = values_of_units[name]
        if np.isfinite(nulls).any():
            comparisons[name] = against_pooled_nulls(tested[name], nulls, n_active, min_std=MIN_STD)
    if wanted["directions"] and features.W_dec is not None and features.W_dec.any():
        random = random_dictionary(features.W_dec, seed)
        for name in wanted["directions"]:
            nulls = MEASURES[name].function(random)
            comparisons[name] = against_normal(tested[name], np.nanmean(nulls), max(np.nanstd(nulls), MIN_STD))
    for name in wanted["ranks"]:
        with np.errstate(divide="ignore"):
            comparisons[name] = against_normal(tested[name], 0.5, 1 / np.sqrt(12 * effective_groups))
    return comparisons


def _measure_shifted(
    names: Sequence[str], sample: SampledCodes, labels: Masks | None, twin: FeatureStore | None
) -> dict[str, Float64[np.ndarray, "shift unit"]]:
    """Compute these measures of each sampled latent of this process on each shifted text."""
    shape = len(sample.shifts), len(sample.units)
    if not names or not len(sample.units):
        return dict.fromkeys(names, np.zeros(shape))
    with TemporaryDirectory() as folder:
        shifted = sample.write_shifted(labels, folder)
        return {name: _measure(name, shifted, twin).astype(float).reshape(shape) for name in names}


def _measure(name: str, shifted: FeatureStore, twin: FeatureStore | None) -> LatentValues:
    """Compute a measure of a shifted store; NaN if it reads labels that are not known. Raises ValueError, naming the
    measure, if it reads what such a store does not have."""
    try:
        return MEASURES[name](shifted, twin)
    except _NoLabelsError:
        return np.full(shifted.d_sae, np.nan)
    except InterpError as error:
        raise InterpError(f"the measure {name!r} has no null by shifts: {error}") from error


def check_labels(features: FeatureStore, labels: Masks | None, *, needed: bool) -> None:
    """Check that every scanned label has a mask, and that every mask has the shape of the tokens. Raises ValueError
    otherwise."""
    if needed and not labels:
        raise InterpError("use_labels=True, but no labels were given: a store has counts of labels and not their masks")
    if labels is None:
        return
    if missing := [name for name in features.meta["labels"] if name not in labels]:
        raise InterpError(f"no mask of label {missing[0]!r} was given, but {features.path} was scanned with it")
    masks_of(labels, features.tokens.shape)
    check_labelled(labels, features.tokens, features.path)
    if hasattr(labels, "tokens"):  # they belong to this text; reading each mask would take a second per million tokens
        return
    if features.inputs.get("labels") not in (None, labels_digest(labels, features.meta["labels"])):
        raise InterpError(f"the labels are other masks than those that {features.path} was scanned with: give the same")


def random_directions(moments: Float[Tensor, "d d"], n: int, seed: Any) -> Float[Tensor, "n d"]:
    """Draw unit vectors, whose directions are those of a Gaussian with these second moments."""
    values, vectors = torch.linalg.eigh(moments)
    draws = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, len(moments))))
    return torch.nn.functional.normalize((draws * values.clamp(min=0).sqrt()) @ vectors.T, dim=1).float()


def random_dictionary(W_dec: Float[Tensor, "latent d_in"], seed: int) -> Directions:
    """Draw decoder rows and encoder columns with the second moments of these decoder rows."""
    moments = second_moments(W_dec)
    rows, columns = (random_directions(moments, len(W_dec), [seed, which]) for which in (0, 1))
    return Directions(rows, torch.nn.functional.cosine_similarity(columns, rows).numpy().astype(np.float64))


def second_moments(W: Float[Tensor, "row d"]) -> Float[Tensor, "d d"]:
    """Estimate the second moments of the rows' directions, with shrinkage. Rows of zeros have no direction and are left
    out."""
    from sklearn.covariance import ledoit_wolf

    unit = torch.nn.functional.normalize(W[W.norm(dim=1) > 0].double(), dim=1)
    return torch.from_numpy(ledoit_wolf(unit.numpy(), assume_centered=True)[0])
