"""What the essay asks of one analysis: what its prose tells, and figures that can be read."""

import json
from pathlib import Path

from analyses.essay.__main__ import ANALYSES
from analyses.essay.page import Chapter, write_page


def hold_to_prose(name: str, folder: Path) -> None:
    """Fill the prose with what an analysis wrote to its folder. Raises ValueError if a figure or number is missing, and
    AssertionError if a figure has no titles."""
    results = json.loads((folder / "results.json").read_text())
    for figure in results["figures"]:
        drawn = json.loads((folder / f"{figure}.json").read_text())
        axes = [value for key, value in drawn["layout"].items() if key.startswith(("xaxis", "yaxis"))]
        assert drawn["layout"]["title"]["text"] and (folder / f"{figure}.html").is_file(), figure
        has_none = drawn["data"][0].get("type") == "sankey" or "multiples" in figure
        assert has_none or any(axis.get("title", {}).get("text") for axis in axes), figure
    chapters = {each: Chapter(each, folder, "", results if each == name else None) for each in ANALYSES}
    write_page(chapters, folder / "page.html")
