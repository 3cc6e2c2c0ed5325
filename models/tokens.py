"""Tokens with ground truth: documents packed into rows, every token with the labels of its characters.

In: `Document`s and a `Tokenizer`. Out: `LabelledTokens`. A token that covers the characters a..b carries a label
iff the label has a span s..e with  a < e  and  s < b.
"""

import difflib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from models.documents import Document
from models.tokenizer import Tokenizer
from models.whole_files import open_tensors, write_tensors

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class LabelledTokens:
    """Rows of packed documents. A row may begin inside a document and hold several; `<|bos|>` opens each one."""

    tokens: Int[Tensor, "seq pos"]
    label_names: tuple[str, ...]
    label_bits: Int[Tensor, "seq pos"]
    """Bit k says whether the token carries `label_names[k]`."""
    document_ids: Int[Tensor, "seq pos"]
    document_names: tuple[str, ...]
    """The work that each document is from (a play, a module, a file), by document id."""
    row_characters: Int[Tensor, " seq"]
    """Characters that the tokens of a row cover; one that two rows share counts in the first."""
    tokenizer: str = ""
    """`Tokenizer.digest` of the one that made them; "" where an earlier version did not write it."""

    @property
    def characters(self) -> int:
        return int(self.row_characters.sum())

    @property
    def n_ctx(self) -> int:
        return self.tokens.shape[1]

    @property
    def labels(self) -> "LabelMasks":
        return LabelMasks(self.label_names, self.label_bits, self.tokens)

    def work(self, name: str) -> Bool[Tensor, "seq pos"]:
        """The tokens of one work, such as the play "hamlet"."""
        if name not in self.document_names:
            near = difflib.get_close_matches(name, sorted(set(self.document_names)), cutoff=0.0)
            raise ValueError(f"no work is named {name!r}; the nearest are {', '.join(near)}")
        wanted = torch.tensor([n == name for n in self.document_names])
        return wanted[self.document_ids.long()]

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: slice) -> "LabelledTokens":
        parts = (self.tokens[rows], self.label_names, self.label_bits[rows], self.document_ids[rows])
        return LabelledTokens(*parts, self.document_names, self.row_characters[rows], self.tokenizer)

    def save(self, path: str | Path) -> None:
        """One safetensors file; the names stand in its header."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # One key: safetensors writes several in any order, and the same tokens should be the same bytes.
        lists = {"label_names": self.label_names, "document_names": self.document_names}
        names = json.dumps(lists | {"tokenizer": self.tokenizer})
        write_tensors(path, {key: getattr(self, key) for key in _TENSORS}, {"names": names})

    @classmethod
    def load(cls, path: str | Path) -> "LabelledTokens":
        """Raises ValueError on a file that `save` did not write, that is cut off, or whose parts do not fit."""
        with open_tensors(path, _REMEDY) as file:
            names = json.loads((file.metadata() or {})["names"])
            made_with = str(names.get("tokenizer", ""))
            names = {key: tuple(names[key]) for key in ("label_names", "document_names")}
            tensors = {key: file.get_tensor(key) for key in _TENSORS}
        found = cls(**names, **tensors, tokenizer=made_with)
        if wrong := found._misfit():
            raise ValueError(f"{path} holds no labelled tokens ({wrong}): {_REMEDY}")
        return found

    def _misfit(self) -> str:
        """What of it does not fit the rest; "" if all does."""
        shape = tuple(self.tokens.shape)
        if any(getattr(self, key).is_floating_point() for key in _TENSORS):
            return "its numbers are no integers"
        if len(shape) != 2 or not self.tokens.numel() or int(self.tokens.min()) < 0:
            return f"its tokens {shape} are not [seq, pos] of ids from 0 on"
        if tuple(self.label_bits.shape) != shape or tuple(self.document_ids.shape) != shape:
            return f"its labels or document ids are not of the shape {shape} of its tokens"
        if tuple(self.row_characters.shape) != shape[:1] or int(self.row_characters.min()) < 0:
            return "it does not hold a number of characters for each row"
        names = (*self.label_names, *self.document_names)
        if len(self.label_names) > 63 or not all(isinstance(name, str) for name in names):
            return "its names are not at most 63 labels and the documents, each a text"
        low, high = int(self.document_ids.min()), int(self.document_ids.max())
        # A row that begins within a document that was cut away has the id -1.
        return "" if -1 <= low and high < len(self.document_names) else f"its document ids are {low}..{high}"


_TENSORS = ("tokens", "label_bits", "document_ids", "row_characters")
_REMEDY = "tokenize the corpus again"


class LabelMasks(Mapping[str, Tensor]):
    """`masks[label]`: Bool "seq pos", made when asked for; `tokens` are those that they label."""

    def __init__(self, names: tuple[str, ...], bits: Int[Tensor, "seq pos"], tokens: Int[Tensor, "seq pos"]):
        self._bit_of = {name: bit for bit, name in enumerate(names)}
        self._bits, self.tokens = bits, tokens

    def __getitem__(self, label: str) -> Bool[Tensor, "seq pos"]:
        return (self._bits >> self._bit_of[label] & 1).bool()

    def __iter__(self) -> Iterator[str]:
        return iter(self._bit_of)

    def __len__(self) -> int:
        return len(self._bit_of)


def tokenize(
    documents: Sequence[Document],
    tokenizer: Tokenizer,
    n_ctx: int,
    *,
    label_names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> LabelledTokens:
    """Encode, put `<|bos|>` before each document, pack into rows of n_ctx; what does not fill a last row is dropped.

    label_names: which labels to keep, in the order of their bits; None keeps all that occur, sorted.
    Raises ValueError on text shorter than one row, and on more than 63 labels.
    """
    if n_ctx < 2:
        raise ValueError(f"n_ctx={n_ctx} must be at least 2")
    names = sorted({s.label for d in documents for s in d.spans}) if label_names is None else list(label_names)
    if len(names) > 63:
        raise ValueError(f"{len(names)} labels do not fit the 63 bits of a mask: pass the label_names that you need")
    parts, done = [], 0
    for batch in _batches(documents, characters=1_000_000):
        parts.append(_encode(batch, tokenizer, names))
        done += len(batch)
        if progress:
            progress(done, len(documents), "documents tokenized")
    n_tokens = sum(len(part.ids) for part in parts)
    rows = n_tokens // n_ctx
    if not rows:
        raise ValueError(
            f"the text gives {n_tokens} tokens, less than one context of {n_ctx}: give more, or lower n_ctx"
        )
    ids, bits, covered = (np.concatenate(arrays)[: rows * n_ctx] for arrays in zip(*parts, strict=True))
    return LabelledTokens(
        tokens=torch.from_numpy(ids).view(rows, n_ctx),
        label_names=tuple(names),
        label_bits=torch.from_numpy(bits).view(rows, n_ctx),
        document_ids=torch.from_numpy((ids == tokenizer.bos_id).cumsum(dtype=np.int32) - 1).view(rows, n_ctx),
        document_names=tuple(d.name for d in documents),
        row_characters=torch.from_numpy(covered.reshape(rows, n_ctx).sum(1)),
        tokenizer=tokenizer.digest,
    )


def _batches(documents: Sequence[Document], characters: int) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= characters:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Encoded(NamedTuple):
    ids: Int[np.ndarray, " token"]
    bits: Int[np.ndarray, " token"]
    characters: Int[np.ndarray, " token"]
    """Characters that the token is the first to cover."""


def _encode(documents: list[Document], tokenizer: Tokenizer, names: list[str]) -> _Encoded:
    """Tokens in a row, with positions in the joined text: `<|bos|>` is an empty range between two documents."""
    encodings = tokenizer.encode_batch([d.text for d in documents])
    bases = np.cumsum([0, *(len(d.text) for d in documents)])
    bos = np.zeros((1, 2), dtype=np.int64)
    ids = np.concatenate([np.array([tokenizer.bos_id, *e.ids], dtype=np.int32) for e in encodings])
    ranges = np.concatenate(
        [part + base for e, base in zip(encodings, bases, strict=False) for part in (bos, e.offsets)]
    )
    starts, ends = np.ascontiguousarray(ranges[:, 0]), np.ascontiguousarray(ranges[:, 1])
    bit_of = {name: bit for bit, name in enumerate(names)}
    spans = [
        (s.start + base, s.end + base, bit_of[s.label])
        for d, base in zip(documents, bases.tolist(), strict=False)
        for s in d.spans
        if s.label in bit_of and s.start < s.end
    ]
    return _Encoded(
        ids, _label_bits(starts, ends, np.array(spans, dtype=np.int64).reshape(-1, 3)), np.diff(ends, prepend=0)
    )


def _label_bits(
    starts: Int[np.ndarray, " token"], ends: Int[np.ndarray, " token"], spans: Int[np.ndarray, "span 3"]
) -> Int[np.ndarray, " token"]:
    """Starts and ends of the tokens never fall, so those that meet a span (start, end, bit) are a range first..last."""
    bits = np.zeros(len(starts), dtype=np.int64)
    firsts = np.searchsorted(ends, spans[:, 0], "right")
    lasts = np.searchsorted(starts, spans[:, 1], "left")
    for bit in np.unique(spans[:, 2]).tolist():
        chosen = spans[:, 2] == bit
        steps = np.zeros(len(starts) + 1, dtype=np.int32)
        np.add.at(steps, firsts[chosen], 1)
        np.subtract.at(steps, lasts[chosen], 1)
        bits[np.cumsum(steps[:-1]) > 0] |= np.int64(1) << bit
    return bits
