"""Do the rules of latents (`explain`) hold where the latents fire? On fresh text, and where another latent took over.

`sensitivity`: windows of the scan's text are changed so that a latent's rule holds at one position. For each part of
the rule, tokens of its sets or classes are drawn by their frequency in the text and put where the rule requires them.
The model reads the windows in which the rule then holds.

    sensitivity = share of them at which the latent fires at the position
    unchanged   = the same share for the original windows, where the rule did not hold

Rules with labels cannot be generated. Rules with places can only if the window already has such a place by chance.

`absorption`: a row where the rule of latent i holds is absorbed if i is silent and one other latent j supplies i's
direction at least `min_share` as strongly as i itself does at its firings,

    z_j Ŵ_i · W_j ≥ min_share · mean z_i ‖W_i‖ over i's firings                with Ŵ_i = W_i / ‖W_i‖

The null applies the same rule to circularly shifted codes and so gives the share by chance.

Source: feature sensitivity on generated text, Tian et al. 2025 (arXiv 2509.23717), who use a language model where we
use the rule; absorption, Chanin et al. 2024 (arXiv 2409.14507), who know the features' labels and ablate. Cost: two
passes of the model up to the hook for each window; L0 for each row at which a rule holds, twice. Limits: a changed
window is not natural text, and what a latent needs in addition to its rule, such as a topic, is seldom there. A rule
that holds too often reports absorption on rows where nothing is missing: use absorption for precise rules. What two
other latents supply together is not seen.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float32, Int, Int64

from analyses.claims.rule_strengths import first_that_hold
from interp.activations.hooks import Model
from interp.codes.code_chunks import CodeSource
from interp.codes.dictionary import Dictionary
from interp.codes.dictionary_hooks import dictionary_hooks
from interp.codes.sparse_codes import SparseCodes
from interp.compare.shifted_codes import ShiftedCodes
from interp.effects.steering import latent_activations
from interp.features.feature_store import FeatureStore
from interp.statistics.estimates import bootstrap, ratio
from interp.text.predicate_kinds import PREDICATE_KINDS, TOKENS_BEFORE
from interp.text.predicates import Predicates
from interp.text.rules import Atom, Rule
from interp.verdict.rule_counts import NumberedRules

_WINDOW, _FIRST = 32, 16
"""Tokens of a window, and the first position at which a rule is to hold."""
_ROWS_AT_ONCE = 1 << 15
_PAIRS_AT_ONCE = 1 << 18
Windows = Int[np.ndarray, "window pos"]


def sensitivity(
    features: FeatureStore,
    model: Model,
    hook: str,
    dictionary: Dictionary,
    rules: Mapping[int, Rule],
    *,
    windows: int = 32,
    seed: int = 0,
) -> pd.DataFrame:
    """Return a row per latent: latent, n (windows in which its rule was brought to hold, of `windows`), sensitivity
    with low and high of a 95 % bootstrap over windows, and unchanged; NaN if n is 0.

    Raises ValueError for windows below 1 or text of fewer tokens a sequence than a window has, and as
    `dictionary_hooks`."""
    if windows < 1 or features.n_ctx < _WINDOW:
        raise ValueError(f"windows={windows} must be at least 1, and sequences ({features.n_ctx}) {_WINDOW} tokens")
    vocab = features.vocab if features.has_vocab else None
    predicates = Predicates.count(features.tokens.numpy(), len(features.vocab), vocab)
    writer, hooks, rows = _Writer(predicates, seed), dictionary_hooks(model, hook, dictionary), []
    for latent, rule in rules.items():
        before, after, at = writer.windows(rule, windows)
        fires = np.zeros((2, 0))
        if len(at):
            tokens = torch.from_numpy(np.concatenate([after, before]))
            z = latent_activations(model, hooks, dictionary, latent, tokens).numpy(force=True)
            fires = (z[np.arange(len(z)), np.tile(at, 2)] > 0).reshape(2, -1)
        share = bootstrap(fires[0].astype(float), seed=seed)
        rows.append((latent, len(at), *share, float(fires[1].mean()) if len(at) else np.nan))
    return pd.DataFrame(rows, columns=["latent", "n", "sensitivity", "low", "high", "unchanged"])


class _Writer:
    """Changes windows of a text until a rule holds in them."""

    def __init__(self, predicates: Predicates, seed: int):
        self.predicates, self.generator, self.tokens = predicates, np.random.default_rng(seed), predicates.text.tokens
        self.frequency = predicates.text.neighbours.counts.astype(float)

    def windows(self, rule: Rule, n: int) -> tuple[Windows, Windows, Int[np.ndarray, " window"]]:
        """Return the windows before and after, and a position of each at which the rule holds only after the change."""
        seq = self.generator.integers(len(self.tokens), size=n)
        start = self.generator.integers(self.tokens.shape[1] - _WINDOW + 1, size=n)
        before = self.tokens[seq[:, None], start[:, None] + np.arange(_WINDOW)]
        at = self.generator.integers(_FIRST, _WINDOW, size=n)
        after = before.copy()
        for window in range(n):
            self._write(after[window], rule, at[window])
        kept = self._holds(rule, after, at) & ~self._holds(rule, before, at)
        return before[kept], after[kept], at[kept]

    def _write(self, window: Int[np.ndarray, " pos"], rule: Rule, at: int) -> None:
        """Write the tokens around the subject. The nearest token is written last, so that tokens further away cannot
        overwrite it."""
        for atom in sorted(rule, key=lambda atom: -self._back(atom)[1]):
            low, high = self._back(atom)
            if low < 0:
                continue
            tokens = self._tokens(atom)
            weight = self.frequency[tokens]
            if weight.sum() > 0:
                back = int(self.generator.integers(low, high + 1))
                window[at - back] = self.generator.choice(tokens, p=weight / weight.sum())

    def _back(self, atom: Atom) -> tuple[int, int]:
        """Return how far before the position its token may stand; −1 for what no token brings about."""
        if atom.kind == "before":
            return 1, TOKENS_BEFORE
        is_placed = self._classes(atom) is not None or atom.kind == "previous"
        return (int(atom.kind.startswith("previous")),) * 2 if is_placed else (-1, -1)  # type: ignore[return-value]

    def _tokens(self, atom: Atom) -> Int[np.ndarray, " token"]:
        classes = self._classes(atom)
        return np.array(atom.values) if classes is None else np.flatnonzero(np.isin(classes[:-1], atom.values))

    def _classes(self, atom: Atom) -> Int[np.ndarray, " token"] | None:
        """Return the class of each token, for an atom about the class of a token or of the one before."""
        kind = PREDICATE_KINDS.get(atom.kind.removeprefix("previous_"))
        return kind.classes(self.predicates.text) if kind is not None and kind.classes is not None else None

    def _holds(self, rule: Rule, windows: Windows, at: Int[np.ndarray, " window"]) -> Bool[np.ndarray, " window"]:
        if any(atom.kind == "label" for atom in rule):
            return np.zeros(len(windows), bool)
        predicates = self.predicates.with_text(windows)
        first_cases = first_that_hold(predicates, slice(0, len(windows)), NumberedRules.of([[rule]], predicates))
        return first_cases.dense()[:, 0].numpy().reshape(windows.shape)[np.arange(len(at)), at] > 0


def absorption(
    features: FeatureStore, predicates: Predicates, rules: Mapping[int, Rule], *, min_share: float = 0.5, seed: int = 0
) -> pd.DataFrame:
    """Return a row per latent: latent, n_rule (rows where its rule holds), fires, absorbed (shares of them), by_chance
    (the same share of rows of shifted codes), taker (the latent that absorbs most; −1 for none) and taker_share of the
    absorbed.

    predicates: what holds in the features' tokens. Raises ValueError for a store without a decoder, and for a latent
    without a rule.
    """
    if features.W_dec is None:
        raise ValueError(f"{features.path} has no decoder (W_dec), by which latents supply one another's directions")
    if not rules or not all(rules.values()):
        raise ValueError(f"latents {[latent for latent in rules if not rules[latent]]} have no rule: leave them out")
    latents = np.array(list(rules))
    table = features.table().set_index("latent")
    W, chosen = features.W_dec, torch.from_numpy(latents)
    need = min_share * (table["mean"].reindex(latents).to_numpy() * W[chosen].norm(dim=1).numpy())
    supply = (W @ torch.nn.functional.normalize(W[chosen], dim=1).T).numpy()
    numbered = NumberedRules.of([[rule] for rule in rules.values()], predicates)
    counts, chance = (_Absorbed(latents, supply, need) for _ in range(2))
    counts.count(features.codes, predicates, numbered)
    chance.count(ShiftedCodes.draw(features.codes, seed), predicates, numbered)
    absorbed = counts.takers.sum(1)
    shares = {"latent": latents, "n_rule": counts.n, "fires": ratio(counts.fires, counts.n)}
    shares |= {"absorbed": ratio(absorbed, counts.n), "by_chance": ratio(chance.takers.sum(1), chance.n)}
    shares |= {"taker": np.where(absorbed > 0, counts.takers.argmax(1), -1)}
    return pd.DataFrame({**shares, "taker_share": ratio(counts.takers.max(1), absorbed)})


class _Absorbed:
    """The counts of each latent: rows where its rule holds, at how many of them it fires, and how many each other one
    absorbed."""

    def __init__(
        self,
        latents: Int64[np.ndarray, " unit"],
        supply: Float32[np.ndarray, "d_sae unit"],
        need: Float32[np.ndarray, " unit"],
    ):
        self.latents, self.supply, self.need = latents, supply, need
        self.n, self.fires = np.zeros((2, len(latents)), int)
        self.takers = np.zeros(supply.T.shape, np.int32)

    def count(self, codes: CodeSource, predicates: Predicates, rules: NumberedRules) -> None:
        n_seq, n_ctx = predicates.text.tokens.shape
        chunk_sequences = max(1, _ROWS_AT_ONCE // n_ctx)
        for start in range(0, n_seq, chunk_sequences):
            stop = min(start + chunk_sequences, n_seq)
            rows = slice(start * n_ctx, stop * n_ctx)
            first_cases = first_that_hold(predicates, slice(start, stop), rules)
            is_encoded = codes.present(rows.start, rows.stop)
            kept = is_encoded[first_cases.rows]
            row, unit, part = first_cases.rows[kept].numpy(), first_cases.latents[kept].numpy(), codes[rows]
            for first in range(0, len(row), _PAIRS_AT_ONCE):
                pair_block = slice(first, first + _PAIRS_AT_ONCE)
                self._add(part, row[pair_block], unit[pair_block])

    def _add(self, codes: SparseCodes, row: Int64[np.ndarray, " pair"], unit: Int64[np.ndarray, " pair"]) -> None:
        """Add some rows, each with a unit whose rule holds there."""
        offsets, fired, z = (part.numpy() for part in (codes.offsets, codes.latents, codes.values))
        counts = np.diff(offsets)[row]
        pair = np.repeat(np.arange(len(row)), counts)
        entry = np.arange(len(pair)) - np.repeat(counts.cumsum() - counts, counts) + np.repeat(offsets[row], counts)
        is_own = (fired[entry] == self.latents[unit[pair]]) & (z[entry] > 0)
        fires = np.bincount(pair[is_own], minlength=len(row)) > 0
        supplied = np.where(is_own, 0, z[entry] * self.supply[fired[entry], unit[pair]])
        order = np.lexsort((-supplied, pair))
        best = order[np.unique(pair[order], return_index=True)[1]]  # the strongest entry of each row that has any
        taking = best[(supplied[best] >= self.need[unit[pair[best]]]) & ~fires[pair[best]]]
        self.n += np.bincount(unit, minlength=len(self.latents))
        self.fires += np.bincount(unit[fires], minlength=len(self.latents))
        np.add.at(self.takers, (unit[pair[taking]], fired[entry[taking]]), 1)
