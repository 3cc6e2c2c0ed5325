"""A text for predicates, with the classes of its tokens and the topics of its windows.

Classes of tokens come from their spelling (`spellings`), and from the tokens next to and around them (`neighbours`). By
these neighbours, k-means clusters the tokens several times, from 12 coarse classes to 400 fine ones. Topics are
clusters of windows. All of them are learnt once from the text alone, and can then be applied to another text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int, Int64
from threadpoolctl import threadpool_limits
from torch import Tensor

from interp.runtime.processes import ALONE, Processes
from interp.statistics.directions import unit_rows
from interp.statistics.spacing import spread_rows
from interp.storage.files import digest, digest_json
from interp.text.lexer import TokenCharacters
from interp.text.neighbours import Neighbours
from interp.text.related_words import related_words
from interp.text.spellings import SPELLINGS
from interp.text.vocabulary import join_with_or, plain_strings, quote_token
from interp.text.words import Words

ROLE_GRAINS = (12, 40, 120, 400)
ABOUT_GRAINS = (40, 400)
TOPIC_GRAINS = (10, 40, 150)
"""Numbers of clusters: of tokens by their direct neighbours, of tokens by the tokens around them, and of windows."""
N_NAMING_TOKENS = 3
"""Number of tokens that name a class in words."""
TOPIC_WINDOWS = 40_000
"""Largest number of windows to which topics are fitted."""
MAX_REMEMBERED = 2
"""Number of texts that a process remembers: those of a run's ranking and of its nulls."""
_REMEMBERED: dict[tuple[Any, ...], "ReadText"] = {}


@dataclass(frozen=True)
class ReadText:
    """A text, with the classes of its tokens and the topics of its windows."""

    tokens: Int[np.ndarray, "seq pos"]
    strings: list[str] | None
    """The string of each token; None if tokens are only numbered."""
    neighbours: Neighbours
    tables: dict[str, Int64[np.ndarray, " d_vocab_plus_1"]]
    """The class of each token, by the name of the classes; the last entry is −1, for no token."""
    spellings: dict[str, list[Any]]
    """The spellings of the tokens of each class, for the tables whose names are in SPELLINGS."""
    topics: dict[int, Float32[np.ndarray, "topic dim"]]
    """Centres of unit length, for each number of clusters."""
    related: Int64[np.ndarray, "d_vocab_plus_1 near"]
    """The numbers of the words related to each token (`related_words`); −1 for what is no listed word."""
    characters: TokenCharacters
    words: Words
    labels: Mapping[str, Bool[Tensor, "seq pos"]] = field(default_factory=dict)
    """The positions that carry each label."""

    @classmethod
    def read(
        cls,
        tokens: Int[np.ndarray, "seq pos"],
        n_vocab: int,
        vocab: Sequence[str] | None = None,
        team: Processes = ALONE,
    ) -> "ReadText":
        """Learn the classes and topics of a text. The last texts are remembered: several hooks of a run have the same.
        tokens: ids below n_vocab.
        vocab: the string of each id, or None if tokens are only numbered.
        team: processes that divide the learning.
        Raises ValueError for ids out of range.
        """
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= n_vocab:
            raise ValueError(f"token ids run from {low} to {high}, but the vocabulary has {n_vocab} entries")
        strings = None if vocab is None else plain_strings(vocab)
        shape = digest_json([tokens.shape, n_vocab, strings])
        key = shape, digest(np.ascontiguousarray(tokens)), tuple(SPELLINGS.items())
        if key not in _REMEMBERED:
            while len(_REMEMBERED) >= MAX_REMEMBERED:
                del _REMEMBERED[next(iter(_REMEMBERED))]
            with threadpool_limits(1):  # the same sums in the same order on any machine; k-means is slower in threads
                _REMEMBERED[key] = cls._read(np.ascontiguousarray(tokens), n_vocab, strings, team)
        return _REMEMBERED[key]

    @classmethod
    def _read(
        cls, tokens: Int[np.ndarray, "seq pos"], n_vocab: int, strings: list[str] | None, team: Processes
    ) -> "ReadText":
        neighbours = Neighbours.learn(tokens, n_vocab, team)
        windows = neighbours.windows(tokens, spread_rows(tokens.size, TOPIC_WINDOWS))
        clusters: dict[tuple[str, int], Callable[[], np.ndarray]] = {
            **{("topic", n): partial(_centres, windows, n) for n in TOPIC_GRAINS},
            **{("role", n): partial(_classes, neighbours.roles, neighbours.counts, n) for n in ROLE_GRAINS},
            **{("about", n): partial(_classes, neighbours.topics, neighbours.counts, n) for n in ABOUT_GRAINS},
        }
        dearest_first = sorted(clusters, key=lambda cluster: (cluster[0] != "topic", -cluster[1]))
        learnt = dict(zip(dearest_first, team.divide([clusters[each] for each in dearest_first]), strict=True))
        tables = {"token": np.append(np.arange(n_vocab), -1)}
        tables |= {f"{kind}_{n}": learnt[kind, n] for kind, n in clusters if kind != "topic"}
        spellings: dict[str, list[Any]] = {}
        if strings is not None:
            for name, spelling in SPELLINGS.items():
                tables[name], spellings[name] = _number_distinct([spelling(string) for string in strings])
        topics = {n: learnt["topic", n] for n in TOPIC_GRAINS}
        spelt = [""] * n_vocab if strings is None else strings
        return cls(
            tokens,
            strings,
            neighbours,
            tables,
            spellings,
            topics,
            related_words().near_each(spelt),
            TokenCharacters.of(spelt),
            Words.of(spelt),
        )

    def with_text(
        self, tokens: Int[np.ndarray, "seq pos"], labels: Mapping[str, Bool[Tensor, "seq pos"]] | None = None
    ) -> "ReadText":
        """Return another text with the classes and topics that were learnt from this one.

        Raises ValueError for a label of another shape.
        """
        for name, mask in (labels or {}).items():
            if tuple(mask.shape) != tokens.shape:
                raise ValueError(f"label {name!r} is {tuple(mask.shape)}, but the tokens are {tokens.shape}")
        return replace(self, tokens=np.ascontiguousarray(tokens), labels=labels or {})

    def token_name(self, token: int) -> str:
        return f"token {token}" if self.strings is None else quote_token(self.strings[token])

    def class_name(self, table: str, number: int) -> str:
        """Name a class by its commonest tokens."""
        members = np.flatnonzero(self.tables[table][:-1] == number)
        members = members[np.argsort(-self.neighbours.counts[members], kind="stable")]
        names = [self.token_name(token) for token in members[:N_NAMING_TOKENS]]
        return join_with_or(names) if len(members) <= N_NAMING_TOKENS else f"tokens like {', '.join(names)}"


def _number_distinct(values: Sequence[Any]) -> tuple[Int64[np.ndarray, " d_vocab_plus_1"], list[Any]]:
    """Number the distinct values. Returns the number of each entry, with −1 at the end for a missing token, and the
    distinct values."""
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return np.array([numbers[value] for value in values] + [-1]), list(numbers)


def _classes(vectors: np.ndarray, counts: np.ndarray, n: int) -> Int64[np.ndarray, " d_vocab_plus_1"]:
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
