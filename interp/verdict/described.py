"""Latents and their senses in words: a rule that tells where each fires, beside what else is known of it.

    1  Sampled firings of the fit half of the sequences propose some rules of each latent and sense (`search`).
    2  One pass over all codes and the text counts each of them exactly (`counting`).
    3  The best on the fit half is the explanation, scored on text that it was not chosen on (`explanations`).

A sense is a part into which the sampled firings of a latent fall (`verdict.senses`). Its rule has no "or". On
the fit half it is taken to have the share of its latent's firings that it has of the sampled ones, and all else, the
latent's other senses too, is wrong to hit; so its rule says what sets it apart.

Memory: the text, at most MAX_ROWS rows of its bits, a sample of its firings, a chunk of the codes.
Cost: two passes over the codes, the first of which others may share, and some three milliseconds a latent or sense,
spread over torch's threads.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, Int32, Int64
from threadpoolctl import threadpool_limits
from torch import Tensor

from interp.codes.reading import CodeSource, check_codes, read_chunks
from interp.features.examples import first_windows
from interp.features.feature_store import FeatureStore
from interp.storage.files import Progress, no_progress
from interp.text.surprise import Predicates
from interp.verdict.counting import count_rules
from interp.verdict.evidence import Evidence
from interp.verdict.explanations import Explanations, choose
from interp.verdict.rules import Rule
from interp.verdict.search import Background, FitSample, candidates

SHOWN = 8
"""Example rows of a sense, the strongest."""
SHOWN_WEAK = 4
"""Example rows of a sense, the weakest."""
UNITS_AT_ONCE = 512
"""Latents and senses whose firings' predicates are in memory."""
FOLLOWING = 5
"""Tokens that follow in a sense."""
Sense = tuple[int, Int64[np.ndarray, " firing"]]
"""A latent, and sampled rows of one part of its firings (seq * n_ctx + pos), in either half."""
Latents = Int64[np.ndarray, " sense"]


class Explained(NamedTuple):
    latents: Explanations
    senses: Explanations


class Described(NamedTuple):
    words: Explanations
    senses: list[list[dict[str, Any]]]
    """One list a latent, the largest sense first; empty for latents with one."""


def describe(
    features: FeatureStore,
    evidence: Evidence,
    sample: FitSample,
    maxima: Float32[np.ndarray, " d_sae"],
    chosen: Bool[np.ndarray, " d_sae"],
    labels: Mapping[str, Bool[Tensor, "seq pos"]] | None = None,
    progress: Progress | None = None,
) -> Described:
    """The latents chosen and their senses. sample: of the pass that the evidence is from; maxima: of each latent;
    labels: those that rules may name.

    A sense is `share` of the activation mass, `monosemanticity` and what of it is `by_chance`, what its firings
    share (`common`, in words), `n` sampled firings, `rows` of the strongest and `weak_rows`, `following` tokens,
    `promoted` share, `rule` with its `f1`, `precision` and `recall`; where no rule was found, the first of `common` is
    it.
    """
    known = _senses(features, evidence)
    words, senses = explain(
        features.tokens,
        features.codes,
        features.vocab,
        features.fit_half(),
        predicates=evidence.predicates,
        maxima=maxima,
        senses=[(latent, rows) for latent, rows, _ in known],
        chosen=chosen,
        labels=labels,
        spelt=features.is_spelt,
        sample=sample,
        progress=progress or no_progress,
    )
    described: list[list[dict[str, Any]]] = [[] for _ in range(features.d_sae)]
    for place, (latent, _, sense) in enumerate(known):
        scores = {name: _known(getattr(senses, name)[place]) for name in ("f1", "precision", "recall")}
        described[latent].append(sense | {"rule": senses.phrases[place] or next(iter(sense["common"]), "")} | scores)
    return Described(words, described)


def explain(
    tokens: Int[Tensor, "seq pos"],
    codes: CodeSource,
    vocab: Sequence[str],
    fit_half: Bool[Tensor, " seq"],
    *,
    maxima: Float32[np.ndarray, " d_sae"],
    senses: Sequence[Sense] = (),
    chosen: Bool[np.ndarray, " d_sae"] | None = None,
    labels: Mapping[str, Bool[Tensor, "seq pos"]] | None = None,
    spelt: bool = True,
    seed: int = 0,
    predicates: Predicates | None = None,
    sample: FitSample | None = None,
    progress: Progress = no_progress,
) -> Explained:
    """Explain each latent of `codes` (rows seq * n_ctx + pos) and some senses of latents, choosing on the sequences
    where `fit_half` is true.

    vocab: one string a token id; maxima: the largest value of each latent, 0 where it never fires.
    chosen: the latents to explain (all); of others nothing is looked for or counted.
    labels: names that rules may use, with the positions that carry them; without, rules know tokens and strings only.
    spelt: False if `vocab` only names the tokens (by their ids, say): rules then leave out how they are spelt.
    predicates: of these tokens, where they are known already. sample: of an earlier pass over the same codes; without,
    one is drawn.
    Raises ValueError for codes that are not of the tokens or point outside, for a sense of a latent or with a row that
    the codes do not have, or for unfitting labels.
    """
    check_codes(codes, tokens)
    half, n, n_ctx = fit_half.numpy(), codes.d_sae, tokens.shape[1]
    predicates = predicates or Predicates.count(tokens.numpy(), len(vocab), vocab if spelt else None)
    predicates = predicates.with_labels(labels) if labels else predicates
    counted = first_windows(tokens.numpy())
    if sample is None:
        sample = FitSample(n, n_ctx, half, seed)
        note = "sampling firings to explain"
        for chunk in read_chunks(codes, n_ctx, maxima=maxima, counted=counted, progress=progress, note=note):
            sample.add(chunk)
    of_sense, sampled = _checked(senses, codes)
    in_fit = [rows[half[rows // n_ctx]] for rows in sampled]
    n_sampled = np.array(
        [[len(fit), len(rows) - len(fit)] for fit, rows in zip(in_fit, sampled, strict=True)], int
    ).reshape(-1, 2)
    n_fire = np.concatenate([sample.count, _share_of_firings(of_sense, n_sampled[:, 0], sample.count)])
    chosen = np.ones(n, bool) if chosen is None else chosen
    firings = [np.sort(rows[rows >= 0]) for rows in np.where(chosen[:, None], sample.rows[:, 0], -1)] + in_fit
    latents, sampled = np.concatenate([np.arange(n), of_sense]), [np.zeros(0, np.int64)] * n + sampled
    units = np.concatenate([np.flatnonzero(chosen), np.arange(n, len(latents))])
    with threadpool_limits(1, user_api="blas"):  # as where firings are compared (`evidence`)
        proposed = _propose(Background.of(predicates, half, counted), firings, n_fire, n, progress)
        counts = count_rules(predicates, codes, half, counted, proposed, latents, maxima, sampled, units, progress)
    counts.hits[:, :n] = counts.both[:, :n].sum(-1)
    n_firings = np.concatenate([counts.fires[:, :n].sum(-1), n_sampled.T], 1)
    every = choose(proposed, counts, n_firings, n_fire)
    return Explained(*(Explanations._make(values[part] for values in every) for part in (slice(n), slice(n, None))))


def _checked(senses: Sequence[Sense], codes: CodeSource) -> tuple[Latents, list[Int64[np.ndarray, " row"]]]:
    """The latent of each sense, and its ascending rows."""
    for latent, rows in senses:
        if not 0 <= latent < codes.d_sae or (len(rows) and not 0 <= np.min(rows) <= np.max(rows) < len(codes)):
            raise ValueError(f"a sense of latent {latent}: it must be in 0..{codes.d_sae - 1}, rows < {len(codes)}")
    latents = np.array([latent for latent, _ in senses], np.int64)
    return latents, [np.unique(np.asarray(rows, np.int64)) for _, rows in senses]


def _share_of_firings(latents: Latents, n_sampled: Latents, n_fire: Int64[np.ndarray, " d_sae"]) -> Latents:
    """Firings in the fit half that are taken to be each sense's, of those that its latent has there."""
    of_latent = np.bincount(latents, weights=n_sampled, minlength=len(n_fire))[latents]
    share = np.round(n_sampled / np.maximum(of_latent, 1) * n_fire[latents]).astype(np.int64)
    return np.maximum(share, n_sampled)


def _propose(
    background: Background,
    firings: Sequence[Int64[np.ndarray, " firing"]],
    n_fire: Int64[np.ndarray, " unit"],
    n_latents: int,
    progress: Progress,
) -> list[list[Rule]]:
    """Candidate rules of each latent, then of each sense, from ascending rows of the fit half that stand for n_fire."""

    def of_unit(unit: int, holds: Int32[np.ndarray, "firing place"]) -> list[Rule]:
        is_latent = unit < n_latents
        return candidates(background, holds, firings[unit], float(n_fire[unit]), joined_by_or=is_latent)

    proposed: list[list[Rule]] = []
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for start in range(0, len(firings), UNITS_AT_ONCE):
            units = range(start, min(start + UNITS_AT_ONCE, len(firings)))
            rows, place = np.unique(np.concatenate([firings[unit] for unit in units]), return_inverse=True)
            holds = background.predicates.at(rows, background.predicates.in_rules)
            ends = np.cumsum([len(firings[unit]) for unit in units])[:-1]
            proposed += pool.map(of_unit, units, (holds[places] for places in np.split(place, ends)))
            progress(len(proposed), len(firings), "proposing explanations")
    return proposed


def _senses(
    features: FeatureStore, evidence: Evidence
) -> list[tuple[int, Int64[np.ndarray, " firing"], dict[str, Any]]]:
    """The latent of each sense, its rows, the strongest first, and what is known of it without its rule."""
    flat, promoted, senses = features.tokens.numpy().reshape(-1), _promoted(features), []
    n_senses = evidence.observed.n_senses
    for latent in np.flatnonzero(n_senses > 1).tolist():
        for sense in range(n_senses[latent]):
            at = np.flatnonzero(evidence.observed.senses[latent] == sense)
            rows = evidence.rows[latent, at[::-1]]  # the strongest tenth first
            following = _following(flat, features.n_ctx, rows)
            about = {
                "share": float(evidence.shares[latent, at].sum()),
                "monosemanticity": _known(evidence.observed.sense_one[latent, sense]),
                "by_chance": _known(evidence.sense_by_chance(latent, sense)),
                "common": [common.words for common in evidence.observed.common.get((latent, sense), ())],
                "n": len(rows),
                "rows": rows[:SHOWN].tolist(),
                "weak_rows": rows[SHOWN:][-SHOWN_WEAK:].tolist(),
                "following": _commonest(following),
                "promoted": _promoted_share(following, promoted.get(latent, ())),
            }
            senses.append((latent, rows, about))
    return senses


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _following(
    flat: Int[np.ndarray, " row"], n_ctx: int, rows: Int64[np.ndarray, " firing"]
) -> Int[np.ndarray, " token"]:
    """The token behind each firing that is not its sequence's last."""
    return flat[rows[rows % n_ctx < n_ctx - 1] + 1]


def _commonest(following: Int[np.ndarray, " token"]) -> list[int]:
    """The tokens that follow most often, those that follow once left out."""
    tokens, counts = np.unique(following, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:FOLLOWING]
    return [int(tokens[place]) for place in order if counts[place] > 1]


def _promoted(features: FeatureStore) -> dict[int, Sequence[int]]:
    """The tokens of each latent's largest direct logit effects, where the scan knew the model's unembedding."""
    table = features.table("features")
    if "top_logit_tokens" not in table:
        return {}
    known = table[table["top_logit_tokens"].notna()]
    return dict(zip(known["latent"], known["top_logit_tokens"], strict=True))


def _promoted_share(following: Int[np.ndarray, " token"], promoted: Sequence[int]) -> float | None:
    """Share of the firings that a promoted token follows: which of its senses a latent's output serves. None where
    nothing is known to be promoted, or nothing follows."""
    return float(np.isin(following, promoted).mean()) if len(promoted) and len(following) else None
