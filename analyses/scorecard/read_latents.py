"""Latents of real dictionaries that careful readers judged, as rows like those of planted worlds.

In: a folder as `readings/` next to this file, whose README describes it. Out: one row per latent, as in
`judged.judge_latents`: `family` (the source with the prefix READ, but without a number at its end, so that smollm2 and
smollm2-2 are left out together), the statistics, `is_one` (readers' mean p_one ≥ 50), `is_several`, `true_senses` (if
both readers count the same, else 0).
"""

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse
import torch

from analyses.scorecard.judged import NEVER_SURE, statistics_of
from analyses.scorecard.scores import auroc, ece_by_chance, expected_calibration_error
from interp import FeatureStore
from interp.features.scan_config import ScanConfig
from interp.storage.files import digest_json
from interp.verdict.calibration_fit import READ
from interp.verdict.coded_text import CodedText
from interp.verdict.evidence import collect_evidence

READINGS = Path(__file__).with_name("readings")
"""The readings that the calibration of the package is fitted to."""
MANY = 9
"""The number that readers write for many meanings, or if they see none."""


def read_sources(folder: Path) -> list[str]:
    return list(pd.read_csv(folder / "readings.csv").source.unique())


def digest_of(folder: Path, source: str) -> str:
    """Return a digest of the source's latents and of what the readers said of them."""
    rows = pd.read_csv(folder / "readings.csv").query("source == @source")
    return digest_json(rows.to_csv(index=False))[:8]


def family_of(source: str) -> str:
    return READ + re.sub(r"-\d+$", "", source)


class Source(NamedTuple):
    """The latents of one source, and the text on which they fire."""

    rows: pd.DataFrame
    """Rows of `readings.csv`."""
    tokens: torch.Tensor
    """[seq, pos]"""
    codes: scipy.sparse.csr_matrix
    """[row, latent]: latents in the order of the rows."""
    vocab: list[str]


def open_source(folder: Path, source: str) -> Source:
    rows = pd.read_csv(folder / "readings.csv").query("source == @source").reset_index(drop=True)
    text = rows.text_of[0]
    meta = json.loads((folder / f"vocab-{text}.json").read_text())
    ids = pd.read_parquet(folder / f"tokens-{text}.parquet").token.to_numpy(np.int32)
    tokens = ids.reshape(-1, meta["n_ctx"])[: rows.n_seq[0]]
    entries = pd.read_parquet(folder / "codes.parquet", filters=[("source", "==", source)])
    place = {latent: number for number, latent in enumerate(rows.latent)}
    shape = (tokens.size, len(rows))
    codes = scipy.sparse.csr_matrix((entries.value, (entries.row, entries.latent.map(place))), shape=shape)
    return Source(rows, torch.tensor(tokens), codes, meta["vocab"])


def told_by_readers(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    one = (rows[["p_one_1", "p_one_2"]].mean(axis=1) >= 50).to_numpy()
    agreed = (rows.n_meanings_1 == rows.n_meanings_2) & (rows.n_meanings_1 < MANY)
    return {"is_one": one, "is_several": ~one, "true_senses": np.where(agreed, rows.n_meanings_1, 0)}


def read_latents(folder: Path, source: str) -> pd.DataFrame:
    """Return the latents of a source, with what readers said, what `judged.statistics_of` has, and `shared`, what the
    firings of the largest part share."""
    rows, tokens, codes, vocab = open_source(folder, source)
    with TemporaryDirectory() as out:
        counts = ScanConfig(n_top=0, n_per_interval=0, n_coactivations=0, n_neighbours=0)
        features = FeatureStore.from_codes(tokens, codes, out, vocab=vocab, config=counts)
        evidence = collect_evidence(CodedText.from_features(features), NEVER_SURE, n_shifts=0)
    common = [evidence.observed.shared.get((latent, 0), []) for latent in range(len(rows))]
    columns = (
        {"family": READ + re.sub(r"-\d+$", "", source), "world": READ + source}
        | told_by_readers(rows)
        | statistics_of(evidence)
    )
    return rows.assign(**columns, shared=[shared[0].words if shared else "" for shared in common])


def judged_by_both(judged: pd.DataFrame) -> pd.DataFrame:
    """Return the latents that were tested; single tokens, which the verdict knows by their number, are left out."""
    return judged[judged.tested & (judged.draw != "lexical")]


def agreement(judged: pd.DataFrame) -> pd.DataFrame:
    """Return one row per source, and one of all: `auroc`, `ece` of the probability of one meaning for readers'
    judgement, and `ece_by_chance`, what it would be were the probability right; `readers` and `verdict`, the shares of
    one meaning among latents drawn at random; of the `n_senses` latents whose number of meanings both readers agree on,
    the share for which it is found, `senses`, or missed by one at most, `senses_near`."""
    judged, rows = judged_by_both(judged), []
    for name, part in [*judged.groupby("family"), ("all", judged)]:
        p, one = part.monosemanticity.to_numpy(float), part.is_one.to_numpy(bool)
        random, counted = part[part.draw == "random"], part[~part.is_one & (part.true_senses > 1)]
        apart = (counted.n_senses - counted.true_senses).abs()
        row = {"source": name, "n": len(part), "auroc": auroc(one, p, np.ones(len(p)))}
        row |= {
            "ece": expected_calibration_error(p, one),
            "ece_by_chance": ece_by_chance(p),
            "readers": random.is_one.mean(),
        }
        row |= {"verdict": (random.monosemanticity >= 0.5).mean(), "n_senses": len(counted)}
        rows.append(row | {"senses": (apart == 0).mean(), "senses_near": (apart <= 1).mean()})
    return pd.DataFrame(rows)


def disagreements(judged: pd.DataFrame, n: int = 20) -> pd.DataFrame:
    """Return the n latents of each source whose probability is furthest from the readers' mean, with what a reader said
    and what the firings share."""
    readers = judged[["p_one_1", "p_one_2"]].mean(axis=1) / 100
    table = judged_by_both(judged.assign(readers=readers, apart=(judged.monosemanticity - readers).abs()))
    worst = table.sort_values("apart", ascending=False).groupby("source", sort=False).head(n)
    shown = ["source", "latent", "readers", "monosemanticity", "n_senses", "meaning_1", "shared"]
    return worst.sort_values(["source", "apart"], ascending=[True, False])[shown].reset_index(drop=True)
