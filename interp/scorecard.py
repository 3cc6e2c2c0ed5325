"""How far a ranking can be trusted: every score of every latent held against the truth.

    judged = judge_world(planted_world(config))         one row a latent: truth, statistics, counts
    judged = leave_one_family_out(pd.concat([...]))     the probability, calibrated on the other families alone
    table  = scorecard(judged, {"monosemanticity": 1, "kinship": 1, "token_entropy": -1})

A score is good if it ranks latents with one meaning above latents with several (AUROC, precision among the first k),
and follows their polysemanticity (Spearman). Latents that fire often are more often polysemantic, so these are matched
for frequency: within each fifth of the firing counts both kinds weigh the same. A probability is good if of latents
with probability p a share p has one meaning:

    ECE = Σ_b n_b / n · |mean p − share of one meaning|       over ten bins b of p

Intervals are bootstraps over worlds and latents.
"""

from collections.abc import Iterator, Mapping
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor

from interp.codes import SparseCodes
from interp.features import FeatureStore
from interp.ranking import count_firings
from interp.scores import evidence, unity
from interp.scores.calibration import Calibration, calibrate, fit_calibration
from interp.scores.table import measures_table
from interp.worlds import FAMILIES, Truth, World, WorldConfig

if TYPE_CHECKING:
    import pandas as pd

STRATA = 5
BINS = 10
REPLICATES = 200
_MOST = 5.0
"""That a learnt latent counts in a calibration, for each planted one: a dozen learnt ones would decide it otherwise."""


def calibration_worlds(seeds: int, **fixed: float) -> Iterator[tuple[str, WorldConfig]]:
    """Names and configurations of `seeds` worlds of each family, all knobs drawn at random but those that are given,
    so that no one difficulty is learnt."""
    rng = np.random.default_rng(0)
    for seed in range(seeds):
        for family in FAMILIES:
            drawn = {
                "n_seq": int(rng.choice([384, 768, 1024])),
                "segment": int(rng.choice([15, 40, 80])),
                "superposition": float(rng.uniform(2, 6)),
                "noise": float(rng.choice([0.05, 0.15, 0.25])),
                "similarity": float(rng.choice([0.0, 0.0, 0.2])),
                "rarity": float(rng.choice([1.0, 1.0, 0.4])),
                "n_latents": 300,
            }
            yield f"{family}-{seed}", WorldConfig(family=family, seed=1000 + seed, **(drawn | fixed))  # type: ignore[arg-type]


def judge_world(world: World, name: str | int = 0, *, calibration: Calibration | None = None) -> "pd.DataFrame":
    """`judge_latents` of a planted world."""
    kinds = np.array(world.kinds)
    return judge_latents(
        world.tokens,
        world.codes,
        world.vocab,
        world.truth,
        family=world.config.family,
        world=name,
        kinds=kinds,
        calibration=calibration,
    )


def judge_latents(
    tokens: Int[Tensor, "seq pos"],
    codes: SparseCodes,
    vocab: list[str],
    truth: Truth,
    *,
    family: str,
    world: str | int,
    kinds: np.ndarray | str,
    W_dec: Float[Tensor, "d_sae d_in"] | None = None,
    W_U: Float[Tensor, "d_in d_vocab"] | None = None,
    calibration: Calibration | None = None,
) -> "pd.DataFrame":
    """One row a latent: what is true of it, the evidence, every single measure (`scores.table`), the
    `monosemanticity` of the calibration (None: the shipped one) with `ci_low` and `ci_high`, `n_senses`, `token_share`,
    `n_active`, `tested`."""
    import pandas as pd

    calibration = calibration or Calibration.load()
    facts = count_firings(tokens, codes, vocab)
    found = evidence.collect_evidence(
        tokens,
        codes,
        n_vocab=len(vocab),
        maxima=facts.maxima,
        has_one=lambda values: float(calibration.probability(values)),
        vocab=vocab,
        config=evidence.EvidenceConfig(nulls=0),
    )
    calibrated = calibrate(found, calibration)
    with TemporaryDirectory() as folder:
        features = FeatureStore.from_codes(tokens, codes, folder, W_dec=W_dec, W_U=W_U, vocab=vocab)
        measures = measures_table(features).drop(columns="latent")
    columns = {
        "family": family,
        "world": str(world),
        "kind": kinds,
        "latent": np.arange(codes.d_sae),
        "top_share": truth.top_share,
        "polysemanticity": truth.polysemanticity,
        "true_senses": truth.n_senses,
        "is_countable": truth.is_countable,
        "is_one": truth.is_one,
        "is_several": truth.is_several,
        "monosemanticity": calibrated.probability,
        "ci_low": calibrated.ci_low,
        "ci_high": calibrated.ci_high,
        "n_senses": found.n_senses,
        "token_share": facts.token_share,
        "n_active": facts.n_active,
        "tested": found.testable,
    }
    columns |= {name: found.of(name) for name in evidence.NAMES}
    return pd.concat([pd.DataFrame(columns), measures], axis=1)


def claimed(judged: "pd.DataFrame") -> "pd.DataFrame":
    """The latents that were tested and of which the truth claims one meaning or several."""
    return judged[judged.tested & (judged.is_one | judged.is_several)].reset_index(drop=True)


def fit_to(judged: "pd.DataFrame", *, fits: int = 20, seed: int = 0) -> Calibration:
    """A calibration on all latents of the table whose truth is claimed. Those whose column `learnt` holds (none, where
    there is no such column) and the others weigh the same, but that a learnt one counts five times at most."""
    table = claimed(judged)
    learnt = table.learnt.to_numpy(bool) if "learnt" in table else np.zeros(len(table), bool)
    weight = np.where(learnt, min(_MOST, (~learnt).sum() / max(1, learnt.sum())), 1.0)
    worlds = np.unique(table.world.to_numpy(str), return_inverse=True)[1]
    values = table[list(unity.NAMES)].to_numpy(np.float64)
    return fit_calibration(values, table.is_one.to_numpy(bool), worlds, weight, fits=fits, seed=seed)


def leave_one_family_out(judged: "pd.DataFrame") -> "pd.DataFrame":
    """The table with `monosemanticity` from a calibration on the worlds of all other families."""
    out = judged.copy()
    for family in judged.family.unique():
        own = (judged.family == family).to_numpy()
        out.loc[own, "monosemanticity"] = probabilities(judged[own], judged[~own])
    return out


def probabilities(part: "pd.DataFrame", others: "pd.DataFrame") -> Float64[np.ndarray, " latent"]:
    """Of one meaning, for the latents of `part`, from a calibration on those of `others`."""
    return fit_to(others, fits=0).probability(part[list(unity.NAMES)].to_numpy(np.float64))


def scorecard(judged: "pd.DataFrame", scores: Mapping[str, int], *, seed: int = 0) -> "pd.DataFrame":
    """One row a score, best first: `score`, `auroc`, `spearman`, `precision` among the first k (k: half as many as have
    one meaning), each with `_low` and `_high`, and `n`. scores: +1 where a high value is for one meaning, −1 against.

    Latents for which a score is NaN count as in the middle; a score that is the same for all is left out.
    Raises ValueError where the truth of no tested latent is claimed.
    """
    import pandas as pd

    table = claimed(judged)
    if len(table) == 0:
        raise ValueError("no latent was tested whose truth is one meaning or several: take more latents or more text")
    rows = []
    for name, sign in scores.items():
        score = sign * table[name].to_numpy(np.float64)
        if np.isfinite(score).sum() < 2 or np.nanstd(score) == 0:
            continue
        score = np.where(np.isfinite(score), score, np.nanmedian(score) if np.isfinite(score).any() else 0.0)
        draws = [_measure(table, score, chosen) for chosen in _draws(table, seed)]
        first, rest = draws[0], np.array(draws)
        row: dict[str, float | str] = {"score": name, "n": len(table)}
        for place, measure in enumerate(("auroc", "spearman", "precision")):
            finite = rest[np.isfinite(rest[:, place]), place]
            low, high = np.quantile(finite, [0.025, 0.975]) if len(finite) else (np.nan, np.nan)
            row |= {measure: first[place], f"{measure}_low": low, f"{measure}_high": high}
        rows.append(row)
    columns = [
        "score",
        "n",
        *(f"{m}{end}" for m in ("auroc", "spearman", "precision") for end in ("", "_low", "_high")),
    ]
    return pd.DataFrame(rows, columns=columns).sort_values("auroc", ascending=False, ignore_index=True)


def calibration_curve(judged: "pd.DataFrame") -> "pd.DataFrame":
    """Ten bins of probability: `p` (mean), `share` with one meaning, its 95 % interval `low`, `high` (Wilson), `n`."""
    import pandas as pd

    table = claimed(judged)
    p, one = table.monosemanticity.to_numpy(), table.is_one.to_numpy(float)
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    rows = []
    for own in (place == b for b in range(BINS)):
        if own.any():
            low, high = _wilson(one[own].sum(), own.sum())
            rows.append({"p": p[own].mean(), "share": one[own].mean(), "low": low, "high": high, "n": int(own.sum())})
    return pd.DataFrame(rows)


def verdict_quality(judged: "pd.DataFrame", *, seed: int = 0) -> dict[str, float]:
    """`ece`, `accuracy` at ½, each with `_low` and `_high`; `abstained`, the share whose interval holds ½ or that could
    not be tested, and `accuracy_sure` of the others; of latents with several senses the share whose number is found,
    `senses_exact`, or missed by one at most, `senses_near`; and `senses_exact_countable` of the `n_countable` whose
    number is beyond doubt (`Truth.is_countable`)."""
    table = claimed(judged)
    p, one = table.monosemanticity.to_numpy(), table.is_one.to_numpy(bool)
    sure = ((table.ci_low > 0.5) | (table.ci_high < 0.5)).to_numpy()
    truth = judged[judged.is_one | judged.is_several]
    several = table[table.is_several & (table.true_senses > 1)]
    off = np.abs(several.n_senses - np.minimum(several.true_senses, 6)).to_numpy()
    clear = off[several.is_countable.to_numpy(bool)]
    draws = np.array([(_ece(p[c], one[c]), ((p[c] >= 0.5) == one[c]).mean()) for c in _draws(table, seed)])
    out = {
        "n": len(table),
        "ece": draws[0, 0],
        "accuracy": draws[0, 1],
        "abstained": 1 - sure.sum() / max(len(truth), 1),
        "accuracy_sure": float(((p >= 0.5) == one)[sure].mean()) if sure.any() else float("nan"),
        "senses_exact": float((off == 0).mean()) if len(off) else float("nan"),
        "senses_exact_countable": float((clear == 0).mean()) if len(clear) else float("nan"),
        "n_countable": len(clear),
        "senses_near": float((off <= 1).mean()) if len(off) else float("nan"),
    }
    for place, name in enumerate(("ece", "accuracy")):
        out[f"{name}_low"], out[f"{name}_high"] = np.quantile(draws[1:, place], [0.025, 0.975])
    return {name: float(value) for name, value in out.items()}


def _draws(table: "pd.DataFrame", seed: int) -> Iterator[Int64[np.ndarray, " latent"]]:
    """All latents; then, again and again, worlds drawn with replacement and latents of each likewise."""
    rng = np.random.default_rng(seed)
    yield np.arange(len(table))
    own = [np.flatnonzero((table.world == world).to_numpy()) for world in table.world.unique()]
    for _ in range(REPLICATES):
        drawn = [own[i] for i in rng.integers(len(own), size=len(own))]
        yield np.concatenate([rng.choice(latents, len(latents)) for latents in drawn])


def _measure(
    table: "pd.DataFrame", score: Float64[np.ndarray, " latent"], chosen: Int64[np.ndarray, " drawn"]
) -> tuple[float, ...]:
    from scipy.stats import spearmanr
    from sklearn.metrics import roc_auc_score

    score, one = score[chosen], table.is_one.to_numpy(bool)[chosen]
    if one.all() or not one.any():
        return float("nan"), float("nan"), float("nan")
    weights = matched_weights(table.n_active.to_numpy()[chosen], one)
    if not weights.any():
        return float("nan"), float("nan"), float("nan")
    k = max(1, int(one.sum()) // 2)
    best = np.argsort(-score, kind="stable")[:k]
    rank = spearmanr(score, -table.polysemanticity.to_numpy()[chosen]).statistic
    precision = (one[best] * weights[best]).sum() / max(weights[best].sum(), 1e-12)
    return float(roc_auc_score(one, score, sample_weight=weights)), float(rank), float(precision)


def matched_weights(n_active: np.ndarray, one: Bool[np.ndarray, " latent"]) -> Float64[np.ndarray, " latent"]:
    """Weights with which, within each fifth of the firing counts, both kinds weigh as much as the fifth has latents
    of the rarer kind; zero in a fifth that lacks one."""
    edges = np.quantile(n_active, np.linspace(0, 1, STRATA + 1)[1:-1])
    stratum = np.searchsorted(edges, n_active, side="right")
    weights = np.zeros(len(one))
    for s in range(STRATA):
        kinds = [(stratum == s) & one, (stratum == s) & ~one]
        least = min(kind.sum() for kind in kinds)
        for kind in kinds:
            weights[kind] = least / max(kind.sum(), 1)
    return weights


def _ece(p: Float64[np.ndarray, " latent"], one: Bool[np.ndarray, " latent"]) -> float:
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    bins: list[np.ndarray] = [place == b for b in range(BINS)]
    return float(sum(own.mean() * abs(p[own].mean() - one[own].mean()) for own in bins if own.any()))


def _wilson(k: float, n: int) -> tuple[float, float]:
    z = 1.96
    centre, spread = (k + z**2 / 2) / (n + z**2), z / (n + z**2) * np.sqrt(k * (n - k) / n + z**2 / 4)
    return float(centre - spread), float(centre + spread)
