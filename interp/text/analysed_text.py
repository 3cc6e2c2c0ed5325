"""A text for predicates, with the classes of its tokens and the topics of its windows.

Classes of tokens come from their spelling (`spellings`), and from the tokens next to and around them (`neighbours`): by
these, k-means clusters the tokens several times, from 12 coarse classes to 400 fine ones. Topics are
clusters of windows. All of them are learnt once from the text alone, and can then be applied to another text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Int64, UInt8
from threadpoolctl import threadpool_limits
from torch import Tensor

from interp.checks.errors import InterpError
from interp.display.segments import LIKE, Token
from interp.runtime.processes import SINGLE_PROCESS, Processes
from interp.statistics.directions import unit_rows
from interp.statistics.estimates import count_ids
from interp.statistics.evenly_spread import spread_rows
from interp.storage.files import digest, digest_json
from interp.text.lexer import TokenCharacters
from interp.text.neighbours import Neighbours
from interp.text.related_words import related_words
from interp.text.vocabulary import Wording, join_with_commas, join_with_or, plain_strings
from interp.text.words import Words

ROLE_GRAINS = (40, 120)
ABOUT_GRAINS = (40, 400)
TOPIC_GRAINS = (10, 40, 150)
"""Numbers of clusters: of tokens by their direct neighbours, of tokens by the tokens around them, and of windows."""
N_NAMING_TOKENS = 3
"""Number of tokens that name a class in words."""
TOPIC_WINDOWS = 40_000
"""Largest number of windows to which topics are fitted."""
MAX_REMEMBERED = 2
"""Number of texts that a process remembers: those of a run's ranking and of its nulls."""
_REMEMBERED: dict[tuple[str, str], "AnalysedText"] = {}

TokenClasses = Int64[np.ndarray, " d_vocab_plus_1"]
"""The class of each token; the last entry is −1, for no token."""


class SpellingClasses(NamedTuple):
    """Classes of tokens whose strings have the same spelling."""

    classes: TokenClasses
    distinct: list[Any]
    """The spelling of each class."""


@dataclass(frozen=True)
class AnalysedText:
    """A text, with the classes of its tokens and the topics of its windows."""

    tokens: Int[np.ndarray, "seq pos"]
    strings: list[str] | None
    """The string of each token; None if tokens are only numbered."""
    neighbours: Neighbours
    tables: dict[str, TokenClasses]
    """The tokens themselves, and their classes by what is next to them (`role_…`) and around them (`about_…`)."""
    topics: dict[int, Float32[np.ndarray, "topic dim"]]
    """Centres of unit length, for each number of clusters."""
    related: Int64[np.ndarray, "d_vocab_plus_1 near"]
    """The numbers of the words related to each token (`related_words`); −1 for what is no listed word."""
    characters: TokenCharacters
    words: Words
    labels: Mapping[str, Bool[Tensor, "seq pos"]] = field(default_factory=dict)
    """The positions that carry each label."""
    spelling_classes: dict[Callable[[str], Any], SpellingClasses] = field(default_factory=dict)
    """What `spelt` has computed."""

    @classmethod
    def read(
        cls,
        tokens: Int[np.ndarray, "seq pos"],
        n_vocab: int,
        vocab: Sequence[str] | None = None,
        world: Processes = SINGLE_PROCESS,
    ) -> "AnalysedText":
        """Learn the classes and topics of a text. The last texts are remembered: several hooks of a run have the same.
        tokens: ids below n_vocab.
        vocab: the string of each id, or None if tokens are only numbered.
        world: processes that divide the learning.
        Raises ValueError for ids out of range.
        """
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= n_vocab:
            raise InterpError(f"token ids run from {low} to {high}, but the vocabulary has {n_vocab} entries")
        strings = None if vocab is None else plain_strings(vocab)
        shape = digest_json([tokens.shape, n_vocab, strings])
        key = shape, digest(np.ascontiguousarray(tokens))
        if not all(world.gather_results(lambda: key in _REMEMBERED)):
            while len(_REMEMBERED) >= MAX_REMEMBERED:
                del _REMEMBERED[next(iter(_REMEMBERED))]
            with threadpool_limits(1):  # the same sums in the same order on any machine; k-means is slower in threads
                _REMEMBERED[key] = cls._read(np.ascontiguousarray(tokens), n_vocab, strings, world)
        return _REMEMBERED[key]

    @classmethod
    def _read(
        cls, tokens: Int[np.ndarray, "seq pos"], n_vocab: int, strings: list[str] | None, world: Processes
    ) -> "AnalysedText":
        neighbours = Neighbours.learn(tokens, n_vocab, world)
        windows = neighbours.windows(tokens, spread_rows(tokens.size, TOPIC_WINDOWS))
        clusterings = {
            **{f"topic_{n}": partial(_centres, windows, n) for n in TOPIC_GRAINS},
            **{f"role_{n}": partial(_classes, neighbours.roles, neighbours.counts, n) for n in ROLE_GRAINS},
            **{f"about_{n}": partial(_classes, neighbours.topics, neighbours.counts, n) for n in ABOUT_GRAINS},
        }
        tables = dict(zip(clusterings, world.divide(list(clusterings.values())), strict=True))
        topics = {n: tables.pop(f"topic_{n}") for n in TOPIC_GRAINS}
        tables["token"] = np.append(np.arange(n_vocab), -1)
        spelt = [""] * n_vocab if strings is None else strings
        return cls(
            tokens,
            strings,
            neighbours,
            tables,
            topics,
            related_words().near_each(spelt),
            TokenCharacters.of(spelt),
            Words.of(spelt),
        )

    @cached_property
    def label_bits(self) -> UInt8[np.ndarray, "byte seq pos"]:
        """The labels of each position: bit i % 8 of byte i // 8 is that of label i. Each mask is read once, as one may
        be made of the whole text whenever it is read."""
        bits = np.zeros((-(-len(self.labels) // 8), *self.tokens.shape), np.uint8)
        for number, mask in enumerate(self.labels.values()):
            bits[number // 8] |= np.asarray(mask).astype(np.uint8) << number % 8
        return bits

    def with_text(
        self, tokens: Int[np.ndarray, "seq pos"], labels: Mapping[str, Bool[Tensor, "seq pos"]] | None = None
    ) -> "AnalysedText":
        """Return another text with the classes and topics that were learnt from this one.

        Raises ValueError for a label of another shape.
        """
        for name, mask in (labels or {}).items():
            if tuple(mask.shape) != tokens.shape:
                raise InterpError(f"label {name!r} is {tuple(mask.shape)}, but the tokens are {tokens.shape}")
        return replace(self, tokens=np.ascontiguousarray(tokens), labels=labels or {})

    def spelt(self, spelling: Callable[[str], Any]) -> SpellingClasses:
        """Return the classes of tokens for whose strings this function returns the same."""
        assert self.strings is not None
        if spelling not in self.spelling_classes:
            spelt = [spelling(string) for string in self.strings]
            numbers = {value: number for number, value in enumerate(dict.fromkeys(spelt))}
            classes = np.array([numbers[value] for value in spelt] + [-1])
            self.spelling_classes[spelling] = SpellingClasses(classes, list(numbers))
        return self.spelling_classes[spelling]

    def token_name(self, token: int) -> Wording:
        return (f"token {token}" if self.strings is None else Token(self.strings[token]),)

    def class_name(
        self, classes: TokenClasses, number: int, examples: Int64[np.ndarray, " token"] | None = None
    ) -> Wording:
        """Name a class by its tokens if they are few, else by the commonest of them.
        examples: tokens; of a large class, those that are among them name it, if any are."""
        members = np.flatnonzero(classes[:-1] == number)
        counts = self.neighbours.counts
        is_large = len(members) > N_NAMING_TOKENS
        if is_large and examples is not None and np.isin(examples, members).any():
            counts = count_ids(examples[np.isin(examples, members)], len(classes))
            members = np.flatnonzero(counts)
        members = members[np.argsort(-counts[members], kind="stable")]
        names = [self.token_name(token) for token in members[:N_NAMING_TOKENS]]
        return (LIKE, *join_with_commas(names)) if is_large else join_with_or(names)


def _classes(vectors: np.ndarray, counts: np.ndarray, n: int) -> TokenClasses:
    """Cluster the tokens that occur by k-means, weighted by their counts; −1 for others."""
    from sklearn.cluster import MiniBatchKMeans

    occurring = np.flatnonzero(counts)
    out = np.full(len(vectors) + 1, -1)
    fitted = MiniBatchKMeans(min(n, max(1, len(occurring) // 2)), init="random", n_init=2, random_state=0)
    out[occurring] = fitted.fit(vectors[occurring], sample_weight=np.sqrt(counts[occurring])).labels_
    return out


def _centres(windows: np.ndarray, n: int) -> Float32[np.ndarray, "topic dim"]:
    """Cluster windows by k-means. Returns the centres, of unit length."""
    from sklearn.cluster import MiniBatchKMeans

    k_means = MiniBatchKMeans(min(n, len(windows)), init="random", n_init=2, batch_size=4096, random_state=0)
    centres = k_means.fit(windows).cluster_centers_
    return unit_rows(centres).astype(np.float32)
