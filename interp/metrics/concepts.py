"""Which labelled concept is a latent, and is it that concept only?

With a the activation (0 where silent), F firing, L a label (a set of tokens), and N tokens in all:

    selectivity = (μ_L − μ_rest) / (μ_L + μ_rest),   μ_L = Σ_L a / |L|,   μ_rest = Σ_not L a / (N − |L|)
    purity      = Σ_L a / Σ a
    excess      = (purity − |L| / N) / (1 − |L| / N)          0: as much as of any text; 1: all
    nmi         = I(F; L) / √(H(F) H(L))

Of a latent's labels the largest value of each counts. `concept_table` asks of each label which latent detects it best,
beside single neurons, by F1 = 2·|fires ∧ label| / (|fires| + |label|), latent and threshold chosen on the fit half of
the sequences, F1 measured on the other half.

Source: selectivity, Morcos et al. 2018; purity of clusters. Cost: none beyond the scan.
Failing: they know only the concepts that are labelled. A latent of two meanings under one broad label is pure, one of a
finer meaning than any label is not selective; purity favours broad labels, selectivity rare ones.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Int64, Num

from interp.features.feature_store import FeatureStore

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LabelMeasures:
    """NaN for latents that never fire, and where there are no labels."""

    selectivity: Float64[np.ndarray, " d_sae"]
    purity: Float64[np.ndarray, " d_sae"]
    excess: Float64[np.ndarray, " d_sae"]
    nmi: Float64[np.ndarray, " d_sae"]


def concept_table(features: FeatureStore, neurons: FeatureStore) -> "pd.DataFrame":
    """One row a label: `label`, `n_label` (tokens), `feature`, `f1_feature`, `neuron`, `f1_neuron`, best first."""
    best, rival = (_best(store).add_suffix(suffix) for store, suffix in ((features, "_feature"), (neurons, "_neuron")))
    table = best.join(rival, how="left").reset_index()
    table = table.rename(columns={"latent_feature": "feature", "latent_neuron": "neuron", "n_label_feature": "n_label"})
    columns = ["label", "n_label", "feature", "f1_feature", "neuron", "f1_neuron"]
    return table[columns].sort_values("f1_feature", ascending=False, ignore_index=True)


def label_table(features: FeatureStore) -> "pd.DataFrame":
    """One row a label and latent that fires: `latent`, `label`, `selectivity`, `purity`, `excess`, `nmi`.

    NaN where a label covers no token or all.
    """
    table = features.table("labels")
    if "mass" not in table:
        raise ValueError(f"{features.path} has no mass of labels: an earlier version scanned it; scan it again")
    counts = features.table("features").set_index("latent").loc[table["latent"], ["n_active", "mean"]]
    n_active = counts["n_active"].to_numpy()
    measures = measures_of_counts(
        table["n_both"].to_numpy(),
        table["mass"].to_numpy(),
        n_active,
        n_active * counts["mean"].to_numpy(float),
        table["n_label"].to_numpy(),
        features.meta["n_tokens"],
    )
    return table[["latent", "label"]].assign(**measures)


def measures_of_counts(
    n_both: Num[np.ndarray, " pair"],
    mass: Float64[np.ndarray, " pair"],
    n_active: Int64[np.ndarray, " pair"],
    total: Float64[np.ndarray, " pair"],
    n_label: Int64[np.ndarray, " pair"],
    n_rows: int,
) -> dict[str, Float64[np.ndarray, " pair"]]:
    """The measures of pairs of a latent and a label: firings in the label and their activation, all firings and theirs,
    and the tokens of the label. NaN where it covers no token or all."""
    inside, outside = _ratio(mass, n_label), _ratio(np.maximum(total - mass, 0), n_rows - n_label)
    purity, base = np.minimum(_ratio(mass, total), 1), n_label / max(n_rows, 1)
    measures = {
        "selectivity": _ratio(inside - outside, inside + outside),
        "purity": purity,
        "excess": _ratio(purity - base, 1 - base),
        "nmi": _nmi(n_both, n_active, n_label, n_rows),
    }
    defined = (n_label > 0) & (n_label < n_rows)
    return {name: np.where(defined, values, np.nan) for name, values in measures.items()}


def label_measures(features: FeatureStore) -> LabelMeasures:
    """The largest of each measure over a latent's labels."""
    best = label_table(features).drop(columns="label").groupby("latent").max().reindex(range(features.d_sae))
    return LabelMeasures(*(best[name].to_numpy(float) for name in ("selectivity", "purity", "excess", "nmi")))


def _best(store: FeatureStore) -> "pd.DataFrame":
    labels = store.table("labels").sort_values(["f1_fit", "latent"], ascending=[False, True])
    return labels.drop_duplicates("label").set_index("label")[["latent", "n_label", "f1"]]


def _nmi(n_both: np.ndarray, n_active: np.ndarray, n_label: np.ndarray, n: int) -> Float64[np.ndarray, " pair"]:
    """Normalised mutual information of two sets of `n` tokens, from their sizes and that of their overlap."""
    cells = np.stack([n_both, n_active - n_both, n_label - n_both, n - n_active - n_label + n_both])
    joint = _entropy(cells, n)
    fires, label = (_entropy(np.stack([size, n - size]), n) for size in (n_active, n_label))
    return np.clip(_ratio(fires + label - joint, np.sqrt(fires * label)), 0, 1)


def _entropy(counts: np.ndarray, n: int) -> Float64[np.ndarray, " pair"]:
    share = counts / max(n, 1)
    return -(share * np.log(share, out=np.zeros(share.shape), where=share > 0)).sum(0)


def _ratio(a: np.ndarray, b: np.ndarray) -> Float64[np.ndarray, " ..."]:
    a, b = np.broadcast_arrays(np.asarray(a, float), np.asarray(b, float))
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b > 0)
