"""Find what the strongest firings of a latent have in common where its other firings have not: "c" may be anywhere, and
most strongly in hexadecimal numbers.

In: the rows of these firings, the strongest first, the text around, and masks of labels. Out: of whole words, the token
before or after, and the kind of text, the first that NEARLY_ALL of them share, and fewer than MOST of all firings, as
segments.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from interp.display.byte_parts import has_parts
from interp.display.segments import Segments, Token
from interp.features.feature_store import FeatureStore
from interp.report.contexts import Labels
from interp.report.naming import MOST, N_STRONGEST
from interp.report.whole_words import words_at
from interp.text.vocabulary import join_with_or

NEARLY_ALL = 0.75
"""Least share of the strongest firings for what they share to be told."""
MAX_WORDS = 2
"""Largest number of words that they are in."""


def shared_by_strongest(
    features: FeatureStore,
    strongest: Mapping[int, Sequence[int]],
    around: Mapping[tuple[int, int | None], Mapping[str, int]],
    masks: Labels,
    names: Mapping[str, str],
) -> dict[int, Segments]:
    """Return it for each latent that has it: 'in "Bashir"', 'before "</"' or "in base64".
    strongest: the rows of these firings of each latent. around: (latent, offset) → token → how many firings it is at
    that offset from. names: what labels are called."""
    rows_of = {latent: np.array(rows) for latent, rows in strongest.items() if len(rows) == N_STRONGEST}
    rows = np.unique(np.concatenate(list(rows_of.values()))) if rows_of else np.zeros(0, np.int64)
    words = words_at(features, rows)
    tokens, vocab = features.tokens.reshape(-1).numpy(), features.vocab
    n_active = features.column("n_active")
    share_in = {(j, label): share for j, label, share in _shares_in_labels(features)}
    holds = {label: np.asarray(mask).reshape(-1) for label, mask in masks.items()}
    share_of = {label: float(mask.mean()) for label, mask in holds.items()}
    rare_first = sorted(holds, key=share_of.__getitem__)

    def of_words(latent: int) -> Segments:
        n = Counter(words[row] for row in rows_of[latent].tolist() if row in words)
        named = [word for word, _ in n.most_common(MAX_WORDS)]
        if sum(n[word] for word in named) < NEARLY_ALL * N_STRONGEST:
            return []
        return ["in ", *join_with_or([(Token(word),) for word in named])]

    def of_neighbour(latent: int, offset: int, words: str) -> Segments:
        own = rows_of[latent]
        inside = own[(own % features.n_ctx + offset >= 0) & (own % features.n_ctx + offset < features.n_ctx)]
        (text, n), *_ = Counter(vocab[token] for token in tokens[inside + offset]).most_common(1) or [("", 0)]
        of_all = around.get((latent, offset), {}).get(text, 0) / n_active[latent]
        is_told = n >= NEARLY_ALL * N_STRONGEST and of_all < MOST and not has_parts(text)
        return [words, Token(text)] if is_told else []

    def of_label(latent: int) -> Segments:
        for label in rare_first:
            if holds[label][rows_of[latent]].mean() >= NEARLY_ALL:
                is_common = share_in.get((latent, label), 0) + share_of[label] > MOST
                return [] if is_common else [f"in {names[label]}"]
        return []

    found = {
        latent: of_words(latent)
        or of_neighbour(latent, 1, "before ")
        or of_neighbour(latent, -1, "after ")
        or of_label(latent)
        for latent in rows_of
    }
    return {latent: segments for latent, segments in found.items() if segments}


def _shares_in_labels(features: FeatureStore) -> list[tuple[int, str, float]]:
    return list(features.sql("select latent, label, firing_share from labels").itertuples(index=False, name=None))
