"""World C of the scorecard: dictionaries trained on `sae_lens.synthetic`, where features are known and there is no
text.

What a latent means is what is present where it fires, as in world B (`truth`). With s_f the share of its mass that is
left on rows where the true feature f is active, and b_f the share of all rows,

    f* = argmax_f  s_f ln(s_f / b_f) + (1 − s_f) ln((1 − s_f) / (1 − b_f))     over s_f > b_f

takes those rows' mass, again and again, while it gives LEAST_GAIN nats of information about a firing. All features are
known here, so what none of them explains is not an unknown meaning but interference: all features active with it share
its mass.

Mass is not divided by what drives the encoder: true directions overlap a little with every column, and a latent that
fires for one feature alone would count as several. A child fires only with its parent, so a latent that fires for the
child alone means the child, whatever it reads of the parent; one that fires wherever the parent does means the parent.

Each world has dictionaries as wide as the benchmark's, NARROW ones, which merge features, and SHORT ones, trained too
little; a twin is the same dictionary from the next seed. Only scores that look at weights and firings alone apply.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor

from analyses.bench import recovery_worlds
from analyses.bench.recovery_presets import picking
from analyses.bench.recovery_worlds import HOOK, QUICK, WORLDS
from analyses.scorecard.rivals import dimensionality
from analyses.scorecard.truth import Truth, take_in_turn
from interp import SAE, BatchTopKConfig, train_sae
from interp.features.latent_matches import nearest_rows
from interp.verdict.measure_nulls import MIN_GROUPS
from interp.verdict.measures import largest_cosines

MEASURES = {
    "twin_cosine": 1, "twin_correlation": 1, "enc_dec_cosine": 1, "dimensionality": 1, "max_cosine": -1, "density": -1,
}  # fmt: skip
ROWS = {"1024 in 96": 300_000, "correlated": 300_000, "4096 in 256": 150_000}
SEEDS = (1, 2, 3)
NARROW, SHORT = 4, 10
"""Times as few latents, or as few rows."""
KINDS = ("learnt", "narrow", "short")


def synthetic_worlds(quick: bool) -> Iterator[tuple[str, int]]:
    """Yield name and seed of each, all seeds of a world in a row, so that its rows are read once."""
    for name in QUICK if quick else ROWS:
        for seed in SEEDS[:1] if quick else SEEDS:
            yield name, seed


def synthetic_world(folder: Path, name: str, seed: int) -> pd.DataFrame:
    """Return one row per latent of each dictionary: its truth, and every measure that needs no text."""
    world = QUICK[name] if name in QUICK else replace(WORLDS[name], samples=ROWS[name])
    truth = recovery_worlds.truth(folder, name, world)
    with torch.no_grad():
        x = truth.model.feature_dict(truth.held_out)
    parts = []
    for kind in KINDS:
        width = world.width // NARROW if kind == "narrow" else world.width
        tokens = world.samples // SHORT if kind == "short" else world.samples
        sae, twin = (
            train_sae(
                truth.store,
                HOOK,
                picking(BatchTopKConfig, d_sae=width, k=truth.k, tokens=tokens, seed=each),
                out=folder / "dictionaries" / f"{name.replace(' ', '_')}-{kind}-{each}",
            )
            for each in (seed, seed + 1)
        )
        parts.append(judge(sae, twin, x, truth.held_out).assign(kind=kind))
    return pd.concat(parts).assign(family=name, world=f"{name}-{seed}")


@torch.no_grad()
def judge(sae: SAE, twin: SAE, x: Float[Tensor, "row d"], a: Float[Tensor, "row feature"]) -> pd.DataFrame:
    z, other = sae.encode(x), twin.encode(x)
    truth = true_meanings(due_to(z, a))
    n_active = (z > 0).sum(0).numpy()
    return pd.DataFrame(
        {
            "latent": np.arange(z.shape[1]),
            "top_share": truth.top_share,
            "polysemanticity": truth.polysemanticity,
            "true_senses": truth.n_senses,
            "is_one": truth.is_one,
            "is_several": truth.is_several,
            "tested": n_active >= MIN_GROUPS,
            "n_active": n_active,
            "density": n_active / len(z),
            "twin_cosine": nearest_rows(sae.W_dec, twin.W_dec)[1],
            "twin_correlation": best_correlation(z, other),
            "enc_dec_cosine": torch.nn.functional.cosine_similarity(sae.W_enc.T, sae.W_dec, dim=1).numpy(),
            "dimensionality": dimensionality(sae.W_dec),
            "max_cosine": largest_cosines(sae.W_dec),
        }
    )


def true_meanings(p: Float64[np.ndarray, "latent feature"]) -> Truth:
    """Return the meanings; each feature is a separate one."""
    shares = np.sort(p, axis=1)[:, ::-1]
    return Truth(p, shares, shares)


def due_to(z: Float[Tensor, "row latent"], a: Float[Tensor, "row feature"]) -> Float64[np.ndarray, "latent feature"]:
    """Return the share of each latent's mass that each feature takes; zeros for one that never fires."""
    present = (a > 0).numpy()
    # A feature that never or always is there tells nothing.
    base = np.clip(present.mean(0), 1e-12, 1 - 1e-12)
    return np.stack([_describe(column, present, base) for column in z.T.contiguous().numpy()])


def _describe(
    z: Float32[np.ndarray, " row"], present: Bool[np.ndarray, "row feature"], base: Float64[np.ndarray, " feature"]
) -> Float64[np.ndarray, " feature"]:
    fires = z > 0
    mass, is_present = z[fires].astype(np.float64), present[fires].astype(np.float64)
    p, left = take_in_turn(mass, scipy.sparse.csc_matrix(is_present), base)
    return p + (left / is_present.sum(1).clip(1)) @ is_present / max(mass.sum(), 1e-30)


def best_correlation(z: Float[Tensor, "row n"], other: Float[Tensor, "row m"]) -> Float64[np.ndarray, " n"]:
    """Return the largest correlation of each latent with a latent of the twin. It is 0 for a latent that never
    fires."""
    standard = [(part - part.mean(0)) / part.std(0).clamp_min(1e-12) for part in (z, other)]
    return (standard[0].T @ standard[1] / len(z)).max(1).values.double().numpy()
