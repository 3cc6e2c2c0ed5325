"""Which common English words are related in meaning: "follow" and "after", "per" and "each", "war" and "battle".

`related_words.parquet` has 8,192 words in lower case and, for each, the N_NEAR words that are nearest to it, itself
first. A language model told which: they have the largest cosine between the rows of SmolLM2-135M's unembedding, centred
and whitened over these words (`python -m analyses.scorecard.related_words` makes the file again from the model, which
is under the licence Apache-2.0). Two positions share the predicate "words related to w" if w is near to the words of
both, so that two words need not be near to each other.

A text of a million tokens is too short to show such relations by the neighbours of its tokens (`neighbours`).

A token that is only a piece of a longer word is related to nothing: " con" is listed, but "con|cept" is another word.

Limits: English only, common words only, one meaning for all occurrences of a word. The list comes from SmolLM2, and the
latents that readers judged show a gain for SmolLM2's own latents: for those of the demo's small models there is none.
"""

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

N_NEAR = 24
"""Related words of a word, itself included. Of 12, 24 and 48, chosen by how well readers' judgement is predicted."""


class RelatedWords(NamedTuple):
    """Words, each with the words that are related to it."""

    words: list[str]
    near: Int64[np.ndarray, "word near"]
    """The numbers of the related words."""

    def near_each(self, strings: Sequence[str]) -> Int64[np.ndarray, "string_plus_1 near"]:
        """Return the numbers of the words related to each string, without regard to its case and the space around it.
        −1 stands for a string that is not listed, and is the last row."""
        number = {word: number for number, word in enumerate(self.words)}
        listed = np.array([number.get(string.strip().lower(), -1) for string in strings] + [-1])
        return np.where(listed[:, None] >= 0, self.near[listed], -1)


@lru_cache(maxsize=1)
def related_words() -> RelatedWords:
    """Read the words of the package."""
    import pyarrow.parquet

    with (files("interp.text") / "related_words.parquet").open("rb") as file:
        table = pyarrow.parquet.read_table(file)
    near = table["near"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    return RelatedWords(table["word"].to_pylist(), near.astype(np.int64))
