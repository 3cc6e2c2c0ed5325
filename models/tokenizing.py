"""Texts to rows of tokens: each opened by BOS, packed or padded, every token with the labels of its characters.

In: texts, or `Document`s with labelled spans, and a tokenizer, interp's or another. Out: `LabelledTokens`. A token that
covers the characters a..b carries a label iff the label has a span s..e with  a < e  and  s < b.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Int

from interp.checks.errors import InterpError
from interp.checks.limits import check_at_least, shortened_repr
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress
from models.documents import Document
from models.pretrained_tokenizer import PretrainedTokenizer, wrap_tokenizer
from models.tokenizer import Tokenizer
from models.tokens import PADDING, LabelledTokens

log = logging.getLogger(__name__)
Item = TypeVar("Item")


@shows_progress
def tokenize(
    texts: Sequence[str | Document],
    tokenizer: Any,
    n_ctx: int,
    *,
    bos: bool | Literal["auto"] = "auto",
    pack: bool = True,
    deduplicate: bool = True,
    labels: Sequence[str] | None = None,
    progress: Progress = no_progress,
) -> LabelledTokens:
    """Turn texts into rows of n_ctx tokens.

    tokenizer: interp's, or a fast one of Hugging Face.
    bos: whether to put BOS before each text; "auto" follows the tokenizer and, if it adds none, puts its EOS between
    texts.
    pack: texts are concatenated, and an incomplete last row is dropped; otherwise a row has the beginning of one text,
    followed by `padding`.
    deduplicate: of texts that differ only in case and white space only the first is kept.
    labels: labels to keep, in the order of their bits; None keeps all that occur, sorted.

    Raises ValueError for text shorter than one row, for what is not a string or holds half a surrogate pair, for more
    than 63 labels, and for bos=True if the tokenizer has no BOS.
    """
    check_at_least(2, n_ctx=n_ctx)
    if tokenizer is None:
        raise InterpError("tokenizer is None: give interp's, or a fast one of Hugging Face")
    tokenizer = wrap_tokenizer(tokenizer)
    documents = _documents(texts, deduplicate)
    names = _label_names(documents, labels)
    ids, bits, characters, lengths = _encode(documents, tokenizer, opening_ids(tokenizer, bos), names, progress)
    token, document = _pack(lengths, n_ctx) if pack else _pad(lengths, n_ctx)
    if not token.size:
        raise InterpError(f"the text gives {len(ids)} tokens, less than one context: give more, or lower n_ctx={n_ctx}")
    is_text = token >= 0
    padding = np.int32(0 if pack else _pad_id(tokenizer))
    return LabelledTokens(
        tokens=torch.from_numpy(np.where(is_text, ids[token], padding)),
        label_names=tuple(names),
        label_bits=torch.from_numpy(np.where(is_text, bits[token], 0)),
        document_ids=torch.from_numpy(document),
        document_names=tuple(d.name for d in documents),
        row_characters=torch.from_numpy(np.where(is_text, characters[token], 0).sum(1)),
        tokenizer=tokenizer.digest,
    )


def _documents(texts: Sequence[str | Document], deduplicate: bool) -> list[Document]:
    if isinstance(texts, str):  # its characters are strings too
        raise InterpError("texts is one string: give a list of strings, [text]")
    if not isinstance(texts, Sized):
        raise InterpError(f"texts is a {type(texts).__name__}: give a list of strings, list(texts)")
    for i, text in enumerate(texts):
        if not isinstance(text, str | Document):  # such as None or NaN, of a row without text
            raise InterpError(f"text {i} is {text!r:.40}, not a string: leave it out")
    documents = [Document(t, (), "texts", f"text {i}") if isinstance(t, str) else t for i, t in enumerate(texts)]
    documents = list(drop_duplicates(documents)) if deduplicate else documents
    if len(documents) < len(texts):
        log.info("%d of %d texts repeat another and are left out", len(texts) - len(documents), len(texts))
    return documents


def _label_names(documents: Sequence[Document], labels: Sequence[str] | None) -> list[str]:
    names = sorted({s.label for d in documents for s in d.spans}) if labels is None else list(labels)
    if len(set(names)) < len(names):
        raise InterpError(f"labels={shortened_repr(names)} must name each label once")
    if len(names) > 63:
        raise InterpError(f"{len(names)} labels do not fit the 63 bits of a mask: pass the labels that you need")
    return names


def drop_duplicates(documents: Iterable[Document]) -> Iterator[Document]:
    """Yield each document once. Texts that differ only in case or white space count as the same."""
    seen = set()
    for document in documents:
        key = hash(" ".join(document.text.split()).casefold())
        if key not in seen:
            seen.add(key)
            yield document


def opening_ids(tokenizer: Tokenizer | PretrainedTokenizer, bos: bool | str) -> list[int]:
    """Choose the ids that go before each text."""
    if bos not in (True, False, "auto"):
        raise InterpError(f"bos={bos!r} must be True, False or 'auto'")
    if bos is True and tokenizer.bos_id is None:
        raise InterpError("bos=True, but the tokenizer has no BOS: pass bos='auto'")
    first = tokenizer.bos_id if bos is True or (bos == "auto" and tokenizer.adds_bos) else None
    between = tokenizer.eos_id if bos == "auto" else None
    return [i for i in (between if first is None else first,) if i is not None]


def _pad_id(tokenizer: Tokenizer | PretrainedTokenizer) -> int:
    padding = next((i for i in (tokenizer.pad_id, tokenizer.eos_id, tokenizer.bos_id) if i is not None), None)
    if padding is None:
        raise InterpError("pack=False needs a tokenizer with a padding, an end or a beginning token: pass pack=True")
    return padding


class _Rows(NamedTuple):
    token_index: Int[np.ndarray, "seq pos"]
    """The index of each token in the concatenation of all documents; -1 if there is none."""
    document: Int[np.ndarray, "seq pos"]


def _pack(lengths: Int[np.ndarray, " document"], n_ctx: int) -> _Rows:
    rows = int(lengths.sum()) // n_ctx
    document = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)[: rows * n_ctx]
    return _Rows(np.arange(rows * n_ctx).reshape(rows, n_ctx), document.reshape(rows, n_ctx))


def _pad(lengths: Int[np.ndarray, " document"], n_ctx: int) -> _Rows:
    """Return a row for each document that has a token."""
    positions = np.arange(n_ctx)
    has_tokens = lengths > 0
    starts = (np.cumsum(lengths) - lengths)[has_tokens, None]
    is_text = positions < lengths[has_tokens, None]
    document = np.flatnonzero(has_tokens).astype(np.int32)[:, None]
    return _Rows(np.where(is_text, starts + positions, -1), np.where(is_text, document, np.int32(PADDING)))


def batches(
    items: Iterable[Item], document_of: Callable[[Item], Document], characters: int = 1_000_000
) -> Iterator[list[Item]]:
    """Yield blocks of items, in order, with about `characters` characters each."""
    batch: list[Item] = []
    size = 0
    for item in items:
        batch.append(item)
        size += len(document_of(item).text)
        if size >= characters:
            yield batch
            batch = []
            size = 0
    if batch:
        yield batch


class _Encoded(NamedTuple):
    ids: Int[np.ndarray, " token"]
    bits: Int[np.ndarray, " token"]
    characters: Int[np.ndarray, " token"]
    """Number of characters that the token is the first to cover."""
    lengths: Int[np.ndarray, " document"]
    """Tokens of each document."""


_NO_TOKENS = _Encoded(*(np.empty(0, dtype) for dtype in (np.int32, np.int64, np.int64, np.int64)))


def _encode(
    documents: list[Document],
    tokenizer: Tokenizer | PretrainedTokenizer,
    opening: list[int],
    names: list[str],
    progress: Progress,
) -> _Encoded:
    """Encode all documents, a million characters at a time."""
    parts = []
    done = 0
    for batch in batches(documents, lambda document: document):
        parts.append(encode_documents(batch, tokenizer, opening, names))
        done += len(batch)
        progress(done, len(documents), "documents tokenized")
    return _Encoded(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True))) if parts else _NO_TOKENS


def encode_documents(
    documents: list[Document], tokenizer: Tokenizer | PretrainedTokenizer, opening: list[int], names: list[str]
) -> _Encoded:
    """Return all tokens, with positions in the joined text: opening tokens have an empty range before their
    document."""
    _check_unicode(documents)
    encodings = tokenizer.encode_batch([d.text for d in documents])
    bases = np.cumsum([0, *(len(d.text) for d in documents)])
    empty = np.zeros((len(opening), 2), dtype=np.int64)
    ids = np.concatenate([np.array([*opening, *e.ids], dtype=np.int32) for e in encodings])
    ranges = np.concatenate(
        [part + base for e, base in zip(encodings, bases, strict=False) for part in (empty, e.offsets)]
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
        ids,
        _label_bits(starts, ends, np.array(spans, dtype=np.int64).reshape(-1, 3)),
        np.diff(ends, prepend=0),
        np.array([len(opening) + len(e.ids) for e in encodings]),
    )


def _check_unicode(documents: list[Document]) -> None:
    """Raise ValueError for a text with half a surrogate pair, which no tokenizer reads."""
    for document in documents:
        try:
            document.text.encode()
        except UnicodeEncodeError as error:
            raise InterpError(
                f"{document.name} has half a surrogate pair, character {error.start}: replace it, as "
                "text.encode(errors='replace').decode() does"
            ) from None


def _label_bits(
    starts: Int[np.ndarray, " token"], ends: Int[np.ndarray, " token"], spans: Int[np.ndarray, "span 3"]
) -> Int[np.ndarray, " token"]:
    """Return the label bits of each token. Starts and ends of the tokens are non-decreasing, so the tokens that overlap
    a span (start, end, bit) are a range first..last."""
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
