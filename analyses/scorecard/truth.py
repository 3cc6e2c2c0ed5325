"""The truth about a latent whose factors are known.

    p_f = share of the latent's activation mass that is due to factor f,    Σ_f p_f = 1

Factors that share a tag are related ("content words of topic 3", "'of' in topic 3"), so p is collected by meaning. The
tag with the most mass is the first meaning and takes its factors away; the tag with most of the rest is the second; …

    polysemanticity = exp(−Σ_m p_m ln p_m)         the effective number of meanings: 1 for one, k for k equal ones
    one meaning   ⇔ p_1 ≥ ONE;    several ⇔ p_1 ≤ SEVERAL;    between: neither is claimed

If latents were not built from factors but learnt (a transformer's, on text whose factors are known), `attribute` finds
p. With s_f the share of the mass that is left at positions of factor f, and b_f the share of all positions,

    f* = argmax_f  s_f ln(s_f / b_f) + (1 − s_f) ln((1 − s_f) / (1 − b_f))     over s_f > b_f

takes its positions' mass, again and again: the most informative description first. But a learnt latent may have another
reading: all of its mass may lie inside brackets, though two slots of a record are more informative; and a Devanagari
and an Arabic token share a tag, "starts of words", that means neither. So there is a second reading, with

    f* = argmax_f  s_f      over those that give at least MIN_GAIN nats

with the largest factor first, and each factor its own meaning. One meaning, several, and their number are claimed only
if both readings agree. If no two factors hold at once and none are related (each word has one lemma), p_f = s_f, and
there is nothing to search. Limits: a meaning that is none of the factors looks like many; latents of which less than
EXPLAINED is described are not judged.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float64, Int64

from analyses.scorecard.factors import Factor
from interp.codes.sparse_codes import SparseCodes
from interp.statistics.estimates import ratio

ONE, SEVERAL = 0.8, 0.67
MIN_SHARE = 0.1
"""A meaning with less of the mass is not a sense of the latent."""
EXPLAINED = 0.8
"""Senses are counted where they hold at least this share of the mass together."""
MAX_MEANINGS = 16
MIN_GAIN = 0.5
"""Nats that a description must tell about a firing."""


Meanings = Int64[np.ndarray, "latent firing"]
Shares = Float64[np.ndarray, "latent firing"]


@dataclass(frozen=True)
class Truth:
    factors: Float64[np.ndarray, "latent factor"]
    """p_f; a row of zeros for a latent without mass."""
    shares: Float64[np.ndarray, "latent meaning"]
    """p_m, largest first; what is beyond the last is spread like it."""
    otherwise: Float64[np.ndarray, "latent meaning"]
    """p_m by the second reading; `shares` where there is none."""

    @classmethod
    def of(cls, factors: Float64[np.ndarray, "latent factor"], tags: Sequence[frozenset[str]]) -> "Truth":
        """State the truth of latents that were built from factors."""
        has = _tagged(tags)
        left, shares = factors.copy(), np.zeros((len(factors), MAX_MEANINGS))
        for meaning in range(MAX_MEANINGS):
            mass = left @ has
            shares[:, meaning] = mass.max(1)
            left = left * (1 - has[:, mass.argmax(1)].T)
        return cls(factors, shares, shares)

    @classmethod
    def attribute(cls, codes: SparseCodes, factors: Sequence[Factor]) -> "Truth":
        """Work out the truth of latents that were learnt. A latent that is described too little has zeros."""
        membership = _membership(factors, len(codes))
        if membership.sum(1).max() <= 1 and sum(len(f.tags) for f in factors) == len(
            set().union(*(f.tags for f in factors))
        ):
            return cls._apart(codes, membership)
        base = np.diff(membership.tocsc().indptr) / len(codes)
        columns = codes.scipy().tocsc()
        p, otherwise = np.zeros((codes.d_sae, len(factors))), np.zeros((codes.d_sae, MAX_MEANINGS))
        for latent in range(codes.d_sae):
            span = slice(columns.indptr[latent], columns.indptr[latent + 1])
            mass = np.maximum(columns.data[span].astype(np.float64), 0)
            held_here = membership[columns.indices[span]].tocsc()
            described = take_in_turn(mass, held_here, base)[0]
            if described.sum() >= EXPLAINED:
                p[latent] = described
                largest = np.sort(take_in_turn(mass, held_here, base, largest_first=True)[0])[::-1][:MAX_MEANINGS]
                otherwise[latent, : len(largest)] = largest
        return replace(cls.of(p, [factor.tags for factor in factors]), otherwise=otherwise)

    @classmethod
    def _apart(cls, codes: SparseCodes, membership: scipy.sparse.csr_matrix) -> "Truth":
        z = codes.scipy().tocsr().maximum(0)
        p = np.asarray((z.T @ membership).todense(), np.float64) / np.maximum(np.asarray(z.sum(0)).T, 1e-30)
        p *= p.sum(1, keepdims=True) >= EXPLAINED
        largest = np.sort(p, axis=1)[:, ::-1][:, :MAX_MEANINGS]
        shares = np.pad(largest, ((0, 0), (0, MAX_MEANINGS - largest.shape[1])))
        return cls(p, shares, shares)

    @property
    def top_share(self) -> Float64[np.ndarray, " latent"]:
        return self.shares[:, 0]

    @property
    def polysemanticity(self) -> Float64[np.ndarray, " latent"]:
        p = self.shares
        return np.exp(-np.sum(p * np.log(np.where(p > 0, p, 1)), 1))

    @property
    def n_senses(self) -> Int64[np.ndarray, " latent"]:
        """Meanings that hold at least MIN_SHARE of the mass; 0 where those hold less than EXPLAINED together, or are
        not as many in the second reading."""
        numbers = [(p >= MIN_SHARE).sum(1) for p in (self.shares, self.otherwise)]
        explains_enough = (self.shares * (self.shares >= MIN_SHARE)).sum(1) >= EXPLAINED
        return np.where(explains_enough & (numbers[0] == numbers[1]), numbers[0], 0)

    @property
    def is_countable(self) -> Bool[np.ndarray, " latent"]:
        """Whether the number of senses is beyond doubt: no meaning's share is within half of MIN_SHARE of it."""
        both = np.hstack([self.shares, self.otherwise])
        near = (both > MIN_SHARE / 2) & (both < MIN_SHARE * 1.5)
        return (self.n_senses > 0) & ~near.any(1)

    @property
    def is_one(self) -> Bool[np.ndarray, " latent"]:
        return np.minimum(self.top_share, self.otherwise[:, 0]) >= ONE

    @property
    def is_several(self) -> Bool[np.ndarray, " latent"]:
        return (np.maximum(self.top_share, self.otherwise[:, 0]) <= SEVERAL) & (self.top_share > 0)


def meanings_of_firings(truth: Truth, factors: Sequence[Factor], n_rows: int, rows: Meanings) -> Meanings:
    """Return which of its latent's meanings each sampled firing has: the largest, 0 first, with a factor there.

    rows: −1 for no firing. −1 for a firing without a meaning, and where the truth's `n_senses` is 0.
    """
    membership, has = _membership(factors, n_rows), _tagged([factor.tags for factor in factors])
    out = np.full(rows.shape, -1, np.int64)
    for latent in np.flatnonzero(truth.n_senses):
        sampled, left = np.flatnonzero(rows[latent] >= 0), truth.factors[latent].copy()
        factors_of_firing = np.asarray(membership[rows[latent, sampled]].todense()) > 0  # firing factor
        for meaning in range(MAX_MEANINGS):
            tag = int((left @ has).argmax())
            inside = sampled[factors_of_firing[:, (left > 0) & (has[:, tag] > 0)].any(1)]
            out[latent, inside[out[latent, inside] < 0]] = meaning
            left = left * (1 - has[:, tag])
    return out


def senses_in_sample(meanings: Meanings, shares: Shares) -> Int64[np.ndarray, " latent"]:
    """Return the number of senses if the meaning of each sampled firing were known: how well a sample can show it at
    best.

    meanings: `meanings_of_firings`; shares: of the mass, that each firing stands for. 0 where no firing has a meaning.
    """
    return (_by_number(meanings, shares) >= MIN_SHARE * shares.sum(1)).sum(0) * (meanings >= 0).any(1)


def sense_purity(meanings: Meanings, shares: Shares, senses: Meanings) -> Float64[np.ndarray, "latent sense"]:
    """Return the share of each sense's mass with one meaning, senses as they were told from the sampled firings (−1 for
    none). NaN if there is no such sense, or no firing has a meaning."""
    has_meaning = (meanings >= 0).any(1)
    masses = [np.where(senses == sense, shares, 0) for sense in range(max(1, senses.max(initial=-1) + 1))]
    return np.stack([ratio(_by_number(meanings, mass).max(0), mass.sum(1) * has_meaning) for mass in masses], 1)


def _by_number(meanings: Meanings, mass: Shares) -> Float64[np.ndarray, "meaning latent"]:
    return np.stack([((meanings == meaning) * mass).sum(1) for meaning in range(MAX_MEANINGS)])


def _tagged(tags: Sequence[frozenset[str]]) -> Float64[np.ndarray, "factor tag"]:
    names = sorted(set().union(*tags))
    return np.array([[name in tags_of_factor for name in names] for tags_of_factor in tags], float)


def _membership(factors: Sequence[Factor], n_rows: int) -> scipy.sparse.csr_matrix:
    rows = np.concatenate([factor.rows for factor in factors])
    factor_of_row = np.repeat(np.arange(len(factors)), [len(factor.rows) for factor in factors])
    return scipy.sparse.csr_matrix((np.ones(len(rows)), (rows, factor_of_row)), shape=(n_rows, len(factors)))


def take_in_turn(
    mass: Float64[np.ndarray, " firing"],
    own: scipy.sparse.csc_matrix,
    base: Float64[np.ndarray, " factor"],
    *,
    largest_first: bool = False,
) -> tuple[Float64[np.ndarray, " factor"], Float64[np.ndarray, " firing"]]:
    """Return p, the share of the mass that each factor takes, and the mass that no factor takes. The most informative,
    or the largest, factor takes first.
    own: [firing, factor], 1 where a factor holds.
    base: the share of all positions where it holds.
    """
    p, total = np.zeros(len(base)), mass.sum()
    if total == 0:
        return p, mass
    for _ in range(MAX_MEANINGS):
        left = mass.sum()
        if left < 0.02 * total:
            break
        s = np.clip((mass @ own) / left, 0, 1 - 1e-9)
        gain = s * np.log(np.maximum(s, 1e-12) / base) + (1 - s) * np.log((1 - s) / (1 - base))
        gain[s <= base] = 0
        tells = gain >= MIN_GAIN
        if not tells.any():
            break
        best = int(np.where(tells, s if largest_first else gain, -1).argmax())
        inside = np.asarray(own[:, [best]].todense()).ravel() > 0
        p[best] += mass[inside].sum() / total
        mass = np.where(inside, 0, mass)
    return p, mass
