"""Number the predicates that hold at positions of a text, and compute the rarity of each: its surprise, in nats,

    −ln p(a),    p(a) = share of the text's positions at which predicate a holds

counted over the whole text, or over sequences spread evenly over it. Positions on which no latent can fire, such as
padding, are not counted: what holds at all others would seem rare beside them.

In: tokens and their spelling. Out: `Predicates`, which gives what holds at any rows, and each predicate in words.
Memory: the requested rows, and 8 bytes for each value of each kind. Cost: 2 µs per position on one core.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, Int32, Int64
from torch import Tensor

from interp.codes.offsets import offsets_from_lengths
from interp.runtime.processes import SINGLE_PROCESS, Processes
from interp.statistics.evenly_spread import rows_of, spread_sequences
from interp.text.analysed_text import AnalysedText
from interp.text.positions import Positions
from interp.text.predicate_kinds import PREDICATE_KINDS, kinds_in
from interp.text.rules import Atom
from interp.text.vocabulary import Wording

MAX_COUNTED_ROWS = 200_000
"""Number of positions over which shares are counted."""
POSITIONS_AT_ONCE = 1 << 16
"""Positions that are read at once, in whole sequences."""


@dataclass(frozen=True)
class Predicates:
    """The predicates of a text: value v of a kind has the number offsets[kind] + v."""

    text: AnalysedText
    offsets: dict[str, int]
    """The number of each kind's first value, in the order of the kinds."""
    surprise: Float32[np.ndarray, " predicate"]
    """Nats."""
    names: dict[int, Wording] = field(default_factory=dict)
    """A cache of names of values with the same name at all rows: naming a topic is slow in a large vocabulary."""

    @classmethod
    def count(
        cls,
        tokens: Int[np.ndarray, "seq pos"],
        n_vocab: int,
        vocab: Sequence[str] | None = None,
        world: Processes = SINGLE_PROCESS,
        *,
        among: Bool[np.ndarray, " row"] | None = None,
    ) -> "Predicates":
        """Read a text and count where each predicate holds.
        tokens: ids below n_vocab.
        vocab: the string of each id, or None if tokens are only numbered.
        among: the positions over which shares are counted, or None for all.
        world: processes that divide the work."""
        text = AnalysedText.read(tokens, n_vocab, vocab, world)
        n_ctx = tokens.shape[1]
        kinds = kinds_in(text)
        ends = np.cumsum([kind.size(text) for kind in kinds.values()]).tolist()
        offsets = dict(zip(kinds, [0, *ends], strict=False))
        sequences = spread_sequences(np.arange(len(tokens)), n_ctx, MAX_COUNTED_ROWS)
        among = np.ones(tokens.size, bool) if among is None else among
        n_rows = int(among.reshape(-1, n_ctx)[sequences].sum())
        own_sequences = sequences[world.rank :: world.count]
        step = max(1, POSITIONS_AT_ONCE // n_ctx)

        def count_own() -> Int64[np.ndarray, " predicate"]:
            counts = np.zeros(ends[-1], np.int64)
            for start in range(0, len(own_sequences), step):
                rows = rows_of(own_sequences[start : start + step], n_ctx)
                rows = rows[among[rows]]
                if len(rows):
                    holds = _predicates_at(text, offsets, rows)
                    counts += np.bincount(holds[holds >= 0], minlength=len(counts))
            return counts

        counts = world.sum_(torch.from_numpy(world.all_do(count_own))).numpy()
        return cls(text, offsets, -np.log(np.maximum(counts, 0.5) / max(n_rows, 1)).astype(np.float32))

    def with_labels(self, labels: Mapping[str, Bool[Tensor, "seq pos"]]) -> "Predicates":
        """Return these predicates with those of the labels, which are numbered after them. Labels do not compare
        positions, so their surprise is not counted: it is 0."""
        text = self.text.with_text(self.text.tokens, labels)
        surprise = np.append(self.surprise, np.zeros(len(labels), np.float32))
        offsets = self.offsets | {"label": len(self.surprise)}
        return replace(self, text=text, offsets=offsets, surprise=surprise, names={})

    def with_text(
        self, tokens: Int[np.ndarray, "seq pos"], labels: Mapping[str, Bool[Tensor, "seq pos"]] | None = None
    ) -> "Predicates":
        """Return these predicates, with their numbers, for another text.
        labels: the labels of that text."""
        return replace(self, text=self.text.with_text(tokens, labels), names={})

    @property
    def compared(self) -> list[str]:
        """The kinds that compare positions."""
        return [name for name in self.offsets if PREDICATE_KINDS[name].compares]

    @property
    def in_rules(self) -> list[str]:
        """The kinds that rules may use."""
        return [name for name in self.offsets if PREDICATE_KINDS[name].in_rules]

    def at(
        self, rows: Int64[np.ndarray, " row"], kinds: Collection[str] | None = None
    ) -> Int32[np.ndarray, "row slot"]:
        """Return the distinct numbers of the predicates that hold at each row; −1 fills the rest. It is fastest for
        ascending rows. kinds: the kinds to use, or None for all."""
        offsets = {name: offset for name, offset in self.offsets.items() if kinds is None or name in kinds}
        if not offsets or not len(rows):
            return np.full((len(rows), 0), -1, np.int32)
        step = max(1, POSITIONS_AT_ONCE // self.text.tokens.shape[1]) * self.text.tokens.shape[1]
        order = np.argsort(rows, kind="stable")
        ends = np.searchsorted(rows[order] // step, np.unique(rows // step)[1:])
        # A pool of its own: this is also called in a thread that reads ahead, where `map_in_threads` would set torch's
        # threads while another thread does.
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            parts = list(pool.map(partial(_predicates_at, self.text, offsets), np.split(rows[order], ends)))
        out = np.empty((len(rows), parts[0].shape[1]), np.int32)
        out[order] = np.concatenate(parts)
        return out

    def at_each(
        self, units: Sequence[Int64[np.ndarray, " row"]], kinds: Collection[str] | None = None
    ) -> "PredicatesOfUnits":
        """Return the result of `at` for the rows of each unit."""
        return PredicatesOfUnits.of(units, lambda rows: self.at(rows, kinds))

    def kinds_of(self, numbers: Int[np.ndarray, " number"]) -> Int64[np.ndarray, " number"]:
        """Return the kind of each predicate, as its index in `offsets`."""
        return np.searchsorted(list(self.offsets.values()), numbers, side="right") - 1

    def kind_of(self, number: int) -> str:
        return list(self.offsets)[bisect_right(list(self.offsets.values()), number) - 1]

    def atom(self, numbers: Sequence[int]) -> Atom:
        """Return some predicates of one kind as an atom of a rule, without names."""
        kind = self.kind_of(numbers[0])
        return Atom(kind, tuple(number - self.offsets[kind] for number in numbers), ())

    def named(self, atom: Atom, rows: Int64[np.ndarray, " row"]) -> Atom:
        """Return an atom with names. rows: some rows that it describes; each of its predicates holds at one or more."""
        return atom._replace(names=tuple(self._name(atom.kind, value, rows) for value in atom.values))

    def _name(self, kind: str, value: int, rows: Int64[np.ndarray, " row"]) -> Wording:
        number = self.offsets[kind] + value
        if number in self.names:
            return self.names[number]
        name = PREDICATE_KINDS[kind].name(self.text, value, rows)
        name = (name,) if isinstance(name, str) else name
        if not PREDICATE_KINDS[kind].is_named_by_rows:
            self.names[number] = name
        return name


class PredicatesOfUnits(NamedTuple):
    """The predicates at the rows of several units: the i-th row of unit u has holds[entries[offsets[u] + i]]."""

    holds: Int32[np.ndarray, "row slot"]
    entries: Int64[np.ndarray, " row_of_unit"]
    offsets: Int64[np.ndarray, " unit_plus_1"]

    @classmethod
    def of(
        cls,
        units: Sequence[Int64[np.ndarray, " row"]],
        read: Callable[[Int64[np.ndarray, " row"]], Int32[np.ndarray, "row slot"]],
    ) -> "PredicatesOfUnits":
        """Read the rows of each unit. A row that several units share is read once."""
        rows, entries = np.unique(np.concatenate(units), return_inverse=True)
        offsets = offsets_from_lengths([len(rows_of_unit) for rows_of_unit in units])
        return cls(read(rows), entries, offsets)


def _predicates_at(text: AnalysedText, offsets: dict[str, int], rows: np.ndarray) -> Int32[np.ndarray, "row slot"]:
    positions = Positions(text, rows)
    numbers = []
    for name, offset in offsets.items():
        values = PREDICATE_KINDS[name].values(positions)
        numbers.append(np.where(values >= 0, values + offset, -1).astype(np.int32).reshape(len(rows), -1))
    return np.hstack(numbers)
