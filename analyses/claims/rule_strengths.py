"""How strongly do latents fire where their rules hold? Codes of any text, predicted from the rules alone.

A rule has one case for each token, if its token is one of several. Among the cases that hold at t the first counts:

    ẑ_j(t)  = the mean of z_j over the fit half's positions at which the same case holds; where none does, over those
    share_j = 1 − Σ_t (z_j − ẑ_j)² / Σ_t (z_j − z̄_j)²            on the held-out half

The means are over all positions of a case, with 0 where the latent is silent: the least-squares values. A mean over
firings alone would be too large for an imprecise rule. Latents without a rule take their mean everywhere, as in mean
ablation. A share of 1 means that the words give every value; 0 means no better than a constant; below 0 means worse, on
text that the means were not fitted to.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Float32, Float64, Int64
from numba import njit

from interp.codes.code_chunks import ROWS_PER_CHUNK
from interp.codes.sparse_codes import SparseCodes
from interp.features.examples import first_windows
from interp.features.feature_store import FeatureStore
from interp.runtime.progress import Progress, no_progress
from interp.statistics.bits import bit_count
from interp.statistics.estimates import ratio
from interp.text.predicates import Predicates
from interp.text.rules import Rule
from interp.verdict.rule_counts import NumberedRules, TextBits, atom_bits, rule_bits

Latents = Float64[np.ndarray, " d_sae"]


@dataclass(frozen=True)
class Strengths:
    cases: NumberedRules
    latents: Int64[np.ndarray, " case"]
    rises: Float32[np.ndarray, " case"]
    """The mean activation in a case, less that where no case of its latent holds."""
    elsewhere: Float32[np.ndarray, " d_sae"]
    """The mean activation where no case holds."""
    shares: Float64[np.ndarray, " d_sae"]
    """The share of variance explained. NaN for a latent that is constant on the held-out half."""

    def rises_on(self, predicates: Predicates, sequences: slice) -> SparseCodes:
        """Return what is to be added to `elsewhere` at each position of the sequences. The predicates are those that
        the strengths were learnt with, of this text or another."""
        first_cases = first_that_hold(predicates, sequences, self.cases)
        which = first_cases.latents.long()
        latents, rises = torch.from_numpy(self.latents)[which], torch.from_numpy(self.rises)[which]
        return SparseCodes(first_cases.offsets, latents.int(), rises, len(self.elsewhere))


def learn_strengths(
    features: FeatureStore, predicates: Predicates, rules: Sequence[Rule], progress: Progress = no_progress
) -> Strengths:
    """Learn them in one pass over the codes. predicates: of the features' text; rules: one per latent, () for none."""
    cases_of_rules = [cases(rule) for rule in rules]
    numbered = NumberedRules.of(cases_of_rules, predicates)
    latents = np.repeat(np.arange(len(rules)), [len(each) for each in cases_of_rules])
    tokens, n_ctx = predicates.text.tokens, features.n_ctx
    fit, counted = features.fit_half().numpy(), first_windows(tokens)
    step, halves = max(1, ROWS_PER_CHUNK // n_ctx), [_Sums(latents, features.d_sae) for _ in range(2)]
    for start in range(0, len(tokens), step):
        sequences = slice(start, min(start + step, len(tokens)))
        rows = slice(sequences.start * n_ctx, sequences.stop * n_ctx)
        counts, learns = counted[rows] & features.codes.present(rows.start, rows.stop).numpy(), fit[sequences]
        first_cases, z = (
            first_that_hold(predicates, sequences, numbered).scipy(),
            features.codes[rows].scipy().maximum(0),
        )
        for sums, half in zip(halves, (learns, ~learns), strict=True):
            half_rows = np.flatnonzero(counts & np.repeat(half, n_ctx))
            sums.add(first_cases[half_rows], z[half_rows].astype(np.float64))
        progress(sequences.stop, len(tokens), "learning how strongly rules fire")
    values, elsewhere = halves[0].means()
    shares = halves[1].shares(values, elsewhere)
    rises = (values - elsewhere[latents]).astype(np.float32)
    return Strengths(numbered, latents, rises, elsewhere.astype(np.float32), shares)


def cases(rule: Rule) -> list[Rule]:
    """Return the rule; where its token is one of several, a rule for each of these; none for no rule."""
    token = next((atom for atom in rule if atom.kind == "token"), None)
    if token is None:
        return [rule] if rule else []
    names = zip(token.values, token.names, strict=True)
    single = [token._replace(values=(value,), names=(name,)) for value, name in names]
    return [tuple(one if atom is token else atom for atom in rule) for one in single]


def first_that_hold(predicates: Predicates, sequences: slice, rules: NumberedRules) -> SparseCodes:
    """Return a matrix with a row per position of the sequences, and a column per rule, in the order of `rules`. It is 1
    where a rule holds and no earlier rule of the same unit does."""
    n_ctx = predicates.text.tokens.shape[1]
    text = TextBits.read(predicates, np.arange(sequences.start * n_ctx, sequences.stop * n_ctx), rules)
    counts, rows = _first_rows(rules, text)
    starts = np.concatenate([[0], np.cumsum(counts)])
    entries = (np.ones(len(rows), np.float32), rows, starts)
    return SparseCodes.from_scipy(scipy.sparse.csc_matrix(entries, (text.n_rows, len(counts))).tocsr())


@njit(cache=True, nogil=True)
def _first_rows(rules, text):
    """At how many rows each rule is the first of its unit that holds, and at which, one rule after the other."""
    n_rows, n = text.n_rows, 0
    counts, rows = np.zeros(len(rules.rules), np.int64), np.empty(n_rows, np.int32)
    for unit in range(len(rules.rule_offsets) - 1):
        atoms = atom_bits(rules, text, unit)
        left = np.full((n_rows + 63) // 64, ~np.uint64(0))
        if n_rows & 63:
            left[-1] = (np.uint64(1) << np.uint64(n_rows & 63)) - np.uint64(1)
        for number in range(rules.rule_offsets[unit], rules.rule_offsets[unit + 1]):
            bits = rule_bits(rules.rules[number], atoms, left)
            if n + n_rows > len(rows):
                rows = np.concatenate((rows, np.empty(len(rows) + n_rows, np.int32)))  # twice the room
            before = n
            for word in range(len(bits)):
                left[word] &= ~bits[word]
                while bits[word]:
                    others = bits[word] & (bits[word] - np.uint64(1))
                    rows[n] = 64 * word + np.int64(bit_count((bits[word] ^ others) - np.uint64(1)))
                    bits[word] = others
                    n += 1
            counts[number] = n - before
    return counts, rows[:n]


class _Sums:
    """The rows of one half: how many, Σ z and Σ z² of each latent, and of each case its rows and Σ z there."""

    def __init__(self, latents: Int64[np.ndarray, " case"], d_sae: int):
        self.latents, self.rows = latents, 0
        self.total, self.squares = np.zeros((2, d_sae))
        self.n, self.sum_in_case = np.zeros((2, len(latents)))

    def add(self, first_cases: scipy.sparse.csr_matrix, z: scipy.sparse.csr_matrix) -> None:
        """first_cases: [row, case], 1 at the first case that holds. z: [row, d_sae], of the same rows."""
        row, case = first_cases.nonzero()
        self.rows += z.shape[0]
        self.total += np.asarray(z.sum(0)).ravel()
        self.squares += np.asarray(z.power(2).sum(0)).ravel()
        self.n += np.bincount(case, minlength=len(self.n))
        self.sum_in_case += np.bincount(case, np.asarray(z[row, self.latents[case]]).ravel(), len(self.n))

    def outside(self) -> tuple[Latents, Latents]:
        """Return the number of rows at which no case of a latent holds, and its mean activation there."""
        n_inside, inside = (np.bincount(self.latents, each, len(self.total)) for each in (self.n, self.sum_in_case))
        return self.rows - n_inside, self.total - inside

    def means(self) -> tuple[Float64[np.ndarray, " case"], Latents]:
        """Return the mean in each case, and where none holds; a case that does not occur is as if it did not hold."""
        n, activation = self.outside()
        elsewhere = activation / np.maximum(n, 1)
        return np.where(self.n > 0, self.sum_in_case / np.maximum(self.n, 1), elsewhere[self.latents]), elsewhere

    def shares(self, values: Float64[np.ndarray, " case"], elsewhere: Latents) -> Latents:
        """Return 1 − Σ (z − ẑ)² / Σ (z − z̄)², using Σ (z − ẑ)² = Σ z² − Σ ẑ (2 z − ẑ)."""
        n, activation = self.outside()
        explained = np.bincount(self.latents, values * (2 * self.sum_in_case - values * self.n), len(elsewhere))
        explained = explained + elsewhere * (2 * activation - elsewhere * n)
        variance = self.squares - self.total**2 / max(self.rows, 1)
        return 1 - ratio(self.squares - explained, np.where(variance > 1e-12 * self.squares, variance, 0))
