"""Verdicts beside their nulls: the same verdict on dictionaries that found nothing, or found the same from elsewhere.

In: a run's features and neurons, its activation store, its model and the config of its dictionary. Out: `Nulls`, tables
of verdicts and of their shares for six dictionaries:

    SAE               the dictionary that is ranked
    twin seed         the same config from another seed: what luck changes
    neurons           the MLP's neurons as they come
    frozen decoder    the same config, its decoder left as it was drawn (arXiv 2602.14111)
    shuffled model    the same config on a model whose weight matrices have their entries permuted (arXiv 2501.17727)
    untrained model   the same config on the model before any training, where `model.untrained(seed)` gives one

All are judged on the same sequences with the same settings (`ranking.rank_codes`), a sample of the latents of each. The
dictionaries that are trained here see fewer tokens than the one that is ranked; `trained_tokens` tells how many.

Failing: an embedding survives any shuffle of what follows it, so latents that detect a token are real on a random model
too. They have a verdict of their own, single-token (`lexical`); to be compared is the share called monosemantic.
"""

import copy
import dataclasses
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from jaxtyping import Int
from torch import Tensor, nn

from interp.activations import ActivationStore
from interp.activations.outliers import limit_on
from interp.codes import CodeStore, Dictionary, SparseCodes
from interp.features.feature_store import FeatureStore
from interp.features.identity import check_scan_of, check_table, identity
from interp.files import Progress, no_progress, write_parquet
from interp.harvest import check_harvested, harvest
from interp.metrics.twins import nearest_rows
from interp.monosemanticity.ranking import MAX_NULLS, rank_codes
from interp.monosemanticity.verdicts import verdict_shares
from interp.sae import SAE, SAEConfig, train_sae, train_sweep

UNTESTED = ("dead", "too_rare")
_ROWS_AT_ONCE = 1 << 15
Module = TypeVar("Module", bound=nn.Module)
Part = tuple[Int[Tensor, " row"], SparseCodes]
"""Row ids, and the codes of these rows."""


@dataclass(frozen=True, kw_only=True)
class NullsConfig:
    """How much is spent on the nulls; the verdict that they stand beside does not depend on it."""

    tokens: int = 300_000
    """On which all dictionaries are judged: the first of those harvested."""
    sae_tokens: int = 500_000
    """To train each of the three other dictionaries on; never more than the one that is ranked had."""
    latents: int = 384
    """Judged of each dictionary, drawn at random; all of them if there are fewer."""
    shifts: int = 1
    """Circular shifts that give the null distribution of each measure; no verdict but dense hangs on it."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("tokens", "sae_tokens", "latents", "shifts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.shifts > MAX_NULLS or not 0 <= self.seed < 2**31:
            limits = f"at most {MAX_NULLS:,}, and seed={self.seed} in 0..2³¹ − 1"
            raise ValueError(f"shifts={self.shifts} must be {limits}")


class Nulls(NamedTuple):
    """The tables that `compare_with_nulls` wrote."""

    shares: pd.DataFrame
    """A row a dictionary and verdict: dictionary, trained_tokens, latents (judged), what `verdict_shares` says of those
    that fire, and the same of those that could be tested, neither dead nor too rare: tested_share, tested_low, …"""
    verdicts: pd.DataFrame
    """A row a dictionary and latent judged: dictionary, and what `rank_codes` says of it."""
    twins: pd.DataFrame
    """A row a latent of the SAE: latent, twin (the nearest of the twin's), cosine, frozen_cosine (the nearest of the
    frozen decoder's rows, which are random directions: what chance gives)."""

    @classmethod
    def read(cls, folder: str | Path) -> "Nulls":
        return cls(*(pd.read_parquet(Path(folder) / f"{name}.parquet") for name in cls._fields))


def compare_with_nulls(
    features: FeatureStore,
    neurons: FeatureStore | None,
    store: ActivationStore,
    hook: str,
    model: nn.Module,
    config: SAEConfig,
    out: str | Path,
    *,
    settings: NullsConfig | None = None,
    harvest_options: Mapping[str, Any] | None = None,
    progress: Progress = no_progress,
) -> Nulls:
    """Train the nulls' dictionaries, judge them and the two that are there, and write the three tables to `out`.

    features, and neurons where they are judged too: scans over the tokens of `store`, which holds `hook` of `model`;
    `config` is what the dictionary of `features` was trained with; `harvest_options` are those of `harvest` for the
    store, beside what it left out.
    Called again after a cut it goes on: trainings from their checkpoints, the rest from the last dictionary encoded.
    Raises ValueError where they are not of one another, and where `out` holds the nulls of other features.
    """
    settings, out = settings or NullsConfig(), Path(out)
    check_scan_of(features, store, hook)
    if neurons is not None:
        check_scan_of(neurons, store)
    check_harvested(store, model, hook)
    if not all((out / f"{name}.parquet").is_file() for name in Nulls._fields):
        bench = _Bench(features, config, settings, out, progress)
        bench.take("SAE", features.d_sae, _stored(features.codes, bench.n_rows))
        frozen, told = dataclasses.replace(bench.twin, train_decoder=False), _named(progress, "twin and frozen")
        saes = train_sweep(store, hook, [bench.twin, frozen], out=out / "dictionaries", progress=told)
        bench.take("twin seed", config.d_sae, _encoded(saes[0], store, hook, bench.n_rows))
        if neurons is not None:
            bench.take("neurons", neurons.d_sae, _stored(neurons.codes, bench.n_rows))
        bench.take("frozen decoder", config.d_sae, _encoded(saes[1], store, hook, bench.n_rows))
        options = {
            **_left_out(store),
            **(harvest_options or {}),
            "dtype": store.manifest["dtype"],
            "seed": settings.seed,
        }
        for name, other in _other_models(model, settings.seed):
            bench.take(f"{name} model", config.d_sae, bench.on_model(other, name, hook, options))
        verdicts = bench.judge(features.vocab if features.is_spelt else None)
        for name, table in Nulls(_shares(verdicts), verdicts, _twins(features, *saes))._asdict().items():
            table.attrs["features"] = identity(features)
            write_parquet(out / f"{name}.parquet", table)
    shutil.rmtree(out / "work", ignore_errors=True)
    check_table(features, (nulls := Nulls.read(out)).twins, f"the table of nulls in {out}", "choose another folder")
    return nulls


def shuffled_model(model: Module, *, seed: int = 0) -> Module:
    """A copy with the entries of each weight matrix permuted: the same weights, and nothing that they compute.

    Matrices are the parameters of two or more axes that are not biases (`b_…`); vectors stay, of norms and of biases.
    """
    generator = torch.Generator().manual_seed(seed)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for name, weight in copied.named_parameters():
            if weight.ndim >= 2 and not name.rpartition(".")[2].startswith("b_"):
                order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
                weight.copy_(weight.flatten()[order].view_as(weight))
    return copied


def _left_out(store: ActivationStore) -> dict[str, Any]:
    """The options of its harvest by which rows were left out: the same policy, on activations of other norms."""
    config = store.manifest["config"]
    return {name: config[name] for name in ("exclude", "exclude_positions", "max_norm") if name in config}


def _other_models(model: Any, seed: int) -> Iterator[tuple[str, nn.Module]]:
    yield "shuffled", shuffled_model(model, seed=seed)
    untrained = model.untrained(seed) if hasattr(model, "untrained") else None
    if untrained is not None:
        yield "untrained", untrained


class _Bench:
    """The codes of a sample of each dictionary's latents on the same tokens, side by side."""

    def __init__(self, features: FeatureStore, config: SAEConfig, settings: NullsConfig, out: Path, progress: Progress):
        self.twin = dataclasses.replace(config, tokens=min(settings.sae_tokens, config.tokens), seed=config.seed + 1)
        self.trained_tokens = {"SAE": config.tokens, "neurons": 0}
        self.features, self.settings, self.out, self.progress = features, settings, out, progress
        self.tokens = features.tokens[: max(1, settings.tokens // features.n_ctx)]
        self.n_rows = self.tokens.numel()
        self.chosen: dict[str, np.ndarray] = {}
        (out / "work").mkdir(parents=True, exist_ok=True)

    def take(self, name: str, d_sae: int, parts: Iterator[Part]) -> None:
        """Keep the codes of the sample. They appear whole; where they are there already, no part is asked for."""
        drawn = np.random.default_rng(self.settings.seed).permutation(d_sae)[: self.settings.latents]
        chosen = self.chosen[name] = np.sort(drawn)
        if self._folder(name).exists():
            return
        unfinished, done = self.out / "work" / "unfinished", 0
        shutil.rmtree(unfinished, ignore_errors=True)
        codes = CodeStore.create(unfinished, n_rows=self.n_rows, d_sae=len(chosen))
        for i, (row_ids, part) in enumerate(parts):
            codes.write_run(f"{i:05d}", row_ids, _firings(part, chosen))
            done += len(row_ids)
            self.progress(done, self.n_rows, f"{name}: encoding")
        codes.finish()
        unfinished.replace(self._folder(name))

    def on_model(self, model: nn.Module, name: str, hook: str, options: dict[str, Any]) -> Iterator[Part]:
        """Of a dictionary that is trained on another model."""
        told = _named(self.progress, f"{name} model")
        tokens = self.features.tokens[: max(len(self.tokens), -(-self.twin.tokens // self.features.n_ctx))]
        store = harvest(model, tokens, [hook], self.out / "work" / f"activations-{name}", progress=told, **options)
        sae = train_sae(store, hook, self.twin, out=self.out / name, progress=told)
        yield from _encoded(sae, store, hook, self.n_rows)

    def judge(self, vocab: Sequence[str] | None) -> pd.DataFrame:
        """`rank_codes` of all of them at once, so that what it learns of the text is learnt once."""
        names = list(self.chosen)
        codes = _SideBySide([CodeStore(self._folder(name)) for name in names])
        nulls, seed = self.settings.shifts, self.settings.seed
        table = rank_codes(self.tokens, codes, vocab=vocab, nulls=nulls, seed=seed, progress=self.progress)
        table = table.sort_values("latent").reset_index(drop=True)
        table["latent"] = np.concatenate([self.chosen[name] for name in names])
        table.insert(0, "dictionary", np.repeat(names, [len(self.chosen[name]) for name in names]))
        trained = {name: self.trained_tokens.get(name, self.twin.tokens) for name in names}
        return table.assign(trained_tokens=table["dictionary"].map(trained))

    def _folder(self, name: str) -> Path:
        return self.out / "work" / f"codes-{name.replace(' ', '-')}"


class _SideBySide:
    """Codes of several dictionaries as of one: latents of the second follow those of the first."""

    def __init__(self, sources: Sequence[CodeStore]):
        self.sources = sources
        self.d_sae = sum(codes.d_sae for codes in sources)

    def __len__(self) -> int:
        return len(self.sources[0])

    def __getitem__(self, rows: slice, /) -> SparseCodes:
        return SparseCodes.from_scipy(scipy.sparse.hstack([codes[rows].scipy() for codes in self.sources], "csr"))


def _stored(codes: CodeStore, n_rows: int) -> Iterator[Part]:
    for row_ids in torch.arange(n_rows).split(_ROWS_AT_ONCE):
        yield row_ids, codes[int(row_ids[0]) : int(row_ids[-1]) + 1]


def _encoded(dictionary: Dictionary, store: ActivationStore, hook: str, n_rows: int) -> Iterator[Part]:
    """Rows lie scattered over the shards, so all are read; the few that are asked for are encoded."""
    limit = limit_on(dictionary, store, hook)
    for i in range(store.n_shards):
        shard = store.shard(i, hook).within(limit)
        asked = shard.row_ids < n_rows
        if asked.any():
            blocks = shard.acts[asked].float().split(4096)
            with torch.no_grad():
                yield shard.row_ids[asked], SparseCodes.cat([dictionary.codes(acts) for acts in blocks])


def _firings(codes: SparseCodes, chosen: Int[np.ndarray, " latent"]) -> SparseCodes:
    """Where z > 0, of the latents `chosen`, which are numbered anew."""
    matrix = codes.scipy()[:, chosen]
    matrix.data = np.maximum(matrix.data, 0)
    matrix.eliminate_zeros()
    return SparseCodes.from_scipy(matrix)


def _shares(verdicts: pd.DataFrame) -> pd.DataFrame:
    parts = []
    for name, table in verdicts.groupby("dictionary", sort=False):
        tested = verdict_shares(table[~table["verdict"].isin(UNTESTED)]).set_index("verdict").drop(columns="n")
        tested = tested.drop(list(UNTESTED))
        tested.columns = [f"tested_{str(name).removeprefix('ci_').removesuffix('_share')}" for name in tested]
        about = {"dictionary": name, "trained_tokens": table["trained_tokens"].iloc[0], "latents": len(table)}
        share = verdict_shares(table).join(tested, on="verdict")
        parts.append(share.assign(**about)[[*about, *share]])
    return pd.concat(parts, ignore_index=True)


def _twins(features: FeatureStore, twin: SAE, frozen: SAE) -> pd.DataFrame:
    assert features.W_dec is not None  # an SAE has one
    match, cosine = nearest_rows(features.W_dec, twin.W_dec)
    _, by_chance = nearest_rows(features.W_dec, frozen.W_dec)
    columns = {"latent": np.arange(features.d_sae), "twin": match, "cosine": cosine, "frozen_cosine": by_chance}
    return pd.DataFrame(columns)


def _named(progress: Progress, name: str) -> Progress:
    return lambda done, total, note: progress(done, total, f"{name}: {note}")
