"""Can we predict which features will steer?

    python -m analyses.claims.predicted_steering                    trains the model first; resumes
    python -m analyses.claims.predicted_steering --run runs/demo    with the model and the text of a run
    python -m analyses.claims.predicted_steering --quick            a tiny model, for the tests

The dictionaries are TopK, on one model's MLP, with several seeds. Latents are drawn from those that are alive, and each
is held where it costs equal KL (`analyses.claims.steering_scores`). After Arad, Mueller & Belinkov 2025 (arXiv
2505.20063).

Claims tested (row 19), each in every seed. The concept of a latent is the set of tokens at its firings and directly
after them. A latent's success is how much more of its concept is written.
    19b  what a latent puts out in one step predicts its success: Spearman ≥ 0.7
    19c  the tenth with the highest scores succeeds at least twice as well as latents drawn at random
    19d  what a latent puts out predicts this better than what it reads, measured by how well the current token predicts
         its firing
    19e  as 19b, but success is how much more often the latent itself fires in what is written
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

from analyses.claims import circuit_figures
from analyses.claims.compared_dictionaries import HOOK, TINY, Sizes, Studied, options, sized
from analyses.claims.neighbouring_features import FEW
from analyses.claims.steering_scores import steering_scores, steering_success
from analyses.record import Claim, Record, interval
from interp import scan_features
from interp.compare.latent_universality import MIN_FIRED

PREDICTED = {"output": "success", "input": "success", "density": "success", "self_output": "self_success"}
"""The predictions, and the measurements with which they are compared."""


@dataclass(frozen=True, kw_only=True)
class Setting(Sizes):
    factor: int = 4
    """Latents of a dictionary a neuron."""
    latents: int = 210
    kl: float = 0.5
    """Nats, at which latents are compared."""


QUICK = Setting(**TINY, latents=8)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "predicted_steering", arguments)
    setting = sized(QUICK if o.quick else Setting(), o)
    record = Record(o.out, setting, svg=not o.quick)
    studied = Studied(setting, o.out)
    results_of_seeds = [
        record.piece(f"seed-{seed}", lambda seed=seed: of_seed(seed, setting, studied)) for seed in setting.seeds
    ]
    tables = [pd.DataFrame(each) for each in results_of_seeds]
    results = record.finish(claims(tables), {"steering_scores": circuit_figures.steering_scores(tables[0])})
    shutil.rmtree(studied.work, ignore_errors=True)
    return results


def of_seed(seed: int, setting: Setting, studied: Studied) -> Mapping[str, np.ndarray]:
    """Return the predictions for latents that are drawn, and what is found: for those for which there is a dose."""
    sae = studied.dictionary(setting.factor, seed)
    features = scan_features(sae, studied.judged, HOOK, studied.work / f"features-{seed}", config=FEW)
    model, table = studied.run.model, features.table().set_index("latent")
    alive = table.index[table["n_active"] >= MIN_FIRED].to_numpy()
    drawn = np.sort(np.random.default_rng(seed).permutation(alive)[: setting.latents]).tolist()
    scores = steering_scores(features, model, HOOK, sae, drawn, kl=setting.kl, seed=seed).dropna(subset=["multiple"])
    doses = dict(zip(scores["latent"].tolist(), scores["multiple"], strict=True))
    success = steering_success(features, model, HOOK, sae, doses, seed=seed + 1)
    both = scores.merge(success, on="latent")
    both["density"] = table["density"].reindex(both["latent"]).to_numpy()
    return {name: both[name].to_numpy() for name in both}


def claims(tables: Sequence[pd.DataFrame]) -> list[Claim]:
    rank = {predicted: [_spearman(table, predicted, done) for table in tables] for predicted, done in PREDICTED.items()}
    best = [table.nlargest(max(1, len(table) // 10), "output")["success"].mean() for table in tables]
    drawn = [table["success"].mean() for table in tables]
    gain = interval(np.subtract(rank["output"], rank["input"]).tolist())
    between = interval([float(table["output"].corr(table["input"], method="spearman")) for table in tables])
    numbers = {name: interval(values) for name, values in rank.items()}
    again = [float((table["self_success"] > 0.05).mean()) for table in tables]
    n = " and ".join(str(each) for each in sorted({len(table) for table in tables}))
    return [
        Claim(
            row="19b",
            text="What a latent puts out predicts its steering, before anything is written: Spearman ≥ 0.7.",
            holds=min(rank["output"]) >= 0.7,
            found=f"Spearman {numbers['output']}; its density alone {numbers['density']}; {n} latents a seed.",
            numbers=numbers,
        ),
        Claim(
            row="19c",
            text="The tenth with the highest scores steers at least twice as well as random latents at equal KL.",
            holds=all(b >= 2 * d and b > 0 for b, d in zip(best, drawn, strict=True)),
            found=f"Rise of the concept {interval(best)} against {interval(drawn)}.",
            numbers={"best": best, "drawn": drawn},
        ),
        Claim(
            row="19d",
            text="What a latent puts out predicts its steering better than what it reads does.",
            holds=gain.low > 0,
            found=f"Spearman of what it reads {numbers['input']}, difference {gain}; of one with the other {between}.",
            numbers={"difference": gain, "input_with_output": between},
        ),
        Claim(
            row="19e",
            text="What a latent puts out predicts how much more often it then fires in what is written: "
            "Spearman ≥ 0.7.",
            holds=min(rank["self_output"]) >= 0.7,
            found=f"Spearman {numbers['self_output']}; {interval(again).percent()} of latents come to fire on 5 % more "
            "of the tokens.",
            numbers={"self_output": numbers["self_output"], "again": again},
        ),
    ]


def _spearman(table: pd.DataFrame, predicted: str, measured: str) -> float:
    return float(scipy.stats.spearmanr(table[predicted], table[measured]).statistic)


if __name__ == "__main__":
    main()
