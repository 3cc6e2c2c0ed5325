"""What a rule may say about a token position t: its kinds of predicates, each one entry of `KINDS`, and the text.

    token     x_t ∈ T                      after   x_{t−1} ∈ T         after2  x_{t−2} ∈ T
    near      T ∩ x_{t−8..t−1} ≠ ∅         far     T ∩ x_{t−32..t−1} ≠ ∅
    affix     x_t begins or ends with a string
    class     x_t ∈ C                      after_class  x_{t−1} ∈ C    inside  5 of x_{t−8..t−1} ∈ C
    place     where t stands in its line, sentence, brackets, quotes, … (`places`)
    label     t carries a given label

An atom is one predicate with its tokens T or its class, place, label or affix. A conjunction joins up to three atoms by
"and", a rule up to three conjunctions by "or". Nothing looks across the edge of a sequence. Without the strings of the
tokens there are no affixes and classes, and of the places those that are told without them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Int, Int64, UInt64
from numba import njit
from torch import Tensor

from interp.text.places import PLACES, Spelling, spelling, states
from interp.text.vocabulary import Vocabulary, quoted

MAX_TOKENS, MAX_CONTEXT_TOKENS = 8, 4
"""Tokens in one set, of x_t and of what stands before it; a longer list is no explanation."""
MAX_ATOMS, MAX_PARTS = 3, 3

Sequences = Int[np.ndarray, " seq"] | slice
_GROUPS = sorted({place.group for place in PLACES})


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of predicates. With `reach` = (low, high) they hold where one of some tokens is among x_{t−high..t−low};
    with `bits` each holds where its bit of a row is set."""

    words: str
    """How it is said; {} stands for its tokens or its name."""
    slot: int
    """What it speaks of; a conjunction has one atom for each at most, said in this order. 0 to 9: x_{t−slot}."""
    cost: float = 1.1
    """Items to read where no tokens are spelt out; a little above 1, so that of equals the tokens are said."""
    reach: tuple[int, int] | None = None
    bits: "Callable[[Text, Sequences], UInt64[np.ndarray, 'seq pos']] | None" = None
    names: "Callable[[Text], Sequence[str]]" = lambda text: ()
    """Of each predicate of the kind, unless the search chooses their tokens."""
    sets: "Callable[[Text], scipy.sparse.csr_matrix] | None" = None
    """Of a kind with reach and names: [name, d_vocab], 1 where the token is in the set."""
    slots: Sequence[int] = ()
    """Of each predicate, to be added to `slot`."""


def _class_names(text: "Text") -> list[str]:
    return [called for called, _ in text.vocabulary.class_names]


def _affix_names(text: "Text") -> list[str]:
    return [f"{'end in' if last else 'begin with'} {quoted(own)}" for own, last in text.vocabulary.affixes]


KINDS = {
    "class": Kind(words="{}", slot=0, bits=lambda text, which: text.classes(which), names=_class_names),
    "after_class": Kind(
        words="after {}", slot=1, bits=lambda text, which: _shifted(text.classes(which), 1), names=_class_names
    ),
    "inside": Kind(
        words="inside {}",
        slot=50,
        bits=lambda text, which: _five_of_eight(text.classes(which)),
        names=lambda text: [inside for _, inside in text.vocabulary.class_names],
    ),
    "place": Kind(
        words="{}",
        slot=20,
        bits=lambda text, which: states(text.tokens[which], text.spelling),
        names=lambda text: [place.words for place in PLACES],
        slots=[_GROUPS.index(place.group) for place in PLACES],
    ),
    "label": Kind(
        words="labelled {}", slot=51, bits=lambda text, which: text.labelled(which), names=lambda text: [*text.labels]
    ),
    "token": Kind(words="{}", slot=0, reach=(0, 0)),
    "after": Kind(words="after {}", slot=1, reach=(1, 1)),
    "after2": Kind(words="two after {}", slot=2, reach=(2, 2)),
    "affix": Kind(
        words="tokens that {}",
        slot=0,
        cost=1.05,
        reach=(0, 0),
        names=_affix_names,
        sets=lambda text: text.vocabulary.affix_tokens,
    ),
    "near": Kind(words="within 8 tokens after {}", slot=10, reach=(1, 8)),
    "far": Kind(words="within 32 tokens after {}", slot=10, reach=(1, 32)),
}
PLANES = [name for name, kind in KINDS.items() if kind.bits]
GROWN = [name for name, kind in KINDS.items() if kind.reach and not kind.sets and kind.reach[0] == kind.reach[1]]
"""The search chooses the tokens, at one place: the slot, 0, 1, … in this order."""


@dataclass(frozen=True)
class Atom:
    kind: str
    tokens: tuple[int, ...] = ()
    """Where the search chooses them."""
    which: int = -1
    """Else the class, place, label or affix."""

    @property
    def cost(self) -> float:
        """Items to read."""
        return float(len(self.tokens)) or KINDS[self.kind].cost

    @property
    def slot(self) -> int:
        kind = KINDS[self.kind]
        return kind.slot + (kind.slots[self.which] if kind.slots else 0)


Conjunction = tuple[Atom, ...]
Rule = tuple[Conjunction, ...]


@dataclass(frozen=True)
class Text:
    """Tokens, what is known of their vocabulary, and the labels; row = seq * n_ctx + pos."""

    tokens: Int[np.ndarray, "seq pos"]
    vocabulary: Vocabulary
    spelling: Spelling
    labels: Mapping[str, Bool[Tensor, "seq pos"]]

    @classmethod
    def read(
        cls,
        tokens: Int[np.ndarray, "seq pos"],
        vocab: Sequence[str],
        labels: Mapping[str, Bool[Tensor, "seq pos"]] | None = None,
        *,
        spelt: bool = True,
    ) -> "Text":
        """spelt: whether `vocab` is how tokens are spelt, or only names them.

        Raises ValueError for more than 64 labels or one of another shape.
        """
        labels = labels or {}
        if len(labels) > 64:
            raise ValueError(f"{len(labels)} labels given: explanations take at most 64")
        for name, mask in labels.items():
            if tuple(mask.shape) != tokens.shape:
                raise ValueError(f"label {name!r} is {tuple(mask.shape)}, but the tokens are {tokens.shape}")
        vocabulary = Vocabulary.read(vocab, spelt=spelt)
        characters = spelling(vocabulary.strings if spelt else [""] * len(vocabulary))
        return cls(np.ascontiguousarray(tokens), vocabulary, characters, labels)

    @property
    def n_ctx(self) -> int:
        return self.tokens.shape[1]

    @property
    def is_spelt(self) -> bool:
        return len(self.spelling.kinds) > 0

    @cached_property
    def names(self) -> dict[str, Sequence[str]]:
        """Of each kind, those of its predicates."""
        return {name: kind.names(self) for name, kind in KINDS.items()}

    def planes(self, sequences: Sequences) -> UInt64[np.ndarray, "row plane"]:
        """Bits of all rows of the sequences: bit w of plane k says that predicate w of PLANES[k] holds."""
        found = (KINDS[name].bits for name in PLANES)
        return np.stack([bits(self, sequences).reshape(-1) for bits in found if bits], 1)

    def planes_at(self, rows: Int64[np.ndarray, " row"]) -> UInt64[np.ndarray, "row plane"]:
        """The bits of some rows, their sequences read for it."""
        out = np.zeros((len(rows), len(PLANES)), np.uint64)
        sequences, place = np.unique(rows // self.n_ctx, return_inverse=True)
        per_block = max(1, (1 << 17) // self.n_ctx)
        for start in range(0, len(sequences), per_block):
            mine = np.flatnonzero((place >= start) & (place < start + per_block))
            block = self.planes(sequences[start : start + per_block])
            out[mine] = block[(place[mine] - start) * self.n_ctx + rows[mine] % self.n_ctx]
        return out

    def before(self, rows: Int64[np.ndarray, " row"], back: int) -> Int64[np.ndarray, " row"]:
        """The token `back` places before each row; −1 beyond the sequence's edge, and for rows of −1."""
        return _tokens_before(self.tokens.reshape(-1), self.n_ctx, rows, back)

    def tokens_of(self, atom: Atom) -> Sequence[int]:
        """The tokens of an atom with reach."""
        sets = KINDS[atom.kind].sets
        if sets is None:
            return atom.tokens
        ends = sets(self).indptr[atom.which : atom.which + 2]
        return sets(self).indices[slice(*ends)]

    def classes(self, sequences: Sequences) -> UInt64[np.ndarray, "seq pos"]:
        return self.vocabulary.classes[self.tokens[sequences]]

    def labelled(self, sequences: Sequences) -> UInt64[np.ndarray, "seq pos"]:
        bits = np.zeros_like(self.tokens[sequences], np.uint64)
        for place, mask in enumerate(self.labels.values()):
            bits |= mask[sequences].numpy().astype(np.uint64) << np.uint64(place)
        return bits


@njit(cache=True)  # so short that to release the interpreter's lock costs more than it gives
def _tokens_before(tokens, n_ctx, rows, back):
    out = np.full(len(rows), -1, np.int64)
    for i in range(len(rows)):
        if rows[i] >= 0 and rows[i] % n_ctx >= back:
            out[i] = tokens[rows[i] - back]
    return out


def _shifted(bits: UInt64[np.ndarray, "seq pos"], back: int) -> UInt64[np.ndarray, "seq pos"]:
    """Of the token `back` places before each; 0 beyond the sequence's edge."""
    out = np.zeros_like(bits)
    out[:, back:] = bits[:, : max(0, bits.shape[1] - back)]
    return out


def _five_of_eight(bits: UInt64[np.ndarray, "seq pos"]) -> UInt64[np.ndarray, "seq pos"]:
    """Bit c: five or more of the eight tokens before have it. All 64 bits are counted at once, in binary."""
    ones, twos, fours, eights = np.zeros((4, *bits.shape), np.uint64)
    for back in range(1, 9):
        carry = _shifted(bits, back)
        ones, carry = ones ^ carry, ones & carry
        twos, carry = twos ^ carry, twos & carry
        fours, eights = fours ^ carry, eights | (fours & carry)
    return eights | (fours & (ones | twos))
