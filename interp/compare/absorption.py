"""Is a latent silent where its own rule says that it fires, because another latent took it? Absorption without labels.

In: a feature store with a decoder, and a rule of each of some latents (`explain`). A row where the rule of latent i
holds is absorbed if i is silent and one other latent j supplies i's direction at least `min_share` as strongly as i
itself does at its firings,

    z_j Ŵ_i · W_j ≥ min_share · mean z_i ‖W_i‖ over i's firings                with Ŵ_i = W_i / ‖W_i‖

The null holds the same rule against codes that are shifted circularly: how often that is so by chance.

Source: absorption, Chanin et al. 2024 (arXiv 2409.14507), who know the features' labels and ablate; this needs neither.
Cost: L0 for each row at which a rule holds, twice.
Failing: a rule that holds too often says of rows where nothing is missing that something is: ask it of precise rules.
What two others supply together is not seen.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32, Int32, Int64

from interp.codes import SparseCodes
from interp.compare.across_models import ShiftedCodes, drawn_shift
from interp.explain.holding import Numbered, first_that_hold
from interp.explain.predicates import Rule, Text
from interp.features.feature_store import FeatureStore
from interp.files import Progress, no_progress, ratio
from interp.monosemanticity.firings import CodeSource

_ROWS_AT_ONCE = 1 << 15
_PAIRS_AT_ONCE = 1 << 18


def absorption(
    features: FeatureStore,
    text: Text,
    rules: Mapping[int, Rule],
    *,
    min_share: float = 0.5,
    seed: int = 0,
    progress: Progress = no_progress,
) -> pd.DataFrame:
    """A row a latent: latent, n_rule (rows where its rule holds), fires, absorbed (shares of them), by_chance (the same
    share of rows of shifted codes), taker (the latent that absorbs most; −1 for none) and taker_share of the absorbed.

    text: of the features' tokens. Raises ValueError for a store without a decoder, and for a latent without a rule.
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
    numbered = Numbered.of([[rule] for rule in rules.values()], text)
    codes, shift = features.codes, drawn_shift(len(features.codes), seed)
    found = _Counts.of(codes, text, numbered, latents, supply, need, progress)
    chance = _Counts.of(ShiftedCodes(codes, shift), text, numbered, latents, supply, need, no_progress)
    taken = found.takers.sum(1)
    columns = {"latent": latents, "n_rule": found.n.astype(int), "fires": ratio(found.fires, found.n)}
    columns |= {"absorbed": ratio(taken, found.n), "by_chance": ratio(chance.takers.sum(1), chance.n)}
    columns |= {"taker": np.where(taken > 0, found.takers.argmax(1), -1)}
    return pd.DataFrame({**columns, "taker_share": ratio(found.takers.max(1), taken)})


class _Counts(NamedTuple):
    n: Int64[np.ndarray, " unit"]
    """Rows where the rule holds."""
    fires: Int64[np.ndarray, " unit"]
    takers: Int32[np.ndarray, "unit d_sae"]
    """Rows that each other latent absorbed."""

    @classmethod
    def of(
        cls,
        codes: CodeSource,
        text: Text,
        rules: Numbered,
        latents: Int64[np.ndarray, " unit"],
        supply: Float32[np.ndarray, "d_sae unit"],
        need: Float32[np.ndarray, " unit"],
        progress: Progress,
    ) -> "_Counts":
        n, fires = np.zeros((2, len(latents)), int)
        out = cls(n, fires, np.zeros((len(latents), codes.d_sae), np.int32))
        per_chunk = max(1, _ROWS_AT_ONCE // text.n_ctx)
        for start in range(0, len(text.tokens), per_chunk):
            stop = min(start + per_chunk, len(text.tokens))
            rows = slice(start * text.n_ctx, stop * text.n_ctx)
            held = first_that_hold(text, slice(start, stop), rules)
            there = codes.present(rows.start, rows.stop).numpy() if hasattr(codes, "present") else None
            row, unit = held.rows.numpy(), held.latents.numpy()
            if there is not None:
                row, unit = row[there[row]], unit[there[row]]
            part = codes[rows]
            for first in range(0, len(row), _PAIRS_AT_ONCE):
                some = slice(first, first + _PAIRS_AT_ONCE)
                out._add(part, row[some], unit[some], latents, supply, need)
            progress(stop, len(text.tokens), "where rules hold")
        return out

    def _add(
        self,
        codes: SparseCodes,
        row: Int64[np.ndarray, " pair"],
        unit: Int64[np.ndarray, " pair"],
        latents: Int64[np.ndarray, " unit"],
        supply: Float32[np.ndarray, "d_sae unit"],
        need: Float32[np.ndarray, " unit"],
    ) -> None:
        """Of some rows, each with a unit whose rule holds there."""
        offsets, fired, z = (part.numpy() for part in (codes.offsets, codes.latents, codes.values))
        counts = np.diff(offsets)[row]
        pair = np.repeat(np.arange(len(row)), counts)
        entry = np.arange(len(pair)) - np.repeat(counts.cumsum() - counts, counts) + np.repeat(offsets[row], counts)
        own = (fired[entry] == latents[unit[pair]]) & (z[entry] > 0)
        fires = np.bincount(pair[own], minlength=len(row)) > 0
        supplied = np.where(own, 0, z[entry] * supply[fired[entry], unit[pair]])
        order = np.lexsort((-supplied, pair))
        best = order[np.unique(pair[order], return_index=True)[1]]  # the strongest entry of each row that has any
        taken = best[(supplied[best] >= need[unit[pair[best]]]) & ~fires[pair[best]]]
        self.n[:] += np.bincount(unit, minlength=len(latents))
        self.fires[:] += np.bincount(unit[fires], minlength=len(latents))
        np.add.at(self.takers, (unit[pair[taken]], fired[entry[taken]]), 1)
