"""Keep the stars, labels and notes of a reader. A page exports them, and a live page writes them to the run folder.

{"format": "interp-notes", "features": KEY, "notes": {"12": {"star": true, "label": "…", "note": "…"}}}
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from interp.checks.errors import DamagedError, OverwriteError
from interp.storage.files import digest_json, read_json, write_json
from interp.storage.format_numbers import check_format
from interp.storage.locks import wait_for_lock
from interp.storage.manifests import RUN_FILE

if TYPE_CHECKING:
    from interp.features.feature_store import FeatureStore

FILE_NAME = "notes.json"
NOTES_FORMAT = "interp-notes"
"""The format of notes; a later one will have a number, `interp-notes/2`."""
EMPTY_NOTE: Mapping[str, Any] = {"star": False, "label": "", "note": ""}
SEPARATORS = {"label": " / ", "note": "\n"}
"""The text between two versions of one field."""


def features_key(features: "FeatureStore") -> str:
    """Return a key of the features that notes belong to."""
    from interp.features.scan_checks import scan_identity

    return digest_json(scan_identity(features))[:16]


def read_notes(file: str | Path) -> pd.DataFrame:
    """Read the notes that a page exported, as one row for each latent with a note: latent, star, label, note.
    `attrs["features"]` is the page's key of the features that the notes belong to. Raises ValueError, naming the file,
    for a file that is not an export of a page, and FileNotFoundError if the file does not exist."""
    exported = _read_checked(file)
    rows = sorted((int(latent), *(note[name] for name in EMPTY_NOTE)) for latent, note in exported["notes"].items())
    table = pd.DataFrame(rows, columns=["latent", *EMPTY_NOTE])
    table.attrs["features"] = exported.get("features")
    return table


def notes_of(file: Path, key: str) -> dict[str, dict[str, Any]]:
    """Return latent → note. It is empty if the file does not exist. Raises OverwriteError for notes of other
    features."""
    return _read_all(file, key)["notes"]


def _read_all(file: Path, key: str) -> dict[str, Any]:
    """Read the whole content of the file."""
    content: dict[str, Any] = (
        _read_checked(file) if os.path.lexists(file) else {"format": NOTES_FORMAT, "features": key, "notes": {}}
    )
    if content.get("features") != key:
        raise OverwriteError(f"{file} has notes of other features: move it away, and export or import its notes")
    return content


def edit_notes(file: Path, key: str, edits: Mapping[str, Mapping[str, Sequence]]) -> dict[str, dict[str, Any]]:
    """Change fields of notes in a run folder, each from the value that its writer saw to a new value. Returns all
    notes.

    edits: latent → field → (before, after). If somebody else changed a text in the meantime, both versions are kept.
    Fields of other programs in the file stay as they are.
    """
    # Not under the lock of the folder, which a stage holds for a long time.
    with wait_for_lock(file.parent / RUN_FILE):
        content = _read_all(file, key)
        notes = content["notes"]
        for latent, fields in edits.items():
            note = {**EMPTY_NOTE, **notes.pop(latent, {})}
            note |= {name: _merge(SEPARATORS.get(name), note[name], *pair) for name, pair in fields.items()}
            if note != EMPTY_NOTE:
                notes[latent] = note
        write_json(file, content)
    return notes


def _merge(between: str | None, now: Any, before: Any, after: Any) -> Any:
    """Return the new value of a field whose value is `now`, if somebody who saw `before` writes `after`."""
    if between is None or now in (before, after):
        return after
    others = now.removeprefix(before + between).removesuffix(between + before) if before else now
    return between.join(text for text in (after, others) if text)


def _read_checked(file: str | Path) -> dict[str, Any]:
    exported = read_json(Path(file), "export the notes again")
    check_format(exported.get("format"), f"{NOTES_FORMAT}/1", file)
    notes = exported.get("notes") if exported.get("format") == NOTES_FORMAT else None
    if not isinstance(notes, dict):
        raise DamagedError(f"{file} holds no notes exported from a page: its button Export writes them")
    for latent, note in notes.items():
        fields = {**EMPTY_NOTE, **note} if isinstance(note, dict) else {}
        if not latent.isdecimal() or [type(fields.get(name)) for name in EMPTY_NOTE] != [bool, str, str]:
            raise DamagedError(f"{file} is damaged, its note of latent {latent!r} is not valid: export it again")
        notes[latent] = fields
    return exported
