"""Verdicts beside their nulls: the same verdict on dictionaries that found nothing, or found the same from elsewhere.

    SAE               the dictionary that is ranked
    twin seed         the same config from another seed: what luck changes
    neurons           the MLP's neurons as they come
    frozen decoder    the same config, its decoder left as it was drawn (arXiv 2602.14111)
    shuffled model    the same config on a model whose weight matrices have their entries permuted (arXiv 2501.17727)

All are judged on the same sequences with the same settings (`ranking.rank_codes`), a sample of the latents of each. The
dictionaries that are trained here see fewer tokens than the one that is ranked; `trained_tokens` tells how many.

Failing: an embedding survives any shuffle of what follows it, so latents that detect a token are real on a random model
too. They have a verdict of their own, lexical; to be compared is the share called monosemantic.
"""

import copy
import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from interp.activations import ActivationStore
from interp.codes import CodeStore, Dictionary, SparseCodes
from interp.features.feature_store import FeatureStore
from interp.harvest import harvest
from interp.sae import SAE, SAEConfig, train_sae, train_sweep

if TYPE_CHECKING:
    import pandas as pd

NAMES = ("SAE", "twin seed", "neurons", "frozen decoder", "shuffled model")
UNTESTED = ("dead", "too_rare")
_TESTED = {"share": "tested_share", "ci_low": "tested_low", "ci_high": "tested_high"}
_TESTED |= {"sure_share": "tested_sure", "sure_low": "tested_sure_low", "sure_high": "tested_sure_high"}
_TESTED |= {"unsure_share": "tested_unsure", "unsure_low": "tested_unsure_low", "unsure_high": "tested_unsure_high"}
_ROWS_AT_ONCE = 1 << 15
Progress = Callable[[int, int, str], None]
Module = TypeVar("Module", bound=nn.Module)
Part = tuple[str, Int[Tensor, " row"], SparseCodes]


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
    """Shifted texts that give the null distribution of each score; no verdict but dense hangs on it."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("tokens", "sae_tokens", "latents", "shifts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")


class Nulls(NamedTuple):
    """The tables that `compare_with_nulls` wrote."""

    shares: "pd.DataFrame"
    """A row a dictionary and verdict: dictionary, trained_tokens, latents (judged), and what `verdict_shares` says of
    those that fire: share, sure_share, unsure_share, each with its interval; the same of those that could be tested,
    neither dead nor too rare, as tested_share, tested_low, tested_high; tested_sure, tested_sure_low, …;
    tested_unsure, …"""
    verdicts: "pd.DataFrame"
    """A row a dictionary and latent judged: dictionary, and what `rank_codes` says of it."""
    twins: "pd.DataFrame"
    """A row a latent of the SAE: latent, twin (the nearest of the twin's), cosine, frozen_cosine (the nearest of the
    frozen decoder's rows, which are random directions: what chance gives)."""

    @classmethod
    def read(cls, folder: str | Path) -> "Nulls":
        """Shares that lack a column of today's are counted anew from the verdicts."""
        import pandas as pd

        nulls = cls(*(pd.read_parquet(Path(folder) / f"{name}.parquet") for name in cls._fields))
        return nulls if _TESTED.keys() <= set(nulls.shares) else nulls._replace(shares=_shares(nulls.verdicts))


def compare_with_nulls(
    features: FeatureStore,
    neurons: FeatureStore,
    store: ActivationStore,
    hook: str,
    model: nn.Module,
    config: SAEConfig,
    out: str | Path,
    *,
    settings: NullsConfig | None = None,
    batch_size: int = 64,
    exclude: Sequence[int] = (),
    max_norm: float | None = None,
    progress: Progress | None = None,
) -> Nulls:
    """Train the nulls' dictionaries, judge them and the two that are there, and write the three tables to `out`.

    features, neurons: scans over the tokens of `store`, which holds `hook` of `model`; `config` is what the dictionary
    of `features` was trained with. `batch_size`, `exclude` and `max_norm` are those of its harvest.
    Called again after a cut it goes on: trainings from their checkpoints, the rest from the last dictionary encoded.
    """
    settings, out = settings or NullsConfig(), Path(out)
    if all((out / f"{name}.parquet").is_file() for name in Nulls._fields):
        shutil.rmtree(out / "work", ignore_errors=True)
        return Nulls.read(out)
    tell = progress or (lambda done, total, note: None)
    tokens = features.tokens[: max(1, settings.tokens // features.n_ctx)]
    trained = min(settings.sae_tokens, config.tokens)
    twin_config = dataclasses.replace(config, tokens=trained, seed=config.seed + 1)
    configs = [twin_config, dataclasses.replace(twin_config, train_decoder=False)]
    bench = _Bench(tokens, out / "work", settings, tell)

    n_rows = tokens.numel()
    bench.take("SAE", features.d_sae, partial(_stored, features.codes, n_rows))
    bench.take("neurons", neurons.d_sae, partial(_stored, neurons.codes, n_rows))
    saes = train_sweep(store, hook, configs, out=out / "dictionaries", progress=_named(tell, "twin and frozen"))
    for name, sae in zip(("twin seed", "frozen decoder"), saes, strict=True):
        bench.take(name, sae.d_sae, partial(_encoded, sae, store, hook, n_rows))
    harvested = partial(
        harvest,
        tokens=features.tokens[: max(len(tokens), -(-trained // features.n_ctx))],
        hook_names=[hook],
        dtype=store.manifest["dtype"],
        batch_size=batch_size,
        exclude=exclude,
        max_norm=max_norm,
    )
    bench.take("shuffled model", config.d_sae, partial(_on_shuffled, model, harvested, twin_config, out, bench))
    verdicts = bench.judge(features.vocab if features.is_spelt else None)
    verdicts["trained_tokens"] = verdicts["dictionary"].map({"SAE": config.tokens, "neurons": 0}).fillna(trained)
    nulls = Nulls(_shares(verdicts), verdicts, _twins(features, *saes))
    for name, table in zip(Nulls._fields, nulls, strict=True):
        _write_parquet(table, out / f"{name}.parquet")
    shutil.rmtree(out / "work")
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


class _Bench:
    """The codes of a sample of each dictionary's latents on the same tokens, side by side."""

    def __init__(self, tokens: Int[Tensor, "seq pos"], work: Path, settings: NullsConfig, tell: Progress):
        self.tokens, self.work, self.settings, self.tell = tokens, work, settings, tell
        self.chosen: dict[str, Int[Tensor, " latent"]] = {}
        work.mkdir(parents=True, exist_ok=True)

    def take(self, name: str, d_sae: int, parts: Callable[[], Iterator[Part]]) -> None:
        """Keep the codes of the sample; they appear whole, and those that are there already stay."""
        drawn = np.random.default_rng(self.settings.seed).permutation(d_sae)[: self.settings.latents]
        self.chosen[name] = torch.from_numpy(np.sort(drawn))
        if self._folder(name).exists():
            return
        given, unfinished = parts(), self.work / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        codes = CodeStore.create(unfinished, n_rows=self.tokens.numel(), d_sae=len(drawn))
        done = 0
        for run, row_ids, part in given:
            codes.write_run(run, row_ids, _only(part, self.chosen[name]))
            done += len(row_ids)
            self.tell(done, self.tokens.numel(), f"{name}: encoding")
        os.replace(unfinished, self._folder(name))

    def judge(self, vocab: Sequence[str] | None) -> "pd.DataFrame":
        """`rank_codes` of all of them at once, so that what it learns of the text is learnt once."""
        from interp.monosemanticity.ranking import rank_codes

        codes = _SideBySide([CodeStore(self._folder(name)) for name in NAMES])
        settings = self.settings
        table = rank_codes(
            self.tokens, codes, vocab=vocab, nulls=settings.shifts, seed=settings.seed, progress=self.tell
        ).sort_values("latent")
        table["latent"] = torch.cat([self.chosen[name] for name in NAMES]).numpy()
        table.insert(0, "dictionary", np.repeat(NAMES, [len(self.chosen[name]) for name in NAMES]))
        return table.reset_index(drop=True)

    def _folder(self, name: str) -> Path:
        return self.work / f"codes-{name.replace(' ', '-')}"


class _SideBySide:
    """Codes of several dictionaries as of one (`scores.firings.CodeSource`): latents of the second follow those of the
    first."""

    def __init__(self, sources: Sequence[CodeStore]):
        self.sources = sources
        self.starts = np.cumsum([0, *(codes.d_sae for codes in sources)]).tolist()

    @property
    def d_sae(self) -> int:
        return self.starts[-1]

    def __len__(self) -> int:
        return len(self.sources[0])

    def __getitem__(self, rows: slice, /) -> SparseCodes:
        parts = [codes[rows] for codes in self.sources]
        order = torch.cat([part.rows for part in parts]).argsort(stable=True)
        latents = torch.cat([part.latents + start for part, start in zip(parts, self.starts, strict=False)])
        counts = torch.stack([part.offsets.diff() for part in parts]).sum(0)
        values = torch.cat([part.values for part in parts])
        return SparseCodes.from_counts(counts, latents[order], values[order], self.d_sae)


def _stored(codes: CodeStore, n_rows: int) -> Iterator[Part]:
    for start in range(0, n_rows, _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, n_rows)
        present, part = codes.present(start, stop), codes[start:stop]
        counts = part.offsets.diff()[present]
        row_ids = torch.arange(start, stop)[present]
        yield (
            f"{start // _ROWS_AT_ONCE:05d}",
            row_ids,
            SparseCodes.from_counts(counts, part.latents, part.values, codes.d_sae),
        )


def _encoded(dictionary: Dictionary, store: ActivationStore, hook: str, n_rows: int) -> Iterator[Part]:
    """Rows lie scattered over the shards, so all are read; the few that are asked for are encoded."""
    for i in range(store.n_shards):
        shard = store.shard(i, hook)
        asked = shard.row_ids < n_rows
        if asked.any():
            blocks = shard.acts[asked].float().split(4096)
            with torch.no_grad():
                yield f"{i:05d}", shard.row_ids[asked], SparseCodes.cat([dictionary.codes(acts) for acts in blocks])


def _on_shuffled(
    model: nn.Module, harvested: Callable[..., ActivationStore], config: SAEConfig, out: Path, bench: _Bench
) -> Iterator[Part]:
    told, seed = _named(bench.tell, "shuffled model"), bench.settings.seed
    store = harvested(shuffled_model(model, seed=seed), out=bench.work / "activations", seed=seed, progress=told)
    hook = store.hook_names[0]
    sae = train_sae(store, hook, config, out=out / "shuffled", progress=told)
    return _encoded(sae, store, hook, bench.tokens.numel())


def _only(codes: SparseCodes, chosen: Int[Tensor, " latent"]) -> SparseCodes:
    """The firings (z > 0) of the latents `chosen`, which are numbered anew."""
    place = torch.full((codes.d_sae,), -1, dtype=torch.int32)
    place[chosen] = torch.arange(len(chosen), dtype=torch.int32)
    latents = place[codes.latents.long().cpu()]
    keep = (latents >= 0) & (codes.values.cpu() > 0)
    counts = torch.bincount(codes.rows.cpu()[keep], minlength=len(codes))
    return SparseCodes.from_counts(counts, latents[keep], codes.values.detach().cpu()[keep], len(chosen))


def _shares(verdicts: "pd.DataFrame") -> "pd.DataFrame":
    import pandas as pd

    from interp.monosemanticity.ranking import verdict_shares

    parts = []
    for name, table in verdicts.groupby("dictionary", sort=False):
        share = verdict_shares(table).set_index("verdict")
        tested = verdict_shares(table[~table["verdict"].isin(UNTESTED)]).set_index("verdict").drop(list(UNTESTED))
        share = share.join(tested[list(_TESTED)].rename(columns=_TESTED)).reset_index()
        about = {"dictionary": name, "trained_tokens": table["trained_tokens"].iloc[0], "latents": len(table)}
        for column, value in reversed(about.items()):
            share.insert(0, column, value)
        parts.append(share)
    return pd.concat(parts, ignore_index=True)


def _twins(features: FeatureStore, twin: SAE, frozen: SAE) -> "pd.DataFrame":
    import pandas as pd

    from interp.metrics.twins import nearest_rows

    assert features.W_dec is not None  # an SAE has one
    match, cosine = nearest_rows(features.W_dec, twin.W_dec)
    by_chance = nearest_rows(features.W_dec, frozen.W_dec)[1]
    return pd.DataFrame(
        {"latent": np.arange(features.d_sae), "twin": match, "cosine": cosine, "frozen_cosine": by_chance}
    )


def _named(tell: Progress, name: str) -> Progress:
    return lambda done, total, note: tell(done, total, f"{name}: {note}")


def _write_parquet(table: "pd.DataFrame", file: Path) -> None:
    temporary = file.with_suffix(".tmp")
    table.to_parquet(temporary, index=False)
    os.replace(temporary, file)
