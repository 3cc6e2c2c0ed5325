"""Latents of real dictionaries that careful readers judged, as rows beside those of planted worlds.

In: a folder with `readings.csv` (source, latent, text_of, draw, p_one_1, p_one_2, n_meanings_1, n_meanings_2),
`codes.parquet` (source, latent, row = seq · n_ctx + pos, value), `tokens-TEXT.parquet` and `vocab-TEXT.json`. Out: one
row a latent, as `judged.judge_latents` has them: `family` (the source, behind READ), the statistics and their errors,
`is_one` (readers' mean p_one ≥ 50), `is_several`, `true_senses` (where both readers count as many, else 0).
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import scipy.sparse
import torch

from analyses.scorecard.judged import ALWAYS_ONE, READ
from analyses.scorecard.scores import auroc, expected_calibration_error
from interp import FeatureStore
from interp.features.feature_store import ScanConfig
from interp.verdict import evidence
from interp.verdict.calibration import Calibration
from interp.verdict.similarity import NAMES

MANY = 9
"""What readers write for many meanings, or none to be seen."""
COVARIANCE = ("variance", "covariance", "variance_of_likeness")


def read_sources(folder: Path) -> list[str]:
    return list(pd.read_csv(folder / "readings.csv").source.unique())


def read_latents(folder: Path, source: str, calibration: Calibration | None = None) -> pd.DataFrame:
    """The latents of a source; with a calibration also `monosemanticity`, `ci_low`, `ci_high` and `n_senses`."""
    rows = pd.read_csv(folder / "readings.csv").query("source == @source").reset_index(drop=True)
    text = rows.text_of[0]
    meta = json.loads((folder / f"vocab-{text}.json").read_text())
    tokens = pd.read_parquet(folder / f"tokens-{text}.parquet").token.to_numpy().reshape(-1, meta["n_ctx"])
    entries = pd.read_parquet(folder / "codes.parquet", filters=[("source", "==", source)])
    place = {latent: number for number, latent in enumerate(rows.latent)}
    shape = (tokens.size, len(rows))
    codes = scipy.sparse.csr_matrix((entries.value, (entries.row, entries.latent.map(place))), shape=shape)
    with TemporaryDirectory() as out:
        counts = ScanConfig(n_top=0, n_per_interval=0, n_coactivations=0, n_neighbours=0)
        features = FeatureStore.from_codes(torch.tensor(tokens), codes, out, vocab=meta["vocab"], settings=counts)
        found = evidence.collect_evidence(
            features.tokens,
            features.codes,
            n_vocab=len(meta["vocab"]),
            maxima=features.table().sort_values("latent")["max"].fillna(0).to_numpy(np.float32),
            calibration=calibration or ALWAYS_ONE,
            vocab=meta["vocab"],
            nulls=0,
        )
    one = rows[["p_one_1", "p_one_2"]].mean(axis=1) >= 50
    agreed = (rows.n_meanings_1 == rows.n_meanings_2) & (rows.n_meanings_1 < MANY)
    judged, covariance = found.found, found.found.covariance
    columns = {
        "family": READ + source,
        "world": READ + source,
        "is_one": one,
        "is_several": ~one,
        "true_senses": np.where(agreed, rows.n_meanings_1, 0),
        "tested": found.testable,
    }
    columns |= {name: found.of(name) for name in NAMES}
    columns |= dict(zip(COVARIANCE, (covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]), strict=True))
    if calibration is not None:
        chance = calibration.probability(judged.statistics, covariance)
        columns |= {"monosemanticity": chance.one, "ci_low": chance.low, "ci_high": chance.high}
        columns |= {"n_senses": judged.n_senses}
    return rows.assign(**columns)


def agreement(judged: pd.DataFrame) -> pd.DataFrame:
    """One row a source, and one of all: `auroc`, `ece` of the probability of one meaning for readers' judgement;
    `readers` and `verdict`, the shares of one meaning among latents drawn at random; `senses`, the share of the
    `n_senses` latents whose number of meanings both readers agree on for which it is found."""
    judged, rows = judged[judged.tested & (judged.draw != "lexical")], []
    for name, part in [*judged.groupby("family"), ("all", judged)]:
        p, one = part.monosemanticity.to_numpy(float), part.is_one.to_numpy(bool)
        random, counted = part[part.draw == "random"], part[~part.is_one & (part.true_senses > 1)]
        row = {"source": name, "n": len(part), "auroc": auroc(one, p, np.ones(len(p)))}
        row |= {"ece": expected_calibration_error(p, one), "readers": random.is_one.mean()}
        row |= {"verdict": (random.monosemanticity >= 0.5).mean(), "n_senses": len(counted)}
        rows.append(row | {"senses": (counted.n_senses == counted.true_senses).mean()})
    return pd.DataFrame(rows)
