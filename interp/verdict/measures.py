"""Measures of a latent from the literature, each a function of what a scan counted.

In: a FeatureStore, and for `twin_correlation` a scan of the same tokens with a dictionary from another seed. Out: a
value per latent; NaN if a measure is undefined (a dead latent) or its input is missing (labels, a decoder, a twin).
Sign: + if a large value is said to indicate one meaning, − if a small one is.

    measure                    sign  formula                                        source             failing
    token_entropy              −     H(token where it fires), nats                  folklore           token-ness
    best_token_concentration   +     largest KL / (KL + H) of the offsets −3 … +1   own                few firings
    token_share                +     activation on its commonest word / all of it   folklore           token-ness
    next_auroc                 +     P(effect on what follows > on any token)       Bricken et al. 2023  early layers
    enc_dec_cosine             +     cosine of encoder column and decoder row       folklore           training
    max_cosine                 −     max_{j≠i} Ŵ_i · Ŵ_j of the decoder's rows      folklore           splitting
    twin_correlation           +     max_j Pearson(z_i, z'_j) in the twin           folklore           stability
    label_f1                   +     F1 of the best label, held out                 concept probing    rare labels
    burstiness                 +     firings / sequences fired in                   folklore           topics only
    density                    −     share of tokens it fires on                    control            no meaning

P is the distribution of the tokens at an offset from the firings (0 is the firing token itself), U that of the text's
unigrams. KL(P‖U) over KL(P‖U) + H(P), P's cross-entropy under U, is 0 for firings at random and 1 for a single token. A
word is a token with all its variants in case and space.

To add a measure, write its function here under `@measure`, with its title and meaning. The ranking then has its column,
`ranking_evidence` and the page have its row, and its null is computed (`measure_nulls`). The column "failing" names the
property that a measure mistakes for meaning. Token-ness: a feature of one abstract meaning (any French word) scores as
a union would, and a token detector scores perfectly, whatever its other senses are. Few firings: latents that fire
rarely look concentrated by chance (with K tokens in N firings, H is low by about (K − 1) / 2N). Early layers: their
effects on the next token are uninformative, and a union of two tokens with one successor looks like one meaning.
Splitting: a direction near another's may be a meaning split in two. Stability: a mixed latent that every seed learns
from the data is stable.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor

from interp.codes.code_chunks import CodeChunk, read_chunks
from interp.features.decoder import neighbour_tables
from interp.features.feature_store import FeatureStore
from interp.features.latent_matches import best_correlations
from interp.runtime.registry import register
from interp.statistics.estimates import ratio
from interp.text.vocabulary import plain_strings
from interp.verdict.similarity import STATISTIC_NAMES

LatentValues = Float64[np.ndarray, " latent"]
Null = Literal["shift", "directions", "ranks", "none"]
MIN_SHARE_WITH_TOKEN = 0.5
"""An offset is not considered if fewer than this share of a latent's firings have a token there."""
RULE_SCORES = ("f1", "precision", "recall", "n_examples", "f1_by_interval", "json")
BEFORE_MEASURES = (
    *("latent", "monosemanticity", "ci_low", "ci_high", "verdict", "n_senses"),
    *("explanation", *(f"explanation_{name}" for name in RULE_SCORES)),
    *("senses", "sure", "learnt", "shared", "shared_share", "shared_kind", "shared_json", *STATISTIC_NAMES),
)
AFTER_MEASURES = ("n_active", "n_sequences", "evidence")
"""The columns of a ranking before and after those of the measures (`interp.verdict.ranking`), whose names no measure
can have."""


class Directions(NamedTuple):
    """What a scan knows of the directions of the latents."""

    W_dec: Float[Tensor, "latent d_in"] | None
    """None if the scan was of codes alone."""
    enc_dec_cosine: LatentValues
    """The cosine of each latent's encoder column with its decoder row; NaN without an encoder."""


@dataclass(frozen=True)
class Measure:
    """A measure of latents, with its texts for the page and its null."""

    function: Callable[..., LatentValues]
    """A function of a FeatureStore, or if its null is `directions` of `Directions` alone."""
    title: str
    meaning: str
    """Its meaning for a latent, in a few words, for the page."""
    sign: int
    null: Null
    """How its null is computed. `shift`: by the same function, on codes circularly shifted against the text. It reads
    these codes, or the counts of their scan; examples, pairs of latents and the decoder are refused (`measure_nulls`).
    `directions`: by the same function, with random directions. `ranks`: in closed form, from mean ranks. `none`: it has
    no null, as it does not depend on the text."""
    needs_twin: bool = False
    needs_text: bool = True
    """Whether it is meaningless for rows that are not text, such as images."""

    def __call__(self, features: FeatureStore, twin: FeatureStore | None = None) -> LatentValues:
        if self.null == "directions":
            return self.function(Directions(features.W_dec, features.column("enc_dec_cosine")))
        if not self.needs_twin:
            return self.function(features)
        return np.full(features.d_sae, np.nan) if twin is None else self.function(features, twin)


MEASURES: dict[str, Measure] = {}
"""All measures by name, in the order of their columns."""
STATISTIC_TEXTS = {
    "concentration": (
        "Concentration",
        "how much more of its firings one cluster of like ones holds than the next: 1 is all, 0 is two equal ones",
    ),
    "evenness": ("Evenness", "similarity of any two firings, as a share of that of firings near to each other"),
    "n_senses": ("Senses", "parts into which its firings fall"),
    "nearest_twin": ("Twin seed", "cosine with the nearest latent of a dictionary from another seed"),
}
"""The title and the meaning of the rows of the evidence that are not measures."""


def title_and_meaning(name: str) -> tuple[str, str]:
    """Return the title and the meaning of a row of the evidence. The title of an unknown row is its name."""
    if name in MEASURES:
        return MEASURES[name].title, MEASURES[name].meaning
    return STATISTIC_TEXTS.get(name, (name.replace("_", " ").capitalize(), ""))


def measure(
    title: str, meaning: str, *, sign: int, null: Null, needs_twin: bool = False, needs_text: bool = True
) -> Callable[[Callable[..., LatentValues]], Callable]:
    """Register the function below as the measure of its name. It is a function of a FeatureStore (and a twin), or of
    `Directions` if these are its null. Raises ValueError if another measure or column of a ranking has this name."""

    def decorate(function: Callable[..., LatentValues]) -> Callable[..., LatentValues]:
        entry = Measure(function, title, meaning, sign, null, needs_twin, needs_text)
        reserved = {*BEFORE_MEASURES, *AFTER_MEASURES, *STATISTIC_TEXTS}
        register(MEASURES, function.__name__, entry, "measure", lambda measure: measure.function, reserved)
        return function

    return decorate


def measure_values(
    features: FeatureStore, *, twin: FeatureStore | None = None, computed: Mapping[str, LatentValues] | None = None
) -> dict[str, LatentValues]:
    """Compute every measure, in the order of MEASURES.
    computed: the measures whose values are known already."""
    computed = computed or {}
    return {name: computed[name] if name in computed else measure(features, twin) for name, measure in MEASURES.items()}


@measure("Token entropy (nats)", "how many different tokens it fires on: 0 is a single one", sign=-1, null="shift")
def token_entropy(features: FeatureStore) -> LatentValues:
    return features.column("token_entropy")


@measure(
    "Token concentration",
    "at the offset where it is largest, 3 before to 1 after: 1 is always one token",
    sign=1,
    null="shift",
)
def best_token_concentration(features: FeatureStore) -> LatentValues:
    """Compute the concentration at the offset where it is largest, so that a latent is measured at the token that it
    depends on."""
    table = features.table("offsets").sort_values(["latent", "offset"])
    n, entropy, kl = (table[name].to_numpy(float).reshape(features.d_sae, -1) for name in ("n", "entropy", "kl"))
    is_looked_at = (n > 0) & (n >= MIN_SHARE_WITH_TOKEN * n.max(1, keepdims=True))
    best = np.where(is_looked_at, ratio(kl, kl + entropy, empty=0.0), -np.inf).max(1)
    return np.where(is_looked_at.any(1), best, np.nan)


@measure("Activation on the commonest token", "its share, with variants in case and space", sign=1, null="shift")
def token_share(features: FeatureStore) -> LatentValues:
    """Read the codes."""
    words = WordMass(features.tokens, features.vocab, features.d_sae)
    for chunk in read_chunks(features.codes):
        words.add(chunk)
    return words.largest_share


@measure(
    "Next-token AUROC",
    "do its positive logits predict what follows? ½: no more than any token",
    sign=1,
    null="ranks",
)
def next_auroc(features: FeatureStore) -> LatentValues:
    """Read the AUROC from the scan; it is NaN without logit effects. ½ means that the promoted tokens follow its
    firings no more often than they follow other text."""
    return features.column("next_auroc")


@measure(
    "Encoder–decoder cosine",
    "of the direction it reads and the one it writes",
    sign=1,
    null="directions",
    needs_text=False,
)
def enc_dec_cosine(directions: Directions) -> LatentValues:
    return directions.enc_dec_cosine


@measure("Max cosine", "with the decoder row of any other latent", sign=-1, null="directions", needs_text=False)
def max_cosine(directions: Directions) -> LatentValues:
    W_dec = directions.W_dec
    return np.full(len(directions.enc_dec_cosine), np.nan) if W_dec is None else largest_cosines(W_dec)


@measure(
    "Twin correlation",
    "largest, with the activation of a latent of a dictionary from another seed",
    sign=1,
    null="shift",
    needs_twin=True,
    needs_text=False,
)
def twin_correlation(features: FeatureStore, twin: FeatureStore) -> LatentValues:
    """Read the codes of both."""
    return best_correlations(features, twin)


@measure(
    "Label F1",
    "of the label that it detects best, held out: 1 is the label itself",
    sign=1,
    null="shift",
    needs_text=False,
)
def label_f1(features: FeatureStore) -> LatentValues:
    """Choose label and threshold on the fit half of the sequences, and measure F1 on the other half."""
    return features.column("best_label_f1")


@measure("Burstiness", "firings in a sequence that has any", sign=1, null="none", needs_text=False)
def burstiness(features: FeatureStore) -> LatentValues:
    return features.column("burstiness")


@measure("Density", "share of the tokens that it fires on", sign=-1, null="none", needs_text=False)
def density(features: FeatureStore) -> LatentValues:
    share = features.column("density")
    return np.where(share > 0, share, np.nan)


class WordMass:
    """Sum each latent's activation on each word, chunk by chunk."""

    def __init__(self, tokens: Int[Tensor, "seq pos"], vocab: Sequence[str], d_sae: int):
        self._word = _word_of_each(plain_strings(vocab))
        self._tokens = tokens.numpy().reshape(-1)
        self._mass = scipy.sparse.csr_matrix((d_sae, int(self._word.max()) + 1))

    def add(self, chunk: CodeChunk) -> None:
        entries = chunk.activations.astype(np.float64), (chunk.latents, self._word[self._tokens[chunk.rows]])
        self._mass = self._mass + scipy.sparse.csr_matrix(entries, shape=self._mass.shape)

    @property
    def largest_share(self) -> Float64[np.ndarray, " d_sae"]:
        """The share of a latent's activation that falls on its commonest word; NaN if it never fires."""
        total = np.asarray(self._mass.sum(1)).ravel()
        most = np.asarray(self._mass.max(1).todense()).ravel()
        return ratio(most, total)


def _word_of_each(strings: Sequence[str]) -> Int64[np.ndarray, " d_vocab"]:
    """Number the words, and return that of each token. A string with the sign for bytes that are no character (U+FFFD)
    may stand for many tokens, so each of these is a word of its own."""
    words = [
        token if "\ufffd" in string else string.strip().casefold() or string for token, string in enumerate(strings)
    ]
    numbers = {word: number for number, word in enumerate(dict.fromkeys(words))}
    return np.array([numbers[word] for word in words], np.int64)


def largest_cosines(W: Float[Tensor, "row d"]) -> Float64[np.ndarray, " row"]:
    """Find each row's largest cosine with another; NaN if there is only one."""
    if len(W) == 1:
        return np.array([np.nan])
    return np.concatenate([table["cosine"] for table in neighbour_tables(W, 1)]).astype(np.float64)
