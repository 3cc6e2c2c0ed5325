"""How strongly a latent fires where its rule holds, and how much of what it does its rule explains.

In: features, and the rule of each latent. Out: `Strengths`, which predicts the codes of any text from its words. The
cases of a rule are its conjunctions, one for each token where x_t is one of several; of those that hold at t the first
counts:

    ẑ_j(t)  = the mean of z_j over the fit half's positions at which the same case holds; where none does, over those
    share_j = 1 − Σ_t (z_j − ẑ_j)² / Σ_t (z_j − z̄_j)²            on the held-out half

The means are over all positions of a case, 0 where the latent is silent: the least-squares values. A mean over firings
alone is too large where a rule is imprecise. Latents without a rule are their mean everywhere, as in mean ablation.
A share of 1: the words tell every value; of 0: no better than a constant; below: worse, on text not learnt from.
Windows that repeat an earlier one (`features.repeats`), and rows that were not encoded, count for neither half.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from numba import njit

from interp.codes import SparseCodes
from interp.explain.holding import Numbered, first_that_hold
from interp.explain.predicates import Atom, Rule, Text
from interp.features.feature_store import FeatureStore
from interp.features.repeats import first_windows
from interp.files import Progress, no_progress, ratio
from interp.monosemanticity.firings import ROWS_PER_CHUNK


@dataclass(frozen=True)
class Strengths:
    cases: Numbered
    latents: Int64[np.ndarray, " case"]
    rises: Float32[np.ndarray, " case"]
    """The mean activation in a case, less that where no case of its latent holds."""
    elsewhere: Float32[np.ndarray, " d_sae"]
    """The mean activation where no case holds."""
    shares: Float64[np.ndarray, " d_sae"]
    """NaN for a latent that is constant on the held-out half."""

    def rises_on(self, text: Text, sequences: slice) -> SparseCodes:
        """What is to be added to `elsewhere` at each position of the sequences. The text's vocabulary and names of
        labels are those that the strengths were learnt with."""
        held = first_that_hold(text, sequences, self.cases)
        which = held.latents.long()
        latents, rises = torch.from_numpy(self.latents)[which], torch.from_numpy(self.rises)[which]
        return SparseCodes(held.offsets, latents.int(), rises, len(self.elsewhere))


def learn_strengths(
    features: FeatureStore, text: Text, rules: Sequence[Rule], progress: Progress = no_progress
) -> Strengths:
    """From one pass over the codes. text: that of the features; rules: one a latent, () for none."""
    by_case = [cases(rule) for rule in rules]
    numbered, latents = Numbered.of(by_case, text), np.repeat(np.arange(len(rules)), [len(own) for own in by_case])
    sums = _Sums.empty(len(latents), features.d_sae)
    fit, counted = features.fit_half().numpy(), first_windows(text.tokens)
    step = max(1, ROWS_PER_CHUNK // text.n_ctx)
    for start in range(0, len(text.tokens), step):
        sequences = slice(start, min(start + step, len(text.tokens)))
        rows = slice(sequences.start * text.n_ctx, sequences.stop * text.n_ctx)
        counts = counted[rows] & features.codes.present(rows.start, rows.stop).numpy()
        half = np.where(counts, np.where(np.repeat(fit[sequences], text.n_ctx), 0, 1), -1)
        held, codes = first_that_hold(text, sequences, numbered), features.codes[rows]
        fired = (each.numpy() for each in (codes.offsets, codes.latents, codes.values))
        _add(half, held.offsets.numpy(), held.latents.numpy(), latents, *fired, *vars(sums).values())
        progress(sequences.stop, len(text.tokens), "learning how strongly rules fire")
    values, elsewhere = sums.means(0, latents)
    shares = sums.shares(1, latents, values, elsewhere)
    rises = (values - elsewhere[latents]).astype(np.float32)
    return Strengths(numbered, latents, rises, elsewhere.astype(np.float32), shares)


def cases(rule: Rule) -> list[Rule]:
    """Each of one conjunction, in the order of the rule."""
    found: list[Rule] = []
    for part in rule:
        own = next((atom for atom in part if atom.kind == "token"), None)
        single = [Atom("token", (token,)) for token in own.tokens] if own else []
        found += [(tuple(one if atom is own else atom for atom in part),) for one in single] or [(part,)]
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class _Sums:
    """Of each half: 0 that which is learnt from, 1 the other."""

    rows: Int64[np.ndarray, " 2"]
    total: Float64[np.ndarray, "2 d_sae"]
    squares: Float64[np.ndarray, "2 d_sae"]
    n: Int64[np.ndarray, "2 case"]
    """Rows of each case."""
    in_case: Float64[np.ndarray, "2 case"]
    """The activation of its latent there."""

    @classmethod
    def empty(cls, n_cases: int, d_sae: int) -> "_Sums":
        by_latent, by_case = (2, d_sae), (2, n_cases)
        sums = np.zeros(by_latent), np.zeros(by_latent), np.zeros(by_case, np.int64), np.zeros(by_case)
        return cls(np.zeros(2, np.int64), *sums)

    def outside(
        self, half: int, latents: Int64[np.ndarray, " case"]
    ) -> tuple[Float64[np.ndarray, " d_sae"], Float64[np.ndarray, " d_sae"]]:
        """At how many rows no case of a latent holds, and its activation there."""
        d_sae = self.total.shape[1]
        n_inside = np.bincount(latents, self.n[half], d_sae)
        return self.rows[half] - n_inside, self.total[half] - np.bincount(latents, self.in_case[half], d_sae)

    def means(
        self, half: int, latents: Int64[np.ndarray, " case"]
    ) -> tuple[Float64[np.ndarray, " case"], Float64[np.ndarray, " d_sae"]]:
        """In each case, and where none holds; a case that does not occur is as if it did not hold."""
        n, activation = self.outside(half, latents)
        elsewhere = activation / np.maximum(n, 1)
        own = self.in_case[half] / np.maximum(self.n[half], 1)
        return np.where(self.n[half] > 0, own, elsewhere[latents]), elsewhere

    def shares(
        self,
        half: int,
        latents: Int64[np.ndarray, " case"],
        values: Float64[np.ndarray, " case"],
        elsewhere: Float64[np.ndarray, " d_sae"],
    ) -> Float64[np.ndarray, " d_sae"]:
        """1 − Σ (z − ẑ)² / Σ (z − z̄)², by Σ (z − ẑ)² = Σ z² − Σ ẑ (2 z − ẑ)."""
        n, activation = self.outside(half, latents)
        told = np.bincount(latents, values * (2 * self.in_case[half] - values * self.n[half]), len(elsewhere))
        told = told + elsewhere * (2 * activation - elsewhere * n)
        variance = self.squares[half] - self.total[half] ** 2 / max(self.rows[half], 1)
        return 1 - ratio(self.squares[half] - told, np.where(variance > 1e-12 * self.squares[half], variance, 0))


@njit(cache=True, nogil=True)
def _add(half, held_offsets, held, latents, offsets, fired, values, rows, total, squares, n, in_case):
    """The firings of some rows, and the cases that hold there; half: of each row, −1 if it does not count."""
    now = np.zeros(total.shape[1])
    for row in range(len(half)):
        own = half[row]
        if own < 0:
            continue
        rows[own] += 1
        for i in range(offsets[row], offsets[row + 1]):
            if values[i] > 0:
                now[fired[i]] = values[i]
                total[own, fired[i]] += values[i]
                squares[own, fired[i]] += np.float64(values[i]) * values[i]
        for i in range(held_offsets[row], held_offsets[row + 1]):
            n[own, held[i]] += 1
            in_case[own, held[i]] += now[latents[held[i]]]
        for i in range(offsets[row], offsets[row + 1]):
            now[fired[i]] = 0
