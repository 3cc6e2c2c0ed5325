"""Compare every score of every latent with the truth.

A score is good if it ranks latents with one meaning above latents with several (AUROC, precision among the first k),
and follows their polysemanticity (Spearman). Latents that fire often are more often polysemantic, so all three are
matched for frequency: within each fifth of the firing counts both kinds have the same weight, and ranks are correlated
within the fifths. A probability is good if, among latents with probability p, a share p has one meaning:

    ECE = Σ_b n_b / n · |mean p − share of one meaning|       over ten bins b of p

Intervals are bootstraps over worlds and latents.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import rankdata

from analyses.scorecard.judged import claimed
from analyses.scorecard.truth import ONE, SEVERAL
from interp.statistics.estimates import wilson
from interp.verdict.similarity import MAX_SENSES

STRATA = 5
BINS = 10
REPLICATES = 200
MEASURES = ("auroc", "spearman", "precision")


def scorecard(judged: pd.DataFrame, scores: Mapping[str, int]) -> pd.DataFrame:
    """Return one row per score, best first: `score`, `auroc`, `spearman`, `precision` among the first k (k: half as
    many as have one meaning), each with `_low` and `_high`; `n`, the latents of one meaning or several, and `n_scored`
    of them. scores: +1 where a high value is for one meaning, −1 against.

    Spearman is over all tested latents whose polysemanticity is known. Latents for which a score is NaN count as in the
    middle; `not_scored` names the scores that are left out.
    Raises ValueError if the truth of no tested latent is claimed.
    """
    table = judged[judged.tested & (judged.top_share > 0)].reset_index(drop=True)
    n = len(claimed(judged))
    if n == 0:
        raise ValueError("no latent was tested whose truth is one meaning or several: take more latents or more text")
    rows, missing = [], not_scored(judged, scores)
    draws = [_Draw.of(table, chosen) for chosen in _draws(table)]
    for name in (name for name in scores if name not in missing):
        score = scores[name] * table[name].to_numpy(np.float64)
        n_scored = int((np.isfinite(score) & (table.is_one | table.is_several)).sum())
        score = np.where(np.isfinite(score), score, np.nanmedian(score))
        measured = [draw.measure(score) for draw in draws]
        first, rest = measured[0], np.array(measured)
        row: dict[str, float | str] = {"score": name, "n": n, "n_scored": n_scored}
        for place, measure in enumerate(MEASURES):
            finite = rest[np.isfinite(rest[:, place]), place]
            low, high = np.quantile(finite, [0.025, 0.975]) if len(finite) else (np.nan, np.nan)
            row |= {measure: first[place], f"{measure}_low": low, f"{measure}_high": high}
        rows.append(row)
    columns = ["score", "n", "n_scored", *(f"{measure}{end}" for measure in MEASURES for end in ("", "_low", "_high"))]
    return pd.DataFrame(rows, columns=columns).sort_values("auroc", ascending=False, ignore_index=True)


def not_scored(judged: pd.DataFrame, scores: Mapping[str, int]) -> list[str]:
    """Return the scores that say nothing here: missing, without a value, or the same for all latents of known truth."""
    table = claimed(judged).reindex(columns=list(scores)).astype(float)
    return [name for name in scores if table.loc[np.isfinite(table[name]), name].nunique() < 2]


def calibration_curve(judged: pd.DataFrame) -> pd.DataFrame:
    """Return ten bins of probability, with `p` (mean), the `share` with one meaning, its 95 % interval `low`, `high`
    (Wilson), and `n`."""
    table, rows = claimed(judged), []
    p, one = table.monosemanticity.to_numpy(), table.is_one.to_numpy(float)
    for in_bin in _bins(p):
        low, high = wilson(one[in_bin].sum(), in_bin.sum())
        rows.append(
            {"p": p[in_bin].mean(), "share": one[in_bin].mean(), "low": low, "high": high, "n": int(in_bin.sum())}
        )
    return pd.DataFrame(rows)


def verdict_quality(judged: pd.DataFrame) -> dict[str, float]:
    """Return the quality of the verdict.

    ece, accuracy (at ½): each with `_low` and `_high`. `ece_by_chance`, `ece_own_level` and `ece_own_curve`
    (`ece_of_own_curve`) are what to compare `ece` with.
    abstained: the share whose interval holds ½ or that could not be tested. accuracy_sure: the accuracy of the others.
    senses_exact, senses_near: of the latents with several senses, the share whose number is found, or missed by one at
    most. senses_of_sample: the share that would be found if the meaning of each sampled firing were known.
    senses_exact_countable, senses_of_sample_countable: the same for the `n_countable` latents whose number is beyond
    doubt (`Truth.is_countable`).
    parts_one: of the `n_parts` senses of latents with several, the share that have one meaning (`sense_purity` ≥ ONE),
    among those that have one or several (≤ SEVERAL). parts_auroc, parts_ece: how well their own
    probability tells which.
    """
    table = claimed(judged)
    p, one = table.monosemanticity.to_numpy(), table.is_one.to_numpy(bool)
    sure, right = ((table.ci_low > 0.5) | (table.ci_high < 0.5)).to_numpy(), (p >= 0.5) == one
    several = table[table.is_several & (table.true_senses > 1)]
    true, clear = np.minimum(several.true_senses, MAX_SENSES), several.is_countable.to_numpy(bool)
    off, sample_error = (np.abs(several[name] - true).to_numpy() for name in ("n_senses", "sample_senses"))
    draws = np.array([(expected_calibration_error(p[c], one[c]), right[c].mean()) for c in _draws(table)])
    split = table[table.n_senses > 1]
    part, pure = (split[name].explode().to_numpy(np.float64) for name in ("sense_one", "sense_purity"))
    is_clear = np.isfinite(part) & np.isfinite(pure) & ((pure >= ONE) | (pure <= SEVERAL))
    part, pure = part[is_clear], pure[is_clear] >= ONE
    parts_auroc = auroc(pure, part, np.ones(len(part))) if 0 < pure.sum() < len(pure) else np.nan
    out = {
        "n": len(table),
        "ece": draws[0, 0],
        "ece_by_chance": ece_by_chance(p),
        "ece_own_level": ece_of_own_curve(p, one, steeper=False),
        "ece_own_curve": ece_of_own_curve(p, one, steeper=True),
        "accuracy": draws[0, 1],
        "abstained": 1 - sure.sum() / max((judged.is_one | judged.is_several).sum(), 1),
        "accuracy_sure": _share(right[sure]),
        "senses_exact": _share(off == 0),
        "senses_of_sample": _share(sample_error == 0),
        "senses_exact_countable": _share(off[clear] == 0),
        "senses_of_sample_countable": _share(sample_error[clear] == 0),
        "n_countable": int(clear.sum()),
        "senses_near": _share(off <= 1),
        "n_parts": len(part),
        "parts_one": _share(pure),
        "parts_auroc": parts_auroc,
        "parts_ece": expected_calibration_error(part, pure) if len(part) else np.nan,
    }
    for place, name in enumerate(("ece", "accuracy")):
        out[f"{name}_low"], out[f"{name}_high"] = np.quantile(draws[1:, place], [0.025, 0.975])
    return {name: float(value) for name, value in out.items()}


def _share(hits: Bool[np.ndarray, " n"]) -> float:
    return float(hits.mean()) if len(hits) else float("nan")


def _draws(table: pd.DataFrame) -> Iterator[Int64[np.ndarray, " latent"]]:
    """Yield all latents; then, again and again, worlds drawn with replacement and latents of each likewise."""
    rng = np.random.default_rng(0)
    yield np.arange(len(table))
    rows_of_worlds = [np.flatnonzero((table.world == world).to_numpy()) for world in table.world.unique()]
    for _ in range(REPLICATES):
        drawn = [rows_of_worlds[i] for i in rng.integers(len(rows_of_worlds), size=len(rows_of_worlds))]
        yield np.concatenate([rng.choice(latents, len(latents)) for latents in drawn])


class _Draw(NamedTuple):
    """Some latents, and what is needed of them to measure any score."""

    fifths: list[Int64[np.ndarray, " latent"]]
    """The latents of each fifth of the firing counts."""
    ranks: list[Float64[np.ndarray, " latent"]]
    """Their ranks by the truth, in each fifth."""
    claimed: Int64[np.ndarray, " latent"]
    one: Bool[np.ndarray, " claimed"]
    weights: Float64[np.ndarray, " claimed"]
    """The weights that match the claimed latents for frequency."""

    @classmethod
    def of(cls, table: pd.DataFrame, chosen: Int64[np.ndarray, " latent"]) -> "_Draw":
        n_active, truth = table.n_active.to_numpy(), -table.polysemanticity.to_numpy()
        stratum = _strata(n_active[chosen])
        fifths = [chosen[stratum == s] for s in range(STRATA)]
        fifths = [rows for rows in fifths if len(rows) > 2 and np.ptp(truth[rows]) > 0]
        clear_rows = chosen[(table.is_one | table.is_several).to_numpy(bool)[chosen]]
        one = table.is_one.to_numpy(bool)[clear_rows]
        weights = matched_weights(n_active[clear_rows], one) if len(one) else np.zeros(0)
        return cls(fifths, [rankdata(truth[rows]) for rows in fifths], clear_rows, one, weights)

    def measure(self, score: Float64[np.ndarray, " latent"]) -> tuple[float, float, float]:
        """Compute the MEASURES of a score."""
        rank, score = self._spearman(score), score[self.claimed]
        if not self.weights.any():
            return float("nan"), rank, float("nan")
        best = np.argsort(-score, kind="stable")[: max(1, int(self.one.sum()) // 2)]
        precision = (self.one[best] * self.weights[best]).sum() / max(self.weights[best].sum(), 1e-12)
        return auroc(self.one, score, self.weights), rank, float(precision)

    def _spearman(self, score: Float64[np.ndarray, " latent"]) -> float:
        """Return mean over the fifths of the firing counts, each counting as many as it holds."""
        total, n = 0.0, 0
        for rows, ranks in zip(self.fifths, self.ranks, strict=True):
            if np.ptp(score[rows]) > 0:
                total += len(rows) * np.corrcoef(rankdata(score[rows]), ranks)[0, 1]
                n += len(rows)
        return float(total / n) if n else float("nan")


def auroc(one: Bool[np.ndarray, " n"], score: Float64[np.ndarray, " n"], weights: Float64[np.ndarray, " n"]) -> float:
    """Return the weighted probability that a score of `one` is above a score of the others, where ties count half. It
    equals sklearn.metrics.roc_auc_score, and takes a fiftieth of its time. It is NaN if either kind has no weight."""
    place = np.unique(score, return_inverse=True)[1]
    ours, theirs = np.bincount(place, weights * one), np.bincount(place, weights * ~one)
    below = theirs.cumsum() - theirs / 2
    total = ours.sum() * theirs.sum()
    return float((ours * below).sum() / total) if total > 0 else float("nan")


def matched_weights(values: np.ndarray, one: Bool[np.ndarray, " latent"]) -> Float64[np.ndarray, " latent"]:
    """Return weights with which, within each fifth of the values (firing counts, say), both kinds weigh as much as the
    fifth has latents of the rarer kind; zero in a fifth that lacks one. With several columns, [latent, value], the
    strata are the combinations of their fifths."""
    fifths = np.stack([_strata(column) for column in values.reshape(len(one), -1).T])
    stratum, weights = np.unique(fifths, axis=1, return_inverse=True)[1].ravel(), np.zeros(len(one))
    for s in range(stratum.max(initial=-1) + 1):
        kinds = [(stratum == s) & one, (stratum == s) & ~one]
        least = min(kind.sum() for kind in kinds)
        for kind in kinds:
            weights[kind] = least / max(kind.sum(), 1)
    return weights


def _strata(n_active: np.ndarray) -> Int64[np.ndarray, " latent"]:
    """Return the fifth of the firing counts that each latent is in."""
    return np.searchsorted(np.quantile(n_active, np.linspace(0, 1, STRATA + 1)[1:-1]), n_active, side="right")


def expected_calibration_error(
    p: Float64[np.ndarray, " latent"],
    one: Bool[np.ndarray, " latent"],
    weight: Float64[np.ndarray, " latent"] | None = None,
) -> float:
    """Return the calibration error; each latent counts its weight, or 1."""
    weight = np.ones(len(p)) if weight is None else weight
    parts = [(in_bin, weight[in_bin]) for in_bin in _bins(p) if weight[in_bin].any()]
    return float(sum(abs((w * (p[in_bin] - one[in_bin])).sum()) for in_bin, w in parts) / weight.sum())


def ece_of_own_curve(p: Float64[np.ndarray, " latent"], one: Bool[np.ndarray, " latent"], steeper: bool) -> float:
    """Return the ECE that is left if the level of the logits, and with `steeper` their scale too, is fitted to the
    truth of these very latents: what the best choice of a level, or of both, could reach."""
    sign, logits = np.where(one, 1.0, -1.0), logit(np.clip(p, 1e-6, 1 - 1e-6))

    def loss(theta: np.ndarray) -> float:
        return float(np.logaddexp(0, -sign * (theta[0] + (theta[1] if steeper else 1) * logits)).mean())

    level, scale = minimize(loss, [0.0, 1.0]).x
    return expected_calibration_error(expit(level + (scale if steeper else 1) * logits), one)


def ece_by_chance(p: Float64[np.ndarray, " latent"]) -> float:
    """Return the ECE that is to be expected of probabilities that are right, of so few latents: the mean over draws in
    which each has one meaning with its own probability."""
    rng = np.random.default_rng(0)
    draws = [expected_calibration_error(p, rng.random(len(p)) < p) for _ in range(REPLICATES)] if len(p) else []
    return float(np.mean(draws)) if draws else float("nan")


def _bins(p: Float64[np.ndarray, " latent"]) -> list[Bool[np.ndarray, " latent"]]:
    """Return which latents are in each bin that has any."""
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    return [place == b for b in np.unique(place)]
