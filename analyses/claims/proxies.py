"""Log-likelihood proxies of a label, found by counting, and how well single latents follow them.

    proxy of token t = log P(t | label) / P(t)

(Towards Monosemanticity writes its proxies by hand, from knowledge of a script or a format.) P is counted on the fit
half of the sequences, with one extra token distributed as the text's tokens are. Measures are taken on the other half.
Below 0 the proxy says how rare a token is in the label, which mostly reflects how few tokens were counted. Latents are
therefore compared with max(proxy, 0), the evidence for the label.

Limits: a proxy of single tokens knows no context. If a label shares its tokens with other text (base64 with names in
code), a latent that separates them by the preceding tokens follows the proxy less well than one that does not.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int

from interp.codes.sparse_codes import SparseCodes

if TYPE_CHECKING:
    import pandas as pd


def log_likelihood_ratio(
    tokens: Int[np.ndarray, " row"], label: Bool[np.ndarray, " row"], d_vocab: int
) -> Float64[np.ndarray, " d_vocab"]:
    """Return each token's proxy, in nats, counted on the rows given. Raises ValueError if none carries the label."""
    if not label.any():
        raise ValueError("no token of the fit half carries the label: take more text")
    share = np.bincount(tokens, minlength=d_vocab) + 1.0
    share /= share.sum()
    inside = np.bincount(tokens[label], minlength=d_vocab) + share
    return np.log(inside / inside.sum() / share)


def correlations(
    codes: SparseCodes, values: Float64[np.ndarray, " row"], rows: Bool[np.ndarray, " row"]
) -> Float64[np.ndarray, " d_sae"]:
    """Return Pearson's r of each latent's activation (0 where silent) with `values`, over `rows`; 0 if either is
    constant."""
    entry_rows = codes.rows.numpy()
    kept = rows[entry_rows]
    latents, z, v = codes.latents.numpy()[kept], codes.values.numpy()[kept].astype(np.float64), values[entry_rows[kept]]
    n = rows.sum()
    sums, squares, products = (np.bincount(latents, weights, codes.d_sae) for weights in (z, z * z, z * v))
    mean, centred = values[rows].mean(), values[rows].std()
    covariance = products / n - sums / n * mean
    spread = np.sqrt(np.maximum(squares / n - (sums / n) ** 2, 0)) * centred
    return np.divide(covariance, spread, out=np.zeros(codes.d_sae), where=spread > 0)


def pearson(z: Float32[np.ndarray, " row"], values: Float64[np.ndarray, " row"]) -> float:
    """Return Pearson's correlation of one latent; 0 if either is constant."""
    return float(np.corrcoef(z, values)[0, 1]) if z.std() > 0 and values.std() > 0 else 0.0


def activation(codes: SparseCodes, latent: int) -> Float32[np.ndarray, " row"]:
    """Return one latent on every row."""
    z = np.zeros(len(codes), np.float32)
    is_latent = codes.latents.numpy() == latent
    z[codes.rows.numpy()[is_latent]] = codes.values.numpy()[is_latent]
    return z


def by_interval(
    z: Float32[np.ndarray, " row"],
    label: Bool[np.ndarray, " row"],
    proxy: Float64[np.ndarray, " row"],
    n_intervals: int,
) -> "pd.DataFrame":
    """Return statistics of equal slices of (0, max], the weakest first, with one row per slice:

    low, high    its edges                           n             firings
    inside       share of its firings in the label (specificity)
    likely       share outside it, on a token that is likelier in it (proxy > 0);   other: the rest
    proxy        mean proxy of its firings, nats
    sensitivity  share of the label's tokens on which z > low
    evidence     the same share, weighted by the evidence for the label, max(proxy, 0)
    """
    import pandas as pd

    highest, rows = float(z.max()), []
    edges = np.linspace(0, highest, n_intervals + 1)
    weight = np.where(label, np.maximum(proxy, 0), 0)
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        in_interval = (z > low) & (z <= high)
        n, above = int(in_interval.sum()), label & (z > low)
        inside, likely = int((in_interval & label).sum()), int((in_interval & ~label & (proxy > 0)).sum())
        shares = [count / n if n else np.nan for count in (inside, likely, n - inside - likely)]
        recall = (above.sum() / max(1, label.sum()), weight[above].sum() / max(1e-12, weight.sum()))
        rows.append((low, high, n, *shares, proxy[in_interval].mean() if n else np.nan, *map(float, recall)))
    columns = ["low", "high", "n", "inside", "likely", "other", "proxy", "sensitivity", "evidence"]
    return pd.DataFrame(rows, columns=columns)
