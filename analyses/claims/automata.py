"""Which feature fires next? View a dictionary as an automaton, in which latents are states, and tokens lead from one
state to the next.

In:  a feature store, its model and dictionary. Out: with L_i(t) the direct logit effect of latent i on token t, q(t)
     the share of t in the text, and P(j | t) the share of its rows on which j fires

    effect_ij = correlation over tokens, weighted by q, of L_i(t) and P(j | t), in [−1, 1]: what i writes fires j
    lift_ij   = P(j at pos + 1 | i at pos) / P(j), in the text

    loop      effect_ii: i keeps itself active
    cycle     min(effect_ij, effect_ji) of i ≠ j, if each of the two edges is stronger than the loop of the latent
              where it begins: the two alternate

The null shuffles the tokens of all L, each among the NEIGHBOURS nearest in frequency, and takes the largest loop and
the largest cycle of all latents over all shuffles. A value above it is more than any latent reaches by chance, at p < 1
/ (shuffles + 1).

Source: the automata of Towards Monosemanticity (Bricken et al. 2023), found there by hand; the measure and the null are
our own. Cost: n² d_vocab per shuffle for the n latents that fire enough; memory about 8 n (4 n + 3 d_vocab) bytes.
Limits: only the direct path counts; later layers may act differently. j may need more than the token to fire.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64, Int64
from torch import nn

from analyses.claims.steering_scores import FiringByToken
from interp.codes.code_chunks import read_chunks
from interp.codes.dictionary import Dictionary
from interp.features.feature_store import FeatureStore
from interp.features.logit_path import logit_path
from interp.statistics.estimates import ratio

NEIGHBOURS = 32
Square = Float64[np.ndarray, "n n"]


@dataclass(frozen=True)
class Automaton:
    loops: pd.DataFrame
    """A row per latent with enough firings, the strongest loop first: latent, effect, lift."""
    cycles: pd.DataFrame
    """A row per pair latent < other that alternates, the strongest first: latent, other, effect (of the weaker edge),
    lift (the smaller of the two)."""
    null_loop: float
    null_cycle: float
    lift: float
    """The median lift of all pairs of latents i ≠ j."""

    def above(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Numbers of loops and of cycles that are stronger than all shuffles."""
        return self.loops[self.loops["effect"] > self.null_loop], self.cycles[self.cycles["effect"] > self.null_cycle]


def automaton(
    features: FeatureStore,
    model: nn.Module,
    hook: str,
    dictionary: Dictionary,
    *,
    min_fired: int = 10,
    shuffles: int = 20,
    seed: int = 0,
) -> Automaton:
    """Return the automaton of the latents that fire on `min_fired` rows. The seed draws the shuffles.

    Raises ValueError if no direct path from the hook to the logits is known, and if fewer than two latents fire
    enough."""
    n_active = features.column("n_active")
    latents = np.flatnonzero(n_active >= min_fired)
    if len(latents) < 2:
        raise ValueError(f"{len(latents)} latents fire on min_fired={min_fired} rows, at least 2 are needed: lower it")
    path = logit_path(dictionary.W_dec.detach()[torch.from_numpy(latents)], model, hook, features.tokens[:16])
    if path.directions is None or path.W_U is None:
        raise ValueError(path.note)
    firing_by_token = FiringByToken.of(features, latents.tolist(), path.W_U.shape[1])
    firing_latents = np.flatnonzero(firing_by_token.n > 0)
    q = firing_by_token.n[firing_latents] / firing_by_token.n.sum()
    written = (path.directions @ path.W_U[:, torch.from_numpy(firing_latents)]).numpy()
    fires = _standard(firing_by_token.share[firing_latents].T, q)
    effect = _standard(written, q) @ fires.T
    null_loop, null_cycle = _strongest_shuffled(written, fires, q, shuffles, seed)
    lift, alternating = lifts(features, latents), _alternating(effect)
    i, j = np.nonzero(np.triu(alternating > 0, 1))
    loops = {"latent": latents, "effect": np.diag(effect), "lift": np.diag(lift)}
    cycles = {"latent": latents[i], "other": latents[j], "effect": alternating[i, j]}
    cycles["lift"] = np.minimum(lift[i, j], lift[j, i])
    others = lift[~np.eye(len(latents), dtype=bool)]
    tables = _strongest_first(loops), _strongest_first(cycles)
    return Automaton(*tables, null_loop, null_cycle, float(np.median(others)))


def _strongest_shuffled(
    written: np.ndarray, fires: np.ndarray, q: np.ndarray, shuffles: int, seed: int
) -> tuple[float, float]:
    """Return the largest loop and the largest cycle of all shuffles."""
    generator, order = np.random.default_rng(seed), np.argsort(-q, kind="stable")
    nulls = []
    for _ in range(shuffles):
        shuffled = _standard(written[:, shuffled_tokens(order, generator)], q) @ fires.T
        nulls.append((np.diag(shuffled).max(), _alternating(shuffled).max()))
    loop, cycle = np.max(nulls, axis=0).tolist()
    return loop, cycle


def lifts(features: FeatureStore, latents: Int64[np.ndarray, " n"]) -> Square:
    """Return the factor by which each latent fires more often at the position after another latent's firing than
    anywhere. It is 0 if it never does."""
    n_ctx, codes, n = features.n_ctx, features.codes, len(latents)
    both, before, after, pairs = np.zeros((n, n)), np.zeros(n), np.zeros(n), 0
    for chunk in read_chunks(codes, n_ctx):
        present = codes.present(chunk.start, chunk.stop).numpy()
        fires = chunk.by_row[:, latents]
        fires.data[:] = 1
        follows = present[:-1] & present[1:] & (np.arange(chunk.start, chunk.stop - 1) % n_ctx < n_ctx - 1)
        one, next_one = fires[:-1][follows], fires[1:][follows]
        both += (one.T @ next_one).toarray()
        before += np.asarray(one.sum(0)).ravel()
        after += np.asarray(next_one.sum(0)).ravel()
        pairs += int(follows.sum())
    return ratio(both * pairs, np.outer(before, after), empty=0.0)


def _standard(
    values: Float64[np.ndarray, "n token"], q: Float64[np.ndarray, " token"]
) -> Float64[np.ndarray, "n token"]:
    """Return rows whose products are correlations weighted by q. A row that is the same for all tokens becomes 0."""
    centred = values - (values @ q)[:, None]
    return ratio(centred * np.sqrt(q), np.sqrt((centred * centred) @ q)[:, None], empty=0.0).astype(np.float32)


def shuffled_tokens(order: Int64[np.ndarray, " token"], generator: np.random.Generator) -> Int64[np.ndarray, " token"]:
    """Return a shuffle of the tokens in which each takes the place of another token of similar frequency. No token
    stays: if a frequent token stayed, the null would contain the effect that it is compared with.
    order: the tokens by frequency."""
    places = np.empty_like(order)
    for start in range(0, len(order), NEIGHBOURS):
        block = generator.permutation(order[start : start + NEIGHBOURS])
        places[block] = np.roll(block, 1)
    return places


def _alternating(effect: Square) -> Square:
    """Return the weaker edge of each pair, or 0 unless each edge is stronger than the loop of the latent where it
    begins."""
    beyond = effect > np.diag(effect)[:, None]
    return np.where(beyond & beyond.T, np.minimum(effect, effect.T), 0.0)


def _strongest_first(columns: dict[str, np.ndarray]) -> pd.DataFrame:
    return pd.DataFrame(columns).sort_values("effect", ascending=False, kind="stable", ignore_index=True)
