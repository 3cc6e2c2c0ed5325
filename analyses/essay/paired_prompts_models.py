"""What the models of the paired-prompts analysis read, and how they are asked.

In: sizes, a seed and the planted odds; a trained model and prompts. Out: documents, and log odds of he : she.
"""

from collections.abc import Sequence
from itertools import islice
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int

from analyses.essay.texts import biographies as bios
from models.documents import Document
from models.text_sources.installed_text import shakespeare
from models.tokenizer import Tokenizer
from models.transformer import Transformer

PLAY_NOUNS = ("king", "queen", "duke", "lady", "prince", "devil", "boy", "gentleman")
"""Nouns that occur only in Shakespeare's text."""
SUBJECTS = (*bios.NOUNS, *PLAY_NOUNS, *bios.NAMES, bios.SOMEBODY)
N_NOUNS = len(bios.NOUNS) + len(PLAY_NOUNS)


class Text(NamedTuple):
    train: list[Document]
    val_biographies: list[Document]
    val_plays: list[Document]


def written(n_biographies: int, play_characters: int, seed: int, odds: bios.Odds) -> Text:
    """Return biographies and plays. A twentieth of each is kept for validation."""
    lives = list(islice(bios.biographies(odds, Random(f"biographies {seed}")), n_biographies))
    plays, characters = [], 0
    for document in shakespeare(Random(seed), 2000):
        if characters >= play_characters:
            break
        plays.append(document)
        characters += len(document.text)
    n_lives, n_plays = max(200, len(lives) // 20), max(4, len(plays) // 20)
    return Text([*lives[n_lives:], *plays[n_plays:]], lives[:n_lives], plays[:n_plays])


def shuffled(documents: Sequence[Document], seed: int) -> list[Document]:
    return Random(f"order {seed}").sample(documents, len(documents))


def befores(tokenizer: Tokenizer, lives: Sequence[Document], n: int, n_ctx: int) -> Int[torch.Tensor, "n n_ctx"]:
    """Return rows of tokens that end where a document ends: what goes before a prompt, as it goes before a document in
    training. Cut off within a sentence, a pronoun would still be owed to the subject there."""
    ids = [[tokenizer.bos_id, *encoding.ids] for encoding in tokenizer.encode_batch([d.text for d in lives])]
    rows: list[list[int]] = []
    row: list[int] = []
    for one in ids:
        row = row + one
        if len(row) >= n_ctx:
            rows.append(row[-n_ctx:])
            row = []
    return torch.tensor(rows[:n])


@torch.no_grad()
def log_odds(
    model: Transformer, tokenizer: Tokenizer, before: Int[torch.Tensor, "n n_ctx"], prompts: Sequence[str]
) -> np.ndarray:
    """log P(" he") − log P(" she") after each prompt, the mean over the rows of tokens `before` it.

    The prompt ends one place before the end of the context: training gives the last place nothing to predict.
    """
    he, she = (one_token(tokenizer, word) for word in (" he", " she"))
    odds = []
    for ids in (encoding.ids for encoding in tokenizer.encode_batch(prompts)):
        asked = torch.tensor([tokenizer.bos_id, *ids]).expand(len(before), -1)
        rows = torch.cat([before, asked], 1)[:, 1 - before.shape[1] :]
        logits = model(rows)[:, -1]
        odds.append(float((logits[:, he] - logits[:, she]).mean()))
    return np.array(odds)


def one_token(tokenizer: Tokenizer, word: str) -> int:
    ids = tokenizer.encode(word, add_special_tokens=False)
    if len(ids) != 1:
        raise ValueError(f"{word!r} is {len(ids)} tokens: give the tokenizer more text or a larger vocabulary")
    return ids[0]
