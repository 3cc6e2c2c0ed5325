"""The rule that best predicts where each latent fires, with its score on text that it was not chosen on.

    1  A sample of each latent's firings in the fit half of the sequences proposes a few rules (`search`).
    2  One pass over all codes counts where latent and rule agree; the text alone says where each rule holds:
           precision = both / rule,   recall = both / fires,   F1 = 2 both / (rule + fires)
    3  The rule with the best F1 on the fit half, less a price for its length, is the explanation; its scores are
       those of the held-out half, over all positions, whatever the strength of the firing.

Memory: the text, and a chunk of the codes. Cost: two passes over the codes, a few lookups a firing and candidate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int32, Int64
from numba import njit
from torch import Tensor

from interp.explain.predicates import (
    AFTER,
    AFTER_CLASS,
    CLASS,
    INSIDE,
    MAX_TOKENS,
    NEAR,
    NONE,
    REACH,
    Rule,
    Text,
)
from interp.explain.search import CANDIDATES, BaseCounts, candidates, look, price
from interp.scores.firings import CodeChunk, CodeSource, FiringSampler, chunks

SAMPLE = 256
"""Firings of a latent that propose rules."""
LEAST_FIRINGS = 5
"""With fewer in the fit half, no rule is proposed."""

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Explanations:
    """One a latent; '' and NaN where the fit half has too few firings. Scores are the held-out half's."""

    phrases: list[str]
    rules: list[Rule]
    f1: Float64[np.ndarray, " d_sae"]
    precision: Float64[np.ndarray, " d_sae"]
    recall: Float64[np.ndarray, " d_sae"]
    f1_fit: Float64[np.ndarray, " d_sae"]


def explain(
    tokens: Int[Tensor, "seq pos"],
    codes: CodeSource,
    vocab: Sequence[str],
    fit_half: Bool[Tensor, " seq"],
    *,
    maxima: Float32[np.ndarray, " d_sae"],
    seed: int = 0,
    progress: Progress | None = None,
) -> Explanations:
    """Explain each latent of `codes` (rows seq * n_ctx + pos), choosing on the sequences where `fit_half` is true.

    vocab: one string a token id; maxima: the largest value of each latent, 0 where it never fires.
    """
    text, half = Text.read(np.ascontiguousarray(tokens.numpy()), vocab), fit_half.numpy()
    n_fire = np.zeros((2, codes.d_sae), np.int64)
    sampler = FiringSampler(codes.d_sae, 1, SAMPLE, seed)
    for chunk in chunks(codes, maxima, text.n_ctx, progress, "sampling firings to explain"):
        sampler.add(_fit_part(chunk, text.n_ctx, half, n_fire), 1)
    base = [BaseCounts.count(text, half), BaseCounts.count(text, ~half)]
    proposed = _propose(text, sampler.rows[:, 0], n_fire[0], base[0], progress)
    table = _RuleTable.of(proposed)
    both = np.zeros((2, len(proposed), CANDIDATES), np.int64)
    for chunk in chunks(codes, maxima, text.n_ctx, progress, "scoring explanations"):
        _count_both(*chunk, *_text_arrays(text), half, *table.arrays, both)
    holds = _count_rules(text, half, proposed, table, base)
    return _choose(text, proposed, both, holds, n_fire)


def _fit_part(
    chunk: CodeChunk, n_ctx: int, half: Bool[np.ndarray, " seq"], n_fire: Int64[np.ndarray, "2 d_sae"]
) -> CodeChunk:
    """The chunk with firings in the held-out half at strength 0; counts the firings of both halves."""
    row_in_fit = np.repeat(half[chunk.start // n_ctx :][: (len(chunk.offsets) - 1) // n_ctx], n_ctx)
    in_fit = np.repeat(row_in_fit, np.diff(chunk.offsets))
    fires = chunk.values > 0
    for place, part in enumerate((in_fit, ~in_fit)):
        n_fire[place] += np.bincount(chunk.latents[fires & part], minlength=n_fire.shape[1])
    return chunk._replace(values=np.where(in_fit, chunk.values, 0))


def _propose(
    text: Text,
    rows: Int64[np.ndarray, "d_sae firing"],
    n_fire: Int64[np.ndarray, " d_sae"],
    base: BaseCounts,
    progress: Progress | None,
) -> list[list[Rule]]:
    proposed: list[list[Rule]] = []
    for latent, own in enumerate(rows):
        own = np.sort(own[own >= 0])
        enough = len(own) >= LEAST_FIRINGS
        proposed.append(candidates(look(text, own), int(n_fire[latent]), base) if enough else [])
        if progress and latent % 64 == 63:
            progress(latent + 1, len(rows), "proposing explanations")
    return proposed


@dataclass(frozen=True)
class _RuleTable:
    """Candidates of all latents as arrays, two atoms each."""

    kinds: Int32[np.ndarray, "d_sae candidate 2"]
    tokens: Int32[np.ndarray, "d_sae candidate 2 item"]
    of_class: Int32[np.ndarray, "d_sae candidate 2"]

    @classmethod
    def of(cls, proposed: list[list[Rule]]) -> "_RuleTable":
        shape = (len(proposed), CANDIDATES, 2)
        kinds, of_class = np.full(shape, NONE, np.int32), np.zeros(shape, np.int32)
        tokens = np.full((*shape, MAX_TOKENS), -1, np.int32)
        for latent, rules in enumerate(proposed):
            for place, rule in enumerate(rules):
                for side, atom in enumerate(rule):
                    kinds[latent, place, side], of_class[latent, place, side] = atom.kind, max(atom.of_class, 0)
                    tokens[latent, place, side, : len(atom.tokens)] = atom.tokens
        return cls(kinds, tokens, of_class)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.kinds, self.tokens, self.of_class


def _text_arrays(text: Text) -> tuple[np.ndarray, int, np.ndarray, np.ndarray]:
    return text.tokens, text.n_ctx, text.classes, text.inside


def _count_rules(
    text: Text, half: Bool[np.ndarray, " seq"], proposed: list[list[Rule]], table: _RuleTable, base: list[BaseCounts]
) -> Int64[np.ndarray, "2 d_sae candidate"]:
    """At how many positions of each half each rule holds."""
    holds = np.zeros((2, len(proposed), CANDIDATES), np.int64)
    order = np.argsort(text.tokens, kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(text.tokens, minlength=len(text.classes)))])
    for latent, rules in enumerate(proposed):
        for place, rule in enumerate(rules):
            if len(rule) == 1:
                holds[:, latent, place] = [counts.of(rule[0]) for counts in base]
                continue
            arrays = (part[latent, place] for part in table.arrays)
            holds[:, latent, place] = _count_pair(order, first, *_text_arrays(text), half, *arrays)
    return holds


def _choose(
    text: Text,
    proposed: list[list[Rule]],
    both: Int64[np.ndarray, "2 d_sae candidate"],
    holds: Int64[np.ndarray, "2 d_sae candidate"],
    n_fire: Int64[np.ndarray, "2 d_sae"],
) -> Explanations:
    f1 = 2 * both / np.maximum(holds + n_fire[:, :, None], 1)
    prices = np.full(both.shape[1:], np.inf)
    for latent, rules in enumerate(proposed):
        prices[latent, : len(rules)] = [price(rule) for rule in rules]
    best = (f1[0] - prices).argmax(1)
    latents, known = np.arange(len(proposed)), np.array([bool(rules) for rules in proposed])
    rules = [own[place] if own else () for own, place in zip(proposed, best, strict=True)]

    def chosen(values: Float64[np.ndarray, "d_sae candidate"]) -> Float64[np.ndarray, " d_sae"]:
        return np.where(known, values[latents, best], np.nan)

    return Explanations(
        [text.phrase(rule) if rule else "" for rule in rules],
        rules,
        chosen(f1[1]),
        chosen(both[1] / np.maximum(holds[1], 1)),
        chosen(both[1] / np.maximum(n_fire[1], 1)[:, None]),
        chosen(f1[0]),
    )


@njit(cache=True, nogil=True)
def _atom_holds(kind, own_tokens, of_class, tokens, n_ctx, classes, inside, row):
    if kind == NONE:
        return True
    if kind == INSIDE:
        return (inside[row] >> np.uint64(of_class)) & np.uint64(1) == np.uint64(1)
    if kind == NEAR:
        for back in range(1, min(REACH, row % n_ctx) + 1):
            if tokens[row - back] == own_tokens[0]:
                return True
        return False
    if kind == AFTER or kind == AFTER_CLASS:
        if row % n_ctx == 0:
            return False
        row = row - 1
    if kind == CLASS or kind == AFTER_CLASS:
        return (classes[tokens[row]] >> np.uint64(of_class)) & np.uint64(1) == np.uint64(1)
    for token in own_tokens:
        if token == tokens[row]:
            return True
        if token < 0:
            return False
    return False


@njit(cache=True, nogil=True)
def _count_both(
    start, offsets, latents, values, tokens, n_ctx, classes, inside, half, kinds, rule_tokens, of_class, both
):
    for i in range(len(offsets) - 1):
        row = start + i
        side = 0 if half[row // n_ctx] else 1
        for entry in range(offsets[i], offsets[i + 1]):
            if values[entry] == 0:
                continue
            latent = latents[entry]
            for place in range(kinds.shape[1]):
                if kinds[latent, place, 0] == NONE:
                    break
                holds = True
                for atom in range(2):
                    holds = holds and _atom_holds(
                        kinds[latent, place, atom],
                        rule_tokens[latent, place, atom],
                        of_class[latent, place, atom],
                        tokens,
                        n_ctx,
                        classes,
                        inside,
                        row,
                    )
                if holds:
                    both[side, latent, place] += 1


@njit(cache=True, nogil=True)
def _count_pair(order, first, tokens, n_ctx, classes, inside, half, kinds, rule_tokens, of_class):
    """Positions where both atoms hold: those of the first atom's tokens are looked up, the second is tried on each."""
    counts = np.zeros(2, np.int64)
    step = 1 if kinds[0] == AFTER else 0
    for token in rule_tokens[0]:
        if token < 0:
            break
        for place in range(first[token], first[token + 1]):
            row = order[place] + step
            if step and row % n_ctx == 0:
                continue
            if _atom_holds(kinds[1], rule_tokens[1], of_class[1], tokens, n_ctx, classes, inside, row):
                counts[0 if half[row // n_ctx] else 1] += 1
    return counts
