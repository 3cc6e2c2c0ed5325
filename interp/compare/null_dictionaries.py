"""Compare verdicts with nulls: run the same test on dictionaries that learnt nothing from the model, and on a twin.

In: a run's features and neurons, its activation store, its model and the config of its dictionary. Out: `Nulls`, which
has tables of verdicts and of their shares for the dictionaries of `compared_dictionaries`.

All have the same number of latents, and learn from the same number of tokens in as many steps. A sample of the latents
of each is judged, on the same sequences with the same settings (`ranking.rank_codes`).

Limits: an embedding survives any shuffle of later weights, so a random model has real token detectors too. They have
their own verdict, single-token.
"""

import dataclasses
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from torch import nn

from interp.activations import ActivationStore
from interp.activations.harvesting import check_harvested
from interp.checks.errors import InterpError
from interp.compare.compared_dictionaries import COMPARED_DICTIONARIES, FROZEN_DECODER, MATCHED, TWIN
from interp.compare.null_trials import NullTrials, TrainingConfigs, with_name
from interp.compare.nulls_config import NullsConfig
from interp.display.verdict_names import ONE_MEANING_ROW
from interp.features.feature_store import FeatureStore
from interp.features.latent_matches import nearest_rows
from interp.features.scan_checks import check_store_of_scan, scan_identity
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress
from interp.sae import SAE, SAEConfig, train_sweep
from interp.sae.architectures.sae_config import config_to_dict
from interp.storage.addresses import as_local_path
from interp.storage.files import write_parquet
from interp.storage.folders import atomic_folder, recover_finished
from interp.storage.manifests import MADE_OF
from interp.verdict.ranking_tables import read_verdicts
from interp.verdict.verdict_shares import verdict_shares


class Nulls(NamedTuple):
    """The tables that `compare_with_nulls` wrote."""

    shares: pd.DataFrame
    """A row per dictionary and verdict: dictionary, trained_tokens, latents (judged), and the columns of
    `verdict_shares`."""
    verdicts: pd.DataFrame
    """A row per dictionary and judged latent: dictionary, and the columns of `rank_codes`."""
    twins: pd.DataFrame
    """A row per latent of the SAE. `twin` is the nearest latent of the twin, and `cosine` their cosine. `frozen_cosine`
    is its null: the cosine with the nearest row of the frozen decoder, whose rows are random directions.
    `twin_correlation` is the correlation of its activation with the most correlated latent of the twin, and
    `random_correlation` that with the latents of the shuffled and the untrained model. Both are NaN if the latent does
    not fire on the tokens that are judged."""

    def __repr__(self) -> str:
        """Show the share of one meaning of each dictionary."""
        columns = ["dictionary", "trained_tokens", "latents", "share", "ci_low", "ci_high"]
        rows = self.shares.loc[self.shares["verdict"] == ONE_MEANING_ROW, columns]
        table = pd.DataFrame(rows).to_string(index=False, float_format="{:.3f}".format)
        return f"Nulls: shares of one meaning; tables in .shares, .verdicts, .twins\n{table}"

    @classmethod
    def read(cls, folder: str | Path) -> "Nulls":
        """Read the tables. Raises DamagedError if their verdicts are those of another version."""
        shares, verdicts = (read_verdicts(Path(folder) / f"{name}.parquet") for name in ("shares", "verdicts"))
        return cls(shares, verdicts, pd.read_parquet(Path(folder) / "twins.parquet"))


@shows_progress
def compare_with_nulls(
    features: FeatureStore,
    store: ActivationStore,
    hook: str,
    model: nn.Module,
    out: str | Path,
    *,
    config: SAEConfig | None,
    neurons: FeatureStore | None = None,
    baseline_name: str = "neurons",
    nulls_config: NullsConfig | None = None,
    batch_size: int = 64,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Nulls:
    """Train the null dictionaries, judge them with the ranked dictionary and the neurons, and write the three tables to
    `out`.

    Called again after an interruption it resumes: trainings from their checkpoints, the rest from the last encoded
    dictionary.

    features: the scan of the ranked dictionary, over the tokens of `store`.
    store: the activations of `hook` of `model`. Other models are harvested in the same way.
    config: the training config of the ranked dictionary. With None, for a foreign dictionary, the nulls are TopK
    dictionaries of its L0, by default trained on DEFAULT_NULL_TOKENS.
    neurons: a scan of the neurons over the same tokens, if any.
    baseline_name: the name of the neurons in the tables.
    nulls_config: the budget of the nulls.
    batch_size: sequences per forward pass.

    Raises ValueError if the inputs do not belong together, for rows that are not text, and if `out` contains other
    nulls, unless `overwrite` is set.
    """
    nulls_config = nulls_config or NullsConfig()
    out = as_local_path(out)
    hook = store.name_of(hook)
    check_store_of_scan(features, store, hook)
    if not features.has_text:
        raise InterpError(f"{features.path} is a scan of rows that are not text, whose meaning is not judged")
    if neurons is not None:
        check_store_of_scan(neurons, store)
    check_harvested(store, model, hook)
    made_of: dict[str, Any] = {
        "kind": "nulls",
        "features": scan_identity(features),
        "activations": store.digest,
        "compared dictionaries": list(COMPARED_DICTIONARIES),
        "neurons": None if neurons is None else {baseline_name: scan_identity(neurons)},
        # on whichever device they are trained, so one name stands for all
        "dictionary": None if config is None else config_to_dict(config) | {"device": SAEConfig.device},
        **dataclasses.asdict(nulls_config),
    }
    if not overwrite and recover_finished(out, made_of):
        return Nulls.read(out)
    with atomic_folder(out, made_of, resumes=True, overwrite=overwrite) as new:
        harvesting = {
            **harvest_options(store),
            "dtype": store.manifest["dtype"],
            "batch_size": batch_size,
            "seed": nulls_config.seed,
        }
        trials = NullTrials(features, TrainingConfigs.of(features, config, nulls_config), nulls_config, new, progress)
        neuron_scan = None if neurons is None else (baseline_name, neurons)
        nulls = _judge_dictionaries(trials, store, hook, model, neuron_scan=neuron_scan, harvesting=harvesting)
        for name, table in nulls._asdict().items():
            table.attrs["features"] = scan_identity(features)
            write_parquet(new / f"{name}.parquet", table)
        shutil.rmtree(new / "work", ignore_errors=True)
    return Nulls.read(out)


def _judge_dictionaries(
    trials: NullTrials,
    store: ActivationStore,
    hook: str,
    model: nn.Module,
    *,
    neuron_scan: tuple[str, FeatureStore] | None,
    harvesting: dict[str, Any],
) -> Nulls:
    features = trials.features
    progress = with_name(trials.progress, "dictionaries")
    twin, retrained = trials.configs.twin, trials.configs.retrained
    configs = {name: each.config(twin) for name, each in COMPARED_DICTIONARIES.items() if each.config is not None}
    if retrained is not None:
        configs = {MATCHED: retrained, **configs}
    learnt = train_sweep(store, hook, list(configs.values()), out=trials.out / "dictionaries", progress=progress)
    saes = dict(zip(configs, learnt, strict=True))
    if retrained is None:
        trials.add_scan(MATCHED, features, trials.configs.tokens_of_ranked)
    for name, sae in saes.items():
        trials.add_learnt(name, sae, store, hook)
        if name == TWIN and neuron_scan is not None:
            trials.add_scan(*neuron_scan, trained_tokens=0)
    for name, each in COMPARED_DICTIONARIES.items():
        other = each.other_model(model, trials.nulls_config.seed)
        if other is not None:
            trials.add_model(name, other, hook, harvesting)
    verdicts = trials.verdicts(features.vocab if features.has_vocab else None)
    twins = _match_twins(features, saes[TWIN], saes[FROZEN_DECODER])
    return Nulls(shares_of_verdicts(verdicts), verdicts, twins.assign(**trials.correlations))


def harvest_options(store: ActivationStore) -> dict[str, Any]:
    """Return the options by which a store's harvest left out rows, to harvest another model by the same rule."""
    made_of = store.manifest[MADE_OF]
    return {name: made_of[name] for name in ("exclude", "exclude_positions", "max_norm") if name in made_of}


def shares_of_verdicts(verdicts: pd.DataFrame) -> pd.DataFrame:
    parts = []
    for name, table in verdicts.groupby("dictionary", sort=False):
        about = {"dictionary": name, "trained_tokens": table["trained_tokens"].iloc[0], "latents": len(table)}
        share = verdict_shares(table)
        parts.append(share.assign(**about)[[*about, *share]])
    return pd.concat(parts, ignore_index=True)


def _match_twins(features: FeatureStore, twin: SAE, frozen: SAE) -> pd.DataFrame:
    assert features.W_dec is not None  # an SAE has one
    match, cosine = nearest_rows(features.W_dec, twin.W_dec)
    _, frozen_cosine = nearest_rows(features.W_dec, frozen.W_dec)
    columns = {"latent": np.arange(features.d_sae), "twin": match, "cosine": cosine, "frozen_cosine": frozen_cosine}
    return pd.DataFrame(columns)
