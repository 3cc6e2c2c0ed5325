"""Do features split as the dictionary grows, and how many features does one kind of text have?

    python -m analyses.claims.split_features                    trains the model first; resumes
    python -m analyses.claims.split_features --run runs/demo    with the model and the text of a run of the mixture
    python -m analyses.claims.split_features --quick            a tiny model, for the tests: the numbers mean nothing

The dictionaries are TopK, on one model's MLP, of 1×, 8× and 32× its neurons, with several seeds. Claim tested (row 16):
the narrowest dictionary has base64 features, and their number does not fall from one width to the next, both on average
over seeds; at least one of its latents splits, for each seed. A base64 feature is a latent that fires on at least ten
tokens, nine in ten of them in base64. A latent has split if it is the best parent, by masked cosine, of two or more
latents of the next width (`interp.compare.splitting`). The figure shows where the widest dictionary's base64 features
come from or, if it has none, the latents that split most.

Note that all dictionaries are trained on the same number of tokens, so wide ones get fewer tokens per latent.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch

from analyses.claims.compared_dictionaries import HOOK, TINY, Sizes, Studied, encoded, options, sized, telling_tokens
from analyses.record import Claim, Record, interval
from interp import TopKConfig, figures, train_sae
from interp.codes.code_store import CodeStore
from interp.codes.sparse_codes import SparseCodes
from interp.compare import splitting
from interp.compare.latent_universality import MIN_FIRED
from interp.features.latent_matches import joint_sums

LABEL, MIN_PRECISION = "base64", 0.9
MAX_ROOTS = 4
EDGES = ("latent", "other", "both", "is_best")


@dataclass(frozen=True, kw_only=True)
class Setting(Sizes):
    widths: tuple[int, ...] = (1, 8, 32)
    """Latents per neuron of each dictionary."""


QUICK = Setting(**TINY, widths=(1, 2, 4))


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "split_features", arguments, labels=(LABEL,))
    setting = sized(QUICK if o.quick else Setting(), o)
    record = Record(o.out, setting, svg=not o.quick)
    studied = Studied(setting, o.out)
    results_of_seeds = [
        record.piece(f"seed-{seed}", lambda seed=seed: of_seed(seed, setting, studied)) for seed in setting.seeds
    ]
    results = record.finish([claim(results_of_seeds, setting)], {"splitting": draw(results_of_seeds[0], setting)})
    shutil.rmtree(studied.work, ignore_errors=True)
    return results


def of_seed(seed: int, setting: Setting, studied: Studied) -> dict[str, Any]:
    """Return the latents of the label at each width, and the edges from each width to the next."""
    shared: dict[str, Any] = {"k": setting.k, "tokens": setting.tokens, "seed": seed}
    codes, mask = [], studied.run.train_tokens.labels[LABEL][: len(studied.judged.tokens)].flatten()
    for width in setting.widths:
        config = TopKConfig(d_sae=width * studied.d_mlp, **shared)
        sae = train_sae(studied.trained, HOOK, config, out=studied.work / f"sae-{width}-{seed}")
        codes.append(encoded(sae, studied.judged, studied.work / f"codes-{width}-{seed}"))
    results: dict[str, Any] = {
        f"own_{w}": latents_of(mask, each) for w, each in zip(setting.widths, codes, strict=True)
    }
    for width, (narrow, wide) in zip(setting.widths, pairwise(codes), strict=False):
        split = splitting(narrow, wide)
        results |= {f"{column}_{width}": split.edges[column].to_numpy() for column in EDGES}
        results |= {f"split_{width}": split.n_split, f"parents_{width}": split.share_with_parent}
        results |= {f"alive_{width}": len(split.children), f"null_{width}": split.null}
    vocab, levels = studied.run.tokenizer.display(), tables_of(results, setting)
    for k, (width, each) in enumerate(zip(setting.widths, codes, strict=True)):
        drawn = levels[k - 1]["other"] if k else levels[0]["latent"]
        names = telling_tokens(each, studied.judged.tokens, vocab, drawn)
        results[f"names_{width}"] = {str(latent): name for latent, name in names.items()}
    return results


def latents_of(mask: torch.Tensor, codes: CodeStore) -> np.ndarray:
    """Return which latents fire on the label."""
    label = SparseCodes.from_dense(mask.float()[:, None])
    parts = [(sums.products[0][:, 0], sums.ours.fired[sums.latents]) for sums in joint_sums(codes, label, [(0, 0)])]
    inside, fired = (np.concatenate(each) for each in zip(*parts, strict=True))
    return np.flatnonzero((fired >= MIN_FIRED) & (inside >= MIN_PRECISION * fired))


def claim(results: Sequence[dict[str, Any]], setting: Setting) -> Claim:
    counts = {width: [len(each[f"own_{width}"]) for each in results] for width in setting.widths}
    means = [float(np.mean(each)) for each in counts.values()]
    first = setting.widths[0]
    split = [each[f"split_{first}"] for each in results]
    sentence = ", ".join(f"{width}×: {interval(each)}" for width, each in counts.items())
    parents = {
        f"{key}_{width}": interval([float(each[f"{key}_{width}"]) for each in results])
        for width in setting.widths[:-1]
        for key in ("split", "alive", "parents", "null")
    }
    shares = "; ".join(
        f"to {wide}× {parents[f'split_{width}'].mean:.0f} of {parents[f'alive_{width}'].mean:.0f} split, "
        f"{parents[f'parents_{width}'].mean:.0%} of the wide have a parent "
        f"(shifted {parents[f'null_{width}'].mean:.1%})"
        for width, wide in pairwise(setting.widths)
    )
    return Claim(
        row="16",
        text=f"There are {LABEL} features, a wider dictionary has at least as many, and at least one feature splits.",
        holds=means[0] > 0 and all(b >= a for a, b in pairwise(means)) and min(split) >= 1,
        found=f"{LABEL} features {sentence}; {shares}; {len(results)} seeds.",
        numbers={**{f"{LABEL}_{width}": interval(each) for width, each in counts.items()}, **parents},
    )


def tables_of(results: dict[str, Any], setting: Setting) -> list[pd.DataFrame]:
    """Return the edges by which the widest dictionary's features of the label come from narrower ones; where it has
    none, those of the MAX_ROOTS latents that split most."""
    levels = [pd.DataFrame({column: results[f"{column}_{w}"] for column in EDGES}) for w in setting.widths[:-1]]
    levels = [table[table["is_best"].astype(bool)] for table in levels]
    wanted, leading = results[f"own_{setting.widths[-1]}"], list[pd.DataFrame]()
    for table in reversed(levels):
        leading.insert(0, table[table["other"].isin(wanted)])
        wanted = leading[0]["latent"]
    if len(leading[0]):
        return leading
    wanted = levels[0]["latent"].value_counts().index[:MAX_ROOTS]
    for i, table in enumerate(levels):
        levels[i] = table[table["latent"].isin(wanted)]
        wanted = levels[i]["other"]
    return levels


def draw(results: dict[str, Any], setting: Setting) -> Any:
    levels = tables_of(results, setting)
    names = [{int(latent): name for latent, name in results[f"names_{w}"].items()} for w in setting.widths]
    return figures.splitting(levels, names=names, roots=sorted(set(levels[0]["latent"].astype(int))))


if __name__ == "__main__":
    main()
