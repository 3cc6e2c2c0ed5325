"""What the prose of the essay asks of one analysis."""

import json
from pathlib import Path

from analyses.essay.__main__ import ANALYSES
from analyses.essay.page import Chapter, write_page


def hold_to_prose(name: str, folder: Path) -> None:
    """Fill the prose with what an analysis wrote to its folder. Raises ValueError if a figure or number is missing."""
    results = json.loads((folder / "results.json").read_text())
    chapters = {each: Chapter(each, folder, "", results if each == name else None) for each in ANALYSES}
    write_page(chapters, folder / "page.html")
