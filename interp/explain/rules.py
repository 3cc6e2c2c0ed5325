"""The rule that best predicts where each latent fires, with its score on text that it was not chosen on.

    1  A sample of each latent's firings in the fit half of the sequences (`FitSample`) proposes some rules (`search`).
    2  One pass over all codes and the text counts each of them exactly (`counting`):
           precision = both / holds,   recall = both / fires,   F1 = 2 both / (holds + fires)
    3  The rule with the best F1 on the fit half, less a price for its length, is the explanation; its scores are
       those of the held-out half, over all positions, whatever the strength of the firing.

Memory: the text, at most MAX_ROWS rows of its bits, a sample of SAMPLE firings a latent, a chunk of the codes.
Cost: two passes over the codes, the first of which others may share, and some ten milliseconds a latent, spread over
torch's threads.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int, Int64
from torch import Tensor

from interp.explain import beam
from interp.explain.background import Background
from interp.explain.counting import Counts, count_rules
from interp.explain.predicates import Rule, Text
from interp.explain.search import candidates, item_price
from interp.explain.words import bits, phrase
from interp.monosemanticity.firings import CodeChunk, CodeSource, FiringSampler, chunks

SAMPLE = 512
"""Firings of a latent that propose rules."""
CANDIDATES = 24
LONG, LONG_PRICE = 8, 2
"""Items beyond so many cost so many times their price more: a long list is hard to read."""
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
    f1_one: Float64[np.ndarray, " d_sae"]
    """Of the best rule without "or", chosen in the same way."""
    f1_by_interval: Float64[np.ndarray, "d_sae slice"]
    """2 P R_s / (P + R_s): P the precision above, R_s the share of the firings of strength in
    (s / 5, (s + 1) / 5] of the maximum that the rule hits. NaN where no held-out firing is that strong."""
    n_examples: Int64[np.ndarray, " d_sae"]
    """Held-out firings where the rule holds."""
    bits: Float64[np.ndarray, " d_sae"]
    """Description length (`words`)."""


def explain(
    tokens: Int[Tensor, "seq pos"],
    codes: CodeSource,
    vocab: Sequence[str],
    fit_half: Bool[Tensor, " seq"],
    *,
    maxima: Float32[np.ndarray, " d_sae"],
    labels: Mapping[str, Bool[Tensor, "seq pos"]] | None = None,
    spelt: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> Explanations:
    """Explain each latent of `codes` (rows seq * n_ctx + pos), choosing on the sequences where `fit_half` is true.

    vocab: one string a token id; maxima: the largest value of each latent, 0 where it never fires.
    spelt: False if `vocab` only names the tokens (by their ids, say): rules then leave out how they are spelt.
    labels: names that rules may use, with the positions that carry them; without, rules know tokens and strings only.
    """
    text, half = Text.read(tokens.numpy(), vocab, labels, spelt=spelt), fit_half.numpy()
    sample = FitSample(codes.d_sae, text.n_ctx, half, seed)
    for chunk in chunks(codes, maxima, text.n_ctx, progress, "sampling firings to explain"):
        sample.add(chunk)
    proposed = sample.propose(Background.of(text, half), progress)
    latents = np.arange(codes.d_sae)
    counts = count_rules(text, codes, half, proposed, latents=latents, maxima=maxima, progress=progress)
    return choose(text, proposed, counts, sample.n_fire)


class FitSample:
    """A sample of each latent's firings in the fit half, and their number, from one pass over the codes."""

    def __init__(self, d_sae: int, n_ctx: int, half: Bool[np.ndarray, " seq"], seed: int, size: int = SAMPLE):
        self.n_fire = np.zeros(d_sae, np.int64)
        self._n_ctx, self._half = n_ctx, half
        self._sampler = FiringSampler(d_sae, 1, size, seed)

    def add(self, chunk: CodeChunk) -> None:
        values = np.where(self._half[chunk.rows // self._n_ctx], chunk.values, 0)
        self.n_fire += np.bincount(chunk.latents[values > 0], minlength=len(self.n_fire))
        self._sampler.add(chunk._replace(values=values), 1)

    def propose(self, background: Background, progress: Progress | None = None) -> list[list[Rule]]:
        return propose(background, list(self._sampler.rows[:, 0]), self.n_fire, CANDIDATES, progress)


def propose(
    background: Background,
    firings: Sequence[Int64[np.ndarray, " firing"]],
    n_fire: Int64[np.ndarray, " unit"],
    most: int,
    progress: Progress | None = None,
    joined_by_or: bool = True,
) -> list[list[Rule]]:
    """Candidate rules of each unit from sampled rows of the fit half (−1 for none) that stand for n_fire firings."""

    def of_unit(unit: int) -> list[Rule]:
        rows = np.sort(firings[unit][firings[unit] >= 0])
        if len(rows) < LEAST_FIRINGS:
            return []
        return candidates(background, rows, float(n_fire[unit]), most, joined_by_or)

    proposed: list[list[Rule]] = []
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for rules in pool.map(of_unit, range(len(firings))):
            proposed.append(rules)
            if progress and len(proposed) % 64 == 0:
                progress(len(proposed), len(firings), "proposing explanations")
    return proposed


def price(rule: Rule, n_fire: float) -> float:
    """F1 that the rule must be worth more than an empty one."""
    items = sum(atom.cost for part in rule for atom in part)
    atoms = sum(len(part) - 1 for part in rule)
    items += LONG_PRICE * max(0.0, items - LONG)
    return item_price(n_fire) * items + beam.ATOM_PRICE * atoms + beam.PART_PRICE * (len(rule) - 1)


def choose(text: Text, proposed: list[list[Rule]], counts: Counts, n_fire: Int64[np.ndarray, " d_sae"]) -> Explanations:
    """Of each latent's rules the best, from their counts."""
    both, fires = counts.both.sum(-1), counts.fires.sum(-1)
    f1 = 2 * both / np.maximum(counts.holds + fires[:, :, None], 1)
    worth, worth_one = np.full((2, *both.shape[1:]), -np.inf)
    for latent, rules in enumerate(proposed):
        for place, rule in enumerate(rules):
            worth[latent, place] = f1[0, latent, place] - price(rule, n_fire[latent])
            if len(rule) == 1:
                worth_one[latent, place] = worth[latent, place]
    latents, known = np.arange(len(proposed)), np.array([bool(rules) for rules in proposed], bool)
    best, best_one = worth.argmax(1), worth_one.argmax(1)
    rules = [own[place] if own else () for own, place in zip(proposed, best, strict=True)]

    def chosen(values: Float64[np.ndarray, "d_sae candidate ..."]) -> Float64[np.ndarray, "d_sae ..."]:
        return np.where(known.reshape(-1, *[1] * (values.ndim - 2)), values[latents, best], np.nan)

    precision = both[1] / np.maximum(counts.holds[1], 1)
    by_slice = counts.both[1] / np.where(counts.fires[1] > 0, counts.fires[1], np.nan)[:, None]
    by_slice = 2 * precision[:, :, None] * by_slice / np.where((s := precision[:, :, None] + by_slice) > 0, s, 1)
    return Explanations(
        phrases=[phrase(rule, text) if rule else "" for rule in rules],
        rules=rules,
        f1=chosen(f1[1]),
        precision=chosen(precision),
        recall=chosen(both[1] / np.maximum(fires[1], 1)[:, None]),
        f1_fit=chosen(f1[0]),
        f1_one=np.where(known, f1[1][latents, best_one], np.nan),
        f1_by_interval=chosen(by_slice),
        n_examples=np.where(known, both[1][latents, best], 0),
        bits=np.array([bits(rule, text) if rule else np.nan for rule in rules]),
    )
