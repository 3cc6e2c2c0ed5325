"""Every known measure of a latent side by side, to be held against the truth one by one.

Sign: + where a large value is said to mean one meaning, − where a small one is. U: the text's unigrams.

    column                       sign formula                                    source              cost  failing
    token_entropy                 −   H(token where it fires), nats              folklore            scan  token-ness
    token_entropy_before_k        −   the same k tokens before (_after_k: after) own                 scan  token-ness
    least_token_entropy           −   its least over the offsets                 own                 scan  token-ness
    token_concentration           +   KL / (KL + H), KL of the token against U   own                 scan  token-ness
    token_concentration_before_k  +   the same k tokens before (_after_k: after) own                 scan  token-ness
    best_token_concentration      +   its best over the offsets                  own                 scan  few firings
    token_top_share               +   largest share of one token                 folklore            scan  token-ness
    token_set                     −   smallest number of tokens holding 80 %     own                 scan  grows with n
    next_log_lift                 +   log lift of the promoted tokens behind it  Bricken et al. 2023 scan  early layers
    next_auroc                    +   P(effect on what follows > on any token)   own                 scan  early layers
    enc_dec_cosine                +   cosine of encoder column and decoder row   folklore            scan  training
    dimensionality                +   ‖W_i‖² / Σ_j (Ŵ_i · W_j)²                  Elhage et al. 2022  n² d  superposition
    max_cosine                    −   max_{j≠i} Ŵ_i · Ŵ_j                        folklore            n² d  splitting
    twin_cosine                   +   max_j Ŵ_i · Ŵ'_j in a twin                 arXiv 2505.20254    n² d  stability
    twin_correlation              +   max_j Pearson(z_i, z'_j) in a twin         folklore            pass  stability
    residual_coherence            +   mean cosine of the model's own activations arXiv 2504.02821    pass  any direction
    ngram_coherence               +   mean cosine of the window's hashed n-grams arXiv 2504.02821    pass  broad meaning
    class_selectivity             +   (μ_L − μ_rest) / (μ_L + μ_rest)            Morcos et al. 2018  scan  labels, rare
    purity                        +   share of activation in one label           clustering          scan  labels, broad
    purity_excess                 +   the same above that label's share of text  own                 scan  labels
    label_nmi                     +   I(fires; L) / √(H(fires) H(L))             information theory  scan  labels
    label_f1                      +   F1 of the best label, held out             concept probing     scan  labels
    burstiness                    +   firings / sequences fired in               folklore            scan  topics only
    density                       −   share of tokens it fires on                control             scan  no meaning

Cost: scan, nothing beyond the scan; n² d, the decoder against itself or the twin's; pass, over all codes: L0 · dim a
row for a coherence, L0² a row for a twin. What each measure fails at is said in full on its page: `tokens`, `logits`,
`directions`, `twins`, `embeddings`, `concepts`; what chance gives, in `shifted` and `chance`. Burstiness, of the
features table, has no page: it tells of topics, and of latents that fire in runs. Density is no measure and has no
null, but is what any measure must beat.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from interp.features.feature_store import FeatureStore
from interp.metrics.concepts import label_measures
from interp.metrics.directions import direction_measures
from interp.metrics.embeddings import NgramVectors, SequenceVectors, embedding_coherence
from interp.metrics.next_token import logit_coherence
from interp.metrics.tokens import TokenMeasures, token_measures

if TYPE_CHECKING:
    import pandas as pd

_AROUND = ("before_3", "before_2", "before_1", "after_1")

MEASURES: dict[str, int] = {
    "token_entropy": -1,
    **{f"token_entropy_{place}": -1 for place in _AROUND},
    "least_token_entropy": -1,
    "token_concentration": 1,
    **{f"token_concentration_{place}": 1 for place in _AROUND},
    "best_token_concentration": 1,
    "token_top_share": 1,
    "token_set": -1,
    "next_log_lift": 1,
    "next_auroc": 1,
    "enc_dec_cosine": 1,
    "dimensionality": 1,
    "max_cosine": -1,
    "twin_cosine": 1,
    "twin_correlation": 1,
    "residual_coherence": 1,
    "ngram_coherence": 1,
    "class_selectivity": 1,
    "purity": 1,
    "purity_excess": 1,
    "label_nmi": 1,
    "label_f1": 1,
    "burstiness": 1,
    "density": -1,
}
"""Each measure, and whether a large (+1) or a small value (−1) is said to mean one meaning."""
NOT_IN_THE_SCAN = ("twin_cosine", "twin_correlation", "residual_coherence", "ngram_coherence")


def measures_table(
    features: FeatureStore, *, twin: FeatureStore | None = None, embeddings: SequenceVectors | None = None
) -> "pd.DataFrame":
    """One row a latent, in order: `latent`, and a column of float64 for each of `MEASURES`.

    A measure is NaN for latents that it is not defined for, and for all where its input is missing: a vocabulary, a
    decoder, logit effects, labels, the `twin` (a scan of the same tokens), the `embeddings`
    (`ResidualVectors.from_store`), or an offset that the scan did not count.
    """
    import pandas as pd

    columns = scan_measures(features) | _of_twin(features, twin)
    if features.is_spelt:
        ngrams = NgramVectors.from_tokens(features.tokens, features.vocab)
        columns["ngram_coherence"] = embedding_coherence(features.codes, ngrams)
    if embeddings is not None:
        columns["residual_coherence"] = embedding_coherence(features.codes, embeddings)
    nothing = np.full(features.d_sae, np.nan)
    found = {name: columns.get(name, nothing) for name in MEASURES}
    return pd.DataFrame({"latent": np.arange(features.d_sae), **found})


def scan_measures(features: FeatureStore) -> dict[str, Float64[np.ndarray, " d_sae"]]:
    """The measures that cost no pass over the codes, in the order of `MEASURES`: all but NOT_IN_THE_SCAN."""
    table = features.table("features").sort_values("latent")
    columns = {name: table[name].to_numpy(float) for name in ("enc_dec_cosine", "burstiness")}
    columns["density"] = np.where(table["n_active"] > 0, table["density"], np.nan)
    columns["label_f1"] = table["best_label_f1"].to_numpy(float)
    columns |= token_columns(token_measures(features)) | _of_logits(features)
    columns |= _of_directions(features) | _of_labels(features)
    nothing = np.full(features.d_sae, np.nan)
    return {name: columns.get(name, nothing) for name in MEASURES if name not in NOT_IN_THE_SCAN}


def token_columns(tokens: TokenMeasures) -> dict[str, Float64[np.ndarray, " latent"]]:
    at = tokens.offsets.index(0)
    columns = {
        "token_entropy": tokens.entropy[:, at],
        "least_token_entropy": tokens.least_entropy,
        "token_concentration": tokens.concentration[:, at],
        "best_token_concentration": tokens.best_concentration,
        "token_top_share": tokens.top_share[:, at],
        "token_set": tokens.n_80[:, at],
    }
    for i, offset in enumerate(tokens.offsets):
        place = f"{'before' if offset < 0 else 'after'}_{abs(offset)}"
        columns[f"token_entropy_{place}"] = tokens.entropy[:, i]
        columns[f"token_concentration_{place}"] = tokens.concentration[:, i]
    return columns


def _of_logits(features: FeatureStore) -> dict[str, Float64[np.ndarray, " d_sae"]]:
    logits = logit_coherence(features)
    return {"next_log_lift": logits.log_lift, "next_auroc": logits.auroc}


def _of_directions(features: FeatureStore) -> dict[str, Float64[np.ndarray, " d_sae"]]:
    if features.W_dec is None:
        return {}
    directions = direction_measures(features.W_dec)
    return {"dimensionality": directions.dimensionality, "max_cosine": directions.max_cosine}


def _of_labels(features: FeatureStore) -> dict[str, Float64[np.ndarray, " d_sae"]]:
    labels = label_measures(features)
    return {
        "class_selectivity": labels.selectivity,
        "purity": labels.purity,
        "purity_excess": labels.excess,
        "label_nmi": labels.nmi,
    }


def _of_twin(features: FeatureStore, twin: FeatureStore | None) -> dict[str, Float64[np.ndarray, " d_sae"]]:
    from interp.metrics.twins import twin_agreement

    if twin is None:
        return {}
    agreement = twin_agreement(features, twin)
    return {"twin_cosine": agreement.decoder_cosine, "twin_correlation": agreement.correlation}
