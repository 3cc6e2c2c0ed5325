"""Which predicates hold at positions of a text, each by its number, and the surprise of each,

    −ln p(a),    p(a) = share of the text's positions at which predicate a holds

counted over all of the text, or over sequences spread evenly over it. In: tokens, and how they are spelt. Out:
`Predicates`, which says of any rows what holds there, and of a predicate how it is said. Memory: what is asked for, and
8 bytes for each value of each kind. Cost: 2 µs a position on one core.
"""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, Int32, Int64
from torch import Tensor

from interp.text.kinds import KINDS, Positions, ReadText

MAX_ROWS = 200_000
"""Positions over which shares are counted."""
SEQUENCES_AT_ONCE = 1 << 16
"""Positions of the sequences that are read at once."""


@dataclass(frozen=True)
class Predicates:
    corpus: ReadText
    first: dict[str, int]
    """Where the numbers of each kind begin, in the order of the kinds."""
    surprise: Float32[np.ndarray, " predicate"]
    """Nats."""
    names: dict[int, str] = field(default_factory=dict)
    """Of values that were asked for, and are called the same at all rows: to name a class takes long in a large
    vocabulary."""

    @classmethod
    def count(
        cls, tokens: Int[np.ndarray, "seq pos"], n_vocab: int, vocab: Sequence[str] | None = None
    ) -> "Predicates":
        """tokens: ids below n_vocab; vocab: the string of each, None where tokens are only numbered."""
        corpus = ReadText.read(tokens, n_vocab, vocab)
        n_ctx = tokens.shape[1]
        ends = np.cumsum([kind.size(corpus) for kind in corpus.kinds.values()]).tolist()
        first = dict(zip(corpus.kinds, [0, *ends], strict=False))
        counts = np.zeros(ends[-1], np.int64)
        n_rows = 0
        chosen = np.arange(0, len(tokens), max(1, -(-tokens.size // MAX_ROWS)))
        for part in np.array_split(chosen, max(1, len(chosen) * n_ctx // SEQUENCES_AT_ONCE)):
            rows = (part[:, None] * n_ctx + np.arange(n_ctx)).reshape(-1)
            n_rows += len(rows)
            holds = _holding(corpus, first, rows)
            counts += np.bincount(holds[holds >= 0], minlength=len(counts))
        return cls(corpus, first, -np.log(np.maximum(counts, 0.5) / max(n_rows, 1)).astype(np.float32))

    def with_labels(self, labels: Mapping[str, Bool[Tensor, "seq pos"]]) -> "Predicates":
        """The predicates and, numbered behind them, each label's."""
        shares = [max(float(mask.float().mean()), 1e-9) for mask in labels.values()]
        corpus = self.corpus.with_text(self.corpus.tokens, labels)
        surprise = np.append(self.surprise, -np.log(shares)).astype(np.float32)
        first = self.first | {"label": len(self.surprise)}
        return replace(self, corpus=corpus, first=first, surprise=surprise, names={})

    def with_text(
        self, tokens: Int[np.ndarray, "seq pos"], labels: Mapping[str, Bool[Tensor, "seq pos"]] | None = None
    ) -> "Predicates":
        """These predicates, with their numbers, at positions of another text; labels: of that text."""
        return replace(self, corpus=self.corpus.with_text(tokens, labels), names={})

    @property
    def compared(self) -> list[str]:
        """The kinds by which positions are compared."""
        return [name for name in self.first if KINDS[name].compares]

    @property
    def in_rules(self) -> list[str]:
        """The kinds of which rules are made."""
        return [name for name in self.first if KINDS[name].in_rules]

    def at(
        self, rows: Int64[np.ndarray, " row"], kinds: Collection[str] | None = None
    ) -> Int32[np.ndarray, "row place"]:
        """The numbers of the predicates that hold at each row, each once; −1 fills. Fastest for ascending rows.
        kinds: those that are asked for, if not all."""
        first = {name: number for name, number in self.first.items() if kinds is None or name in kinds}
        if not first or not len(rows):
            return np.full((len(rows), 0), -1, np.int32)
        step = max(1, SEQUENCES_AT_ONCE // self.corpus.tokens.shape[1]) * self.corpus.tokens.shape[1]
        order = np.argsort(rows, kind="stable")
        ends = np.searchsorted(rows[order] // step, np.unique(rows // step)[1:])

        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            parts = list(pool.map(partial(_holding, self.corpus, first), np.split(rows[order], ends)))
        out = np.empty((len(rows), parts[0].shape[1]), np.int32)
        out[order] = np.concatenate(parts)
        return out

    def kinds_of(self, numbers: Int[np.ndarray, " number"]) -> Int64[np.ndarray, " number"]:
        """The kind of each predicate, counted in the order of `first`."""
        return np.searchsorted(list(self.first.values()), numbers, side="right") - 1

    def kind_of(self, number: int) -> str:
        return list(self.first)[int(self.kinds_of(np.array([number]))[0])]

    def name(self, number: int, row: int) -> str:
        """The name of a predicate's value; row: one where it holds."""
        if number in self.names:
            return self.names[number]
        kind = self.kind_of(number)
        name = KINDS[kind].name(self.corpus, number - self.first[kind], int(row))
        if not KINDS[kind].is_named_by_row:
            self.names[number] = name
        return name

    def words(self, number: int, row: int) -> str:
        """How a predicate is said; row: one where it holds."""
        return KINDS[self.kind_of(number)].words.format(self.name(number, row))


def rows_of_each(
    holds: Int32[np.ndarray, "row place"],
) -> tuple[Int64[np.ndarray, " number"], Int64[np.ndarray, " number_plus_1"], Int64[np.ndarray, " entry"]]:
    """The predicates that hold at some rows, ascending; where the rows of each begin; and the rows of each, ascending.
    Of few rows: it sorts. holds: their numbers, −1 for none."""
    bits = len(holds).bit_length()
    entries = np.sort((holds.astype(np.int64) << bits | np.arange(len(holds))[:, None])[holds >= 0])
    first = np.flatnonzero(np.diff(entries >> bits, prepend=-1))
    return entries[first] >> bits, np.append(first, len(entries)), entries & ((1 << bits) - 1)


def _holding(corpus: ReadText, first: dict[str, int], rows: np.ndarray) -> Int32[np.ndarray, "row place"]:
    at = Positions(corpus, rows)
    numbers = []
    for name, number in first.items():
        values = KINDS[name].values(at)
        numbers.append(np.where(values >= 0, values + number, -1).astype(np.int32).reshape(len(rows), -1))
    return np.hstack(numbers)
