"""Which features of the first layer make a feature of the second fire, and does attribution agree with ablation on it?

    python -m analyses.claims.feature_circuits            trains a model of two layers first; resumes
    python -m analyses.claims.feature_circuits --quick    a tiny model, for the tests: the numbers mean nothing

TopK dictionaries of the residual stream after each of two layers, and transcoders of the two MLPs, are trained with
several seeds. Prompts are sequences of validation text up to a random position. The targets of each prompt are the
later latents that fire most strongly there (`interp.effects.feature_edges`). After Marks et al. 2024 (arXiv
2403.19647).

Claims tested, for both kinds and each seed
    circuits   the attributions of a prompt's edges agree with ablations, Spearman ≥ 0.9 on average over prompts
    gradients  over earlier latents, the gradient of the loss integrated along the path to the ablated latent agrees
               better with the rise of the loss under ablation than the gradient at the start of the path does

The figure shows the edges of one prompt, by ablation.
"""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analyses.claims import circuit_figures
from analyses.claims.compared_dictionaries import TINY, Sizes, activations, studied_run, telling_tokens
from analyses.claims.neighbouring_features import FEW
from analyses.record import Claim, Record, interval, options
from interp import FeatureStore, Run, TopKConfig, scan_features, train_sae
from interp.activations.hooks import capture, evaluating, module_of
from interp.activations.next_tokens import logits_of
from interp.codes.dictionary import Dictionary
from interp.codes.dictionary_hooks import dictionary_hooks
from interp.compare.latent_universality import MIN_FIRED
from interp.effects import feature_edges, feature_effects
from interp.effects.ablation_batch import sampled_sequences
from interp.effects.interventions import columns_of_latents

KINDS = {
    "residual stream": [("blocks.0.hook_resid_post", None), ("blocks.1.hook_resid_post", None)],
    "transcoders": [(f"blocks.{layer}.ln2.hook_normalized", f"blocks.{layer}.hook_mlp_out") for layer in (0, 1)],
}
"""For the earlier and the later dictionary, the hook that it reads, and the hook that it writes if that is another
one."""
SIDES = ("upstream", "downstream")
WAYS = ("gradient", "integrated")
"""How the effect of a latent on the loss is attributed to it."""


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
    latents: int = 60
    """Earlier latents whose effect on the loss is measured, on `sequences` each, with `steps` of the integral."""
    sequences: int = 4
    steps: int = 3


QUICK = Setting(**TINY, prompts=8, length=12, targets=2, latents=6)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "feature_circuits", arguments, "runs/compare")
    setting = QUICK if o.quick else Setting()
    record = Record(o.out, setting, svg=not o.quick)
    run, work = studied_run(setting, o.out), o.out / "work"
    pieces = {
        (kind, seed): record.piece(
            f"{kind.replace(' ', '-')}-{seed}", lambda kind=kind, seed=seed: edges_of(kind, seed, setting, run, work)
        )
        for kind in KINDS
        for seed in setting.seeds
    }
    first = pieces["residual stream", setting.seeds[0]]
    edges = pd.DataFrame({name: first[f"shown_{name}"] for name in ("upstream", "downstream", "effect")})
    names = {
        (side, int(latent)): name
        for side, names_of_latents in first["names"].items()
        for latent, name in names_of_latents.items()
    }
    results = record.finish(
        claims(pieces), {"circuit": circuit_figures.circuit(edges, names=names, title=first["title"])}
    )
    shutil.rmtree(work, ignore_errors=True)
    return results


def edges_of(kind: str, seed: int, setting: Setting, run: Run, work: Path) -> dict[str, Any]:
    """Return the agreement of each prompt's edges, that of the effects on the loss, and the edges of one prompt with
    names."""
    folder = work / kind.replace(" ", "-")
    hooks = [hook for pair in KINDS[kind] for hook in pair if hook]
    trained, judged = (
        activations(run.model, run, n, folder / f"{n}", hooks) for n in (setting.tokens, setting.compared)
    )
    dictionaries: list[tuple[str, Dictionary]] = []
    scans: list[FeatureStore] = []
    for reads, writes in KINDS[kind]:
        shared: dict[str, Any] = {"k": setting.k, "tokens": setting.tokens, "seed": seed}
        config = TopKConfig(d_sae=setting.factor * trained.d(reads), **shared)
        dictionaries.append((reads, sae := train_sae(trained, reads, config, output_hook=writes)))
        out = folder / f"{seed}-{reads}"
        scans.append(scan_features(sae, judged, reads, out, vocab=run.tokenizer.display(), config=FEW))
    prompts, at = drawn_prompts(run.val_tokens.tokens, setting, seed)
    table = feature_edges(run.model, prompts, *dictionaries, positions=at, targets=setting.targets)
    agreement = table.groupby("prompt")[["attribution", "ablation"]].corr("spearman").iloc[::2, 1]
    shown = strongest(table, setting.drawn, in_words(run, prompts, at))
    end = int(at[shown["prompt"].iloc[0]]) + 1
    words = run.tokenizer.decode(prompts[shown["prompt"].iloc[0], max(0, end - 8) : end].tolist())
    return {
        "agreement": agreement.to_numpy(),
        "pooled": float(table["attribution"].corr(table["ablation"], method="spearman")),
        "edges": len(table),
        **on_the_loss(scans[0], run, dictionaries[0], setting, seed),
        **{f"shown_{name}": shown[name].to_numpy() for name in ("upstream", "downstream", "effect")},
        "names": {side: names_of(scan, shown[side]) for side, scan in zip(SIDES, scans, strict=True)},
        "title": f"What makes the features of “{' '.join(words.split())}” fire",
    }


def on_the_loss(
    features: FeatureStore, run: Run, dictionary: tuple[str, Dictionary], setting: Setting, seed: int
) -> dict[str, float]:
    """Return the agreement of gradients with the rise of the loss without a latent, over latents that are drawn."""
    n_active = features.column("n_active")
    drawn = np.random.default_rng(seed).permutation(np.flatnonzero(n_active >= MIN_FIRED))[: setting.latents]
    effects = feature_effects(
        run.model, *dictionary, features, latents=np.sort(drawn).tolist(), sequences=setting.sequences, seed=seed
    )
    sampled = sampled_sequences(features, torch.tensor(effects["latent"].to_numpy()), setting.sequences, seed)
    effects["integrated_effect"] = [
        integrated_effect(run.model, *dictionary, features, latent, rows[rows >= 0], setting.steps)
        for latent, rows in zip(effects["latent"].tolist(), sampled, strict=True)
    ]
    return {way: float(effects[f"{way}_effect"].corr(effects["total_change"], method="spearman")) for way in WAYS}


def integrated_effect(
    model: Any, hook: str, dictionary: Dictionary, features: FeatureStore, latent: int, sequences: Tensor, steps: int
) -> float:
    """Return −z d · the gradient of the sequences' loss, per firing of a latent, averaged over the midpoints of `steps`
    equal parts of the path from x to x − z d (integrated gradients: Sundararajan et al. 2017, arXiv 1703.01365)."""
    hooks = dictionary_hooks(model, hook, dictionary)
    module = module_of(model)
    tokens = features.tokens[sequences].long()
    with evaluating(module):
        codes, usable = hooks.codes(dictionary, capture(module, tokens, {"reads": hooks.input_hook})["reads"])
        present = features.codes.present(0, features.tokens.numel()).view(features.tokens.shape)[sequences]
        counted = usable.view(tokens.shape) & present
        z = columns_of_latents(codes, torch.tensor([latent]))[:, 0].view(tokens.shape) * counted
        change = (-z[..., None] * dictionary.W_dec[latent]).detach()
        gradient = torch.zeros_like(change)
        for step in range(steps):
            at = ((step + 0.5) / steps * change).requires_grad_(True)
            with torch.enable_grad(), hooks.output_hook.attach(lambda acts, at=at: acts + at):
                log_p = logits_of(module(tokens))[:, :-1].log_softmax(-1)
                losses = -log_p.gather(2, tokens[:, 1:, None])[..., 0]
                gradient += torch.autograd.grad(losses[counted[:, :-1]].sum(), at)[0] / steps
    return float((gradient * change).sum() / (z > 0).sum())


def drawn_prompts(tokens: torch.Tensor, setting: Setting, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the beginnings of sequences, and a position of each in their second half."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(tokens), generator=generator)[: setting.prompts]
    at = torch.randint(setting.length // 2, setting.length, (len(rows),), generator=generator)
    return tokens[rows, : setting.length], at


def in_words(run: Run, prompts: torch.Tensor, at: torch.Tensor) -> list[int]:
    """Return prompts whose last tokens are several words, so that the figure can be read; all where none are."""
    last = [
        run.tokenizer.decode(row[max(0, end - 11) : end + 1].tolist()) for row, end in zip(prompts, at, strict=True)
    ]
    worded = [i for i, text in enumerate(last) if len(re.findall(r"\b[a-z]{2,}\b", text)) >= 5]
    return worded or list(range(len(prompts)))


def strongest(table: pd.DataFrame, n: int, prompts: Sequence[int]) -> pd.DataFrame:
    """Return the edges of the largest effect in one of these prompts; in any where these have no edge."""
    chosen = table[table["prompt"].isin(prompts)]
    chosen = table if chosen.empty else chosen
    rows = chosen[chosen["prompt"] == chosen.loc[chosen["activation"].idxmax(), "prompt"]].rename(
        columns={"ablation": "effect"}
    )
    return rows.loc[rows["effect"].abs().sort_values(ascending=False).index[:n]]


def names_of(features: FeatureStore, latents: pd.Series) -> dict[str, str]:
    names = telling_tokens(features.codes, features.tokens, features.vocab, latents)
    return {str(latent): name for latent, name in names.items()}


def claims(results: dict[tuple[str, int], dict[str, Any]]) -> list[Claim]:
    n = min(len(each["agreement"]) for each in results.values())
    seeds = f"{n} prompts of each of {len(results) // len(KINDS)} seeds"
    results_of_kind = {
        kind: [each for (kind_of_pair, _), each in results.items() if kind_of_pair == kind] for kind in KINDS
    }
    numbers: dict[str, Any] = {}
    sentences, means = [], []
    for kind, trained in results_of_kind.items():
        mean = [float(np.nanmean(each["agreement"])) for each in trained]
        pooled, edges = interval([each["pooled"] for each in trained]), sum(each["edges"] for each in trained)
        low = float(np.nanmin([np.nanmin(each["agreement"]) for each in trained]))
        numbers[kind] = {"by_prompt": interval(mean), "pooled": pooled, "lowest": low, "edges": edges}
        sentences.append(
            f"{kind}: {interval(mean)} (lowest prompt {low:.2f}, all edges together {pooled}; {edges:,} edges)"
        )
        means += mean
    ways = {kind: {way: [each[way] for each in trained] for way in WAYS} for kind, trained in results_of_kind.items()}
    return [
        Claim(
            row="circuits",
            text="Attributions of edges between features of two layers agree with ablations: Spearman ≥ 0.9 a prompt.",
            holds=min(means) >= 0.9,
            found=f"{'; '.join(sentences)}; {seeds}.",
            numbers=numbers,
        ),
        Claim(
            row="gradients",
            text="The integrated gradient predicts the loss's rise without a latent better than the gradient does.",
            holds=all(b > a for each in ways.values() for a, b in zip(*each.values(), strict=True)),
            found="Spearman over latents, "
            + "; ".join(
                f"{kind}: integrated {interval(each['integrated'])}, gradient {interval(each['gradient'])}"
                for kind, each in ways.items()
            )
            + ".",
            numbers=ways,
        ),
    ]


if __name__ == "__main__":
    main()
