"""Does a latent fire where its rule says, on fresh text that the rule generates?

In: a feature store, its model and dictionary, and a rule of each of some latents. For each, windows of the scan's text
are changed so that the rule holds at one position: of a part of the rule, tokens of each of its sets or classes are
drawn by their frequency in the text and put where the rule wants them. The model reads the windows where it then holds.
Out:

    sensitivity = share of them at which the latent fires at the position
    unchanged   = the same of the windows as they were, where the rule did not hold

Rules of labels cannot be generated, those of places only where the window has one already by chance.

Source: feature sensitivity, as asked of generated text by Tian et al. 2025 (arXiv 2509.23717), with a language model in
place of the rule. Cost: a pass of the model up to the hook for each window, twice.
Failing: a changed window is no natural text; what a latent needs beside its rule, such as a topic, is seldom there.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.codes import Dictionary
from interp.compare.estimates import bootstrap
from interp.effects.interventions import Place, columns, place_of
from interp.explain.holding import Numbered, first_that_hold
from interp.explain.predicates import KINDS, Atom, Conjunction, Rule, Text
from interp.features.feature_store import FeatureStore
from interp.files import Progress, no_progress
from interp.hooks import Model, capture, evaluating, module_of, to_model

_WINDOW, _FIRST = 32, 16
"""Tokens of a window, and the first position at which a rule is to hold."""
_PLACED = {"class": 0, "after_class": 1}
"""Kinds that name classes, and how far behind their token stands."""
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
    progress: Progress = no_progress,
) -> pd.DataFrame:
    """A row a latent: latent, n (windows in which its rule was brought to hold, of `windows`), sensitivity with low and
    high of a 95 % bootstrap over windows, and unchanged; NaN where n is 0.

    Raises ValueError for windows below 1 or text of fewer tokens a sequence than a window has, and as `place_of`."""
    if windows < 1 or features.n_ctx < _WINDOW:
        raise ValueError(f"windows={windows} must be at least 1, and sequences ({features.n_ctx}) {_WINDOW} tokens")
    text = Text.read(features.tokens.numpy(), features.vocab, spelt=features.is_spelt)
    writer, place, rows = _Writer(text, seed), place_of(model, hook, dictionary), []
    with evaluating(module_of(model)):
        for done, (latent, rule) in enumerate(rules.items(), 1):
            before, after, at = writer.windows(rule, windows)
            fires = np.zeros((2, 0))
            if len(at):
                tokens = to_model(module_of(model), torch.from_numpy(np.concatenate([after, before])))
                acts = capture(module_of(model), tokens, {hook: place.reads})[hook]
                fires = _fires(place, dictionary, acts, latent, np.tile(at, 2)).reshape(2, -1)
            told = bootstrap(fires[0].astype(float), seed=seed)
            rows.append((latent, len(at), *told, float(fires[1].mean()) if len(at) else np.nan))
            progress(done, len(rules), "text by rules")
    return pd.DataFrame(rows, columns=["latent", "n", "sensitivity", "low", "high", "unchanged"])


def _fires(
    place: Place, dictionary: Dictionary, acts: Tensor, latent: int, at: Int[np.ndarray, " window"]
) -> Bool[np.ndarray, " window"]:
    codes, usable = place.codes(dictionary, acts)
    z = columns(codes, torch.tensor([latent], device=codes.latents.device))[:, 0] * usable
    return (z.view(acts.shape[:2])[torch.arange(len(at)), torch.from_numpy(at)] > 0).numpy(force=True)


class _Writer:
    """Changes windows of a text until a rule holds in them."""

    def __init__(self, text: Text, seed: int):
        self.text, self.generator = text, np.random.default_rng(seed)
        self.frequency = np.bincount(text.tokens.reshape(-1), minlength=len(text.vocabulary)).astype(float)

    def windows(self, rule: Rule, n: int) -> tuple[Windows, Windows, Int[np.ndarray, " window"]]:
        """Windows as they were and as they are, and a position of each: the rule holds there now, and did not."""
        seq = self.generator.integers(len(self.text.tokens), size=n)
        start = self.generator.integers(self.text.n_ctx - _WINDOW + 1, size=n)
        before = self.text.tokens[seq[:, None], start[:, None] + np.arange(_WINDOW)]
        at = self.generator.integers(_FIRST, _WINDOW, size=n)
        after = before.copy()
        for window in range(n):
            self._write(after[window], rule[self.generator.integers(len(rule))], at[window])
        kept = self._holds(rule, after, at) & ~self._holds(rule, before, at)
        return before[kept], after[kept], at[kept]

    def _write(self, window: Int[np.ndarray, " pos"], part: Conjunction, at: int) -> None:
        """The nearest token last, which others further off must not write over."""
        for atom in sorted(part, key=lambda atom: -self._back(atom)[1]):
            low, high = self._back(atom)
            tokens = self._tokens(atom)
            weight = self.frequency[tokens]
            if low >= 0 and weight.sum() > 0:
                back = int(self.generator.integers(low, high + 1))
                window[at - back] = self.generator.choice(tokens, p=weight / weight.sum())

    def _back(self, atom: Atom) -> tuple[int, int]:
        """How far before the position its token may stand; −1 for what no token brings about."""
        reach = KINDS[atom.kind].reach
        if reach is not None:
            return reach[0], min(reach[1], _FIRST)
        return (back, back) if (back := _PLACED.get(atom.kind, -1)) >= 0 else (-1, -1)

    def _tokens(self, atom: Atom) -> Int[np.ndarray, " token"]:
        if KINDS[atom.kind].reach is not None:
            return np.asarray(self.text.tokens_of(atom), int)
        return np.flatnonzero(self.text.vocabulary.classes >> np.uint64(max(atom.which, 0)) & np.uint64(1))

    def _holds(self, rule: Rule, windows: Windows, at: Int[np.ndarray, " window"]) -> Bool[np.ndarray, " window"]:
        text = Text(np.ascontiguousarray(windows), self.text.vocabulary, self.text.spelling, {})
        if any(atom.kind == "label" for part in rule for atom in part):
            return np.zeros(len(windows), bool)
        held = first_that_hold(text, slice(0, len(windows)), Numbered.of([[rule]], text))
        return held.dense()[:, 0].numpy().reshape(windows.shape)[np.arange(len(at)), at] > 0
