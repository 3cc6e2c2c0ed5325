"""Which features of the first layer make a feature of the second fire, and does attribution tell it as ablation does?

    python -m analyses.feature_circuits            trains a model of two layers first; goes on where it stood
    python -m analyses.feature_circuits --quick    a tiny model, for the tests: the numbers mean nothing

Dictionaries of the residual stream behind each of two layers, and transcoders of the two MLPs, of several seeds, TopK.
Prompts are sequences of validation text up to a position that is drawn; the targets of each are the later latents that
fire most strongly there (`interp.effects.feature_edges`). After Marks et al. 2024 (arXiv 2403.19647).

Claim tested: the attributions of a prompt's edges agree with ablations, Spearman ≥ .9 in the mean over prompts, for
both kinds and each seed. The figure shows the edges of one prompt, by ablation.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from analyses.compared_dictionaries import QUICK, Sizes, activations, studied_run
from analyses.neighbouring_features import FEW
from analyses.record import Claim, Record, interval, options
from interp import FeatureStore, Run, TopKConfig, figures, harvest, scan_features, train_sae
from interp.codes import Dictionary
from interp.effects import feature_edges
from interp.report.columns import top_tokens

KINDS = {
    "residual stream": [("blocks.0.hook_resid_post", None), ("blocks.1.hook_resid_post", None)],
    "transcoders": [(f"blocks.{layer}.ln2.hook_normalized", f"blocks.{layer}.hook_mlp_out") for layer in (0, 1)],
}
"""Of the earlier and of the later dictionary the hook that it reads, and the one that it writes where it is another."""


@dataclass(frozen=True, kw_only=True)
class Setting(Sizes):
    layers: int = 2
    factor: int = 8
    """Latents of a dictionary a dimension of the stream."""
    prompts: int = 60
    length: int = 48
    """Tokens of a prompt, at most."""
    targets: int = 4
    drawn: int = 20
    """Edges of the figure."""


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "feature_circuits", arguments, "runs/compare")
    setting = Setting(**QUICK, prompts=6, length=12, targets=2) if o.quick else Setting()
    record = Record(o.out, setting, svg=not o.quick)
    run, work = studied_run(setting, o.out), o.out / "work"
    found = {
        (kind, seed): record.piece(
            f"{kind.replace(' ', '-')}-{seed}", lambda kind=kind, seed=seed: edges_of(kind, seed, setting, run, work)
        )
        for kind in KINDS
        for seed in setting.seeds
    }
    first = found["residual stream", setting.seeds[0]]
    edges = pd.DataFrame({name: first[f"shown_{name}"] for name in ("upstream", "downstream", "effect")})
    names = {(side, int(latent)): name for side, of in first["names"].items() for latent, name in of.items()}
    results = record.finish([claim(found)], {"circuit": figures.circuit(edges, names=names, title=first["title"])})
    shutil.rmtree(work, ignore_errors=True)
    return results


def edges_of(kind: str, seed: int, setting: Setting, run: Run, work: Path) -> dict[str, Any]:
    """Agreement of each prompt, and of one of them the edges and what their latents fire on."""
    folder = work / kind.replace(" ", "-")
    hooks = [hook for pair in KINDS[kind] for hook in pair if hook]
    store = activations(run.model, run, setting.tokens, folder / "trained", hooks)
    sites: list[tuple[str, Dictionary]] = []
    for reads, writes in KINDS[kind]:
        shared: dict[str, Any] = {"k": setting.k, "tokens": setting.tokens, "seed": seed}
        config = TopKConfig(d_sae=setting.factor * store.d(reads), **shared)
        sites.append((reads, train_sae(store, reads, config, target=writes)))
    prompts, at = drawn_prompts(run.val_tokens.tokens, setting, seed)
    table = feature_edges(run.model, prompts, *sites, positions=at, targets=setting.targets)
    agreement = table.groupby("prompt")[["attribution", "ablation"]].corr("spearman").iloc[::2, 1]
    pooled = table["attribution"].corr(table["ablation"], method="spearman")
    shown, names, title = example(table, prompts, at, sites, run, setting, folder / f"shown-{seed}")
    return {
        "agreement": agreement.to_numpy(),
        "pooled": float(pooled),
        "edges": len(table),
        **{f"shown_{name}": shown[name].to_numpy() for name in ("upstream", "downstream", "effect")},
        "names": names,
        "title": title,
    }


def drawn_prompts(tokens: torch.Tensor, setting: Setting, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The beginnings of sequences, and a position of each in their second half."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(tokens), generator=generator)[: setting.prompts]
    at = torch.randint(setting.length // 2, setting.length, (len(rows),), generator=generator)
    return tokens[rows, : setting.length], at


def example(
    table: pd.DataFrame,
    prompts: torch.Tensor,
    at: torch.Tensor,
    sites: Sequence[tuple[str, Dictionary]],
    run: Run,
    setting: Setting,
    folder: Path,
) -> tuple[pd.DataFrame, dict[str, dict[str, str]], str]:
    """The strongest edges of the prompt whose target fires most strongly, names of their latents, and its last words,
    as a title."""
    prompt = int(table.loc[table["activation"].idxmax(), "prompt"])
    rows = table[table["prompt"] == prompt].rename(columns={"ablation": "effect"})
    shown = rows.loc[rows["effect"].abs().sort_values(ascending=False).index[: setting.drawn]]
    n = max(1, setting.compared // run.train_tokens.n_ctx)
    names = {}
    for side, (hook, dictionary) in zip(("upstream", "downstream"), sites, strict=True):
        store = harvest(
            run.model, run.train_tokens.tokens[:n], [hook], folder / side, exclude=run.tokenizer.special_ids
        )
        features = scanned(dictionary, store, hook, run, folder / f"{side}-features")
        tokens = top_tokens(features, 3)
        names[side] = {str(latent): " ".join(tokens.get(latent, [f"#{latent}"])) for latent in set(shown[side])}
    end = int(at[prompt]) + 1
    words = run.tokenizer.decode(prompts[prompt, max(0, end - 8) : end].tolist())
    return shown, names, f"What makes the features of “{' '.join(words.split())}” fire"


def scanned(dictionary: Dictionary, store: Any, hook: str, run: Run, folder: Path) -> FeatureStore:
    return scan_features(dictionary, store, hook, folder, vocab=run.tokenizer.display(), settings=FEW)


def claim(found: dict[tuple[str, int], dict[str, Any]]) -> Claim:
    numbers, told, means = {}, [], []
    for kind in KINDS:
        own = [each for (of, _), each in found.items() if of == kind]
        mean = [float(np.nanmean(each["agreement"])) for each in own]
        pooled, edges = interval([each["pooled"] for each in own]), sum(each["edges"] for each in own)
        low = float(np.nanmin([np.nanmin(each["agreement"]) for each in own]))
        numbers[kind] = {"by_prompt": interval(mean), "pooled": pooled, "lowest": low, "edges": edges}
        told.append(f"{kind}: {interval(mean)} (lowest prompt {low:.2f}, all edges together {pooled}; {edges:,} edges)")
        means += mean
    n = min(len(each["agreement"]) for each in found.values())
    return Claim(
        row="circuits",
        text="Attributions of edges between features of two layers agree with ablations: Spearman ≥ .9 a prompt.",
        holds=min(means) >= 0.9,
        found=f"{'; '.join(told)}; {n} prompts of each of {len(found) // len(KINDS)} seeds.",
        numbers=numbers,
    )


if __name__ == "__main__":
    main()
