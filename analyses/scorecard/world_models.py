"""World B of the scorecard: latents and neurons of transformers trained on planted text, and of their nulls, made and
judged by `analyses.scorecard.learned_world`; and those of a run, judged by the labels of its corpus.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from analyses.scorecard.factors import Factor
from analyses.scorecard.judged import Basis, judge_latents
from analyses.scorecard.learned_world import Sizes, judge_learned, learned_latents
from analyses.scorecard.planted_texts import FAMILIES
from analyses.scorecard.truth import Truth
from interp import Run, load_sae

MIN_TOKENS = 200
"""A token of the labelled corpus is a factor if it is there so often."""


def learned_world(folder: Path, family: str, seed: int, sizes: Sizes) -> pd.DataFrame:
    """Return latents and neurons of a transformer trained on a family's text, and of its nulls."""
    text = FAMILIES[family](np.random.default_rng([seed, 77]), sizes.n_seq, sizes.n_ctx, 40, 0.0)
    bases = learned_latents(text, folder, seed, sizes)
    table = judge_learned(bases, text, sizes, family=family, world=f"{family}-{seed}")
    sae = load_sae(folder / "sae")
    cosine = torch.nn.functional.cosine_similarity(sae.W_enc.T, sae.W_dec, dim=1)
    table.loc[table.basis == "dictionary", "enc_dec_cosine"] = cosine.detach().numpy()
    return table


def run_world(path: Path) -> pd.DataFrame:
    """Return latents and neurons of a run, by the labels of its corpus and by token, neither of which the ranking
    sees."""
    run = Run(path)
    tokens, labels = run.features.tokens, run.harvested.labels
    factors = [
        Factor(f"label {name}", frozenset({name}), torch.as_tensor(mask).reshape(-1).nonzero()[:, 0].numpy())
        for name, mask in labels.items()
    ]
    flat = tokens.numpy().reshape(-1)
    counts = np.bincount(flat, minlength=len(run.features.vocab))
    words = pd.Series(run.features.vocab).str.strip().str.casefold()
    for word, ids in words.groupby(words).groups.items():
        if counts[ids].sum() >= MIN_TOKENS and word:
            factors.append(Factor(f"token {word!r}", frozenset({f"token {word}"}), np.flatnonzero(np.isin(flat, ids))))
    # As in the planted worlds, what holds at more than a quarter of the text is not a meaning.
    factors = [factor for factor in factors if 0 < len(factor.rows) <= flat.size // 4]
    parts = []
    for name, features in (("dictionary", run.features), ("neurons", run.neurons)):
        basis = Basis(features.codes[0 : len(features.codes)])
        truth = Truth.attribute(basis.codes, factors)
        columns: dict[str, Any] = {"family": "corpus", "world": str(path), "basis": name}
        parts.append(judge_latents(tokens, basis, features.vocab, factors, truth, **columns))
    return pd.concat(parts)
