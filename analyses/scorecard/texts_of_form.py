"""Planted text whose meanings concern form; in and out are those of `factors`.

    slots         whatever stands after, or before, the marks of a class; words of classes that marks ask for
    positions     the first, third or late word of a line or sentence, the heading of a document, whatever the words are
    affixes       words with a beginning, an ending or a doubled letter in common
    agreement     subjects, the verbs that agree with them some words on, and what stands between; two registers
    nesting       brackets in brackets, blocks indented by their depth, calls and definitions, as in code

The words belong to topics too, so a latent's meanings can be of different kinds: a topic and a slot, an ending and a
place in the line.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64
from numpy.random import Generator as Random

from analyses.scorecard.factors import (
    N_TOPICS,
    Factor,
    FactorText,
    borrow,
    factor,
    segments,
    shifted,
    spelt,
    text_of,
    topic_words,
    words,
    zipf,
)


def slots(rng: Random, n_seq: int, n_ctx: int, segment: int, similarity: float) -> FactorText:
    """Return documents in which a third of the tokens are marks of twelve classes of one to four; each class asks for
    words of one class after it, and half as often for words of another before it."""
    n_classes, words_per_topic = 6, 8
    class_of_mark = np.repeat(np.arange(12), rng.integers(1, 5, 12))
    vocab = spelt(rng, len(class_of_mark) + N_TOPICS * n_classes * words_per_topic)
    topic = segments(rng, N_TOPICS, n_seq, n_ctx, segment)
    mark = rng.integers(len(class_of_mark), size=topic.shape)
    is_mark = rng.random(topic.shape) < 0.4
    is_mark &= ~shifted(is_mark)
    kind = np.where(is_mark, class_of_mark[mark], -1)
    shifted_kind, before = shifted(kind + 1) - 1, np.roll(kind, -1, axis=1)
    before[:, -1] = -1
    word_class = rng.integers(n_classes, size=topic.shape)
    for neighbour_kind, share in ((before, 0.4), (shifted_kind, 0.8)):
        asked = (neighbour_kind >= 0) & (rng.random(topic.shape) < share)
        word_class = np.where(asked, rng.integers(n_classes, size=12)[neighbour_kind], word_class)
    place = (borrow(rng, topic, N_TOPICS, similarity) * n_classes + word_class) * words_per_topic
    word = len(class_of_mark) + place + zipf(rng, words_per_topic, 0.7, topic.shape)
    tokens = np.where(is_mark, mark, word).astype(np.int32)

    def found() -> Iterator[Factor]:
        yield from topic_words(topic, ~is_mark)
        for c in range(n_classes):
            yield factor(f"words of class {c}", ~is_mark & (word_class == c), f"class {c}")
        for k in range(12):
            yield factor(f"marks of class {k}", kind == k, f"marks {k}")
            yield factor(f"what follows marks of class {k}", shifted_kind == k, f"behind {k}")
            yield factor(f"what precedes marks of class {k}", before == k, f"before {k}")

    tags: list[tuple[str, ...]] = [(f"marks {k}",) for k in class_of_mark]
    tags += [
        (f"topic {t}", f"class {c}") for t in range(N_TOPICS) for c in range(n_classes) for _ in range(words_per_topic)
    ]
    return text_of(tokens, vocab, found(), tags, n_tokens=60, after=range(0))


def positions(rng: Random, n_seq: int, n_ctx: int, segment: int, similarity: float) -> FactorText:
    """Return documents of lines of some nine words in sentences of some six; words know their topic, and no place."""
    words_per_topic, ends = 50, ["\n", ".", "\n\n", "    "]
    vocab = ends + spelt(rng, N_TOPICS * words_per_topic)
    topic = segments(rng, N_TOPICS, n_seq, n_ctx, segment)
    word = (
        len(ends)
        + borrow(rng, topic, N_TOPICS, similarity) * words_per_topic
        + zipf(rng, words_per_topic, 0.8, topic.shape)
    )
    tokens, chance = word.astype(np.int32), rng.random((3, *topic.shape))
    counts = np.zeros((3, *topic.shape), np.int64)  # words since the line, the sentence, the document began
    line, sentence, document = rng.integers(5, 30, size=(3, n_seq))
    for position in range(n_ctx):
        is_document = (document > 20) & (chance[0, :, position] < 0.06)
        is_line = (line > 2) & (chance[1, :, position] < 0.16)
        is_sentence = (sentence > 2) & (chance[2, :, position] < 0.25)
        end_of_unit = np.select([is_document, is_line, is_sentence], [2, 0, 1], -1)
        end_of_unit = np.where((line == 0) & (chance[0, :, position] < 0.3), 3, end_of_unit)  # some lines are indented
        tokens[:, position] = np.where(end_of_unit >= 0, end_of_unit, tokens[:, position])
        line = np.where((end_of_unit == 0) | (end_of_unit == 2), 0, line + (end_of_unit != 3))
        sentence = np.where((end_of_unit == 1) | (end_of_unit == 2), 0, sentence + (end_of_unit < 0))
        document = np.where(end_of_unit == 2, 0, document + 1)
        counts[:, :, position] = line, sentence, document
    line, sentence, document = counts
    is_word = tokens >= len(ends)

    def found() -> Iterator[Factor]:
        yield from topic_words(topic, is_word)
        for name, place in (("line", line), ("sentence", sentence)):
            for n, low, high in (("first", 1, 1), ("third", 3, 3), ("late", 9, 99)):
                inside = is_word & (place >= low) & (place <= high)
                yield factor(f"{n} words of a {name}", inside, f"{n} of {name}")
        yield factor("headings: a document's first words", is_word & (document <= 4), "heading")
        last = np.zeros_like(is_word)
        last[:, :-1] = is_word[:, :-1] & (tokens[:, 1:] == 0)
        yield factor("last words of a line", last, "last of line")
        yield factor("first words after an indent", is_word & shifted(tokens == 3), "indented")
        yield factor("first four tokens of the sequence", np.broadcast_to(np.arange(n_ctx) < 4, tokens.shape), "early")

    tags: list[tuple[str, ...]] = [("ends",) for _ in ends]
    tags += [(f"topic {t}",) for t in range(N_TOPICS) for _ in range(words_per_topic)]
    return text_of(tokens, vocab, found(), tags, n_tokens=40, after=range(0))


def affixes(rng: Random, n_seq: int, n_ctx: int, segment: int, similarity: float) -> FactorText:
    """Return words of a beginning, a stem and an ending, of which only the stem knows its topic; a few double a
    letter."""
    stems_per_topic, n_function = 90, 30
    sides = (("",) * 6 + ("re", "un", "pre", "Mc"), ("",) * 3 + ("ing", "ed", "ly", "tion", "er"))
    stems = words(rng, n_function + N_TOPICS * stems_per_topic, 1, 3)
    first, last = (rng.integers(len(side), size=len(stems)) for side in sides)
    first[:n_function] = last[:n_function] = 0
    doubled = rng.random(len(stems)) < 0.12
    doubled[:n_function] = False
    written = [stem[:2] + stem[0] * 2 + stem[2:] if twice else stem for stem, twice in zip(stems, doubled, strict=True)]
    vocab = [f" {sides[0][a]}{stem}{sides[1][b]}" for a, stem, b in zip(first, written, last, strict=True)]
    topic = segments(rng, N_TOPICS, n_seq, n_ctx, segment)
    word = (
        n_function
        + borrow(rng, topic, N_TOPICS, similarity) * stems_per_topic
        + zipf(rng, stems_per_topic, 0.4, topic.shape)
    )
    is_word = rng.random(topic.shape) < 0.65
    tokens = np.where(is_word, word, zipf(rng, n_function, 1.0, topic.shape)).astype(np.int32)

    def found() -> Iterator[Factor]:
        yield from topic_words(topic, is_word)
        for name, side, affix_of_stem in (("begin with", sides[0], first), ("end in", sides[1], last)):
            for affix in sorted({*side} - {""}):
                yield factor(
                    f"words that {name} {affix!r}", (affix_of_stem == side.index(affix))[tokens], f"{name} {affix}"
                )
        yield factor("words with a doubled letter", doubled[tokens], "doubled")

    tags: list[tuple[str, ...]] = [()] * n_function
    for i, (a, b, twice) in enumerate(zip(first[n_function:], last[n_function:], doubled[n_function:], strict=True)):
        parts = (f"topic {i // stems_per_topic}", f"begin with {sides[0][a]}", f"end in {sides[1][b]}")
        tags.append((*parts, "doubled") if twice else parts)
    return text_of(tokens, vocab, found(), tags, n_tokens=50, after=range(12))


def agreement(rng: Random, n_seq: int, n_ctx: int, segment: int, similarity: float) -> FactorText:
    """Return clauses: a subject of one of five classes, one to six words of the topic, a verb that agrees, up to two
    words, and a mark. Every second article is in a register with its own words for a third of the words between."""
    n_classes, n_words, words_per_topic, n_high = 5, 14, 30, 40
    marks = [",", ".", ";"]
    bounds = np.cumsum([len(marks), n_classes * n_words, n_classes * n_words, N_TOPICS * words_per_topic])
    vocab = marks + spelt(rng, int(bounds[-1] - len(marks)) + n_high)
    topic = segments(rng, N_TOPICS, n_seq, n_ctx, segment)
    high = segments(rng, 2, n_seq, n_ctx, 4 * segment) == 1
    filler = (
        bounds[2]
        + borrow(rng, topic, N_TOPICS, similarity) * words_per_topic
        + zipf(rng, words_per_topic, 0.6, topic.shape)
    )
    is_high = high & (rng.random(topic.shape) < 0.3)
    tokens = np.where(is_high, bounds[3] + zipf(rng, n_high, 0.5, topic.shape), filler).astype(np.int32)
    role, agreed = np.zeros(topic.shape, np.int64), np.zeros(topic.shape, np.int64)  # 0 filler, then as they come
    for seq in range(n_seq):
        position = 0
        while position < n_ctx:
            word_class, between, n_after = rng.integers(n_classes), rng.integers(1, 7), rng.integers(3)
            clause = np.array([1, *[2] * between, 3, *[0] * n_after, 4])[: n_ctx - position]
            agreed[seq, position : position + len(clause)] = word_class
            role[seq, position : position + len(clause)] = clause
            position += len(clause)
    for own, begin in ((1, bounds[0]), (3, bounds[1])):
        tokens = np.where(role == own, begin + agreed * n_words + zipf(rng, n_words, 0.6, topic.shape), tokens)
    tokens = np.where(role == 4, zipf(rng, 3, 1.0, topic.shape), tokens).astype(np.int32)
    is_filler = (role == 0) | (role == 2)

    def found() -> Iterator[Factor]:
        yield from topic_words(topic, is_filler & ~is_high)
        yield factor("words of the high register", is_high & is_filler, "high")
        for c in range(n_classes):
            for name, own in (("subjects", 1), ("between subject and verb", 2), ("verbs", 3)):
                yield factor(f"{name}, class {c}", (agreed == c) & (role == own), f"{name} {c}", f"class {c}")
        yield factor("subjects", role == 1, "subjects")
        yield factor("verbs", role == 3, "verbs")

    tags: list[tuple[str, ...]] = [("marks",) for _ in marks]
    for name in ("subjects", "verbs"):
        tags += [(f"{name} {c}", f"class {c}", name) for c in range(n_classes) for _ in range(n_words)]
    tags += [(f"topic {t}",) for t in range(N_TOPICS) for _ in range(words_per_topic)] + [("high",)] * n_high
    return text_of(tokens, vocab, found(), tags, n_tokens=60, after=range(len(marks)))


BRACKETS, KEYWORDS = ("()", "[]", "{}"), ("def", "if", "return", "import", "class")
CODE_MARKS = [*"()[]{}", "\n", "    ", "=", "+", ","]
NEWLINE = CODE_MARKS.index("\n")


def nesting(rng: Random, n_seq: int, n_ctx: int, segment: int, similarity: float) -> FactorText:
    """Return lines that begin with a keyword or a name, indented as deep as their block; brackets open in brackets."""
    words_per_topic, n_fixed = 40, len(CODE_MARKS) + len(KEYWORDS)
    vocab = CODE_MARKS + list(KEYWORDS) + words(rng, N_TOPICS * words_per_topic, 2, 3)
    topic = segments(rng, N_TOPICS, n_seq, n_ctx, 2 * segment)
    name = (
        n_fixed
        + borrow(rng, topic, N_TOPICS, similarity) * words_per_topic
        + zipf(rng, words_per_topic, 0.8, topic.shape)
    )
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
            after_keyword = shifted(tokens == len(CODE_MARKS) + k)
            yield factor(f"names right after {word!r}", after_keyword & is_name, f"line of {word}")
        following = np.roll(tokens, -1, axis=1)
        yield factor("what is called", is_name & (following == 0), "called")
        yield factor("what is assigned to", is_name & (following == CODE_MARKS.index("=")), "assigned")

    tags: list[tuple[str, ...]] = [("marks",) for _ in range(n_fixed)]
    tags += [(f"topic {t}",) for t in range(N_TOPICS) for _ in range(words_per_topic)]
    return text_of(tokens, vocab, found(), tags, n_tokens=50, after=range(0))


def _draw_code(rng: Random, names: Int64[np.ndarray, " pos"]) -> Int64[np.ndarray, "5 pos"]:
    """Return, for each position, the token, the innermost bracket (−1 for none), the number of open brackets, the
    number of blocks of indentation, and the line's keyword (−1 for none)."""
    out: list[tuple[int, ...]] = []
    stack: list[int] = []
    indent = 0
    keyword = -1
    name_iterator = iter(names.tolist())
    chances = iter(rng.random((2 * len(names), 3)).tolist())

    def put(token: int) -> None:
        out.append((token, stack[-1] if stack else -1, len(stack), indent, keyword))

    while len(out) < len(names):
        what, which, extra = next(chances)
        if not out or out[-1][0] == NEWLINE:
            indent = min(3, max(0, indent + (which > 0.6) - (which < 0.35)))
            for _ in range(indent):
                put(NEWLINE + 1)
            keyword = int(extra * 8) if extra < 5 / 8 else -1
            if keyword >= 0:
                put(len(CODE_MARKS) + keyword)
            put(next(name_iterator))
        elif what < 0.22 and len(stack) < 3:
            put(2 * int(which * 3))
            stack.append(int(which * 3))
        elif what < 0.42 and stack:
            put(2 * stack.pop() + 1)
        elif what < 0.55 and not stack:
            put(NEWLINE)
        else:
            put(NEWLINE + 2 + int(which * 3))
            put(next(name_iterator))
    return np.array(out[: len(names)]).T
