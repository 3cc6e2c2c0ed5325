"""Judge claims 11 and 12 by the tables of `analyses.claims.towards_monosemanticity`.

    sizes    a row per dictionary: dictionary, seed, resampled, d_sae, dead_share, l0, fvu, ce_recovered_zero and _mean
    judged   a row per latent: dictionary, seed, auroc, log_lift, verdict, tested, monosemantic (0, 1 or not tested), …
    labels   a row per dictionary and label: r of the best latent with the label's proxy

A verdict has the claim in words, whether it holds, and the numbers that decide.
"""

from typing import Any

import numpy as np
import pandas as pd

NEURONS, SHUFFLED = "neurons", "shuffled model"
_DRAWS = 2000


def eleven(sizes: pd.DataFrame, judged: pd.DataFrame, main: str) -> list[dict[str, Any]]:
    reached = sizes[(sizes.dictionary == main) & sizes.resampled.eq(True)]
    recovered = reached[["ce_recovered_zero", "ce_recovered_mean"]].min(axis=1)
    trained = sizes[sizes.dictionary.str.endswith("×")]
    how = trained.assign(how=np.where(trained.resampled.eq(True), "with", "without"))
    pairs = how.pivot(index=["dictionary", "seed"], columns="how", values="dead_share").astype(float)
    pairs = pairs.dropna()
    dying = pairs[pairs["without"] > 0]
    dead = {
        f"{row.dictionary}, seed {row.seed:.0f}": [float(row["with"]), float(row["without"])]
        for _, row in pairs.reset_index().iterrows()
    }
    claims = [
        {
            "claim": f"11a: at {main}, L0 ≤ 20 at ≥ 0.79 of the CE loss recovered (the lower of the two, each seed)",
            "held": bool(((reached.l0 <= 20) & (recovered >= 0.79)).all()),
            "numbers": {"l0": reached.l0.tolist(), "ce_recovered": recovered.tolist()},
        },
        {
            "claim": "11b: resampling lowers the dead share, if any is dead without it (dead with, dead without)",
            "held": bool(len(dying) and (dying["with"] < dying["without"]).all()),
            "numbers": dead,
        },
    ]
    measures = {
        "auroc": "11c: features beat {} on logit-token consistency (AUROC)",
        "monosemantic": "11d: features beat {} on the ranking (share called monosemantic)",
    }
    for measure, text in measures.items():
        for other in (NEURONS, f"{main}, {SHUFFLED}"):
            low, mean, high = difference(judged, measure, main, other)
            numbers = {name: by_seed(judged, measure, name) for name in (main, other)}
            numbers["difference"] = [mean, low, high]
            claims.append({"claim": text.format(other), "held": bool(low > 0), "numbers": numbers})
    return claims


def twelve(labels: pd.DataFrame, main: str) -> dict[str, Any]:
    features = labels[(labels.dictionary == main) & labels.resampled].groupby("label", sort=False).r
    neurons = labels[labels.dictionary == NEURONS].set_index("label").r
    numbers = {
        label: {"feature": rs.tolist(), "neuron": float(neurons[label]), "gain": float(rs.mean() - neurons[label])}
        for label, rs in features
    }
    enough = [label for label, each in numbers.items() if each["gain"] >= 0.2]
    claim = f"12: best feature's r ≥ best neuron's + 0.2 for at least 3 of 4 labels (here {len(enough)})"
    return {"claim": claim, "held": len(enough) >= 3, "numbers": numbers}


def by_seed(judged: pd.DataFrame, measure: str, name: str) -> list[float]:
    return judged[judged.dictionary == name].groupby("seed")[measure].mean().tolist()


def difference(judged: pd.DataFrame, measure: str, one: str, other: str) -> tuple[float, float, float]:
    """Return the low end, mean and high end of the 95 % interval of the difference of two means. Each is a mean over
    seeds of means over latents, and the bootstrap resamples latents within seeds."""
    generator, means = np.random.default_rng(0), []
    for name in (one, other):
        groups = [
            group.dropna().to_numpy(float) for _, group in judged[judged.dictionary == name].groupby("seed")[measure]
        ]
        groups = [group for group in groups if len(group)]
        if not groups:
            return np.nan, np.nan, np.nan
        drawn = [group[generator.integers(len(group), size=(_DRAWS, len(group)))].mean(1) for group in groups]
        means.append((np.mean([group.mean() for group in groups]), np.mean(drawn, 0)))
    low, high = np.quantile(means[0][1] - means[1][1], [0.025, 0.975])
    return float(low), float(means[0][0] - means[1][0]), float(high)


def summary(judged: pd.DataFrame) -> pd.DataFrame:
    """Return one row per dictionary and seed."""
    groups = judged.groupby(["dictionary", "seed"], sort=False)
    table = (
        groups[["auroc", "log_lift", "monosemantic"]].mean().assign(judged=groups.size(), tested=groups.tested.sum())
    )
    tested = judged[judged.tested]
    table["probability"] = tested.groupby(["dictionary", "seed"], sort=False).monosemanticity.mean()
    for verdict in ("monosemantic", "polysemantic", "single-token", "dense"):
        is_one = (tested.verdict == verdict).groupby([tested.dictionary, tested.seed], sort=False)
        table[f"share_{verdict}"] = is_one.mean()
    return table.reset_index()


def shown_sizes(sizes: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are shown, with means over the seeds."""
    without = np.where(sizes.resampled.eq(False), ", no resampling", "")
    named = sizes.assign(name=sizes.dictionary + without)
    table = named.groupby("name", sort=False).agg(
        n=("d_sae", "first"),
        seeds=("seed", lambda seeds: seeds.nunique() or np.nan),
        **{name: (name, "mean") for name in ("l0", "fvu", "ce_recovered_zero", "ce_recovered_mean", "dead_share")},
    )
    return table.reset_index()
