"""Further known scores of a single latent, with which the scorecard compares the verdict; the ranking does not use
them.

In: a FeatureStore; optionally a scan of the same tokens with a twin dictionary, and the studied model's own activations
(`residual_vectors`). Out: a value per latent and score (`rival_measures`), NaN if it is not defined or its input is
missing. With P the tokens at an offset, U the text's unigrams, L a label, a an activation, W the decoder:

    token_entropy_before_k, …      − H(P), nats, k tokens before the firing (after_k: after it); least_…: of all offsets
    token_concentration, …         + KL(P‖U) / (KL(P‖U) + H(P))
    token_top_share, token_set     + max_t P_t;   − smallest number of tokens that hold 80 % of the firings
    next_log_lift                  + log((N h + b) / ((N + 1) b)): h share of activation that a promoted token follows,
                                     b that of the text, N firings                          Bricken et al. 2023
    dimensionality                 + ‖W_i‖² / Σ_j (Ŵ_i · W_j)²                              Elhage et al. 2022
    twin_cosine                    + max_j Ŵ_i · Ŵ'_j in a twin                             arXiv 2505.20254
    residual_, ngram_coherence     + mean cosine of two firings' vectors: the model's own activations, or hashed
                                     character n-grams of the tokens around                 arXiv 2504.02821
    class_selectivity              + (μ_L − μ_rest) / (μ_L + μ_rest), mean activations      Morcos et al. 2018
    purity, purity_excess          + Σ_L a / Σ a;   (purity − |L|/N) / (1 − |L|/N)
    label_nmi                      + I(fires; L) / √(H(fires) H(L))

Coherences are weighted by activation, of vectors centred by their mean, between groups of neighbouring rows
(`verdict.measure_nulls`). Limits: token-ness is not meaning; a dimensionality measures superposition; a twin measures
stability; the residual contains the very direction that a latent reads, so any direction of large variance looks
coherent; labels know only themselves.
"""

import hashlib
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int, Int64
from torch import Tensor

from analyses.scorecard.pair_sums import Embed, PairSummer
from interp.activations import ActivationStore
from interp.codes.code_chunks import read_chunks
from interp.codes.code_store import CodeStore
from interp.codes.sparse_codes import SparseCodes
from interp.features.feature_store import FeatureStore
from interp.features.latent_matches import nearest_rows
from interp.statistics.directions import unit_rows
from interp.statistics.estimates import ratio
from interp.text.neighbours import window_sums
from interp.verdict.measure_nulls import rows_per_group
from interp.verdict.measures import MIN_SHARE_WITH_TOKEN, LatentValues

_AROUND = ("before_3", "before_2", "before_1", "after_1")
_NAMES = [f"token_entropy_{place}" for place in _AROUND] + ["least_token_entropy", "token_concentration"]
_NAMES += [f"token_concentration_{place}" for place in _AROUND] + ["token_top_share", "token_set", "next_log_lift"]
_NAMES += ["dimensionality", "twin_cosine", "residual_coherence", "ngram_coherence"]
_NAMES += ["class_selectivity", "purity", "purity_excess", "label_nmi"]
RIVALS = {name: -1 if "entropy" in name or name == "token_set" else 1 for name in _NAMES}
"""Each score, and whether a large (+1) or a small value (−1) is said to mean one meaning."""
NGRAM_DIM, NGRAMS = 128, (3, 4, 5)
"""Places that n-grams are hashed to; characters of one, the marks at a token's both ends among them."""
PAST, FUTURE = 16, 8
_BLOCK = 256


def residual_vectors(store: ActivationStore, hook: str, *, dim: int = 128, seed: int = 0) -> Embed:
    """Return the model's own activations of a hook as unit vectors around their mean, all in memory (float16); of a
    hook wider than `dim`, a random projection that keeps products unbiased.

    The store's shards are read one by one. Raises ValueError if the store has no tokens.
    """
    if store.tokens is None:
        raise ValueError(f"{store.path} holds no tokens: rows of no text cannot be paired with a scan's")
    d, projection = store.d(hook), torch.eye(store.d(hook))
    if dim < d:
        square = torch.randn(d, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        projection = (torch.linalg.qr(square).Q * np.sqrt(d / dim)).float()
    vectors = np.zeros((store.tokens.numel(), projection.shape[1]), np.float16)
    mean = store.statistics(hook).mean.float()
    for i in range(store.n_shards):
        shard = store.shard(i, hook)
        unit = torch.nn.functional.normalize(shard.acts.float() - mean, dim=1)
        vectors[shard.row_ids.numpy()] = (unit @ projection).numpy()
    return lambda rows: vectors[rows].astype(np.float32)


def rival_measures(
    features: FeatureStore, *, twin: FeatureStore | None = None, embeddings: Embed | None = None
) -> dict[str, LatentValues]:
    """Return every score of `RIVALS`, in their order."""
    values = {**_of_tokens(features), **_of_labels(features), "next_log_lift": next_log_lift(features)}
    if features.W_dec is not None:
        values["dimensionality"] = dimensionality(features.W_dec)
        if twin is not None and twin.W_dec is not None:
            values["twin_cosine"] = nearest_rows(features.W_dec, twin.W_dec)[1]
    if embeddings is not None:
        values["residual_coherence"] = embedding_coherence(features.codes, features.n_ctx, embeddings)
    if features.has_vocab:
        vectors = ngram_vectors(features.tokens, features.vocab)
        values["ngram_coherence"] = embedding_coherence(features.codes, features.n_ctx, vectors)
    return {name: values.get(name, np.full(features.d_sae, np.nan)) for name in RIVALS}


def next_log_lift(features: FeatureStore) -> LatentValues:
    """Return how much likelier than in any text a token follows that the latent promotes; NaN without logit effects."""
    table, lift = features.table("features").sort_values("latent"), np.full(features.d_sae, np.nan)
    if "top_logit_next_share" not in table:
        return lift
    scored = np.flatnonzero(table["top_logit_next_share"].notna().to_numpy() & table["next_auroc"].notna().to_numpy())
    if len(scored):
        promoted = np.stack(table["top_logit_tokens"].iloc[scored].to_list())
        hits = np.stack(table["top_logit_next_share"].iloc[scored].to_list()).sum(1)
        counts = np.bincount(features.tokens.flatten().numpy(), minlength=promoted.max() + 1)
        base = (counts[promoted].sum(1) + 0.5) / (counts.sum() + 1)
        n = features.table("offsets").query("offset == 1").sort_values("latent")["n"].to_numpy()[scored]
        lift[scored] = np.log((n * hits + base) / ((n + 1) * base))
    return lift


@torch.no_grad()
def dimensionality(W: Float[Tensor, "row d"]) -> Float64[np.ndarray, " row"]:
    """Return how much of its own direction each row has: 1, all of it; ½, a pair shares one. NaN for rows of length
    0."""
    W = W.detach().float().cpu()
    square = W.norm(dim=1).double().square()
    shared = torch.cat(
        [(rows @ W.T).double().square().sum(1) for rows in torch.nn.functional.normalize(W, dim=1).split(_BLOCK)]
    )
    return torch.where(square > 0, square / shared, torch.nan).numpy()


def embedding_coherence(codes: SparseCodes | CodeStore, n_ctx: int, vectors: Embed) -> LatentValues:
    """Return the activation-weighted mean product of the vectors of two firings in different groups of neighbouring
    rows. It is NaN if all of a latent's activation is in one group."""
    group_rows = rows_per_group(len(codes) // n_ctx, n_ctx)
    summer = PairSummer(codes.d_sae, vectors, group_rows)
    for chunk in read_chunks(codes, group_rows):
        try:
            summer.add(chunk)
        except IndexError as error:
            what = f"the vectors end before row {chunk.stop - 1}: make them from the scanned tokens"
            raise ValueError(what) from error
    return summer.result().coherences[:, 0]


def ngram_vectors(tokens: Int[Tensor, "seq pos"], vocab: list[str]) -> Embed:
    """Return windows of tokens, the firing one included, as unit vectors around the text's mean.

    A token's vector is ±1 at a hashed place for each of its n-grams, at unit length, times 1 / (1 + p / 10⁻³) for a
    token that is the share p of the text (Arora et al. 2017).
    """
    text = np.ascontiguousarray(tokens.numpy())
    share = np.bincount(text.reshape(-1), minlength=len(vocab)) / text.size
    vector_of_token = (_hashed(vocab) / (1 + share / 1e-3)[:, None]).astype(np.float32)

    position = np.arange(text.shape[1])
    seen_from = np.minimum(position + PAST, position[-1]) - np.maximum(position - FUTURE, 0) + 1
    mean = np.bincount(text.reshape(-1), np.tile(seen_from, len(text)), len(vocab)) @ vector_of_token / text.size

    def centred(rows: Int64[np.ndarray, " row"]) -> Float32[np.ndarray, "row dim"]:
        own_vectors = vector_of_token[text.reshape(-1)[rows]]
        vectors = window_sums(text.reshape(-1), text.shape[1], rows, vector_of_token, PAST, FUTURE) + own_vectors - mean
        return unit_rows(vectors).astype(np.float32)

    return centred


def _hashed(vocab: list[str]) -> Float64[np.ndarray, "d_vocab dim"]:
    vectors = np.zeros((len(vocab), NGRAM_DIM))
    for i, token in enumerate(vocab):
        marked = f"\x02{token}\x03"
        for size in {*NGRAMS, len(marked)}:
            for start in range(len(marked) - size + 1):
                ngram = marked[start : start + size].encode("utf-8", "surrogatepass")
                bits = int.from_bytes(hashlib.blake2b(ngram, digest_size=8).digest(), "little")
                vectors[i, (bits >> 1) % NGRAM_DIM] += 1 - 2 * (bits & 1)
    return unit_rows(vectors)


class TokensAround(NamedTuple):
    """How concentrated the tokens around the firings are. NaN if no firing has a token at the offset. Entropies are in
    nats."""

    offsets: tuple[int, ...]
    entropy: Float64[np.ndarray, "d_sae offset"]
    concentration: Float64[np.ndarray, "d_sae offset"]
    n_80: Float64[np.ndarray, "d_sae offset"]
    """The smallest number of tokens that make up 80 % of the firings."""
    top_share: Float64[np.ndarray, "d_sae offset"]
    """Share of firings on the most frequent token."""
    is_looked_at: Bool[np.ndarray, "d_sae offset"]


def tokens_around(features: FeatureStore) -> TokensAround:
    """Read how concentrated the tokens around the firings are, at each offset that was counted, ascending."""
    table = features.table("offsets").sort_values(["latent", "offset"])
    offsets = tuple(int(offset) for offset in np.unique(table["offset"]))
    names = ("n", "entropy", "kl", "n_80", "top_share")
    n, entropy, kl, n_80, top_share = (table[name].to_numpy(float).reshape(-1, len(offsets)) for name in names)
    total = entropy + kl
    return TokensAround(
        offsets=offsets,
        entropy=entropy,
        concentration=np.divide(kl, total, out=np.where(np.isnan(total), np.nan, 0.0), where=total > 0),
        n_80=np.where(n > 0, n_80, np.nan),
        top_share=top_share,
        is_looked_at=(n > 0) & (n >= MIN_SHARE_WITH_TOKEN * n.max(1, keepdims=True)),
    )


def _of_tokens(features: FeatureStore) -> dict[str, LatentValues]:
    around = tokens_around(features)
    at, looked_at = around.offsets.index(0), around.is_looked_at
    least = np.where(looked_at, around.entropy, np.inf).min(1)
    columns = {
        "least_token_entropy": np.where(looked_at.any(1), least, np.nan),
        "token_concentration": around.concentration[:, at],
        "token_top_share": around.top_share[:, at],
        "token_set": around.n_80[:, at],
    }
    for i, offset in enumerate(around.offsets):
        place = f"{'before' if offset < 0 else 'after'}_{abs(offset)}"
        columns[f"token_entropy_{place}"] = around.entropy[:, i]
        columns[f"token_concentration_{place}"] = around.concentration[:, i]
    return columns


def _of_labels(features: FeatureStore) -> dict[str, LatentValues]:
    """Return the largest of each over a latent's labels; NaN if a label covers no token or all."""
    table, n_rows = features.table("labels"), features.meta["n_tokens"]
    n_label, n_both, mass = (table[name].to_numpy(float) for name in ("n_label", "n_both", "mass"))
    counts = features.table("features").set_index("latent").loc[table["latent"], ["n_active", "mean"]]
    n_active, base = counts["n_active"].to_numpy(float), n_label / max(n_rows, 1)
    total = n_active * counts["mean"].to_numpy(float)
    inside, outside = ratio(mass, n_label), ratio(np.maximum(total - mass, 0), n_rows - n_label)
    purity = np.minimum(ratio(mass, total), 1)
    cells = np.stack([n_both, n_active - n_both, n_label - n_both, n_rows - n_active - n_label + n_both])
    fires, label = (_entropy(np.stack([size, n_rows - size]), n_rows) for size in (n_active, n_label))
    shared = ratio(fires + label - _entropy(cells, n_rows), np.sqrt(fires * label))
    measures = {
        "class_selectivity": ratio(inside - outside, inside + outside),
        "purity": purity,
        "purity_excess": ratio(purity - base, 1 - base),
        "label_nmi": np.clip(shared, 0, 1),
    }
    defined = (n_label > 0) & (n_label < n_rows)
    rows = table[["latent"]].assign(**{name: np.where(defined, values, np.nan) for name, values in measures.items()})
    best = rows.groupby("latent").max().reindex(range(features.d_sae))
    return {name: best[name].to_numpy(float) for name in measures}


def _entropy(counts: np.ndarray, n: int) -> Float64[np.ndarray, " pair"]:
    share = counts / max(n, 1)
    return -(share * np.log(share, out=np.zeros(share.shape), where=share > 0)).sum(0)
