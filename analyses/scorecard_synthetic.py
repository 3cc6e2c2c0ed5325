"""World C of the scorecard: dictionaries learnt on `sae_lens.synthetic`, where features are known and there is no text.

A latent's mass is due to the true features that are active where it fires, in proportion to how far each drives it,

    p_jf ∝ Σ_i z_ij c_ijf / Σ_f' c_ijf',        c_ijf = max(0, a_if d_f · w_j),     w_j = the encoder's column

so the truth needs no text either. What can be scored is what looks at weights and firings alone.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from analyses.bench_recovery import HOOK, QUICK, WORLDS, truth
from interp import BatchTopKConfig, train_sae
from interp.scores.directions import direction_measures
from interp.scores.senses import MIN_GROUPS
from interp.scores.twins import nearest_rows
from interp.worlds import Truth

MEASURES = {
    "twin_cosine": 1, "twin_correlation": 1, "enc_dec_cosine": 1, "dimensionality": 1, "max_cosine": -1, "density": -1,
}  # fmt: skip


def synthetic_world(folder: Path, quick: bool) -> pd.DataFrame:
    """One row a latent of a BatchTopK dictionary: its truth, and every measure that needs no text."""
    name, world = ("tiny", QUICK["tiny"]) if quick else ("1024 in 96", replace(WORLDS["1024 in 96"], samples=400_000))
    known = truth(folder, name, world)
    configs = [
        BatchTopKConfig.recovery(d_sae=world.width, k=known.k, tokens=world.samples, seed=seed) for seed in (1, 2)
    ]
    sae, twin = train_sae(known.store, HOOK, configs, out=folder / f"saes-{name.replace(' ', '_')}")
    with torch.no_grad():
        x = known.model.feature_dict(known.held_out)
        z, other = sae.encode(x), twin.encode(x)
    p = due_to(z, known.held_out, known.model.feature_dict.feature_vectors.detach(), sae.W_enc)
    found = Truth.of(p, [frozenset({str(f)}) for f in range(p.shape[1])])
    directions, n_active = direction_measures(sae.W_dec), (z > 0).sum(0).numpy()
    encoder = torch.nn.functional.cosine_similarity(sae.W_enc.T, sae.W_dec, dim=1)
    return pd.DataFrame(
        {
            "family": "synthetic",
            "world": name,
            "kind": "learnt",
            "latent": np.arange(z.shape[1]),
            "top_share": found.top_share,
            "polysemanticity": found.polysemanticity,
            "true_senses": found.n_senses,
            "is_one": found.is_one,
            "is_several": found.is_several,
            "tested": n_active >= MIN_GROUPS,
            "n_active": n_active,
            "density": n_active / len(z),
            "twin_cosine": nearest_rows(sae.W_dec, twin.W_dec)[1],
            "twin_correlation": best_correlation(z, other),
            "enc_dec_cosine": encoder.detach().numpy(),
            "dimensionality": directions.dimensionality,
            "max_cosine": directions.max_cosine,
        }
    )


def due_to(
    z: Float[Tensor, "row d_sae"],
    a: Float[Tensor, "row feature"],
    D: Float[Tensor, "feature d"],
    W_enc: Float[Tensor, "d d_sae"],
) -> Float64[np.ndarray, "d_sae feature"]:
    drive = torch.relu(D @ W_enc.detach())  # feature d_sae
    p = np.zeros((z.shape[1], len(D)))
    for latent in range(z.shape[1]):
        rows = z[:, latent] > 0
        share = a[rows] * drive[:, latent]
        total = share.sum(1, keepdim=True)
        mass = (share / total.clamp_min(1e-12) * z[rows, latent, None]).sum(0).double()
        p[latent] = (mass / mass.sum().clamp_min(1e-30)).numpy()
    return p


def best_correlation(z: Float[Tensor, "row n"], other: Float[Tensor, "row m"]) -> Float64[np.ndarray, " n"]:
    """Of each latent with the twin's latents; 0 for one that never fires."""
    standard = [(part - part.mean(0)) / part.std(0).clamp_min(1e-12) for part in (z, other)]
    return (standard[0].T @ standard[1] / len(z)).max(1).values.double().numpy()
