"""Tokenize text as it is read into a file of tokens, for a corpus larger than memory.

In: documents, one after the other, and an existing tokenizer. Out: the file that `LabelledTokens.save` would write of
the same documents, without labels. `LabelledTokens.load` maps it, so a harvest reads what it needs from disk.

    tokenize_stream(stream_documents(config), tokenizer, 128, "train", "val", val_fraction=0.01)

Memory holds a million characters, and a number for each document, by which repeated ones are recognized. Complete rows
go to files next to the result, with a note of the progress. After a kill the same call resumes: it reads what it
tokenized already, without tokenizing it again. A document is put aside for validation by a hash of its work's name and
of the index of the million characters of the work in which it begins.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from interp.runtime.progress import Progress, no_progress
from interp.storage.files import atomic, read_json, tensors_header, write_json
from models.documents import Document
from models.pretrained_tokenizer import wrapped
from models.tokenizing import batches, encode_documents, opening_ids, unlike

_CHARACTERS_AT_ONCE = 1_000_000
_COLUMNS: dict[str, np.dtype] = {
    "tokens": np.dtype(np.int32),
    "document_ids": np.dtype(np.int32),
    "row_characters": np.dtype(np.int64),
}
_MAX_NAMES = 1 << 20
"""Documents whose works are named; later ones belong to the work "". A file's header, of at most 100 MB, is read
whole."""


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
    """Write the file `train` and, with `val_fraction` of the works, the file `val`: rows of n_ctx tokens, packed. What
    is there is replaced once the new files are whole. Returns the documents, tokens and characters of each.

    tokenizer and deduplicate: as in `models.tokenize`. Raises ValueError if a side has less than one row.
    """
    if n_ctx < 2:
        raise ValueError(f"n_ctx={n_ctx} must be at least 2")
    if not 0 <= val_fraction < 1 or (val_fraction > 0 and val is None):
        raise ValueError(f"val_fraction={val_fraction} must be in [0, 1), with a file `val` where it is above 0")
    tokenizer = wrapped(tokenizer)
    opening = opening_ids(tokenizer, "auto")
    paths = {"train": Path(train)} | ({} if val is None else {"val": Path(val)})
    made_of = {"n_ctx": n_ctx, "tokenizer": tokenizer.digest, "val_fraction": val_fraction, "seed": seed}
    spools = {side: _Spool(path, n_ctx, made_of) for side, path in paths.items()}
    n_done = min(spool.n_seen for spool in spools.values())
    for spool in spools.values():
        spool.go_back_to(n_done)
    sides = _by_side(unlike(documents) if deduplicate else documents, val_fraction, seed)
    try:
        _read_all(sides, spools, tokenizer, opening, n_done, progress)
    except BaseException:
        if not any(spool.n_seen for spool in spools.values()):
            for spool in spools.values():
                spool.clear()
        raise
    results = {}
    for side, spool in spools.items():
        if not spool.n_rows:
            for each in spools.values():
                each.clear()
            raise ValueError(f"the text for {side} gives less than one context of {n_ctx} tokens: give more")
        results[side] = spool.finish(tokenizer.digest)
    for spool in spools.values():
        spool.clear()
    return results


def _read_all(
    sides: Iterator[tuple[str, Document]],
    spools: Mapping[str, "_Spool"],
    tokenizer: Any,
    opening: list[int],
    n_done: int,
    progress: Progress,
) -> None:
    """Tokenize the documents of all sides, but for the first `n_done`."""
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


def _by_side(documents: Iterable[Document], val_fraction: float, seed: int) -> Iterator[tuple[str, Document]]:
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
    """The rows of one side in files, a column each, and the tokens that do not fill a row yet."""

    def __init__(self, path: Path, n_ctx: int, made_of: dict[str, Any]):
        self.path = path
        self.n_ctx = n_ctx
        self.made_of = made_of
        self.folder = path.with_name(f"{path.name}.rows")
        self.names = list[str]()
        self.n_seen, self.n_rows = 0, 0
        self._before: tuple[int, int, list] = (0, 0, [])
        self._rest = np.empty((3, 0), np.int64)  # tokens, their documents, their characters
        with suppress(FileNotFoundError, ValueError):
            note = read_json(self.folder / "note.json", "delete it")
            if note["made_of"] == made_of:
                self.n_seen, self.n_rows = note["n_seen"], note["n_rows"]
                self._rest = np.array(note["rest"], np.int64).reshape(3, -1)
                self._before = (*note["before"],)

    def go_back_to(self, n_seen: int) -> None:
        """Forget what came after so many documents, on both sides: at most the last batch."""
        if n_seen != self.n_seen:
            self.n_seen, self.n_rows, rest = self._before
            self._rest = np.array(rest, np.int64).reshape(3, -1)
            if self.n_seen != n_seen:
                raise ValueError(f"{self.folder} does not match the other side's: delete both")
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, dtype in _COLUMNS.items():
            width = 1 if name == "row_characters" else self.n_ctx
            with open(self.folder / name, "ab") as file:
                file.truncate(self.n_rows * width * dtype.itemsize)

    def add(self, encoded: Any, first: int, n_seen: int) -> None:
        """Take the tokens of the next documents, of which the first has the number `first`; None: of none."""
        self._before = (self.n_seen, self.n_rows, self._rest.tolist())
        if encoded is not None:
            documents = first + np.repeat(np.arange(len(encoded.lengths)), encoded.lengths)
            self._rest = np.concatenate([self._rest, [encoded.ids, documents, encoded.characters]], 1)
        n_new = self._rest.shape[1] // self.n_ctx
        rows = self._rest[:, : n_new * self.n_ctx].reshape(3, n_new, self.n_ctx)
        columns = {"tokens": rows[0], "document_ids": rows[1], "row_characters": rows[2].sum(1)}
        for name, dtype in _COLUMNS.items():
            with open(self.folder / name, "ab") as file:
                columns[name].astype(dtype).tofile(file)
        self._rest = self._rest[:, n_new * self.n_ctx :]
        self.n_seen, self.n_rows = n_seen, self.n_rows + n_new
        note = {"made_of": self.made_of, "n_seen": n_seen, "n_rows": self.n_rows, "rest": self._rest.tolist()}
        write_json(self.folder / "note.json", {**note, "before": list(self._before)})

    def finish(self, tokenizer: str) -> dict[str, int]:
        """Put the columns into the file, as `LabelledTokens.load` reads it; the labels, of which there are none, take
        no room on most disks."""
        rows = (self.n_rows, self.n_ctx)
        shapes = {"row_characters": rows[:1], "tokens": rows, "document_ids": rows, "label_bits": rows}
        entries = [
            (name, dtype, shapes[name], math.prod(shapes[name]) * dtype.itemsize)
            for name, dtype in (_COLUMNS | {"label_bits": np.dtype(np.int8)}).items()
        ]
        names = {"label_names": [], "document_names": self.names, "tokenizer": tokenizer}
        with atomic(self.path) as temporary, open(temporary, "wb") as file:
            file.write(tensors_header(entries, {"names": json.dumps(names)}))
            for name in _COLUMNS:
                with open(self.folder / name, "rb") as column:
                    shutil.copyfileobj(column, file, 1 << 20)
            file.truncate(file.tell() + math.prod(rows))
        characters = int(np.fromfile(self.folder / "row_characters", np.int64).sum())
        return {"documents": len(self.names), "tokens": self.n_rows * self.n_ctx, "characters": characters}

    def clear(self) -> None:
        shutil.rmtree(self.folder)
