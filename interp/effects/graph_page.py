"""The page of an attribution graph: one HTML file that contains its style, code and data, and works offline from
file://.

In: the data that `graph.js` draws: the graph as JSON, a card of each latent, and the measurements. Out: the file.
Corpus text in it is data, never markup: JSON that cannot close its script, drawn as text. The page runs no script but
its own.
"""

import base64
import hashlib
import html
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from interp.display.cards import script_json
from interp.storage.files import write_text


def write_graph_page(path: str | Path, content: Mapping[str, Any], *, title: str) -> None:
    """Write the page. content: its data, which must be JSON."""
    package = files("interp.effects")
    page, style, code = (package.joinpath(f"graph.{end}").read_text(encoding="utf-8") for end in ("html", "css", "js"))
    data = script_json(content)
    allowed = f"sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}"
    parts = {"hash": allowed, "title": html.escape(title), "style": style, "data": data, "code": code}
    write_text(path, re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], page))
