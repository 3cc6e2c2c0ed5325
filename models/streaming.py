"""Tokenize text as it is read into files of tokens, for a corpus larger than memory.

In: documents, one after the other, and an existing tokenizer. Out: a folder of files of a bounded size
(`token_shards`), here or at an address. `LabelledTokens.load` gives the tokens that `tokenize` makes of the same
documents, without labels, and maps them, so a harvest reads what it needs from disk.

    tokenize_stream(stream_documents(config), tokenizer, 128, "train", "val", val_fraction=0.01)

Memory holds a million characters, and a number for each document, by which repeated ones are recognized. Complete rows
go to the files, with a note of the progress. After a kill the same call resumes: it reads what it tokenized already,
without tokenizing it again. A document is put aside for validation by a hash of its work's name and of the index of the
million characters of the work in which it begins.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from interp.runtime.progress import Progress, no_progress
from interp.storage.files import read_json, write_json
from interp.storage.folders import whole_folder
from models.documents import Document
from models.pretrained_tokenizer import wrap_tokenizer
from models.token_shards import TokenWriter
from models.tokenizing import batches, drop_duplicates, encode_documents, opening_ids

_CHARACTERS_AT_ONCE = 1_000_000
_NOTE_FILE = "note.json"
_MAX_NAMES = 1 << 20
"""Documents whose works are named; later ones belong to the work "": the names are held in memory."""


def tokenize_stream(
    documents: Iterable[Document],
    tokenizer: Any,
    n_ctx: int,
    train: str | Path,
    val: str | Path | None = None,
    *,
    val_fraction: float = 0.0,
    seed: int = 0,
    deduplicate: bool = True,
    progress: Progress = no_progress,
) -> dict[str, dict[str, int]]:
    """Write the folder `train` and, with `val_fraction` of the works, the folder `val`: rows of n_ctx tokens, packed.
    What an earlier call left there is replaced once the new files are whole. Returns the documents, tokens and
    characters of each.

    tokenizer and deduplicate: as in `models.tokenize`. Raises ValueError if a side has less than one row.
    """
    if n_ctx < 2:
        raise ValueError(f"n_ctx={n_ctx} must be at least 2")
    if not 0 <= val_fraction < 1 or (val_fraction > 0 and val is None):
        raise ValueError(f"val_fraction={val_fraction} must be in [0, 1), with a folder `val` where it is above 0")
    tokenizer = wrap_tokenizer(tokenizer)
    opening = opening_ids(tokenizer, "auto")
    paths = {"train": train} | ({} if val is None else {"val": val})
    made_of = {"kind": "tokens", "n_ctx": n_ctx, "tokenizer": tokenizer.digest}
    made_of |= {"val_fraction": val_fraction, "seed": seed}
    with ExitStack() as folders:
        spools = {
            side: _Spool(
                folders.enter_context(whole_folder(path, made_of, interrupted="resume", overwrite=True)), n_ctx
            )
            for side, path in paths.items()
        }
        n_done = min(spool.n_seen for spool in spools.values())
        if not all([spool.go_back_to(n_done) for spool in spools.values()]):
            n_done = 0
            for spool in spools.values():
                spool.go_back_to(0)
        try:
            sides = _divide(drop_duplicates(documents) if deduplicate else documents, val_fraction, seed)
            _read_all(sides, spools, tokenizer, opening, n_done, progress)
            if empty := [side for side, spool in spools.items() if not spool.n_rows]:
                raise _TooLittle(f"the text for {empty[0]} gives less than one context of {n_ctx} tokens: give more")
        except BaseException as error:
            if isinstance(error, _TooLittle) or not any(spool.n_seen for spool in spools.values()):
                for spool in spools.values():
                    spool.clear()
            raise
        return {side: spool.finish(tokenizer.digest) for side, spool in spools.items()}


class _TooLittle(ValueError):
    """Going on would not help."""


def _read_all(
    sides: Iterator[tuple[str, Document]],
    spools: Mapping[str, "_Spool"],
    tokenizer: Any,
    opening: list[int],
    n_done: int,
    progress: Progress,
) -> None:
    """Tokenize the documents of both sides, except the first `n_done`."""
    n_seen = 0
    characters = 0
    for batch in batches(sides, lambda pair: pair[1], _CHARACTERS_AT_ONCE):
        n_seen += len(batch)
        characters += sum(len(document.text) for _, document in batch)
        for side, spool in spools.items():
            documents = [document for side_of, document in batch if side_of == side]
            first = len(spool.names)
            spool.names += [document.name if i < _MAX_NAMES else "" for i, document in enumerate(documents, first)]
            if n_seen > n_done:
                spool.add(encode_documents(documents, tokenizer, opening, []) if documents else None, first, n_seen)
        progress(characters, characters, f"{n_seen:,} documents")


def _divide(documents: Iterable[Document], val_fraction: float, seed: int) -> Iterator[tuple[str, Document]]:
    name = ""
    characters = 0
    for document in documents:
        characters = characters if document.name == name else 0
        name = document.name
        key = f"{seed}:{name}:{characters // _CHARACTERS_AT_ONCE}"
        share = int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / (1 << 48)
        characters += len(document.text)
        yield ("val" if share < val_fraction else "train"), document


class _Spool:
    """The rows of one side in a folder, and the tokens that do not fill a row yet."""

    def __init__(self, folder: Path, n_ctx: int):
        self.folder = folder
        self.n_ctx = n_ctx
        self.names = list[str]()
        self._shards = TokenWriter(folder, n_ctx)
        self._set(0, 0, 0, [])
        self._before: tuple[int, int, int, list] = (0, 0, 0, [])
        with suppress(FileNotFoundError, ValueError):
            note = read_json(folder / _NOTE_FILE, "delete it")
            self._set(*note["now"])
            self._before = (*note["before"],)

    def _set(self, n_seen: int, n_rows: int, characters: int, rest: list) -> None:
        self.n_seen = n_seen
        self.n_rows = n_rows
        self.characters = characters
        self._unfilled = np.array(rest, np.int64).reshape(3, -1)  # tokens, their documents, their characters

    def go_back_to(self, n_seen: int) -> bool:
        """Forget what came after so many documents: the last batch, or all. Tell whether that is possible."""
        if n_seen != self.n_seen:
            self._set(*(self._before if n_seen else (0, 0, 0, [])))
            if self.n_seen != n_seen:
                return False
        self._shards.go_back_to(self.n_rows)
        return True

    def add(self, encoded: Any, first: int, n_seen: int) -> None:
        """Take the tokens of the next documents, of which the first has the number `first`."""
        self._before = (self.n_seen, self.n_rows, self.characters, self._unfilled.tolist())
        if encoded is not None:
            documents = first + np.repeat(np.arange(len(encoded.lengths)), encoded.lengths)
            self._unfilled = np.concatenate([self._unfilled, [encoded.ids, documents, encoded.characters]], 1)
        n_new = self._unfilled.shape[1] // self.n_ctx
        rows = self._unfilled[:, : n_new * self.n_ctx].reshape(3, n_new, self.n_ctx)
        columns = {"tokens": rows[0], "document_ids": rows[1], "row_characters": rows[2].sum(1)}
        self._shards.append(columns, self.n_rows)
        self._unfilled = self._unfilled[:, n_new * self.n_ctx :]
        self.n_seen, self.n_rows = n_seen, self.n_rows + n_new
        self.characters += int(columns["row_characters"].sum())
        now = (n_seen, self.n_rows, self.characters, self._unfilled.tolist())
        write_json(self.folder / _NOTE_FILE, {"now": now, "before": self._before}, indent=None)

    def finish(self, tokenizer: str) -> dict[str, int]:
        self._shards.finish(self.n_rows, self.names, tokenizer)
        (self.folder / _NOTE_FILE).unlink()
        return {"documents": len(self.names), "tokens": self.n_rows * self.n_ctx, "characters": self.characters}

    def clear(self) -> None:
        for file in self.folder.iterdir():
            file.unlink()
