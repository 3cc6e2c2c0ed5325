"""Which latents belong together? Communities of the graph of latents that fire on the same rows.

In: a feature store with the table `coactivations`, which has for each latent those it shares most rows with. Out:
groups of latents by Louvain's method, with their modularity

    Q = Σ_c [w_c / w − (k_c / 2w)²]        w_c the Jaccard indices of pairs within c, k_c of all pairs that begin in c

beside that of graphs of the same degrees whose edges end at random.

Source: Blondel et al. 2008 (arXiv 0803.0476), by networkx; Newman's modularity. Cost: some seconds for 4,096 latents.
Failing: of a latent the partners that the scan kept are known, no others. Frequent latents share rows with many.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from interp.features.feature_store import FeatureStore

_SHUFFLES = 10


@dataclass(frozen=True)
class Communities:
    table: pd.DataFrame
    """A row a latent with an edge: latent, community; 0 is the largest."""
    modularity: float
    null: float
    """Of graphs whose edges end at random, the mean."""


def communities(features: FeatureStore, *, min_lift: float = 2.0, seed: int = 0) -> Communities:
    """Of pairs that fire together at least `min_lift` times as often as their densities say.

    Raises ValueError where no pair does."""
    pairs = features.table("coactivations")
    pairs = pairs[pairs["lift"] >= min_lift]
    if pairs.empty:
        raise ValueError(f"no pair of latents in {features.path} fires together min_lift={min_lift} times as often")
    ends, weight = pairs[["latent", "other"]].to_numpy(int), pairs["jaccard"].to_numpy(float)
    groups, modularity = _grouped(ends, weight, seed)
    generator, by_chance = np.random.default_rng(seed), []
    for _ in range(_SHUFFLES):
        shuffled = np.stack([ends[:, 0], generator.permutation(ends[:, 1])], 1)
        apart = shuffled[:, 0] != shuffled[:, 1]
        by_chance.append(_grouped(shuffled[apart], weight[apart], seed)[1])
    rows = [(latent, number) for number, group in enumerate(groups) for latent in sorted(group)]
    table = pd.DataFrame(rows, columns=["latent", "community"]).sort_values("latent", ignore_index=True)
    return Communities(table, modularity, float(np.mean(by_chance)))


def _grouped(ends: np.ndarray, weight: np.ndarray, seed: int) -> tuple[list[set[int]], float]:
    """The communities, the largest first, and their modularity."""
    import networkx

    graph = networkx.Graph()
    for (one, other), w in zip(ends.tolist(), weight.tolist(), strict=True):
        graph.add_edge(one, other, weight=max(w, graph.get_edge_data(one, other, {"weight": 0.0})["weight"]))
    groups = networkx.community.louvain_communities(graph, seed=seed)
    groups = sorted(groups, key=lambda group: (-len(group), min(group)))
    return groups, float(networkx.community.modularity(graph, groups))
