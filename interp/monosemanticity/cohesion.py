"""How much do the firings of a latent, or of one of its senses, have in common?

With points e_i [respect, dim] (`respects`), masses m_i, and μ_h the mass-weighted mean of half h of the groups,

    distinctness = max_r  mean_i e_i(r) · μ_h̄(r) / ‖μ_h̄(r)‖,   h̄ the half that i is not in
                   how far the firings stand out from the text in their best respect, in its standard deviations
    core         = share of the mass at firings that stand out at least half as far, in that respect
    consistency  = what weak firings share with strong ones, over what strong ones share, in the latter's best respect
    cosine       mean cosine of two firings, one of each half, in their surroundings or their tokens: the larger
    kinship, common, own, mass      of the least akin split with at least 20 %, and 33 %, of the mass on either side
                                    (`splits`); `distinctness`² stands for both where no split has so much

Replicates give other weights to the same firings and splits: a bootstrap over firings.

Source: own; products of halves are unbiased, as cross-validated distances are (Walther et al. 2016); the replicates are
a Poisson bootstrap. Cost: 4 ms of one core for 160 firings with 16 replicates, three quarters of it for the splits.
Failing: what firings share in none of the respects is not shared at all, and two meanings of one script or topic share
it. A latent of few firings has wide replicates, and a broad meaning stands out little.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from interp.monosemanticity import views as respects
from interp.monosemanticity.splits import FLOOR, Split, best_split, candidate_splits, products

LEAST_MASSES = (0.2, 0.33)
BROAD = ("surroundings", "token")
"""Two meanings that are kin in some other respect, such as the mark before them, are still unlike in these."""
NAMES = (
    "distinctness",
    "core",
    "consistency",
    "cosine",
    *(
        f"{name}{'' if least == LEAST_MASSES[0] else '_even'}"
        for least in LEAST_MASSES
        for name in ("kinship", "common", "own", "mass")
    ),
)
LEAST_STRONG = 10
"""Strong and weak firings that are needed to compare them."""


@dataclass(frozen=True)
class Unity:
    values: Float64[np.ndarray, "replicate statistic"]
    """Columns are NAMES; the first row has the weights as they are."""
    split: Split | None
    """The least akin one at the first of LEAST_MASSES."""
    best_respect: int


def measure_unity(
    points: Float32[np.ndarray, "firing respect dim"],
    test: Bool[np.ndarray, " firing"],
    weights: Float64[np.ndarray, "replicate firing"],
    strong: Bool[np.ndarray, " firing"],
) -> Unity:
    """Needs at least one firing in each half. Splits are chosen with the first weights."""
    halves = np.stack([~test, test])
    fit, other = _means(points, weights, halves)
    alignment = _alignment(points, fit[0], other[0], test)
    share = weights / np.maximum(weights.sum(1, keepdims=True), 1e-12)
    mean = np.maximum(_mean_alignment(fit, other, share @ test), 0)
    best = mean.argmax(1)
    stands_out = alignment > np.maximum(mean[0] / 2, 0.5)
    core = (share @ stands_out)[np.arange(len(share)), best]
    distinctness = mean.max(1)
    columns = [distinctness, core, _consistency(points, test, weights, strong), _cosine(points, weights, halves)]
    candidates = candidate_splits(points, test, weights[0])
    splits = [best_split(candidates, least) for least in LEAST_MASSES]
    for split in splits:
        columns += _split_columns(points, test, weights, split, distinctness)
    return Unity(np.stack(columns, 1), splits[0], int(best[0]))


def _means(
    points: Float32[np.ndarray, "firing respect dim"],
    weights: Float64[np.ndarray, "replicate firing"],
    parts: Bool[np.ndarray, "part firing"],
) -> Float32[np.ndarray, "part replicate respect dim"]:
    cells = (weights[None] * parts[:, None]).astype(np.float32)
    cells /= np.maximum(cells.sum(2, keepdims=True), 1e-12)
    flat = cells.reshape(-1, len(points)) @ points.reshape(len(points), -1)
    return flat.reshape(len(parts), len(weights), *points.shape[1:])


def _alignment(
    points: Float32[np.ndarray, "firing respect dim"],
    fit: Float32[np.ndarray, "respect dim"],
    other: Float32[np.ndarray, "respect dim"],
    test: Bool[np.ndarray, " firing"],
) -> Float32[np.ndarray, "firing respect"]:
    """Each point along the mean of the half that it is not in."""
    units = [mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9) for mean in (fit, other)]
    along = [(points * unit).sum(2) for unit in units]
    return np.where(test[:, None], *along)


def _mean_alignment(
    fit: Float32[np.ndarray, "replicate respect dim"],
    other: Float32[np.ndarray, "replicate respect dim"],
    test_share: Float64[np.ndarray, " replicate"],
) -> Float64[np.ndarray, "replicate respect"]:
    dot = (fit * other).sum(2)
    lengths = (np.maximum(np.linalg.norm(mean, axis=2), 1e-9) for mean in (fit, other))
    along_fit, along_other = (dot / length for length in lengths)
    return test_share[:, None] * along_fit + (1 - test_share)[:, None] * along_other


def _cosine(
    points: Float32[np.ndarray, "firing respect dim"],
    weights: Float64[np.ndarray, "replicate firing"],
    halves: Bool[np.ndarray, "2 firing"],
) -> Float32[np.ndarray, " replicate"]:
    some = points[:, [respects.NAMES.index(name) for name in BROAD]]
    units = some / np.maximum(np.linalg.norm(some, axis=2, keepdims=True), 1e-9)
    fit, other = _means(units, weights, halves)
    return (fit * other).sum(2).max(1)


def _consistency(
    points: Float32[np.ndarray, "firing respect dim"],
    test: Bool[np.ndarray, " firing"],
    weights: Float64[np.ndarray, "replicate firing"],
    strong: Bool[np.ndarray, " firing"],
) -> Float64[np.ndarray, " replicate"]:
    """1 where there are too few strong or weak firings to compare."""
    parts = np.stack([strong & ~test, strong & test, ~strong & ~test, ~strong & test])
    if parts.sum(1).min() < LEAST_STRONG // 2:
        return np.ones(len(weights))
    strong_fit, strong_test, weak_fit, weak_test = _means(points, weights, parts)
    own = (strong_fit * strong_test).sum(2)
    across = ((strong_fit * weak_test).sum(2) + (strong_test * weak_fit).sum(2)) / 2
    best, every = own.argmax(1), np.arange(len(own))
    return (np.maximum(across[every, best], 0) + FLOOR) / (np.maximum(own[every, best], 0) + FLOOR)


def _split_columns(
    points: Float32[np.ndarray, "firing respect dim"],
    test: Bool[np.ndarray, " firing"],
    weights: Float64[np.ndarray, "replicate firing"],
    split: Split | None,
    distinctness: Float64[np.ndarray, " replicate"],
) -> list[Float64[np.ndarray, " replicate"]]:
    if split is None:
        square = distinctness**2
        return [np.ones(len(weights)), square, square, np.zeros(len(weights))]
    cells = np.stack([~split.side & ~test, ~split.side & test, split.side & ~test, split.side & test])
    own, across = products(points, (weights[:, None] * cells).astype(np.float32))
    common, least = np.maximum(across.max(1), 0), np.maximum(own.max(2).min(1), 0)
    share = (weights @ split.side) / np.maximum(weights.sum(1), 1e-12)
    return [(common + FLOOR) / (least + FLOOR), common, least, np.minimum(share, 1 - share)]


def predictors(values: Float64[np.ndarray, "*unit statistic"]) -> Float64[np.ndarray, "*unit predictor"]:
    """The statistics on scales where a difference means about the same everywhere, for `calibration`."""
    column = {name: values[..., i] for i, name in enumerate(NAMES)}
    distinctness = column["distinctness"]
    out = [np.minimum(distinctness, 6), np.log1p(distinctness), column["core"], np.clip(column["consistency"], 0, 1.5)]
    out.append(column["cosine"])
    for suffix in ("", "_even"):
        common, own = np.sqrt(column[f"common{suffix}"]), np.sqrt(column[f"own{suffix}"])
        out += [np.clip(column[f"kinship{suffix}"], 0, 1.5), np.minimum(common, 4), np.minimum(own, 5)]
        out += [np.log1p(common), np.log1p(own), column[f"mass{suffix}"]]
    return np.stack(out, -1)


def halves(groups: Int64[np.ndarray, " firing"]) -> Bool[np.ndarray, " firing"]:
    """Which firings test: those of every second group of sequences."""
    return groups % 2 == 1
