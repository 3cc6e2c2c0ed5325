"""Which latent detects each labelled concept best, beside the best neuron?

In: two scans of the same tokens and labels, of a dictionary and of the neurons. Out: a table, a row a label, with

    F1 = 2·|fires ∧ label| / (|fires| + |label|),   fires: z ≥ threshold

latent and threshold chosen on the fit half of the sequences, F1 measured on the other half.
Source: concept probing. Cost: none beyond the scan. Failing: it knows only the concepts that are labelled.
"""

from typing import TYPE_CHECKING

from interp.features.feature_store import FeatureStore

if TYPE_CHECKING:
    import pandas as pd


def concept_table(features: FeatureStore, neurons: FeatureStore) -> "pd.DataFrame":
    """One row a label: `label`, `n_label` (tokens), `feature`, `f1_feature`, `neuron`, `f1_neuron`, best first."""
    best, rival = (_best(store).add_suffix(suffix) for store, suffix in ((features, "_feature"), (neurons, "_neuron")))
    table = best.join(rival, how="left").reset_index()
    table = table.rename(columns={"latent_feature": "feature", "latent_neuron": "neuron", "n_label_feature": "n_label"})
    columns = ["label", "n_label", "feature", "f1_feature", "neuron", "f1_neuron"]
    return table[columns].sort_values("f1_feature", ascending=False, ignore_index=True)


def _best(store: FeatureStore) -> "pd.DataFrame":
    labels = store.table("labels").sort_values(["f1_fit", "latent"], ascending=[False, True])
    return labels.drop_duplicates("label").set_index("label")[["latent", "n_label", "f1"]]
