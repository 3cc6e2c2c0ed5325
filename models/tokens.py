"""Tokens with ground truth: rows of documents' tokens, every token with the labels of its characters, and their file.

`models.tokenizing.tokenize` makes them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.checks.errors import DamagedError, InterpError, did_you_mean
from interp.storage.addresses import as_local_path
from interp.storage.files import open_tensors, write_tensors
from interp.storage.folders import check_output_file
from interp.storage.remote_folders import local_path
from models.token_files import CORPUS_REMEDY as _REMEDY
from models.token_files import read_token_files

PADDING = -2
"""The document id of a position that holds no text."""


@dataclass(frozen=True)
class LabelledTokens:
    """Rows of tokens. If packed, a row may start inside a document and contain several; otherwise it has one document,
    and `padding`."""

    tokens: Int[Tensor, "seq pos"]
    label_names: tuple[str, ...]
    label_bits: Int[Tensor, "seq pos"]
    """Bit k is set if the token carries `label_names[k]`."""
    document_ids: Int[Tensor, "seq pos"]
    """Index into `document_names`; `PADDING` for a position in no document."""
    document_names: tuple[str, ...]
    """The work that each document is from (a play, a module, a file), by document id."""
    row_characters: Int[Tensor, " seq"]
    """Number of characters covered by the tokens of a row; a character shared by two rows counts in the first."""
    tokenizer: str = ""
    """The `digest` of the tokenizer that made them; "" if unknown."""

    @property
    def characters(self) -> int:
        return int(self.row_characters.sum())

    @property
    def n_ctx(self) -> int:
        return self.tokens.shape[1]

    @property
    def padding(self) -> Bool[Tensor, "seq pos"]:
        """Positions after the end of a row's document, which hold no text."""
        return self.document_ids == PADDING

    @property
    def labels(self) -> "LabelMasks":
        return LabelMasks(self.label_names, self.label_bits, self.tokens)

    def work(self, name: str) -> Bool[Tensor, "seq pos"]:
        """Mark the tokens of one work, such as the play "hamlet". Raises ValueError for an unknown one."""
        if name not in self.document_names:
            works = dict.fromkeys(self.document_names)
            raise InterpError(f"no work is named {name!r}; {did_you_mean(name, works)}")
        is_of_work = torch.tensor([document == name for document in self.document_names])
        return is_of_work[self.document_ids.long().clamp(min=0)] & (self.document_ids >= 0)

    def __repr__(self) -> str:
        n_documents = len(self.document_ids[~self.padding].unique())
        sizes = f"{len(self):,} sequences of {self.n_ctx} tokens, {n_documents:,} documents"
        return f"LabelledTokens({sizes}, {len(self.label_names) or 'no'} labels)"

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: slice) -> "LabelledTokens":
        parts = (self.tokens[rows], self.label_names, self.label_bits[rows], self.document_ids[rows])
        return LabelledTokens(*parts, self.document_names, self.row_characters[rows], self.tokenizer)

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write one safetensors file, with the names in its header. Raises OverwriteError if the file exists, unless
        `overwrite` is set, and if it would lie in a run folder or belong to a finished folder."""
        path = as_local_path(path)
        check_output_file(path, overwrite=overwrite)
        path.parent.mkdir(parents=True, exist_ok=True)
        # One key: safetensors writes several in any order, and the same tokens should be the same bytes.
        lists = {"label_names": self.label_names, "document_names": self.document_names}
        names = json.dumps(lists | {"tokenizer": self.tokenizer})
        write_tensors(path, {key: getattr(self, key) for key in _TENSORS}, {"names": names})

    @classmethod
    def load(cls, path: str | Path) -> "LabelledTokens":
        """Load what `save` or `streaming.tokenize_stream` wrote, here or (of the latter) at an address. Raises
        ValueError on another file, one cut off, or one whose parts do not fit."""
        path = local_path(path)
        if path.is_dir():
            return cls._load_folder(path)
        with open_tensors(path, _REMEDY) as file:
            names = json.loads((file.metadata() or {})["names"])
            tokenizer = str(names["tokenizer"])
            names = {key: tuple(names[key]) for key in ("label_names", "document_names")}
            tensors = {key: file.get_tensor(key) for key in _TENSORS}
        return cls(**names, **tensors, tokenizer=tokenizer)._check(path)

    @classmethod
    def _load_folder(cls, folder: Path) -> "LabelledTokens":
        columns, names = read_token_files(folder)
        no_labels = torch.zeros(1, 1, dtype=torch.int8).expand(columns["tokens"].shape)
        labelled = cls(
            **columns,
            label_names=(),
            label_bits=no_labels,
            document_names=tuple(names["document_names"]),
            tokenizer=names["tokenizer"],
        )
        return labelled._check(folder)

    def _check(self, path: Path) -> "LabelledTokens":
        if wrong := self._misfit():
            raise DamagedError(f"{path} holds no labelled tokens ({wrong}): {_REMEDY}")
        return self

    def _misfit(self) -> str:
        """Return the inconsistency of its parts; "" if there is none."""
        shape = tuple(self.tokens.shape)
        if any(getattr(self, key).is_floating_point() for key in _TENSORS):
            return "its numbers are not integers"
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
        # A row that starts inside a removed document has the id -1.
        return "" if PADDING <= low and high < len(self.document_names) else f"its document ids are {low}..{high}"


_TENSORS = ("tokens", "label_bits", "document_ids", "row_characters")


class LabelMasks(Mapping[str, Tensor]):
    """`masks[label]`: Bool "seq pos", made when asked for; `tokens` are those that they label."""

    def __init__(self, names: tuple[str, ...], bits: Int[Tensor, "seq pos"], tokens: Int[Tensor, "seq pos"]):
        self._bit_of = {name: bit for bit, name in enumerate(names)}
        self._bits = bits
        self.tokens = tokens

    def __getitem__(self, label: str) -> Bool[Tensor, "seq pos"]:
        if label not in self._bit_of:
            raise KeyError(f"no label is named {label!r}; there are {', '.join(self._bit_of) or 'none'}")
        return (self._bits >> self._bit_of[label] & 1).bool()

    def __repr__(self) -> str:
        return f"LabelMasks({', '.join(self._bit_of) or 'no labels'})"

    def __contains__(self, label: object) -> bool:
        return label in self._bit_of

    def __iter__(self) -> Iterator[str]:
        return iter(self._bit_of)

    def __len__(self) -> int:
        return len(self._bit_of)
