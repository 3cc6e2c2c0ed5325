"""The trials of the nulls: a sample of each dictionary's latents is encoded, and all are judged on the same tokens.

In: dictionaries, scans, and models on which a dictionary is trained first. Out: one table of verdicts, and the best
correlation of each ranked latent with some of the dictionaries.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from interp.activations import ActivationStore, StoredRows
from interp.activations.harvesting import harvest
from interp.checks.limits import SEEDS
from interp.codes.dictionary import Dictionary
from interp.codes.sparse_codes import SparseCodes
from interp.codes.training_exclusions import norm_limit_on
from interp.compare.compared_dictionaries import COMPARED_DICTIONARIES
from interp.compare.joined_codes import CodedRows, JoinedCodes, read_in_blocks
from interp.compare.nulls_config import NullsConfig
from interp.features.feature_store import FeatureStore
from interp.features.latent_matches import best_matches
from interp.runtime.progress import Progress
from interp.sae import SAE, SAEConfig, TopKConfig, train_sae
from interp.verdict.ranking import rank_codes

_N_SHIFTS_OF_NULLS = 1
"""Number of circular shifts that give the null distribution of each measure. Only the verdict dense depends on it,
so one suffices and takes less time than the default (`ranking_config.N_SHIFTS`)."""


class TrainingConfigs(NamedTuple):
    """The configs with which dictionaries are trained."""

    twin: SAEConfig
    """The config of the nulls: that of the ranked dictionary, with another seed and no more tokens than the budget."""
    retrained: SAEConfig | None
    """The config with which the ranked dictionary is trained again, from as many tokens as the nulls; None if it learnt
    from no more."""
    tokens_of_ranked: float
    """Number of tokens from which the dictionary judged as the ranked one learnt. NaN if unknown."""

    @classmethod
    def of(cls, features: FeatureStore, config: SAEConfig | None, nulls_config: NullsConfig) -> "TrainingConfigs":
        tokens = nulls_config.tokens_to_train(None if config is None else config.tokens)
        if config is None:
            foreign = TopKConfig(d_sae=features.d_sae, k=max(1, round(features.meta["l0"])), tokens=tokens)
            return cls(dataclasses.replace(foreign, seed=_next_seed(nulls_config.seed)), None, math.nan)
        reduced = dataclasses.replace(config, tokens=tokens)
        twin = dataclasses.replace(reduced, seed=_next_seed(config.seed + nulls_config.seed))
        return cls(twin, None if reduced == config else reduced, tokens)


def _next_seed(seed: int) -> int:
    """Return another seed, in the range of seeds."""
    return (seed + 1) % SEEDS


class NullTrials:
    """The verdicts of a sample of each dictionary's latents on the same tokens."""

    def __init__(
        self,
        features: FeatureStore,
        configs: TrainingConfigs,
        nulls_config: NullsConfig,
        out: Path,
        progress: Progress,
    ):
        self.features = features
        self.configs = configs
        self.nulls_config = nulls_config
        self.out = out
        self.progress = progress
        self.tokens = features.tokens[: max(1, nulls_config.tokens // features.n_ctx)]
        self.n_rows = self.tokens.numel()
        self.joined = JoinedCodes(out / "work", self.n_rows, nulls_config.latents, nulls_config.seed, progress)
        self.correlations: dict[str, Any] = {}
        self.trained_tokens: dict[str, float] = {}

    def add_learnt(self, name: str, sae: SAE, store: ActivationStore, hook: str) -> None:
        assert sae.config is not None, "it was trained here"
        norms = sae.W_dec.norm(dim=1)
        parts: Iterable[CodedRows] = encode_first_rows(sae, store, hook, self.n_rows)
        if column := COMPARED_DICTIONARIES[name].match_column:
            row_ids, codes = order_rows(parts)
            parts = [(row_ids, codes)]
            ours = self.features.codes
            both = ours.present(0, self.n_rows)[row_ids]  # rows without codes, such as padding, are no evidence
            matches = best_matches(ours[: self.n_rows].take(row_ids[both]), codes.take(both.nonzero()[:, 0]))
            self.correlations[column] = np.fmax(matches.correlation, self.correlations.get(column, np.nan))
        self.joined.add(name, sae.d_sae, parts, norms)
        self.trained_tokens[name] = sae.config.tokens

    def add_scan(self, name: str, features: FeatureStore, trained_tokens: float) -> None:
        norms = None if features.W_dec is None else features.W_dec.norm(dim=1)
        self.joined.add(name, features.d_sae, read_in_blocks(features.codes, self.n_rows), norms)
        self.trained_tokens[name] = trained_tokens

    def add_model(self, name: str, model: nn.Module, hook: str, options: dict[str, Any]) -> None:
        """Train a dictionary on another model, and add it."""
        progress = with_name(self.progress, name)
        work = self.out / "work"
        config = self.configs.twin
        codes = self.features.codes
        rows = codes.present(0, len(codes)).view(-1, self.features.n_ctx).sum(1).cumsum(0)  # padding gives no rows
        n_sequences = int(torch.searchsorted(rows, config.tokens)) + 1
        tokens = self.features.tokens[: max(len(self.tokens), n_sequences)]
        folder = name.removesuffix(" model")
        store = harvest(model, tokens, [hook], work / f"activations-{folder}", progress=progress, **options)
        sae = train_sae(store, hook, config, out=self.out / folder, progress=progress)
        self.add_learnt(name, sae, store, hook)

    def verdicts(self, vocab: Sequence[str] | None) -> pd.DataFrame:
        """Run `rank_codes` on the latents of all dictionaries at once, so that the text is analysed only once."""
        chosen = self.joined.chosen
        table = rank_codes(
            self.tokens,
            self.joined,
            vocab=vocab,
            n_shifts=_N_SHIFTS_OF_NULLS,
            seed=self.nulls_config.seed,
            faint=np.concatenate(list(self.joined.faint.values())),
            progress=self.progress,
        )
        table = table.sort_values("latent").reset_index(drop=True)
        table["latent"] = np.concatenate(list(chosen.values()))
        table.insert(0, "dictionary", np.repeat(list(chosen), [len(latents) for latents in chosen.values()]))
        return table.assign(trained_tokens=table["dictionary"].map(self.trained_tokens))


def with_name(progress: Progress, name: str) -> Progress:
    return lambda done, total, note: progress(done, total, f"{name}: {note}")


def encode_first_rows(dictionary: Dictionary, store: StoredRows, hook: str, n_rows: int) -> Iterator[CodedRows]:
    """Encode the rows 0 … n_rows − 1 of a store. They are scattered over the shards, so all shards are read."""
    limit = norm_limit_on(dictionary, store, hook)
    for i in range(store.n_shards):
        shard = store.shard(i, hook).within(limit)
        is_among = shard.row_ids < n_rows
        if is_among.any():
            blocks = shard.acts[is_among].float().split(4096)
            with torch.no_grad():
                yield shard.row_ids[is_among], SparseCodes.cat([dictionary.codes(acts) for acts in blocks])


def order_rows(parts: Iterable[CodedRows]) -> CodedRows:
    """Return all parts as one, with ascending row ids."""
    row_ids, codes = zip(*parts, strict=True)
    ids = torch.cat(row_ids)
    order = ids.argsort()
    return ids[order], SparseCodes.cat(codes).take(order)
