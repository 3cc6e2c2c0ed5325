"""Find the latent that detects each label best, and the best neuron for comparison.

In: two scans of the same tokens with the same labels. Out: a table, one row per label.
"""

import pandas as pd

from interp.features.feature_store import FeatureStore
from interp.features.scan_checks import check_same_inputs


def concept_table(features: FeatureStore, neurons: FeatureStore, *, rival: str = "neuron") -> pd.DataFrame:
    """Return the latent and the neuron that detect each label best, both chosen as in `label_f1`. There is one row per
    label, the best first, with `label`, `n_label` (tokens), `feature`, `f1_feature`, `neuron`, `f1_neuron`, and
    `rival`, the word for the units in `neurons`. Raises ValueError for scans of different tokens or labels."""
    check_same_inputs(features, neurons, "tokens", "labels")
    best, rivals = (_best(store).add_suffix(suffix) for store, suffix in ((features, "_feature"), (neurons, "_neuron")))
    table = best.join(rivals, how="left").reset_index().assign(rival=rival)
    table = table.rename(columns={"latent_feature": "feature", "latent_neuron": "neuron", "n_label_feature": "n_label"})
    columns = ["label", "n_label", "feature", "f1_feature", "neuron", "f1_neuron", "rival"]
    return table[columns].sort_values("f1_feature", ascending=False, ignore_index=True)


def _best(store: FeatureStore) -> pd.DataFrame:
    labels = store.table("labels").sort_values(["f1_fit", "latent"], ascending=[False, True])
    return labels.drop_duplicates("label").set_index("label")[["latent", "n_label", "f1"]]
