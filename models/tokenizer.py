"""Byte-level BPE and character tokenizers, over Hugging Face `tokenizers`.

In: texts. Out: token ids, with the characters that each token covers. In byte-level BPE every token is a sequence of
bytes and the tokens of a text concatenate to its UTF-8 bytes, so a token's characters follow from byte lengths alone:
token i has the bytes B_i .. B_i + n_i with B_i = Σ_{j<i} n_j, and covers the characters with any byte in that range.
Tokens that share one character (a rare Han character) all cover it.

Here the first merges make the bytes of each common character one token, and later ones join characters. Merges by
frequency alone, as in GPT-2, join the last byte of a Hebrew letter to the first of the next before either letter is a
token, and a model then has to learn, and its latents to fire on, halves of letters.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tokenizers
from jaxtyping import Int
from torch import Tensor

from interp.checks.errors import DamagedError, InterpError
from interp.storage.addresses import as_local_path
from interp.storage.files import write_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BOS = "<|bos|>"
UNKNOWN = "<|unk|>"
_FILE = "tokenizer.json"
SHARE_FOR_CHARACTERS = 1 / 3
"""Of the ids beside the 256 bytes, at most so many are for characters beyond ASCII; the other ones are for merges."""
_WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""The pieces of a text within which byte-level BPE merges."""
MIN_ENCODED_AGAIN = 0.8
"""If a tokenizer made some tokens, at least this share of them is the same when their text is encoded again."""


class Encoding(NamedTuple):
    ids: list[int]
    offsets: Int[np.ndarray, "token 2"]
    """The half-open range of characters that each token covers."""


class Tokenizer:
    """Text to ids and back. Id 0 is `<|bos|>`, which no text encodes to: if it is spelled out in a text it is ordinary
    text.

    A byte-level tokenizer accepts any text. A character tokenizer turns a character that it was not trained on into
    `<|unk|>`.
    """

    def __init__(self, inner: tokenizers.Tokenizer):
        inner.encode_special_tokens = True
        self._inner = inner
        pieces = {i: piece for piece, i in inner.get_vocab(with_added_tokens=True).items()}
        if sorted(pieces) != list(range(len(pieces))) or BOS not in pieces.values():
            raise InterpError(f"a tokenizer's ids must be 0..{len(pieces) - 1} and one of them {BOS}; train it here")
        self.bytewise = isinstance(inner.model, tokenizers.models.BPE)
        special = (BOS, UNKNOWN)
        letters = byte_letters()
        if self.bytewise and (strange := {*"".join(p for p in pieces.values() if p not in special)} - letters.keys()):
            raise InterpError(f"a byte-level tokenizer cannot have {sorted(strange)[0]!r} in a token; train it here")
        self._bytes = [
            bytes(letters[c] for c in pieces[i]) if self.bytewise and pieces[i] not in special else pieces[i].encode()
            for i in range(len(pieces))
        ]
        self._byte_counts = np.array([len(piece) for piece in self._bytes])
        self.bos_id = next(i for i, piece in pieces.items() if piece == BOS)
        self.eos_id = None
        self.pad_id = None
        self.adds_bos = True
        self.special_ids = (self.bos_id,)

    def __repr__(self) -> str:
        return f"Tokenizer({self.vocab_size:,} tokens, {'bytes' if self.bytewise else 'characters'})"

    @classmethod
    def train_bpe(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Train byte-level BPE, in which the most frequent characters are tokens. The texts are held in memory.

        vocab_size: the most ids, at least 257 (256 bytes and `<|bos|>`); a small corpus may give fewer.
        """
        if vocab_size < 257:
            raise InterpError(f"vocab_size={vocab_size} must be at least 257: 256 bytes and {BOS}")
        texts = list(texts)
        n_merges = vocab_size - 257
        merges, characters = _merges_to_characters(_beyond_ascii(texts), int(n_merges * SHARE_FOR_CHARACTERS))
        merges += _merges_of_characters(texts, characters, n_merges - len(merges))
        pieces = dict.fromkeys([BOS, *byte_letters(), *(left + right for left, right in merges)])
        vocab = {piece: i for i, piece in enumerate(pieces)}
        inner = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, merges))
        inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = tokenizers.decoders.ByteLevel()
        inner.add_special_tokens([BOS])
        return cls(inner)

    @classmethod
    def train_characters(cls, texts: Iterable[str]) -> "Tokenizer":
        """Assign one id to every character that occurs, in code point order, after `<|bos|>` and `<|unk|>`."""
        characters = sorted(set().union(*map(set, texts)))
        vocab = {token: i for i, token in enumerate([BOS, UNKNOWN, *characters])}
        inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token=UNKNOWN))
        inner.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
        inner.decoder = tokenizers.decoders.Fuse()
        inner.add_special_tokens([BOS, UNKNOWN])
        return cls(inner)

    def __deepcopy__(self, memo: Any) -> "Tokenizer":
        return self  # nothing changes it

    @property
    def vocab_size(self) -> int:
        return len(self._bytes)

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes of all tokens: a tokenizer with another digest has other ids."""
        return hashlib.sha256(json.dumps([piece.hex() for piece in self._bytes]).encode()).hexdigest()

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Return the ids of a text, as a tokenizer of Hugging Face does, by default after `<|bos|>`."""
        ids = self.encode_batch([text])[0].ids
        return [self.bos_id, *ids] if add_special_tokens else ids

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Encode texts in parallel, each token with the characters that it covers; no `<|bos|>` is added."""
        encoded = self._inner.encode_batch_fast(list(texts), add_special_tokens=False)
        return [Encoding(e.ids, self._offsets(text, e.ids)) for text, e in zip(texts, encoded, strict=True)]

    def decode(self, ids: Iterable[int]) -> str:
        """Join tokens to text, without `<|bos|>`. Bytes that are not UTF-8 (half a character at either end) become
        U+FFFD."""
        return b"".join(self._bytes[i] for i in map(int, ids) if i != self.bos_id).decode("utf-8", "replace")

    def display(self) -> list[str]:
        """Return one readable string per id: valid UTF-8 unchanged, a stray byte as ⟨d7⟩."""
        return [decode_readably(piece) for piece in self._bytes]

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json`, in the format of Hugging Face."""
        folder = as_local_path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / _FILE, self._inner.to_str(pretty=True))

    @classmethod
    def load(cls, folder: str | Path) -> "Tokenizer":
        """Load a file of `save`. Raises FileNotFoundError or ValueError, with the file, if it is missing or damaged."""
        file = as_local_path(folder) / _FILE
        remedy = "`interp run` makes it again, with its corpus"
        if not file.is_file():
            raise FileNotFoundError(f"{file} does not exist: {remedy}")
        try:
            inner = tokenizers.Tokenizer.from_buffer(file.read_bytes())
        except Exception as error:  # the library raises only this type
            raise DamagedError(f"{file} is not a tokenizer ({error}): {remedy}") from None
        inner.no_padding()
        inner.no_truncation()
        try:
            return cls(inner)
        except ValueError as error:
            raise DamagedError(f"{file}: {error}") from None

    def to_transformers(self) -> "PreTrainedTokenizerFast":
        """Make the same tokenizer for `transformers`; `<|bos|>` begins, ends and pads, as in GPT-2."""
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizers.Tokenizer.from_str(self._inner.to_str()),
            bos_token=BOS,
            eos_token=BOS,
            pad_token=BOS,
            unk_token=None if self.bytewise else UNKNOWN,
            split_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )

    def _offsets(self, text: str, ids: list[int]) -> Int[np.ndarray, "token 2"]:
        if not self.bytewise:
            starts = np.arange(len(ids))
            return np.stack([starts, starts + 1], 1)
        counts = self._byte_counts[np.array(ids, dtype=np.int64)]
        ends = np.cumsum(counts)
        starts = ends - counts
        if text.isascii():
            return np.stack([starts, ends], 1)
        first_bytes = (np.frombuffer(text.encode(), np.uint8) & 0xC0) != 0x80
        character_of_byte = np.cumsum(first_bytes) - 1
        return np.stack([character_of_byte[starts], character_of_byte[ends - 1] + 1], 1)


def _beyond_ascii(texts: Iterable[str]) -> list[str]:
    """Return the characters beyond ASCII that occur, the most frequent first."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    return sorted((c for c in counts if not c.isascii()), key=lambda c: (-counts[c], c))


def _spell(text: str) -> str:
    """Write the bytes of a text in the letters of byte-level BPE."""
    letters = {byte: letter for letter, byte in byte_letters().items()}
    return "".join(letters[byte] for byte in text.encode())


def _merges_to_characters(characters: Iterable[str], most: int) -> tuple[list[tuple[str, str]], list[str]]:
    """Return at most so many merges, which join the bytes of the first characters, and these characters."""
    merges: dict[tuple[str, str], None] = {}
    whole = []
    for character in characters:
        piece = _spell(character)
        longer = merges | dict.fromkeys((piece[:k], piece[k]) for k in range(1, len(piece)))
        if len(longer) > most:
            break
        merges = longer
        whole.append(character)
    return list(merges), whole


def _merges_of_characters(texts: Iterable[str], characters: list[str], n: int) -> list[tuple[str, str]]:
    """Return the first n merges of BPE whose alphabet is ASCII and these characters; it leaves out all others."""
    alphabet = [*map(chr, range(128)), *characters]
    inner = tokenizers.Tokenizer(tokenizers.models.BPE())
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(_WORDS), "isolated")
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=len(alphabet) + n,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    return [(_spell(left), _spell(right)) for left, right in json.loads(inner.to_str())["model"]["merges"]]


def share_encoded_again(tokenizer: Any, rows: Int[Tensor, "seq pos"]) -> float:
    """Return how well a tokenizer, interp's or another, reproduces these tokens. Returns the share of the first 4,096
    tokens that are the same at the same position when their text is encoded again. It is nearly 1 if the tokenizer made
    them; a character tokenizer reproduces any of its ids.
    """
    ids = rows[: math.ceil(4096 / rows.shape[1])].flatten().tolist()
    if max(ids) >= tokenizer.vocab_size:
        return 0.0
    if not getattr(tokenizer, "bytewise", True):
        return 1.0
    documents = [list(run) for is_text, run in groupby(ids, lambda i: i not in tokenizer.special_ids) if is_text]
    again = tokenizer.encode_batch([tokenizer.decode(document) for document in documents])
    pairs = [pair for old, new in zip(documents, again, strict=True) for pair in zip_longest(old, new.ids)]
    return sum(old == new for old, new in pairs) / max(1, len(pairs))


_STRAY_BYTES = {0xDC00 + byte: f"⟨{byte:02x}⟩" for byte in range(0x80, 0x100)} | {0xFFFD: "⟨fffd⟩"}


def decode_readably(piece: bytes) -> str:
    """Decode UTF-8; write a stray byte as ⟨d7⟩, and the replacement character U+FFFD as ⟨fffd⟩."""
    return piece.decode("utf-8", "surrogateescape").translate(_STRAY_BYTES)


def byte_letters() -> dict[str, int]:
    """Return the letters by which byte-level BPE represents bytes (GPT-2's `bytes_to_unicode`): printable Latin-1
    unchanged, the other bytes as code points from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
