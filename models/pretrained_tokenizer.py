"""Tokenizers of pretrained models, with the interface of interp's own (`models.tokenizer.Tokenizer`).

In: a fast tokenizer of Hugging Face. Out: token ids with the characters that each covers, and for each id a readable
string. Three ways of writing a token as a string are recognized:

    byte-level BPE   a letter per byte (GPT-2's letters)          `ĠcafÃ©`  is  ` café`
    SentencePiece    `▁` for a space, `<0x0A>` for a byte        `▁café`   is  ` café`
    WordPiece        `##` inside a word                   `##ing`   is  `ing`,  `walk`  is  ` walk`

Bytes that are not text by themselves are written as ⟨d7⟩, ids without a token as ⟨id 50300⟩, special tokens unchanged.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from interp.checks.errors import DamagedError, InterpError
from interp.storage.addresses import as_local_path
from models.tokenizer import Encoding, byte_letters, decode_readably

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>$")
TOKENIZER_REMEDY = "name a folder with the tokenizer.json of a fast tokenizer"


class PretrainedTokenizer:
    """`inner` is a fast tokenizer of `transformers`. A special token that is spelled out in a text is treated as
    ordinary text."""

    def __init__(self, inner: Any, *, d_vocab: int | None = None):
        """Wrap a tokenizer.
        d_vocab: the number of rows of the model's embedding, if larger than the number of tokens."""
        if getattr(inner, "backend_tokenizer", None) is None:
            raise InterpError(f"{type(inner).__name__} is not a fast tokenizer: {TOKENIZER_REMEDY}")
        self.inner = inner
        self._fast = inner.backend_tokenizer
        self._fast.no_padding()
        self._fast.no_truncation()
        self._pieces = {i: piece for piece, i in self._fast.get_vocab(with_added_tokens=True).items()}
        self.vocab_size = max(max(self._pieces) + 1, d_vocab or inner.init_kwargs.get("d_vocab", 0))
        self.bos_id: int | None = inner.bos_token_id
        self.eos_id: int | None = inner.eos_token_id
        self.pad_id: int | None = inner.pad_token_id
        self.special_ids: tuple[int, ...] = tuple(
            sorted({*inner.all_special_ids, *(i for i, t in inner.added_tokens_decoder.items() if t.special)})
        )
        opening = inner("a")["input_ids"]
        self.adds_bos = self.bos_id is not None and opening[:1] == [self.bos_id]

    def __repr__(self) -> str:
        return f"PretrainedTokenizer({self.vocab_size:,} tokens, {type(self.inner).__name__})"

    def __deepcopy__(self, memo: Any) -> "PretrainedTokenizer":
        return self  # nothing changes it

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the strings of all tokens: a tokenizer with another digest has other ids."""
        return hashlib.sha256(json.dumps(sorted(self._pieces.items())).encode()).hexdigest()

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Return the ids of a text, as `inner` does: by default with its own special tokens."""
        self._fast.encode_special_tokens = True
        return self._fast.encode(text, add_special_tokens=add_special_tokens).ids

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Encode texts in parallel, each token with the characters that it covers; no special token is added."""
        self._fast.encode_special_tokens = True
        encoded = self._fast.encode_batch(list(texts), add_special_tokens=False)
        return [Encoding(each.ids, _make_non_decreasing(each.offsets)) for each in encoded]

    def decode(self, ids: Iterable[int]) -> str:
        """Join tokens to text, without the token that opens a sequence. Bytes that are not UTF-8 (half a character at
        either end) become U+FFFD."""
        kept = [i for i in map(int, ids) if i != self.bos_id and i in self._pieces]
        return self._fast.decode(kept, skip_special_tokens=False)

    def display(self) -> list[str]:
        """Return one readable string per id."""
        written = json.loads(self._fast.to_str())
        letters = byte_letters()
        added_ids = {each["id"] for each in written["added_tokens"]}
        parts = json.dumps([written["pre_tokenizer"], written["decoder"]])
        is_bytes = '"ByteLevel"' in parts
        is_word = written["model"].get("type") == "WordPiece"

        def shown(i: int) -> str:
            piece = self._pieces.get(i)
            if piece is None:
                return f"⟨id {i}⟩"
            if i in added_ids:
                return piece
            if is_bytes and letters.keys() >= set(piece):
                return decode_readably(bytes(letters[c] for c in piece))
            if is_word:
                return piece[2:] if piece.startswith("##") else f" {piece}"
            if byte := _BYTE.match(piece):
                return decode_readably(bytes([int(byte[1], 16)]))
            return decode_readably(piece.replace("▁", " ").encode())

        return [shown(i) for i in range(self.vocab_size)]

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json` and its configuration as Hugging Face does."""
        self.inner.init_kwargs["d_vocab"] = self.vocab_size
        self.inner.save_pretrained(as_local_path(folder))

    @classmethod
    def load(cls, source: str | Path, *, revision: str | None = None) -> "PretrainedTokenizer":
        """Load the tokenizer of a folder, of a GGUF file, or of a name that Hugging Face knows.

        Raises ValueError or OSError, with its name, if there is no fast tokenizer."""
        from transformers import AutoTokenizer, PreTrainedTokenizerFast

        path = Path(source)
        options = {"revision": revision or "main", "trust_remote_code": False}
        loader: Any = PreTrainedTokenizerFast  # uses the file as it is; AutoTokenizer may correct it
        if path.suffix == ".gguf":
            source = path.parent
            options["gguf_file"] = path.name
        elif not (path / "tokenizer.json").is_file():
            loader = AutoTokenizer
        try:
            tokenizer = cls(loader.from_pretrained(str(source), **options))
        except Exception as error:  # any error that the library raises for a damaged file
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise DamagedError(f"{path} has no tokenizer that can be read ({reason}): {TOKENIZER_REMEDY}") from None
        if set(tokenizer._pieces) <= set(tokenizer.special_ids):  # the library's result for missing files
            raise DamagedError(
                f"{path} has no tokenizer that can be read (it has an empty vocabulary): {TOKENIZER_REMEDY}"
            )
        return tokenizer


def wrap_tokenizer(tokenizer: Any, d_vocab: int | None = None) -> Any:
    """Wrap a Hugging Face tokenizer in interp's interface; return interp's own unchanged."""
    return (
        tokenizer
        if tokenizer is None or hasattr(tokenizer, "display")
        else PretrainedTokenizer(tokenizer, d_vocab=d_vocab)
    )


def _make_non_decreasing(offsets: list[tuple[int, int]]) -> Int[np.ndarray, "token 2"]:
    """Return non-decreasing starts and ends: an inserted token, which covers nothing, is placed at the end of the
    previous one."""
    ranges = np.array(offsets, dtype=np.int64).reshape(-1, 2)
    return np.maximum.accumulate(ranges, axis=0)
