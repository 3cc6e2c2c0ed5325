"""What is true at a planted text's positions; and planted text whose meanings concern content.

In: a random generator, sizes and knobs. Out: `FactorText`, tokens with every factor that holds somewhere in them.

    topics        segments of a few topics among function words; words carry suffixes
    bursts        topics of 5 to 45 words that come and go in bursts, two at a time
    hierarchies   species in genera: both have words, and an article stays with its genus
    translations  verses written twice, in two of four languages; a concept has a word in each

A factor is a set of positions with one description: a topic's content words, whatever follows "of", the second slot of
a record. Its tags say what it is about; a latent of two factors that share a tag has one meaning. With `similarity`,
each topic, kind or language borrows that share of its words from the next one.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int32, Int64
from numpy.random import Generator as Random

MIN_ROWS = 120
"""Factors that hold at fewer positions are left out."""
N_TOPICS = 8
Tokens = Int32[np.ndarray, "seq pos"]
Tags = Sequence[tuple[str, ...]]
"""For each token of the vocabulary, the tags of its factor besides its own."""


@dataclass(frozen=True)
class Factor:
    name: str
    tags: frozenset[str]
    rows: Int64[np.ndarray, " row"]
    """Positions seq * n_ctx + pos where it holds, ascending."""


@dataclass(frozen=True)
class FactorText:
    tokens: Tokens
    vocab: list[str]
    factors: list[Factor]


def topics(rng: Random, n_seq: int, n_ctx: int, segment: int, similarity: float) -> FactorText:
    """Return segments of about `segment` tokens, each about one of 16 topics. Every second word is a function word."""
    n_topics, words_per_topic, n_function, suffixes = 16, 40, 40, ("", "", "ing", "ed", "ly", "s")
    function = words(rng, n_function, 1, 2)
    stems = words(rng, n_topics * words_per_topic, 2, 3)
    ending = rng.integers(len(suffixes), size=len(stems))
    vocab = [" " + w for w in function] + [" " + stem + suffixes[e] for stem, e in zip(stems, ending, strict=True)]
    topic = segments(rng, n_topics, n_seq, n_ctx, segment)
    content = rng.random(topic.shape) < 0.5
    source = borrow(rng, topic, n_topics, similarity)
    word = n_function + source * words_per_topic + zipf(rng, words_per_topic, 0.8, topic.shape)
    tokens = np.where(content, word, zipf(rng, n_function, 1.0, topic.shape)).astype(np.int32)

    def found() -> Iterator[Factor]:
        for t in range(n_topics):
            yield factor(f"content words of topic {t}", (topic == t) & content, f"topic {t}")
            yield factor(f"function words in topic {t}", (topic == t) & ~content, f"topic {t}")
            yield factor(f"topic {t}", topic == t, f"topic {t}")
            for f in range(3):
                yield factor(f"{vocab[f]!r} in topic {t}", (topic == t) & (tokens == f), f"topic {t}", f"token {f}")
        for e, suffix in enumerate(suffixes):
            if suffix:
                has_suffix = content & (ending[np.maximum(tokens - n_function, 0)] == e)
                yield factor(f"words that end in {suffix!r}", has_suffix, f"suffix {suffix}")

    tags: list[tuple[str, ...]] = [()] * n_function
    tags += [(f"topic {i // words_per_topic}", f"suffix {suffixes[e]}") for i, e in enumerate(ending)]
    return text_of(tokens, vocab, found(), tags, n_tokens=60, after=range(12))


def bursts(rng: Random, n_seq: int, n_ctx: int, segment: int, similarity: float) -> FactorText:
    """Return text with two topics at a time, of 24 with 5 to 45 words, each for a burst; half of all words are of no
    topic."""
    n_topics, n_any = 24, 150
    breadth = np.linspace(5, 45, n_topics).astype(int)
    begins = n_any + np.cumsum([0, *breadth[:-1]])
    vocab = spelt(rng, n_any + breadth.sum())
    both = np.stack([segments(rng, n_topics, n_seq, n_ctx, segment) for _ in range(2)])
    topic = np.where(rng.random((n_seq, n_ctx)) < 0.5, *both)
    is_word, source = rng.random(topic.shape) < 0.45, borrow(rng, topic, n_topics, similarity)
    within = (breadth[source] * rng.random(topic.shape) ** 1.5).astype(int)
    tokens = np.where(is_word, begins[source] + within, zipf(rng, n_any, 0.9, topic.shape)).astype(np.int32)
    tags: list[tuple[str, ...]] = [()] * n_any + [(f"topic {t}",) for t in range(n_topics) for _ in range(breadth[t])]
    return text_of(tokens, vocab, topic_words(topic, is_word), tags, n_tokens=70, after=range(10))


def hierarchies(rng: Random, n_seq: int, n_ctx: int, segment: int, similarity: float) -> FactorText:
    """Return articles about one of five genera, whose paragraphs are about one of its four species. A third of the
    words are common to all."""
    n_genera, n_species, words_per_species, n_any = 5, 4, 24, 60
    vocab = spelt(rng, n_any + n_genera * words_per_species + n_genera * n_species * words_per_species)
    genus = segments(rng, n_genera, n_seq, n_ctx, 4 * segment)
    species = genus * n_species + segments(rng, n_species, n_seq, n_ctx, segment)
    level = rng.choice(3, p=(0.35, 0.3, 0.35), size=genus.shape)
    rank = zipf(rng, words_per_species, 0.7, genus.shape)
    genus_words = n_any + genus * words_per_species + rank
    species_words = (
        n_any
        + n_genera * words_per_species
        + borrow(rng, species, n_genera * n_species, similarity) * words_per_species
        + rank
    )
    tokens = np.choose(level, [zipf(rng, n_any, 0.9, genus.shape), genus_words, species_words]).astype(np.int32)

    def found() -> Iterator[Factor]:
        for g in range(n_genera):
            yield factor(f"words of genus {g}", (genus == g) & (level == 1), f"genus {g}")
            yield factor(f"all words of genus {g} and its species", (genus == g) & (level > 0), f"genus {g}")
        for s in range(n_genera * n_species):
            yield factor(f"words of species {s}", (species == s) & (level == 2), f"genus {s // n_species}")

    tags: list[tuple[str, ...]] = [()] * n_any + [
        (f"genus {g}",) for g in range(n_genera) for _ in range(words_per_species)
    ]
    tags += [(f"genus {s // n_species}",) for s in range(n_genera * n_species) for _ in range(words_per_species)]
    return text_of(tokens, vocab, found(), tags, n_tokens=60, after=range(10))


def translations(rng: Random, n_seq: int, n_ctx: int, segment: int, similarity: float) -> FactorText:
    """Return verses of six concepts and a mark. Each is followed by the same verse in another of four languages, in
    another order."""
    words_per_topic, starts, length = 15, (0x3B1, 0x430, 0x61, 0x10D0), 7
    n_concepts = N_TOPICS * words_per_topic
    vocab, n_verses = ["\n", ","], math.ceil(n_ctx / (2 * length))
    for first in starts:
        written: dict[str, None] = {}
        while len(written) < n_concepts:
            written[" " + "".join(chr(first + int(c)) for c in rng.integers(22, size=rng.integers(2, 6)))] = None
        vocab += written
    topic = np.repeat(segments(rng, N_TOPICS, n_seq, n_verses, max(1, segment // (2 * length))), length - 1, axis=1)
    source = borrow(rng, topic, N_TOPICS, similarity)
    concept = source * words_per_topic + zipf(rng, words_per_topic, 0.6, topic.shape)
    concept = concept.reshape(n_seq, n_verses, 1, length - 1)
    other = rng.permuted(concept, axis=3)
    language = (rng.integers(4, size=(n_seq, n_verses, 1)) + [0, 1]) * rng.choice([1, 3], size=(n_seq, n_verses, 1)) % 4
    both = np.concatenate([concept, other], axis=2)
    verse = np.full((n_seq, n_verses, 2, length), -1)
    verse[..., :-1] = both
    concept_of_token, spoken = (
        each.reshape(n_seq, -1)[:, :n_ctx] for each in (verse, np.repeat(language, length, axis=2))
    )
    tokens = np.where(
        concept_of_token >= 0, 2 + spoken * n_concepts + concept_of_token, rng.integers(2, size=concept_of_token.shape)
    ).astype(np.int32)
    topic_of_token = np.where(concept_of_token >= 0, concept_of_token // words_per_topic, -1)
    concepts = [(f"concept {c}", f"topic {c // words_per_topic}") for c in range(n_concepts)]

    def found() -> Iterator[Factor]:
        yield from topic_words(topic_of_token, concept_of_token >= 0)
        for c in range(n_concepts):
            yield factor(f"concept {c} in any language", concept_of_token == c, *concepts[c])
        for s in range(len(starts)):
            yield factor(f"words of language {s}", (concept_of_token >= 0) & (spoken == s), f"language {s}")
            for t in range(N_TOPICS):
                is_here = (topic_of_token == t) & (spoken == s)
                yield factor(f"topic {t} in language {s}", is_here, f"topic {t}", f"language {s}")

    tags: list[tuple[str, ...]] = [("marks",)] * 2
    tags += [(*concept_tags, f"language {s}") for s in range(len(starts)) for concept_tags in concepts]
    return text_of(tokens, vocab, found(), tags, n_tokens=60, after=range(0))


def segments(rng: Random, n: int, n_seq: int, n_ctx: int, segment: int) -> Int64[np.ndarray, "seq pos"]:
    """Draw one of n subjects for each position's segment; a segment ends with chance 1 / segment."""
    subjects = rng.integers(n, size=(n_seq, n_ctx))
    return subjects[np.arange(n_seq)[:, None], np.cumsum(rng.random((n_seq, n_ctx)) < 1 / segment, axis=1) % n_ctx]


def zipf(rng: Random, n: int, exponent: float, size: int | tuple[int, ...]) -> Int64[np.ndarray, "..."]:
    p = np.arange(1, n + 1) ** -exponent
    return rng.choice(n, p=p / p.sum(), size=size)


def words(rng: Random, n: int, shortest: int, longest: int) -> list[str]:
    """Return n different invented words of `shortest` to `longest` syllables."""
    words: dict[str, None] = {}
    while len(words) < n:
        syllables = rng.integers(shortest, longest + 1)
        pairs = zip(rng.integers(18, size=syllables), rng.integers(5, size=syllables), strict=True)
        words["".join("bcdfghjklmnprstvwz"[c] + "aeiou"[v] for c, v in pairs)] = None
    return list(words)


def spelt(rng: Random, n: int) -> list[str]:
    return [" " + word for word in words(rng, n, 1, 3)]


def factor(name: str, mask: Bool[np.ndarray, "seq pos"], *tags: str) -> Factor:
    return Factor(name, frozenset(tags), np.flatnonzero(mask))


def topic_words(topic: Int64[np.ndarray, "seq pos"], chosen: np.ndarray) -> Iterator[Factor]:
    return (factor(f"words of topic {t}", (topic == t) & chosen, f"topic {t}") for t in range(topic.max() + 1))


def text_of(
    tokens: Tokens, vocab: list[str], factors: Iterable[Factor], tags: Tags, *, n_tokens: int, after: range
) -> FactorText:
    """Add to the factors the n commonest tokens and what follows each token of `after`; keep those that hold often
    enough, but at no more than a quarter of the text."""
    counts = np.bincount(tokens.reshape(-1), minlength=len(vocab))
    commonest = np.argsort(-counts, kind="stable")[:n_tokens].tolist()
    every = [*factors]
    every += [factor(f"token {vocab[t]!r}", tokens == t, f"token {t}", *tags[t]) for t in commonest]
    every += [factor(f"after {vocab[t]!r}", shifted(tokens == t), f"after {t}") for t in after]
    return FactorText(tokens, vocab, [f for f in every if MIN_ROWS <= len(f.rows) <= tokens.size // 4])


def borrow(rng: Random, classes: Int64[np.ndarray, "..."], n: int, similarity: float) -> Int64[np.ndarray, "..."]:
    return (classes + (rng.random(classes.shape) < similarity)) % n


def shifted(mask: Bool[np.ndarray, "seq pos"]) -> Bool[np.ndarray, "seq pos"]:
    out = np.zeros_like(mask)
    out[:, 1:] = mask[:, :-1]
    return out
