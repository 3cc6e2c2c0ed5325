"""Tokenize text as it is read into files, for a corpus larger than memory.

In: documents, one after the other, and an existing tokenizer. Out: a folder, here or at an address (`token_files`).
`LabelledTokens.load` gives the tokens that `tokenize` makes of the same documents, without labels, and maps them, so a
harvest reads what it needs from disk.

    tokenize_stream(stream_documents(config), tokenizer, 128, "train", "val", val_fraction=0.01)

Memory holds a million characters, and a number for each document, by which repeated ones are recognized. Complete rows
go to the files, with a note of the progress. After a kill the same call resumes: it reads what it tokenized already,
without tokenizing it again, and compares its digest with the note. A document is put aside for validation by a hash of
its work's name and of the index of the million characters of the work in which it begins.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from interp.checks.errors import InterpError
from interp.checks.limits import check_at_least
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress
from interp.storage.files import read_any_json, write_json
from interp.storage.folders import atomic_folder
from models.documents import Document
from models.pretrained_tokenizer import wrap_tokenizer
from models.token_files import TokenWriter
from models.tokenizing import batches, drop_duplicates, encode_documents, opening_ids

_CHARACTERS_AT_ONCE = 1_000_000
_NOTE_FILE = "note.json"
_MAX_NAMES = 1 << 20
"""Documents whose works are named; later ones belong to the work "": the names are held in memory."""


@shows_progress
def tokenize_stream(
    documents: Iterable[Document],
    tokenizer: Any,
    n_ctx: int,
    train: str | Path,
    val: str | Path | None = None,
    *,
    val_fraction: float = 0.0,
    seed: int = 0,
    progress: Progress = no_progress,
) -> dict[str, dict[str, int]]:
    """Write the folder `train` and, with `val_fraction` of the works, the folder `val`: rows of n_ctx tokens, packed.
    What an earlier call left there is replaced once the new files are whole. Returns the documents, tokens and
    characters of each.

    tokenizer: as in `models.tokenize`. Repeated documents are kept once. Raises ValueError if a side has less than one
    row, and if an interrupted call read other text; its work is then removed.
    """
    check_at_least(2, n_ctx=n_ctx)
    if not 0 <= val_fraction < 1 or (val_fraction > 0 and val is None):
        raise InterpError(f"val_fraction={val_fraction} must be in [0, 1), with a folder `val` where it is above 0")
    tokenizer = wrap_tokenizer(tokenizer)
    paths = {"train": train} | ({} if val is None else {"val": val})
    made_of = {"kind": "tokens", "n_ctx": n_ctx, "tokenizer": tokenizer.digest}
    made_of |= {"val_fraction": val_fraction, "seed": seed}
    divided = _divide(drop_duplicates(documents), val_fraction, seed)
    with ExitStack() as stack:
        folders = {
            side: stack.enter_context(atomic_folder(path, made_of, resumes=True, overwrite=True))
            for side, path in paths.items()
        }
        return _Tokenization(folders, n_ctx, tokenizer).run(divided, progress)


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


class _Tokenization:
    """The sides of a corpus in their folders, and a note of the progress in the first of them."""

    def __init__(self, folders: dict[str, Path], n_ctx: int, tokenizer: Any):
        self.tokenizer = tokenizer
        self.sides = {side: _Side(folder, n_ctx) for side, folder in folders.items()}
        self.note = next(iter(folders.values())) / _NOTE_FILE
        self.n_before = 0
        """Documents whose rows an interrupted call has written."""
        self.text_before = ""
        with suppress(FileNotFoundError, ValueError):
            self.n_before, self.text_before, state = read_any_json(self.note, "delete it")
            if not all([side.go_back_to(*state[name]) for name, side in self.sides.items()]):
                self.n_before = 0
        if not self.n_before:
            self._remove_all()

    def run(self, documents: Iterator[tuple[str, Document]], progress: Progress) -> dict[str, dict[str, int]]:
        opening = opening_ids(self.tokenizer, "auto")
        n_read = 0
        characters = 0
        text = hashlib.sha256()
        for batch in batches(documents, lambda pair: pair[1], _CHARACTERS_AT_ONCE):
            is_new = n_read >= self.n_before
            n_read += len(batch)
            for name, document in batch:
                characters += len(document.text)
                text.update(repr((name, document.name, document.text)).encode())
                self.sides[name].add_name(document.name)
            if is_new:
                for name, side in self.sides.items():
                    if of_side := [document for side_of, document in batch if side_of == name]:
                        side.add(encode_documents(of_side, self.tokenizer, opening, []))
                state = {name: side.state for name, side in self.sides.items()}
                write_json(self.note, [n_read, text.hexdigest(), state], indent=None)
            elif n_read >= self.n_before and (n_read, text.hexdigest()) != (self.n_before, self.text_before):
                break
            progress(characters, characters, f"{n_read:,} documents")
        else:
            if n_read >= self.n_before:
                return self._finish()
        self._remove_all()
        raise InterpError("an earlier call was interrupted in other text; what it made is removed now: call it again")

    def _finish(self) -> dict[str, dict[str, int]]:
        if empty := [name for name, side in self.sides.items() if not side.n_rows]:
            self._remove_all()
            raise InterpError(f"the text for {empty[0]} gives less than one row of tokens: give more")
        self.note.unlink()
        return {name: side.finish(self.tokenizer.digest) for name, side in self.sides.items()}

    def _remove_all(self) -> None:
        """Leave nothing that a later call would resume."""
        self.note.unlink(missing_ok=True)
        for side in self.sides.values():
            side.go_back_to(0, 0, [])


class _Side:
    """The rows of one side, and the tokens that do not fill a row yet."""

    def __init__(self, folder: Path, n_ctx: int):
        self.n_ctx = n_ctx
        self.names = list[str]()
        self.n_rows = 0
        self.characters = 0
        self._writer = TokenWriter(folder, n_ctx)
        self._unfilled = np.empty((3, 0), np.int64)  # tokens, their documents, their characters

    @property
    def state(self) -> tuple[int, int, list]:
        return self.n_rows, self.characters, self._unfilled.tolist()

    def add_name(self, name: str) -> None:
        """Take the name of the next document."""
        self.names.append(name if len(self.names) < _MAX_NAMES else "")

    def go_back_to(self, n_rows: int, characters: int, unfilled: list) -> bool:
        """Forget the rows after the first `n_rows`. Returns whether there are as many."""
        self.n_rows = n_rows
        self.characters = characters
        self._unfilled = np.array(unfilled, np.int64).reshape(3, -1)
        return self._writer.go_back_to(n_rows)

    def add(self, encoded: Any) -> None:
        """Take the tokens of the documents whose names were taken last."""
        first = len(self.names) - len(encoded.lengths)
        documents = first + np.repeat(np.arange(len(encoded.lengths)), encoded.lengths)
        tokens = np.concatenate([self._unfilled, [encoded.ids, documents, encoded.characters]], 1)
        n_new = tokens.shape[1] // self.n_ctx
        rows = tokens[:, : n_new * self.n_ctx].reshape(3, n_new, self.n_ctx)
        columns = {"tokens": rows[0], "document_ids": rows[1], "row_characters": rows[2].sum(1)}
        self._writer.append(columns)
        self._unfilled = tokens[:, n_new * self.n_ctx :]
        self.n_rows += n_new
        self.characters += int(columns["row_characters"].sum())

    def finish(self, tokenizer: str) -> dict[str, int]:
        self._writer.finish(self.n_rows, self.names, tokenizer)
        return {"documents": len(self.names), "tokens": self.n_rows * self.n_ctx, "characters": self.characters}
