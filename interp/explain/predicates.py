"""What a rule may say about a token position t: atoms, and what they read of the text.

    TOKEN   x_t ∈ T                      AFTER   x_{t−1} ∈ T           AFTER2  x_{t−2} ∈ T
    NEAR    T ∩ x_{t−8..t−1} ≠ ∅         FAR     T ∩ x_{t−32..t−1} ≠ ∅
    AFFIX   x_t begins or ends with a string
    CLASS   x_t ∈ C                      AFTER_CLASS  x_{t−1} ∈ C      INSIDE  5 of x_{t−8..t−1} ∈ C
    PLACE   where t stands in its line, sentence, brackets, quotes, … (`state`)
    LABEL   t carries a given label

A conjunction joins up to three atoms by "and", a rule up to three conjunctions by "or". Nothing looks across the edge
of a sequence. CLASS to LABEL are bits of a row, computed once for a stretch of text; the others are looked up.
Without the strings of the tokens there are no AFFIX, CLASS, AFTER_CLASS and INSIDE, and of PLACE what needs none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Int64, UInt64
from torch import Tensor

from interp.explain.lookback import inside_bits, tokens_before
from interp.explain.state import PLACES, UNSPELT, Spelling, spelling, states
from interp.explain.vocabulary import Vocabulary, plain_strings

__all__ = ["Atom", "Conjunction", "Rule", "Text", "plain_strings"]

CLASS, AFTER_CLASS, INSIDE, PLACE, LABEL, TOKEN, AFTER, AFTER2, NEAR, FAR, AFFIX = range(11)
N_PLANES = 5
"""Kinds that are bits of a row: those below TOKEN."""
REACH, FAR_REACH = 8, 32
"""How many tokens back INSIDE and NEAR look, and FAR."""
INSIDE_LEAST = 5
MAX_TOKENS = 8
MAX_CONTEXT_TOKENS = 4
"""Tokens in one set; a longer list is no explanation. Of what stands before x_t a shorter one."""
MAX_ATOMS, MAX_PARTS = 3, 3

_GROUPS = sorted({place.group for place in PLACES})
_SLOTS = {TOKEN: 0, AFFIX: 0, CLASS: 0, AFTER: 1, AFTER_CLASS: 1, AFTER2: 2, NEAR: 3, FAR: 3, INSIDE: 4, LABEL: 5}


@dataclass(frozen=True)
class Atom:
    kind: int
    tokens: tuple[int, ...] = ()
    """Of TOKEN, AFTER, AFTER2, NEAR and FAR."""
    which: int = -1
    """The class, place, label or affix."""

    @property
    def length(self) -> int:
        """Items to read."""
        return max(1, len(self.tokens))

    @property
    def cost(self) -> float:
        """Items to read; a little more for what is not spelt out, so that of equals the tokens are said."""
        return float(len(self.tokens)) or (1.05 if self.kind == AFFIX else 1.1)

    @property
    def slot(self) -> int:
        """What it speaks of; a conjunction has one atom for each at most."""
        return _SLOTS[self.kind] if self.kind != PLACE else 6 + _GROUPS.index(PLACES[self.which].group)


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
        vocabulary = Vocabulary.read(vocab) if spelt else Vocabulary.of_names(vocab)
        characters = spelling(vocabulary.strings if spelt else [""] * len(vocabulary))
        return cls(np.ascontiguousarray(tokens), vocabulary, characters, labels)

    @property
    def n_ctx(self) -> int:
        return self.tokens.shape[1]

    @property
    def n_which(self) -> dict[int, int]:
        """Of each kind without tokens, how many atoms there are."""
        n_class = len(self.vocabulary.class_names)
        counts = {CLASS: n_class, AFTER_CLASS: n_class, INSIDE: n_class, PLACE: len(PLACES)}
        return {**counts, LABEL: len(self.labels), AFFIX: len(self.vocabulary.affixes)}

    def planes(self, sequences: Int[np.ndarray, " seq"] | slice) -> UInt64[np.ndarray, "row plane"]:
        """Bits of all rows of the sequences: bit w of plane k says that the atom w of kind k holds."""
        tokens = np.ascontiguousarray(self.tokens[sequences])
        out = np.zeros((tokens.size, N_PLANES), np.uint64)
        classes = self.vocabulary.classes[tokens]
        out[:, CLASS] = classes.reshape(-1)
        classes[:, 1:], classes[:, 0] = classes[:, :-1].copy(), 0
        out[:, AFTER_CLASS] = classes.reshape(-1)
        out[:, INSIDE] = inside_bits(classes, len(self.vocabulary.class_names), REACH, INSIDE_LEAST)
        out[:, PLACE] = states(tokens, self.spelling)
        if not self.vocabulary.spelt:
            out[:, PLACE] &= UNSPELT
        for place, mask in enumerate(self.labels.values()):
            out[:, LABEL] |= mask[sequences].numpy().reshape(-1).astype(np.uint64) << np.uint64(place)
        return out

    def planes_at(self, rows: Int64[np.ndarray, " row"]) -> UInt64[np.ndarray, "row plane"]:
        """The bits of some rows, their sequences read for it."""
        out = np.zeros((len(rows), N_PLANES), np.uint64)
        sequences, place = np.unique(rows // self.n_ctx, return_inverse=True)
        per_block = max(1, (1 << 17) // self.n_ctx)
        for start in range(0, len(sequences), per_block):
            mine = np.flatnonzero((place >= start) & (place < start + per_block))
            block = self.planes(sequences[start : start + per_block])
            out[mine] = block[(place[mine] - start) * self.n_ctx + rows[mine] % self.n_ctx]
        return out

    def before(self, rows: Int64[np.ndarray, " row"], back: int) -> Int64[np.ndarray, " row"]:
        """The token `back` places before each row; −1 beyond the sequence's edge, and for rows of −1."""
        return tokens_before(self.tokens.reshape(-1), self.n_ctx, rows, back)
