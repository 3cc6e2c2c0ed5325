"""One rule for each sense of a latent, from sampled firings of that sense.

    recall    = sampled held-out firings of the sense where the rule holds / all of them
    precision = held-out positions where rule and latent agree / where the rule holds,    F1 = 2 P R / (P + R)

The rule has no "or". It is chosen on the fit half, as if the sense had the share of the latent's firings that it has of
the sampled ones, and all else, its latent's other senses too, were wrong to hit; so it says what sets the sense apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int64
from torch import Tensor

from interp.explain.background import Background
from interp.explain.counting import Counts, count_rules
from interp.explain.predicates import Rule, Text
from interp.explain.rules import Explanations, FitSample, Progress, choose, price, propose
from interp.explain.words import phrase
from interp.monosemanticity.firings import CodeSource, chunks

CANDIDATES = 12

Part = tuple[int, Int64[np.ndarray, " firing"]]
"""A latent, and sampled rows of it."""


@dataclass(frozen=True)
class PartExplanations:
    """One a part; '' and NaN where the fit half has too few sampled firings of it. Scores are the held-out half's."""

    phrases: list[str]
    rules: list[Rule]
    f1: Float64[np.ndarray, " part"]
    precision: Float64[np.ndarray, " part"]
    recall: Float64[np.ndarray, " part"]
    """NaN where no sampled firing is held out; F1 likewise."""
    n: Int64[np.ndarray, " part"]
    """Sampled held-out firings of the part, which recall is measured on."""


def explain_parts(
    tokens: Int[Tensor, "seq pos"],
    codes: CodeSource,
    vocab: Sequence[str],
    fit_half: Bool[Tensor, " seq"],
    parts: Sequence[Part],
    *,
    maxima: Float32[np.ndarray, " d_sae"],
    labels: Mapping[str, Bool[Tensor, "seq pos"]] | None = None,
    spelt: bool = True,
    progress: Progress | None = None,
) -> PartExplanations:
    """Explain parts of latents' firings: of each its latent and sampled rows (seq * n_ctx + pos), in either half.

    The other arguments are those of `explain`. Raises ValueError for a latent or a row that the codes do not have.
    """
    _check(parts, codes)
    text, half = Text.read(tokens.numpy(), vocab, labels, spelt=spelt), fit_half.numpy()
    sample = FitSample(codes.d_sae, text.n_ctx, half, seed=0, size=1)
    for chunk in chunks(codes, maxima, text.n_ctx, progress, "counting firings of senses"):
        sample.add(chunk)
    given = Parts.of(parts, text.n_ctx, half, sample.n_fire)
    proposed = given.propose(Background.of(text, half), progress)
    counts = count_rules(
        text, codes, half, proposed, latents=given.latents, maxima=maxima, sampled=given.sampled, progress=progress
    )
    return given.choose(text, proposed, counts)


class AllExplanations(NamedTuple):
    latents: Explanations
    parts: PartExplanations


def explain_all(
    text: Text,
    codes: CodeSource,
    half: Bool[np.ndarray, " seq"],
    sample: FitSample,
    parts: Sequence[Part],
    *,
    maxima: Float32[np.ndarray, " d_sae"],
    progress: Progress | None = None,
) -> AllExplanations:
    """`explain` and `explain_parts` in one, from a sample of a pass before; all rules are counted in one more pass."""
    _check(parts, codes)
    given, background = Parts.of(parts, text.n_ctx, half, sample.n_fire), Background.of(text, half)
    of_latents, of_parts = sample.propose(background, progress), given.propose(background, progress)
    n, none = codes.d_sae, np.zeros(0, np.int64)
    counts = count_rules(
        text,
        codes,
        half,
        of_latents + of_parts,
        latents=np.concatenate([np.arange(n), given.latents]),
        maxima=maxima,
        sampled=[none] * n + given.sampled,
        progress=progress,
    )
    return AllExplanations(
        choose(text, of_latents, counts.of(slice(n)), sample.n_fire),
        given.choose(text, of_parts, counts.of(slice(n, None))),
    )


@dataclass(frozen=True)
class Parts:
    """What is known of the parts before their rules are proposed."""

    latents: Int64[np.ndarray, " part"]
    sampled: list[Int64[np.ndarray, " row"]]
    in_fit: list[Int64[np.ndarray, " row"]]
    n_sampled: Int64[np.ndarray, "2 part"]
    """In the fit half and in the other."""
    n_fire: Int64[np.ndarray, " part"]
    """Firings in the fit half that are taken to be the part's."""

    @classmethod
    def of(
        cls,
        parts: Sequence[Part],
        n_ctx: int,
        half: Bool[np.ndarray, " seq"],
        n_fire: Int64[np.ndarray, " d_sae"],
    ) -> "Parts":
        """n_fire: each latent's firings in the fit half."""
        latents = np.array([latent for latent, _ in parts], np.int64)
        sampled = [np.unique(np.asarray(rows, np.int64)) for _, rows in parts]
        in_fit = [rows[half[rows // n_ctx]] for rows in sampled]
        sizes = [[len(fit), len(rows) - len(fit)] for fit, rows in zip(in_fit, sampled, strict=True)]
        n_sampled = np.array(sizes, np.int64).reshape(-1, 2).T
        of_latent = np.bincount(latents, weights=n_sampled[0], minlength=len(n_fire))[latents]
        share = np.round(n_sampled[0] / np.maximum(of_latent, 1) * n_fire[latents]).astype(np.int64)
        return cls(latents, sampled, in_fit, n_sampled, np.maximum(share, n_sampled[0]))

    def propose(self, background: Background, progress: Progress | None = None) -> list[list[Rule]]:
        return propose(background, self.in_fit, self.n_fire, CANDIDATES, progress, joined_by_or=False)

    def choose(self, text: Text, proposed: list[list[Rule]], counts: Counts) -> PartExplanations:
        return _choose(text, proposed, counts, self.n_fire, self.n_sampled)


def _check(parts: Sequence[Part], codes: CodeSource) -> None:
    for latent, rows in parts:
        if not 0 <= latent < codes.d_sae or (len(rows) and not 0 <= np.min(rows) <= np.max(rows) < len(codes)):
            raise ValueError(f"a part of latent {latent}: it must be in 0..{codes.d_sae - 1}, rows < {len(codes)}")


def _choose(
    text: Text,
    proposed: list[list[Rule]],
    counts: Counts,
    n_part: Int64[np.ndarray, " part"],
    n_sampled: Int64[np.ndarray, "2 part"],
) -> PartExplanations:
    recall = counts.hits / np.where(n_sampled > 0, n_sampled, np.nan)[:, :, None]
    # The firings of the sense are no more than those of its latent at the rule, over its recall.
    most = counts.both.sum(-1)[0] / np.where(recall[0] > 0, recall[0], np.nan)
    n_fire = np.fmin(n_part[:, None], most)
    worth = 2 * recall[0] * n_fire / np.maximum(n_fire + counts.holds[0], 1)
    best = np.zeros(len(proposed), np.int64)
    for part, own in enumerate(proposed):
        if own:
            best[part] = np.argmax([worth[part, i] - price(rule, n_part[part]) for i, rule in enumerate(own)])
    rules = [own[place] if own else () for own, place in zip(proposed, best, strict=True)]
    each, known = np.arange(len(proposed)), np.array([bool(rule) for rule in rules], bool)
    agree, holds = counts.both.sum(-1)[1, each, best], counts.holds[1, each, best]
    precision = np.where(known, agree / np.maximum(holds, 1), np.nan)
    reached = np.where(known, recall[1, each, best], np.nan)
    total = precision + reached
    f1 = np.where(total == 0, 0, 2 * precision * reached / np.where(total == 0, 1, total))
    phrases = [phrase(rule, text) if rule else "" for rule in rules]
    return PartExplanations(phrases, rules, f1, precision, reached, n_sampled[1])
