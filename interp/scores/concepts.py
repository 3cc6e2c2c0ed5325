"""How well single latents detect labelled concepts, beside single neurons.

For each label: the latent whose firing above a threshold agrees best with the label, by

    F1 = 2·|fires ∧ label| / (|fires| + |label|)

Latent and threshold are both chosen on the fit half of the sequences; the F1 reported is the other half's.
"""

import pandas as pd

from interp.features import FeatureStore


def concept_table(features: FeatureStore, neurons: FeatureStore) -> pd.DataFrame:
    """One row a label: `label`, `n_label` (tokens), `feature`, `f1_feature`, `neuron`, `f1_neuron`, best first."""
    best, rival = (_best(store).add_suffix(suffix) for store, suffix in ((features, "_feature"), (neurons, "_neuron")))
    table = best.join(rival, how="left").reset_index()
    table = table.rename(columns={"latent_feature": "feature", "latent_neuron": "neuron", "n_label_feature": "n_label"})
    columns = ["label", "n_label", "feature", "f1_feature", "neuron", "f1_neuron"]
    return table[columns].sort_values("f1_feature", ascending=False, ignore_index=True)


def _best(store: FeatureStore) -> pd.DataFrame:
    labels = store.table("labels").sort_values(["f1_fit", "latent"], ascending=[False, True])
    return labels.drop_duplicates("label").set_index("label")[["latent", "n_label", "f1"]]
