"""Which latents belong together? Do latents with similar directions fire in similar contexts, and which fire on the
same rows?

`neighbourhoods`: for all pairs of a sample of latents that fire enough,

    cosine_ij     = Ŵ_i · Ŵ_j
    similarity_ij = mean over the offsets o around a firing of ½ (v_io · v'_jo + v'_io · v_jo)

where v_io(t) ∝ p_io(t) / √q(t) has length 1, p_io(t) is the share of token t at offset o of i's firings on the fit half
of the text, and q(t) is its share of all tokens; v' is from the other half. So no two firings of one passage are
compared. The Spearman correlation of the two has a 95 % interval from a bootstrap over latents, because pairs share
latents. The null assigns each latent another latent's contexts.

`communities`: groups, by Louvain's method, of the graph of latents that fire on the same rows, and their modularity

    Q = Σ_c [w_c / w − (k_c / 2w)²]        w_c the Jaccard indices of pairs within c, k_c of all pairs that begin in c

next to that of graphs with the same degrees whose edges end at random.

Source: feature neighbourhoods, Scaling Monosemanticity (Templeton et al. 2024), the measure is our own; Blondel et al.
2008 (arXiv 0803.0476), by networkx; Newman's modularity. Cost: latents² times the tokens kept at each offset; some
seconds for the communities of 4,096 latents. Limits: contexts are the tokens that the scan kept, the most frequent few
at each offset, so what a latent says about a whole document is not seen. A monotone trend may come entirely from the
few nearest pairs while the correlation is small: see the figure. Only those partners of a latent that the scan kept are
known. Frequent latents share rows with many.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from interp.compare.latent_universality import MIN_FIRED
from interp.features.feature_store import FeatureStore
from interp.statistics.estimates import Estimate, ratio

_DRAWS, _SHUFFLES = 200, 10


@dataclass(frozen=True)
class Neighbourhoods:
    pairs: pd.DataFrame
    """A row a pair: latent < other, cosine, similarity."""
    rank_correlation: Estimate
    null: float


def neighbourhoods(
    features: FeatureStore,
    *,
    latents: int = 300,
    min_fired: int = MIN_FIRED,
    seed: int = 0,
    W_dec: Float[Tensor, "d_sae d_in"] | None = None,
) -> Neighbourhoods:
    """Return the neighbourhoods of `latents`, drawn by the seed, by their own directions or by the rows of `W_dec`.
    Raises ValueError for a store without a decoder, and where fewer than three latents fire on `min_fired` rows."""
    W_dec = features.W_dec if W_dec is None else W_dec
    if W_dec is None:
        raise ValueError(f"{features.path} has no decoder (W_dec), and neighbours are told by its directions")
    n_active = features.column("n_active")
    alive = np.flatnonzero(n_active >= min_fired)
    if len(alive) < 3:
        raise ValueError(f"{len(alive)} latents fire on min_fired={min_fired} rows, at least 3 are needed: lower it")
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.permutation(alive)[:latents])
    unit = torch.nn.functional.normalize(W_dec[chosen].double(), dim=1).numpy()
    cosine, similarity = unit @ unit.T, context_similarity(features, chosen)
    order = generator.permutation(len(chosen))
    row, column = np.triu_indices(len(chosen), 1)
    columns = {"latent": chosen[row], "other": chosen[column]}
    pairs = pd.DataFrame({**columns, "cosine": cosine[row, column], "similarity": similarity[row, column]})
    null = _spearman(cosine[row, column], similarity[np.ix_(order, order)][row, column])
    return Neighbourhoods(pairs, _over_latents(cosine, similarity, generator), null)


def context_similarity(features: FeatureStore, latents: Int64[np.ndarray, " unit"]) -> Float64[np.ndarray, "unit unit"]:
    """Return the similarity of the tokens around the firings of each two latents, in opposite halves of the text."""
    counts = features.sql(
        f'select latent, "offset", token, n, n_fit from tokens where latent in ({", ".join(map(str, latents))})'
    )
    tokens = features.tokens.numpy().reshape(-1)
    n_vocab = max(int(tokens.max()), int(counts["token"].max())) + 1
    weight = 1 / np.sqrt(np.maximum(np.bincount(tokens, minlength=n_vocab), 1) / len(tokens))
    similarity, places = np.zeros((len(latents), len(latents))), counts["offset"].unique()
    for place in places:
        counts_at_place = counts[counts["offset"] == place]
        halves = [
            _directions(counts_at_place, n, latents, weight)
            for n in (counts_at_place["n_fit"], counts_at_place["n"] - counts_at_place["n_fit"])
        ]
        across = (halves[0] @ halves[1].T).toarray()
        similarity += (across + across.T) / (2 * len(places))
    return similarity


def _directions(counts: pd.DataFrame, n: pd.Series, latents: np.ndarray, weight: np.ndarray) -> scipy.sparse.csr_matrix:
    """Return the weighted counts of each latent as rows of length 1. A latent without counts has a row of zeros."""
    row, token = np.searchsorted(latents, counts["latent"]), counts["token"].to_numpy()
    entries = n.to_numpy(float) * weight[token]
    matrix = scipy.sparse.csr_matrix((entries, (row, token)), (len(latents), len(weight)))
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(1)).ravel())
    return scipy.sparse.csr_matrix(scipy.sparse.diags(ratio(1.0, lengths, empty=0.0)) @ matrix)


def _over_latents(cosine: np.ndarray, similarity: np.ndarray, generator: np.random.Generator) -> Estimate:
    n = len(cosine)
    row, column = np.triu_indices(n, 1)
    drawn = []
    for _ in range(_DRAWS):
        sample = generator.integers(n, size=n)
        a, b = sample[row], sample[column]
        differ = a != b  # a latent drawn twice is not its own neighbour
        drawn.append(_spearman(cosine[a, b][differ], similarity[a, b][differ]))
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Estimate(_spearman(cosine[row, column], similarity[row, column]), float(low), float(high))


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    import scipy.stats

    ranks = [scipy.stats.rankdata(each) for each in (a, b)]
    return float(ratio(np.cov(*ranks)[0, 1], np.std(ranks[0], ddof=1) * np.std(ranks[1], ddof=1)))


@dataclass(frozen=True)
class Communities:
    table: pd.DataFrame
    """A row a latent with an edge: latent, community; 0 is the largest."""
    modularity: float
    null: float
    """Mean over graphs whose edges end at random."""


def communities(features: FeatureStore, *, min_lift: float = 2.0, seed: int = 0) -> Communities:
    """Find communities in the graph of pairs that fire together at least `min_lift` times as often as their densities
    say.

    Raises ValueError if no pair does."""
    pairs = features.table("coactivations")
    pairs = pairs[pairs["lift"] >= min_lift]
    if pairs.empty:
        raise ValueError(f"no pair of latents in {features.path} fires together min_lift={min_lift} times as often")
    # The scan lists a pair under one of its latents or under both; shuffled, the two would be different edges.
    ends, first = np.unique(np.sort(pairs[["latent", "other"]].to_numpy(int), axis=1), axis=0, return_index=True)
    weight = pairs["jaccard"].to_numpy(float)[first]
    groups, modularity = _grouped(ends, weight, seed)
    generator, chance_modularity = np.random.default_rng(seed), []
    for _ in range(_SHUFFLES):
        shuffled = generator.permutation(ends.reshape(-1)).reshape(-1, 2)
        apart = shuffled[:, 0] != shuffled[:, 1]
        chance_modularity.append(_grouped(shuffled[apart], weight[apart], seed)[1])
    rows = [(latent, number) for number, group in enumerate(groups) for latent in sorted(group)]
    table = pd.DataFrame(rows, columns=["latent", "community"]).sort_values("latent", ignore_index=True)
    return Communities(table, modularity, float(np.mean(chance_modularity)))


def _grouped(ends: np.ndarray, weight: np.ndarray, seed: int) -> tuple[list[set[int]], float]:
    """Return the communities, the largest first, and their modularity."""
    import networkx

    graph = networkx.Graph()
    for (one, other), w in zip(ends.tolist(), weight.tolist(), strict=True):
        graph.add_edge(one, other, weight=max(w, graph.get_edge_data(one, other, {"weight": 0.0})["weight"]))
    groups = networkx.community.louvain_communities(graph, seed=seed)
    groups = sorted(groups, key=lambda group: (-len(group), min(group)))
    return groups, float(networkx.community.modularity(graph, groups))
