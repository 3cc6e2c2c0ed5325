"""What the arms of the code-stage analysis read, and the problems that test them.

In: the sizes of the setting and a seed. Out: rows of character tokens for each stage, and shares of right answers. Arms
with and without code share every row except those in which code replaces prose.
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from random import Random
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from analyses.essay.texts import brackets
from models.documents import Document
from models.text_sources.installed_text import shakespeare
from models.tokenizer import Tokenizer
from models.tokenizing import tokenize
from models.transformer import Transformer


class Sizes(Protocol):
    """What is read of the setting."""

    n_ctx: int
    pretraining_tokens: int
    tuning_tokens: int
    code_share: float
    filler_share: float
    sizes: tuple[int, ...]
    asked: tuple[int, ...]
    problems: int


class Texts:
    """The rows of one seed. What is validated on is not trained on; nor is any problem of a held-out size."""

    def __init__(self, sizes: Sizes, seed: int):
        n_ctx = sizes.n_ctx
        self.n_first, self.n_second = sizes.pretraining_tokens // n_ctx, sizes.tuning_tokens // n_ctx
        self.n_code, self.n_filler = (
            round(sizes.code_share * self.n_first),
            round(sizes.filler_share * self.n_second),
        )
        n_val = max(8, self.n_first // 40)
        kinds: dict[str, tuple[Iterator[Document], int]] = {
            "prose": (shakespeare(Random(f"plays {seed}"), 2000), self.n_first + self.n_filler + n_val),
            "code": (brackets.code_documents(Random(f"code {seed}")), self.n_code + self.n_filler + n_val),
            "problems": (
                brackets.problem_documents(sizes.sizes, Random(f"sheets {seed}")),
                self.n_second - self.n_filler,
            ),
        }
        documents = {kind: enough(source, rows * n_ctx) for kind, (source, rows) in kinds.items()}
        self.tokenizer = Tokenizer.train_characters(d.text for d in chain(*documents.values()))
        self.rows: dict[str, Int[Tensor, "row pos"]] = {
            kind: tokenize(documents[kind], self.tokenizer, n_ctx, deduplicate=False, labels=()).tokens
            for kind in kinds
        }
        self.val: Mapping[str, Int[Tensor, "row pos"]] = {kind: self.rows[kind][-n_val:] for kind in ("prose", "code")}
        self.asked, self.answers = self._asked(sizes, Random(f"asked {seed}"))
        self.shape = (len(brackets.TASKS), len(sizes.asked), sizes.problems)

    def pretraining(self, code: bool) -> Int[Tensor, "row pos"]:
        n = self.n_code if code else 0
        return torch.cat([self.rows["code"][:n], self.rows["prose"][n : self.n_first]])

    def tuning(self, code: bool) -> Int[Tensor, "row pos"]:
        """Return the problems, and as much filler of the one kind or the other that pre-training did not show."""
        kind, start = ("code", self.n_code) if code else ("prose", self.n_first)
        filler = self.rows[kind][start : start + self.n_filler]
        return torch.cat([filler, self.rows["problems"][: self.n_second - self.n_filler]])

    @torch.no_grad()
    def right(self, model: Transformer) -> np.ndarray:
        """Return the share of problems [task, size] in which each character of the answer, including the line end, is
        the likeliest."""
        parts = []
        for rows, answers in zip(self.asked.split(256), self.answers.split(256), strict=True):
            hit = model(rows)[:, :-1].argmax(-1) == rows[:, 1:]
            parts.append((hit | ~answers[:, 1:]).all(1))
        return torch.cat(parts).view(self.shape).double().mean(-1).numpy()

    def _asked(self, sizes: Sizes, rng: Random) -> tuple[Int[Tensor, "row pos"], Bool[Tensor, "row pos"]]:
        """Return rows that end with the problem asked, after other problems of the trained sizes."""
        sheets = brackets.problem_documents(sizes.sizes, rng)
        rows, answers = [], torch.zeros(0, sizes.n_ctx, dtype=torch.bool)
        for task in brackets.TASKS:
            for size in sizes.asked:
                lines = [brackets.problem(task, size, rng).line for _ in range(sizes.problems)]
                rows += [
                    self.tokenizer.encode(next(sheets).text + line, add_special_tokens=False)[-sizes.n_ctx :]
                    for line in lines
                ]
                mask = torch.arange(sizes.n_ctx) >= sizes.n_ctx - size - 1
                answers = torch.cat([answers, mask.expand(sizes.problems, -1)])
        return torch.tensor(rows), answers


def enough(source: Iterator[Document], characters: int) -> list[Document]:
    """Return documents until they make up this many characters."""
    texts, total = [], 0
    while total < characters:
        texts.append(next(source))
        total += len(texts[-1].text)
    return texts
