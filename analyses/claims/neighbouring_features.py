"""Do features with similar directions fire in similar contexts?

    python -m analyses.claims.neighbouring_features                    trains the model first; resumes
    python -m analyses.claims.neighbouring_features --run runs/demo    with the model and the text of a run
    python -m analyses.claims.neighbouring_features --quick            a tiny model, for the tests

The dictionaries are TopK, on one model's MLP, with several seeds. Claim tested (row 20): the rank correlation of the
decoder cosine of two latents with the similarity of their contexts is above 0 for each seed, by its interval
(`claims.neighbourhoods`: contexts from opposite halves of the text; the bootstrap draws latents). It is shown next to
two nulls: each latent has another's contexts, or a random direction.
"""

import shutil
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analyses.claims import neighbour_figures
from analyses.claims.compared_dictionaries import HOOK, TINY, Sizes, Studied, options, sized
from analyses.claims.neighbourhoods import neighbourhoods
from analyses.record import Claim, Interval, Record, interval
from interp import ScanConfig, scan_features
from interp.verdict.measure_nulls import random_directions, second_moments

FEW = ScanConfig(n_top=0, n_per_interval=0, n_coactivations=0, n_neighbours=0, n_tokens=50)


@dataclass(frozen=True, kw_only=True)
class Setting(Sizes):
    factor: int = 4
    """Latents of a dictionary a neuron."""
    latents: int = 300
    """Number of latents; all their pairs are compared."""


QUICK = Setting(**TINY, latents=60)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "neighbouring_features", arguments)
    setting = sized(QUICK if o.quick else Setting(), o)
    record = Record(o.out, setting, svg=not o.quick)
    studied = Studied(setting, o.out)
    results_of_seeds = {
        seed: record.piece(f"seed-{seed}", lambda seed=seed: of_seed(seed, setting, studied)) for seed in setting.seeds
    }
    tables = {
        f"seed {seed}": pd.DataFrame({name: each[name] for name in ("cosine", "similarity")})
        for seed, each in results_of_seeds.items()
    }
    results = record.finish(
        [claim(list(results_of_seeds.values()))], {"neighbourhoods": neighbour_figures.neighbourhoods(tables)}
    )
    shutil.rmtree(studied.work, ignore_errors=True)
    return results


def of_seed(seed: int, setting: Setting, studied: Studied) -> dict[str, Any]:
    sae = studied.dictionary(setting.factor, seed)
    features = scan_features(sae, studied.judged, HOOK, studied.work / f"features-{seed}", config=FEW)
    measured = neighbourhoods(features, latents=setting.latents, seed=seed)
    directions = random_directions(second_moments(features.W_dec), features.d_sae, [seed, 0])
    random = neighbourhoods(features, latents=setting.latents, seed=seed, W_dec=directions)
    return {
        "cosine": measured.pairs["cosine"].to_numpy(np.float32),
        "similarity": measured.pairs["similarity"].to_numpy(np.float32),
        "rho": list(measured.rank_correlation),
        "other_contexts": measured.null,
        "random_directions": random.rank_correlation.value,
    }


def claim(results: list[dict[str, Any]]) -> Claim:
    each = [Interval(*one["rho"]) for one in results]
    nulls = {name: interval([one[name] for one in results]) for name in ("other_contexts", "random_directions")}
    return Claim(
        row="20",
        text="The rank correlation of the cosine of two latents with the similarity of their contexts is above 0.",
        holds=all(one.low > 0 for one in each),
        found=f"{', '.join(map(str, each))} by seed; with another latent's contexts "
        f"{nulls['other_contexts'].mean:.3f}, with random directions {nulls['random_directions'].mean:.3f}.",
        numbers={"rho": interval([one.mean for one in each]), "by_seed": [list(one) for one in each], **nulls},
    )


if __name__ == "__main__":
    main()
