"""Judge latents whose meanings are known as any others are judged, by a calibration that never saw their kind of text.

    table        = judge_world(planted_world(config), name)      one row a latent: truth, statistics, senses, measures
    calibrations = family_calibrations(pd.concat([...]))         by family, fitted to all others
    judged       = with_verdicts(table, calibrations)            probability, interval, number of senses

Each world is made once: the senses of all latents are looked for, and count where a calibration leaves room for them.
`judge_held_out` does all three.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor

from analyses.scorecard.factors import Factor
from analyses.scorecard.pair_sums import Embed
from analyses.scorecard.planted_latents import World, WorldConfig, planted_world
from analyses.scorecard.planted_texts import FAMILIES
from analyses.scorecard.rivals import rival_measures
from analyses.scorecard.truth import Truth, meanings_of_firings, sense_purity, senses_in_sample
from interp.codes.sparse_codes import SparseCodes
from interp.features.feature_store import FeatureStore
from interp.features.scan_config import ScanConfig
from interp.runtime.progress import Progress, no_progress
from interp.verdict.calibration import Calibration
from interp.verdict.calibration_fit import FITS, fit_calibration
from interp.verdict.coded_text import CodedText
from interp.verdict.evidence import FiringEvidence, collect_evidence
from interp.verdict.measures import measure_values
from interp.verdict.similarity import MAX_SENSES, STATISTIC_NAMES

NEVER_SURE = Calibration(np.zeros((2, len(STATISTIC_NAMES))), np.zeros(2))
"""Collects evidence in which the senses of all latents are looked for."""
TRUE = ("top_share", "polysemanticity", "is_countable", "is_one", "is_several")


class Basis(NamedTuple):
    """Latents to judge: of a dictionary, of a layer, of a null."""

    codes: SparseCodes
    """Rows seq * n_ctx + pos."""
    W_dec: Float[Tensor, "d_sae d_in"] | None = None
    W_U: Float[Tensor, "d_in d_vocab"] | None = None
    twin: "Basis | None" = None
    """A dictionary from another seed. It and the embeddings are for the measures of the same name."""
    embeddings: Embed | None = None


def calibration_worlds(seeds: int, **fixed: float) -> Iterator[tuple[str, WorldConfig]]:
    """Yield names and configurations of `seeds` worlds of each family, all knobs drawn at random but those that are
    given, so that no one difficulty is learnt."""
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


def judge_held_out(worlds: Sequence[tuple[str, WorldConfig]], progress: Progress = no_progress) -> pd.DataFrame:
    """Return the worlds judged, those of each family by a calibration on the worlds of all other families."""
    tables = []
    for done, (name, config) in enumerate(worlds):
        progress(done, len(worlds), name)
        tables.append(judge_world(planted_world(config), name))
    table = pd.concat(tables)
    return with_verdicts(table, family_calibrations(table))


def judge_world(world: World, name: str) -> pd.DataFrame:
    """Do `judge_latents` for a planted world."""
    arguments = world.tokens, Basis(world.codes), world.vocab, world.factors, world.truth
    return judge_latents(*arguments, family=world.config.family, world=name, kind=np.array(world.kinds))


def judge_latents(
    tokens: Int[Tensor, "seq pos"],
    latents: Basis,
    vocab: Sequence[str],
    factors: Sequence[Factor],
    truth: Truth,
    **about: Any,
) -> pd.DataFrame:
    """Return one row per latent: what it is `about`, what is true of it, `n_active`, what `statistics_of` has;
    `sample_senses`, the number of senses were the meaning of each sampled firing known, and `sense_purity`, the share
    of each sense's mass that has one meaning; every single measure (`verdict.measures`) and every rival of the verdict
    (`rivals`).
    """
    text = CodedText.from_codes(tokens, latents.codes, vocab)
    evidence = collect_evidence(text, NEVER_SURE, n_shifts=0)
    meanings = meanings_of_firings(truth, factors, len(latents.codes), evidence.sampled_rows)
    purity = sense_purity(meanings, evidence.mass_shares, evidence.observed.senses)
    purity = np.pad(purity, ((0, 0), (0, MAX_SENSES - purity.shape[1])), constant_values=np.nan)
    columns = about | {"latent": np.arange(text.d_sae)} | {name: getattr(truth, name) for name in TRUE}
    columns |= {"true_senses": truth.n_senses, "n_active": text.n_active} | statistics_of(evidence)
    columns |= {"sample_senses": senses_in_sample(meanings, evidence.mass_shares), "sense_purity": list(purity)}
    return pd.concat([pd.DataFrame(columns), _measures(tokens, latents, vocab)], axis=1)


def statistics_of(evidence: FiringEvidence) -> dict[str, Any]:
    """Return the columns from which `with_verdict` tells the verdict by any calibration: `tested`, the statistics and
    their `covariance`, and, were the latent not sure to have one meaning, its number of senses (`n_parts`) with the
    statistics of each (`part_statistics`, `part_covariance`)."""
    observed = evidence.observed
    arrays = {
        "covariance": observed.covariance,
        "part_statistics": observed.sense_statistics,
        "part_covariance": observed.sense_covariance,
    }
    flat = {name: list(values.reshape(len(values), -1)) for name, values in arrays.items()}
    statistics = {name: evidence.statistic(name) for name in STATISTIC_NAMES}
    return {"tested": evidence.testable, "n_parts": observed.n_senses} | statistics | flat


def with_verdict(table: pd.DataFrame, calibration: Calibration) -> pd.DataFrame:
    """Return the table with `monosemanticity`, `ci_low`, `ci_high` and `n_senses`, and with `sense_one`, the
    probability that each sense has one meaning, where there are several."""
    n = len(STATISTIC_NAMES)
    covariance, values, part_covariance = (
        np.stack(table[name].to_list()).reshape(len(table), *shape)
        for name, shape in (
            ("covariance", (n, n)),
            ("part_statistics", (MAX_SENSES, n)),
            ("part_covariance", (MAX_SENSES, n, n)),
        )
    )
    chance = calibration.probability(table[list(STATISTIC_NAMES)].to_numpy(float), covariance)
    n_senses = np.where(chance.low > 0.5, 1, table.n_parts)
    one = calibration.probability(values, part_covariance).one
    return table.assign(
        monosemanticity=chance.one,
        ci_low=chance.low,
        ci_high=chance.high,
        n_senses=n_senses,
        sense_one=list(one),
    )


def with_verdicts(table: pd.DataFrame, calibrations: Mapping[str, Calibration]) -> pd.DataFrame:
    """Return the table with the verdicts on the latents of each family by its calibration."""
    parts = table.groupby("family", sort=False)
    return pd.concat([with_verdict(part, calibrations[family]) for family, part in parts])


def _measures(tokens: Int[Tensor, "seq pos"], latents: Basis, vocab: Sequence[str]) -> pd.DataFrame:
    codes, W_dec, W_U, twin, embeddings = latents
    counts = ScanConfig(n_top=0, n_per_interval=0, n_coactivations=0, n_neighbours=0)
    with TemporaryDirectory() as folder:
        scan = partial(FeatureStore.from_codes, tokens, config=counts)
        features = scan(codes, f"{folder}/own", W_dec=W_dec, W_U=W_U, vocab=vocab)
        other = scan(twin.codes, f"{folder}/twin", W_dec=twin.W_dec) if twin else None
        measures = measure_values(features, twin=other) | rival_measures(features, twin=other, embeddings=embeddings)
        return pd.DataFrame(measures)


def claimed(judged: pd.DataFrame) -> pd.DataFrame:
    """Return the latents that were tested and of which the truth claims one meaning or several."""
    return judged[judged.tested & (judged.is_one | judged.is_several)].reset_index(drop=True)


def calibration_latents(judged: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers that a calibration is fitted to: of each latent whose truth is claimed, where it is from, what
    two readers said (p_one, 0..100), if they read it, whether it has one meaning, and its statistics."""
    kinds = {
        "family": "str",
        "world": "str",
        "basis": "str",
        "latent": "int32",
        "draw": "str",
        "p_one_1": "Int8",
        "p_one_2": "Int8",
        "is_one": "bool",
        **dict.fromkeys(STATISTIC_NAMES, "float32"),
    }
    return claimed(judged).reindex(columns=list(kinds)).astype(kinds)


def family_calibrations(judged: pd.DataFrame) -> dict[str, Calibration]:
    """Fit, for each family, a calibration to the latents of all others."""
    return {family: fit_to(judged[judged.family != family]) for family in judged.family.unique()}


def fit_to(judged: pd.DataFrame, fits: int = FITS) -> Calibration:
    """Return a calibration on all latents of the table whose truth is claimed."""
    return fit_calibration(claimed(judged), fits)
