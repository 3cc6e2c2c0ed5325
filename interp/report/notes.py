"""The stars, labels and notes that a reader exported from a page.

In: the JSON file. Out: a DataFrame, a row a latent with a note: latent, star, label, note.
"""

from pathlib import Path

import pandas as pd

from interp.files import read_json

FORMAT = "interp-notes"


def read_notes(file: str | Path) -> pd.DataFrame:
    """`attrs["features"]` is the page's key of the features that they are of. Raises ValueError, naming the file, for
    what is no export of a page, FileNotFoundError where there is none."""
    found = read_json(Path(file), "export the notes again")
    notes = found.get("notes") if isinstance(found, dict) and found.get("format") == FORMAT else None
    if not isinstance(notes, dict):
        raise ValueError(f"{file} holds no notes that a page exported: its button Export writes them")
    rows = []
    for latent, note in notes.items():
        fields = {"star": False, "label": "", "note": ""} | (note if isinstance(note, dict) else {"star": None})
        kinds = [type(fields[name]) for name in ("star", "label", "note")]
        if not latent.isdecimal() or kinds != [bool, str, str]:
            raise ValueError(f"{file} is damaged, its note of latent {latent!r} is none: export the notes again")
        rows.append((int(latent), fields["star"], fields["label"], fields["note"]))
    table = pd.DataFrame(sorted(rows), columns=["latent", "star", "label", "note"])
    table.attrs["features"] = found.get("features")
    return table
