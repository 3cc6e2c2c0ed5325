"""Measure each dictionary for `analyses.claims.towards_monosemanticity`, with one pass over its codes at a time.

The functions, in the order of their use:

    measure    dead share, L0, the latent that follows each label's proxy best, codes of a sample of latents
    sizes_of   CE recovered and FVU of every dictionary, and of the neurons at the same L0
    judge      logit-token consistency and the ranking's verdict of the sampled latents
    follow     the best feature and the best neuron of a label, by slice of activation
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from analyses.claims.dictionary_claims import NEURONS, SHUFFLED
from analyses.claims.proxies import activation, by_interval, correlations, log_likelihood_ratio, pearson
from analyses.scorecard.rivals import next_log_lift
from interp import Run
from interp.activations import ActivationStore
from interp.codes.code_store import CodeStore
from interp.codes.dictionary import Dictionary
from interp.codes.sparse_codes import SparseCodes
from interp.evaluation.baselines import NeuronDictionary
from interp.evaluation.quality import quality_table
from interp.features.encode_store import encode_store
from interp.features.feature_store import FeatureStore
from interp.features.logit_path import logit_path
from interp.features.scan_config import ScanConfig
from interp.features.scan_input import fit_half
from interp.features.variance_explained import VarianceExplained
from interp.verdict.measures import next_auroc
from interp.verdict.ranking import rank_codes
from models.transformer import Transformer

HOOK = "blocks.0.mlp.hook_post"
LABELS = ("arabic", "hebrew", "dna", "base64")
UNTESTED = ("dead", "too-rare")


@dataclass(frozen=True, kw_only=True)
class Setting:
    tokens: int = 400_000
    """Number of tokens that are harvested for training."""
    judged_tokens: int = 200_000
    """Number of the first of these tokens, which every dictionary encodes. Dead shares, proxies, consistency and
    ranking are measured on them."""
    sae_tokens: int = 400_000
    batch_size: int = 1024
    l1: float = 3.0
    seeds: Mapping[int, int] = field(default_factory=lambda: {1: 3, 8: 3, 32: 1})
    """Number of seeds of each width, as a multiple of the number of neurons."""
    main: int = 8
    """The width that is compared with the neurons."""
    judged: int = 512
    """Number of latents of each dictionary for consistency and ranking. They are drawn among those that fire."""
    quality_tokens: int = 30_000
    """Number of validation tokens on which dictionaries are spliced into the model."""
    n_intervals: int = 10


@dataclass(frozen=True)
class Trained:
    """One dictionary, and the model on which it was trained."""

    name: str
    factor: int
    """The width as a multiple of the number of neurons. 0 stands for the neurons themselves."""
    seed: int
    resampled: bool
    dictionary: Dictionary

    @property
    def shuffled(self) -> bool:
        return self.name.endswith(SHUFFLED)


@dataclass(frozen=True)
class Studied:
    """The text, the model, and a model whose weights were shuffled."""

    run: Run
    stores: Mapping[bool, ActivationStore]
    """The stores for training, by whether the model is the shuffled one."""
    judged: Mapping[bool, ActivationStore]
    """The stores for judging, likewise."""
    models: Mapping[bool, Transformer]

    @property
    def tokens(self) -> torch.Tensor:
        """The tokens by which latents are judged."""
        return self.run.train_tokens.tokens[: self.n_sequences]

    @property
    def n_sequences(self) -> int:
        n_ctx, ids = self.run.train_tokens.n_ctx, self.judged[False].manifest["n_ids"]
        return ids // n_ctx

    def mask(self, label: str) -> np.ndarray:
        return self.run.train_tokens.labels[label][: self.n_sequences].flatten().numpy()


@dataclass(frozen=True)
class Found:
    """The results of a pass over the codes of one dictionary."""

    entry: Trained
    dead_share: float
    l0: float
    labels: pd.DataFrame
    """A row per label: the latent that follows its proxy best on the fit half, and its r on the other half."""
    best: Mapping[str, np.ndarray]
    """The activation of that latent on every row, by label."""
    sample: SparseCodes
    """The codes of the judged latents."""
    latents: torch.Tensor
    """The judged latents."""


def measure(entry: Trained, studied: Studied, setting: Setting, out: Path) -> Found:
    store, n_rows = studied.judged[entry.shuffled], studied.tokens.numel()
    folder = out / "work" / "codes"
    shutil.rmtree(folder, ignore_errors=True)
    stored_codes = CodeStore.create(folder, n_rows=n_rows, d_sae=entry.dictionary.d_sae)
    with torch.no_grad():
        explained = VarianceExplained(entry.dictionary, folder / "contributions")
        encode_store(entry.dictionary, store, HOOK, stored_codes, explained, advance=lambda rows, note: None)
    codes, present = stored_codes[0:n_rows], stored_codes.present(0, n_rows).numpy()
    fired = np.bincount(codes.latents.numpy(), minlength=codes.d_sae)
    alive = np.flatnonzero(fired)
    drawn = np.sort(np.random.default_rng(entry.seed).permutation(alive)[: setting.judged])
    labels, best = best_latents(entry, codes, present, studied)
    return Found(
        entry,
        dead_share=1 - len(alive) / codes.d_sae,
        l0=codes.nnz / present.sum(),
        labels=labels,
        best=best,
        sample=columns_of(codes, drawn),
        latents=torch.from_numpy(drawn),
    )


def best_latents(
    entry: Trained, codes: SparseCodes, present: np.ndarray, studied: Studied
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    fit = fit_half(studied.n_sequences).numpy().repeat(studied.tokens.shape[1])
    tokens, rows, best = studied.tokens.flatten().numpy(), [], {}
    for label in LABELS:
        mask = studied.mask(label)
        proxy = proxy_of(label, studied)[tokens]
        evidence = np.maximum(proxy, 0)
        fit_correlations = correlations(codes, evidence, present & fit)
        latent, held_rows = int(fit_correlations.argmax()), present & ~fit
        best[label] = activation(codes, latent)
        against = {"r": evidence, "r_unclipped": proxy, "r_label": mask.astype(float)}
        held_out = {name: pearson(best[label][held_rows], values[held_rows]) for name, values in against.items()}
        about = {"label": label, "dictionary": entry.name, "resampled": entry.resampled, "seed": entry.seed}
        rows.append({**about, "latent": latent, "r_fit": float(fit_correlations[latent]), **held_out})
    return pd.DataFrame(rows), best


def proxy_of(label: str, studied: Studied) -> np.ndarray:
    """Return the proxy of a label by token id, counted on the fit half."""
    fit = fit_half(studied.n_sequences)
    tokens = studied.tokens[fit].flatten().numpy()
    mask = studied.mask(label).reshape(studied.tokens.shape)[fit.numpy()].reshape(-1)
    return log_likelihood_ratio(tokens, mask, studied.run.tokenizer.vocab_size)


def columns_of(codes: SparseCodes, latents: np.ndarray) -> SparseCodes:
    """Return the codes of some latents, which are numbered from 0."""
    place = np.full(codes.d_sae, -1, np.int32)
    place[latents] = np.arange(len(latents))
    renamed = torch.from_numpy(place)[codes.latents.long()]
    keep = renamed >= 0
    counts = torch.bincount(codes.rows[keep], minlength=len(codes))
    return SparseCodes.from_counts(counts, renamed[keep], codes.values[keep], len(latents))


def sizes_of(results: Sequence[Found], studied: Studied, setting: Setting) -> pd.DataFrame:
    """Return one row per dictionary of the model, with L0, CE recovered, FVU and the dead share, and rows of the
    neurons at the same L0."""
    trained_results = [one for one in results if not one.entry.shuffled]
    named = {f"{i}": one.entry.dictionary for i, one in enumerate(trained_results)}
    for one in trained_results:
        if one.entry.factor == setting.main and one.entry.seed == 0 and one.entry.resampled:
            k = max(1, round(one.l0))
            named[f"{NEURONS}, best {k}"] = NeuronDictionary(one.entry.dictionary.d_in, k=k)
    tokens = studied.run.val_tokens.tokens[: max(1, setting.quality_tokens // studied.run.val_tokens.n_ctx)]
    exclude = (studied.run.tokenizer.bos_id,)
    table = quality_table(studied.models[False], HOOK, named, tokens, batch_size=32, exclude=exclude)
    columns = ["dictionary", "l0", "fvu", "ce_recovered_zero", "ce_recovered_mean"]
    table = table[columns].copy()
    for i, one in enumerate(trained_results):
        entry = one.entry
        values = (entry.name, entry.dictionary.d_sae, entry.seed, entry.resampled, one.dead_share)
        table.loc[i, ["dictionary", "d_sae", "seed", "resampled", "dead_share"]] = values
    return table


def judge(results: Sequence[Found], studied: Studied, setting: Setting, out: Path) -> pd.DataFrame:
    """Return one row per judged latent, with the consistency of its direct effects with the tokens that follow, and its
    verdict."""
    chosen = [one for one in results if one.entry.factor in (0, setting.main) and one.entry.resampled]
    chosen.sort(key=lambda one: one.entry.shuffled)
    tokens, vocab = studied.tokens, studied.run.tokenizer.display()
    table = pd.concat([latents_of(one) for one in chosen], ignore_index=True)
    sampled = beside([one.sample for one in chosen])
    ranking = rank_codes(tokens, sampled, vocab=vocab, n_shifts=1)  # only the verdict dense depends on the shifts
    ranking = ranking.sort_values("latent")
    for name in ("verdict", "monosemanticity", "density"):
        table[name] = ranking[name].to_numpy()
    few = ScanConfig(n_top=0, n_per_interval=0, n_before=0, n_coactivations=1)
    parts = []
    for shuffled, model in studied.models.items():
        shuffled_alike = [one for one in chosen if one.entry.shuffled == shuffled]
        W_dec = torch.cat([one.entry.dictionary.W_dec[one.latents] for one in shuffled_alike])
        path = logit_path(W_dec, model, HOOK, tokens[:: max(1, len(tokens) // 16)][:16])
        weights = {"W_dec": path.directions, "W_U": path.W_U}
        codes, folder = beside([one.sample for one in shuffled_alike]), out / "work" / f"features-{int(shuffled)}"
        parts.append(FeatureStore.from_codes(tokens, codes, folder, **weights, config=few))
    table["auroc"] = np.concatenate([next_auroc(part) for part in parts])
    table["log_lift"] = np.concatenate([next_log_lift(part) for part in parts])
    tested = ~table.verdict.isin(UNTESTED)
    return table.assign(tested=tested, monosemantic=np.where(tested, table.verdict == "monosemantic", np.nan))


def latents_of(one: Found) -> pd.DataFrame:
    return pd.DataFrame({"dictionary": one.entry.name, "seed": one.entry.seed, "latent": one.latents.numpy()})


def beside(samples: Sequence[SparseCodes]) -> SparseCodes:
    """Return the codes of two dictionaries on the same rows as those of one. The latents of the second follow those of
    the first."""
    starts = np.cumsum([0, *(codes.d_sae for codes in samples)]).tolist()
    rows = torch.cat([codes.rows for codes in samples])
    order = rows.argsort(stable=True)
    latents = torch.cat([codes.latents + start for codes, start in zip(samples, starts, strict=False)])
    values = torch.cat([codes.values for codes in samples])
    counts = torch.bincount(rows, minlength=len(samples[0]))
    return SparseCodes.from_counts(counts, latents[order], values[order], starts[-1])


def follow(label: str, results: Sequence[Found], studied: Studied, setting: Setting) -> pd.DataFrame:
    """Return the statistics of a label's best feature (main width, first seed) and best neuron, by slice of activation,
    on the held-out half."""
    held_out = ~fit_half(studied.n_sequences).numpy().repeat(studied.tokens.shape[1])
    proxy, mask = proxy_of(label, studied)[studied.tokens.flatten().numpy()], studied.mask(label)
    parts = []
    for one in sorted(results, key=lambda one: one.entry.factor == 0):
        entry = one.entry
        is_feature = (entry.name, entry.seed) == (f"{setting.main}×", 0) and entry.resampled
        if is_feature or entry.name == NEURONS:
            table = by_interval(one.best[label][held_out], mask[held_out], proxy[held_out], setting.n_intervals)
            latent = int(one.labels.set_index("label").latent[label])
            parts.append(table.assign(label=label, who="best feature" if is_feature else "best neuron", latent=latent))
    return pd.concat(parts, ignore_index=True)
