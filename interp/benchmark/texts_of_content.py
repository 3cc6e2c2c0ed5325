"""Planted text whose meanings are of content: bursts, hierarchies, nesting, translations.

In and out as in `planted_texts`:

    bursts        topics of 5 to 45 words that come and go in bursts, two at a time
    hierarchies   species in genera: both have words, and an article stays with its genus
    nesting       brackets in brackets, blocks indented by their depth, calls and definitions, as in code
    translations  verses written twice, in two of four languages; a concept has a word in each
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64
from numpy.random import Generator as Random

from interp.benchmark.factors import Factor, FactorText, borrow, factor, segments, shifted, text_of, words, zipf
from interp.benchmark.texts_of_form import N_TOPICS, spelt, topic_words


def bursts(rng: Random, n_seq: int, n_ctx: int, segment: int, similarity: float) -> FactorText:
    """Two topics at a time, of 24 with 5 to 45 words, each for a burst; half of all words are of no topic."""
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
    """Articles of one of five genera, their paragraphs of one of its four species; a third of the words are for all."""
    n_genera, n_species, per, n_any = 5, 4, 24, 60
    vocab = spelt(rng, n_any + n_genera * per + n_genera * n_species * per)
    genus = segments(rng, n_genera, n_seq, n_ctx, 4 * segment)
    species = genus * n_species + segments(rng, n_species, n_seq, n_ctx, segment)
    level = rng.choice(3, p=(0.35, 0.3, 0.35), size=genus.shape)
    rank = zipf(rng, per, 0.7, genus.shape)
    of_genus = n_any + genus * per + rank
    of_species = n_any + n_genera * per + borrow(rng, species, n_genera * n_species, similarity) * per + rank
    tokens = np.choose(level, [zipf(rng, n_any, 0.9, genus.shape), of_genus, of_species]).astype(np.int32)

    def found() -> Iterator[Factor]:
        for g in range(n_genera):
            yield factor(f"words of genus {g}", (genus == g) & (level == 1), f"genus {g}")
            yield factor(f"all words of genus {g} and its species", (genus == g) & (level > 0), f"genus {g}")
        for s in range(n_genera * n_species):
            yield factor(f"words of species {s}", (species == s) & (level == 2), f"genus {s // n_species}")

    tags: list[tuple[str, ...]] = [()] * n_any + [(f"genus {g}",) for g in range(n_genera) for _ in range(per)]
    tags += [(f"genus {s // n_species}",) for s in range(n_genera * n_species) for _ in range(per)]
    return text_of(tokens, vocab, found(), tags, n_tokens=60, after=range(10))


BRACKETS, KEYWORDS = ("()", "[]", "{}"), ("def", "if", "return", "import", "class")
CODE_MARKS = [*"()[]{}", "\n", "    ", "=", "+", ","]
NEWLINE = CODE_MARKS.index("\n")


def nesting(rng: Random, n_seq: int, n_ctx: int, segment: int, similarity: float) -> FactorText:
    """Lines that begin with a keyword or a name, indented as deep as their block; brackets open in brackets."""
    per_topic, n_fixed = 40, len(CODE_MARKS) + len(KEYWORDS)
    vocab = CODE_MARKS + list(KEYWORDS) + words(rng, N_TOPICS * per_topic, 2, 3)
    topic = segments(rng, N_TOPICS, n_seq, n_ctx, 2 * segment)
    name = n_fixed + borrow(rng, topic, N_TOPICS, similarity) * per_topic + zipf(rng, per_topic, 0.8, topic.shape)
    out = np.stack([_draw_code(rng, row) for row in name], 1)
    tokens, innermost, depth, indent, keyword = out[0].astype(np.int32), *out[1:]
    is_name = tokens >= n_fixed

    def found() -> Iterator[Factor]:
        yield from topic_words(topic, is_name)
        for b, bracket in enumerate(BRACKETS):
            yield factor(f"directly inside {bracket}", (innermost == b) & (tokens >= NEWLINE), f"inside {bracket}")
        for deep in (2, 3):
            yield factor(f"{deep} brackets deep", (depth == deep) & (tokens >= NEWLINE), f"depth {deep}")
        for blocks in (1, 2, 3):
            yield factor(f"names in blocks {blocks} deep", is_name & (indent == blocks), f"indent {blocks}")
        for k, word in enumerate(KEYWORDS):
            yield factor(f"in lines of {word!r}", (keyword == k) & is_name, f"line of {word}")
            behind = shifted(tokens == len(CODE_MARKS) + k)
            yield factor(f"names right after {word!r}", behind & is_name, f"line of {word}")
        following = np.roll(tokens, -1, axis=1)
        yield factor("what is called", is_name & (following == 0), "called")
        yield factor("what is assigned to", is_name & (following == CODE_MARKS.index("=")), "assigned")

    tags: list[tuple[str, ...]] = [("marks",) for _ in range(n_fixed)]
    tags += [(f"topic {t}",) for t in range(N_TOPICS) for _ in range(per_topic)]
    return text_of(tokens, vocab, found(), tags, n_tokens=50, after=range(0))


def _draw_code(rng: Random, names: Int64[np.ndarray, " pos"]) -> Int64[np.ndarray, "5 pos"]:
    """Of each position: token, innermost bracket (−1: none), how many are open, blocks of indentation, and the line's
    keyword (−1: none)."""
    out: list[tuple[int, ...]] = []
    stack: list[int] = []
    indent, keyword, here, chances = 0, -1, iter(names.tolist()), iter(rng.random((2 * len(names), 3)).tolist())

    def put(token: int) -> None:
        out.append((token, stack[-1] if stack else -1, len(stack), indent, keyword))

    while len(out) < len(names):
        what, which, more = next(chances)
        if not out or out[-1][0] == NEWLINE:
            indent = min(3, max(0, indent + (which > 0.6) - (which < 0.35)))
            for _ in range(indent):
                put(NEWLINE + 1)
            keyword = int(more * 8) if more < 5 / 8 else -1
            if keyword >= 0:
                put(len(CODE_MARKS) + keyword)
            put(next(here))
        elif what < 0.22 and len(stack) < 3:
            put(2 * int(which * 3))
            stack.append(int(which * 3))
        elif what < 0.42 and stack:
            put(2 * stack.pop() + 1)
        elif what < 0.55 and not stack:
            put(NEWLINE)
        else:
            put(NEWLINE + 2 + int(which * 3))
            put(next(here))
    return np.array(out[: len(names)]).T


def translations(rng: Random, n_seq: int, n_ctx: int, segment: int, similarity: float) -> FactorText:
    """Verses of six concepts and a mark, each followed by itself in another of four languages, in another order."""
    per_topic, starts, length = 15, (0x3B1, 0x430, 0x61, 0x10D0), 7
    n_concepts = N_TOPICS * per_topic
    vocab, n_verses = ["\n", ","], -(-n_ctx // (2 * length))
    for first in starts:
        written: dict[str, None] = {}
        while len(written) < n_concepts:
            written[" " + "".join(chr(first + int(c)) for c in rng.integers(22, size=rng.integers(2, 6)))] = None
        vocab += written
    topic = np.repeat(segments(rng, N_TOPICS, n_seq, n_verses, max(1, segment // (2 * length))), length - 1, axis=1)
    source = borrow(rng, topic, N_TOPICS, similarity)
    concept = source * per_topic + zipf(rng, per_topic, 0.6, topic.shape)
    concept = concept.reshape(n_seq, n_verses, 1, length - 1)
    other = rng.permuted(concept, axis=3)
    language = (rng.integers(4, size=(n_seq, n_verses, 1)) + [0, 1]) * rng.choice([1, 3], size=(n_seq, n_verses, 1)) % 4
    both = np.concatenate([concept, other], axis=2)
    verse = np.full((n_seq, n_verses, 2, length), -1)
    verse[..., :-1] = both
    of, spoken = (each.reshape(n_seq, -1)[:, :n_ctx] for each in (verse, np.repeat(language, length, axis=2)))
    tokens = np.where(of >= 0, 2 + spoken * n_concepts + of, rng.integers(2, size=of.shape)).astype(np.int32)
    of_topic = np.where(of >= 0, of // per_topic, -1)
    concepts = [(f"concept {c}", f"topic {c // per_topic}") for c in range(n_concepts)]

    def found() -> Iterator[Factor]:
        yield from topic_words(of_topic, of >= 0)
        for c in range(n_concepts):
            yield factor(f"concept {c} in any language", of == c, *concepts[c])
        for s in range(len(starts)):
            yield factor(f"words of language {s}", (of >= 0) & (spoken == s), f"language {s}")
            for t in range(N_TOPICS):
                here = (of_topic == t) & (spoken == s)
                yield factor(f"topic {t} in language {s}", here, f"topic {t}", f"language {s}")

    tags: list[tuple[str, ...]] = [("marks",)] * 2
    tags += [(*own, f"language {s}") for s in range(len(starts)) for own in concepts]
    return text_of(tokens, vocab, found(), tags, n_tokens=60, after=range(0))
