"""Latents with a known meaning: reads of factors that lie in superposition.

    x_i = Σ_f a_if d_f                  a: the factors' activations, d: unit directions, more of them than dimensions
    z_ij = max(0, r_j · x_i − θ_j)      r_j = argmin_r Σ_i (r · x_i − Σ_{f ∈ S_j} w_jf a_if)² + ridge
         = Σ_{f ∈ S_j} w_jf a_if        for half of the latents, which nothing blurs
    p_jf ∝ Σ_i z_ij c_ijf / Σ_f' c_ijf',    c_ijf = w_jf a_if  where a factor of S_j is active,
                                                    max(0, a_if d_f · r_j)  elsewhere

S_j is one factor, some of one factor's positions or tokens, or several factors that share no tag; for noise r_j is a
random direction. θ_j is set so that about a wanted share of the mass falls where no factor of S_j is active:
interference, the noise that real latents have. p is the truth (`truth`).
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from pydantic import Field
from torch import Tensor

from analyses.scorecard.factors import Factor, FactorText
from analyses.scorecard.planted_texts import FAMILIES
from analyses.scorecard.truth import Truth
from interp.checks.limits import CheckedFields, FractionBelow1, Positive, PositiveInt, at_least
from interp.codes.sparse_codes import SparseCodes

KINDS = ("one", "part", "token", "several", "tokens", "tail", "noise")
RIDGE, TRIES = 0.01, 100
TAIL = 8, 24
"""Meanings of a tail: from the first number to below the second."""


@dataclass(frozen=True, kw_only=True)
class WorldConfig(CheckedFields):
    family: str = "topics"
    """A name in `FAMILIES`."""
    seed: int = 0
    n_seq: PositiveInt = 1024
    n_ctx: PositiveInt = 128
    segment: PositiveInt = 40
    """Mean number of tokens for which a topic, a record's kind or a language stays."""
    superposition: Positive = 4.0
    """Factors a dimension."""
    noise: FractionBelow1 = 0.15
    """Largest share of a latent's mass that is interference. Half of the latents have none, and each of the others has
    its own share."""
    rarity: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of its positions at which a factor's activation is kept, at most."""
    similarity: FractionBelow1 = 0.0
    """Share of the words that a topic, a kind of record or a language borrows from the next one."""
    max_senses: Annotated[int, at_least(2)] = 5
    n_latents: PositiveInt = 400

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.family not in FAMILIES:
            raise ValueError(f"family={self.family!r} must be one of {', '.join(FAMILIES)}")


@dataclass(frozen=True)
class World:
    config: WorldConfig
    tokens: Tensor
    """int32 [seq, pos]"""
    vocab: list[str]
    codes: SparseCodes
    """Rows seq * n_ctx + pos."""
    factors: list[Factor]
    truth: Truth
    kinds: list[str]
    """The kind of each latent, which is one of KINDS."""


class _Superposition(NamedTuple):
    activations: scipy.sparse.csr_matrix  # a [row, factor]
    directions: Float32[np.ndarray, "factor dim"]
    x: Float32[np.ndarray, "row dim"]
    readers: Float32[np.ndarray, "factor dim"]  # the best linear read of each; that of a sum is the sum of theirs


class _Read(NamedTuple):
    kind: str
    parts: list[int]
    weights: list[float]
    keep: Bool[np.ndarray, " row"]  # where it may fire
    noise: float


def planted_world(config: WorldConfig) -> World:
    """Return the world of a configuration: the same one for the same configuration."""
    rng = np.random.default_rng([config.seed, list(FAMILIES).index(config.family)])
    text = FAMILIES[config.family](rng, config.n_seq, config.n_ctx, config.segment, config.similarity)
    return world_of(text, config, rng)


def world_of(text: FactorText, config: WorldConfig, rng: np.random.Generator) -> World:
    """Return latents planted on a text; of the configuration all that makes the text stands aside."""
    space = _superpose(text, config, rng)
    reads = _draw_reads(text, config, rng)
    columns, shares = zip(*(_latent(read, space, rng) for read in reads), strict=True)
    codes = SparseCodes.from_scipy(scipy.sparse.hstack(columns).tocsr())
    truth = Truth.of(np.stack(shares), [factor.tags for factor in text.factors])
    return World(config, torch.from_numpy(text.tokens), text.vocab, codes, text.factors, truth, [r.kind for r in reads])


def _superpose(text: FactorText, config: WorldConfig, rng: np.random.Generator) -> _Superposition:
    columns = []
    for factor in text.factors:
        kept = factor.rows[rng.random(len(factor.rows)) < rng.uniform(0.6, 1.0)]
        strength = rng.gamma(4.0, 0.25, len(kept)).astype(np.float32)
        place = np.zeros(len(kept), np.int64)
        columns.append(scipy.sparse.csc_matrix((strength, (kept, place)), shape=(text.tokens.size, 1)))
    activations = scipy.sparse.hstack(columns).tocsr()
    dim = max(4, round(len(text.factors) / config.superposition))
    directions = rng.normal(size=(len(text.factors), dim)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    x = np.asarray(activations @ directions, np.float32)
    gram = x.T @ x
    gram += RIDGE * np.trace(gram) / dim * np.eye(dim, dtype=np.float32)
    readers = np.linalg.solve(gram, np.asarray((activations.T @ x).T, np.float32)).T
    return _Superposition(activations, directions, x, readers.astype(np.float32))


def _draw_reads(text: FactorText, config: WorldConfig, rng: np.random.Generator) -> list[_Read]:
    """Draw what each latent reads. Nearly half of the latents have one meaning (a sixth of these, a token), four in ten
    have several, a tenth have one meaning and a tail of others, and some are noise."""
    kinds = rng.choice(KINDS, p=(0.26, 0.12, 0.08, 0.29, 0.09, 0.1, 0.06), size=config.n_latents)
    is_token = np.array([f.name.startswith("token ") for f in text.factors])
    flat = text.tokens.reshape(-1)
    reads = []
    for kind in kinds:
        several = kind in ("several", "tokens")
        n_parts = int(rng.integers(2, config.max_senses + 1)) if several else 1
        pool = np.flatnonzero(is_token) if kind in ("token", "tokens") else np.arange(len(text.factors))
        if kind == "tail":
            reads.append(_with_tail(text, config, is_token, rng))
            continue
        if kind == "noise":
            reads.append(_Read("noise", [], [], np.ones(len(flat), bool), 0.0))
            continue
        parts = _draw_parts(text.factors, pool, n_parts, rng)
        weights = np.exp(rng.normal(0, 0.2, len(parts))) if several else np.ones(1)
        keep = rng.random(text.tokens.size) < config.rarity * np.exp(rng.uniform(np.log(0.15), 0)) / len(parts) ** 0.5
        if kind == "part":
            rows = text.factors[parts[0]].rows
            half = rng.permutation(np.unique(flat[rows]))[::2]
            keep &= np.isin(flat, half)
        reads.append(_Read(str(kind), parts, weights.tolist(), keep, _noise(config, rng)))
    return reads


def _with_tail(text: FactorText, config: WorldConfig, is_token: np.ndarray, rng: np.random.Generator) -> _Read:
    """Return one factor or token with a third to two thirds of the firings; the others are of many that share
    nothing."""
    tokens = np.flatnonzero(is_token)
    main = int(rng.choice(tokens if len(tokens) and rng.random() < 0.5 else len(text.factors)))
    main_factor = text.factors[main]
    apart = [f for f, factor in enumerate(text.factors) if not factor.tags & main_factor.tags]
    tail = rng.permutation(apart)[: int(rng.integers(*TAIL))].tolist()
    kept = config.rarity * np.exp(rng.uniform(np.log(0.15), 0))
    share, keep = rng.uniform(1 / 3, 2 / 3), np.zeros(text.tokens.size, bool)
    for part in tail:
        rows = text.factors[part].rows
        wanted = kept * len(main_factor.rows) * (1 - share) / share / len(tail)
        keep[rng.choice(rows, min(len(rows), max(1, round(wanted))), replace=False)] = True
    keep[main_factor.rows] = rng.random(len(main_factor.rows)) < kept
    weights = [1.0, *np.exp(rng.normal(-0.4, 0.3, len(tail)))]
    return _Read("tail", [main, *tail], weights, keep, _noise(config, rng))


def _noise(config: WorldConfig, rng: np.random.Generator) -> float:
    """Return the noise. Half of the latents read only their factors, so not every union of meanings is blurred."""
    return float(rng.uniform(0, config.noise)) if rng.random() < 0.5 else 0.0


def _draw_parts(factors: list[Factor], pool: Int64[np.ndarray, " n"], n: int, rng: np.random.Generator) -> list[int]:
    """Draw n factors without a common tag, which hold about equally often and hardly ever together."""
    for _ in range(TRIES if len(pool) else 0):
        parts = [int(rng.choice(pool))]
        if n == 1:
            return parts
        for candidate in rng.permutation(pool):
            if len(parts) == n:
                return parts
            if all(_fit(factors[candidate], factors[p]) for p in parts):
                parts.append(int(candidate))
        if len(parts) > 1:
            return parts
    raise ValueError(f"hardly any two of {len(pool)} factors can make a latent: give the world more sequences (n_seq)")


def _fit(a: Factor, b: Factor) -> bool:
    if a.tags & b.tags or not 1 / 4 < len(a.rows) / len(b.rows) < 4:
        return False
    return len(np.intersect1d(a.rows, b.rows, assume_unique=True)) < 0.1 * min(len(a.rows), len(b.rows))


def _latent(
    read: _Read, space: _Superposition, rng: np.random.Generator
) -> tuple[scipy.sparse.csc_matrix, Float64[np.ndarray, " factor"]]:
    """Return z [row, 1] and p of one latent."""
    weights = np.zeros(len(space.directions), np.float32)
    weights[read.parts] = read.weights
    if read.parts:
        direction = weights @ space.readers
        activation = np.asarray(space.activations @ weights, np.float32)
        v = np.where(read.keep, space.x @ direction if read.noise else activation, 0)
        theta = _threshold(v[activation > 0], v[(activation == 0) & (v > 0)], read.noise)
    else:
        direction = np.asarray(rng.normal(size=space.x.shape[1]), np.float32)
        activation, v = np.zeros(len(space.x), np.float32), space.x @ direction
        theta = float(np.quantile(v, 1 - np.exp(rng.uniform(np.log(0.003), np.log(0.03)))))
    z = np.maximum(v - theta, 0).astype(np.float32)
    p = np.zeros(len(weights))
    for rows, credit in (
        (np.flatnonzero((z > 0) & (activation > 0)), weights),
        (np.flatnonzero((z > 0) & (activation == 0)), np.maximum(space.directions @ direction, 0)),
    ):
        due = space.activations[rows].multiply(credit[None, :]).tocsr()
        total = np.asarray(due.sum(1)).ravel()
        each = np.divide(z[rows], total, out=np.zeros(len(rows), np.float32), where=total > 0)
        p += np.asarray(due.multiply(each[:, None]).sum(0)).ravel()
    return scipy.sparse.csc_matrix(z[:, None]), p / max(p.sum(), 1e-30)


def _threshold(on: Float32[np.ndarray, " n"], off: Float32[np.ndarray, " m"], noise: float) -> float:
    """Return the least θ ≥ 0 at which at most the share `noise` of the mass lies where no part is active."""
    for theta in np.linspace(0, float(np.quantile(on, 0.9)) if len(on) else 0.0, 64):
        wanted, unwanted = np.maximum(on - theta, 0).sum(), np.maximum(off - theta, 0).sum()
        if unwanted <= noise * (wanted + unwanted):
            break
    return float(theta)
