"""Serve the page of an attribution graph and its model, over HTTP on 127.0.0.1.

    GET  /                 the page, with its live parts
    POST /api/change       {"times": {node: number}} → the model's next tokens with these latents multiplied

`interp.report.live.local_server` restricts who may ask.
"""

import re
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from interp.activations.hooks import Model, token_strings_of
from interp.checks.errors import InterpError
from interp.checks.json_values import validate_json
from interp.codes.dictionary import Dictionary
from interp.effects import AttributionGraph, changed_next_tokens
from interp.report.live.local_server import ASKING, CLOSED, Asked, LocalServer

N_ANSWERED_TOKENS = 8
"""Number of next tokens in an answer."""
MAX_TIMES, MAX_CHANGED = 100, 4096


class _Change(Asked):
    times: Annotated[dict[str, Annotated[float, Field(ge=-MAX_TIMES, le=MAX_TIMES)]], Field(max_length=MAX_CHANGED)]


class GraphServer(LocalServer):
    """A server of the page of a graph, which also returns the model's next tokens with changed latents."""

    def __init__(
        self, page: Path, graph: AttributionGraph, model: Model, dictionaries: Mapping[str, Dictionary], port: int = 0
    ):
        """Serve `page`, the page of the graph (`AttributionGraph.to_html`).
        port: 0 means any free port.

        Raises ValueError for a port that is in use."""
        text = page.read_text(encoding="utf-8")
        policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
        if policy is None:
            raise InterpError(f"{page} is not the page of a graph: it has no content security policy")
        self._page = text.replace(CLOSED, ASKING, 1).replace("<body>", "<body data-live>", 1).encode()
        self._next_tokens = partial(changed_next_tokens, graph, model, dictionaries)
        self._nodes = {name: node for node, name in enumerate(graph.node_ids())}
        self._token_strings = token_strings_of(model)
        self._lock = threading.Lock()
        super().__init__(port, policy[1])

    def file(self, path: str) -> tuple[str, bytes]:
        return ("text/html", self._page) if path in ("/", "/index.html") else super().file(path)

    def answer(self, path: str, request: Any) -> Any:
        if path != "/api/change":
            return super().answer(path, request)
        times = validate_json(_Change, request, f"what {path} was asked", "reload the page")["times"]
        if unknown := [name for name in times if name not in self._nodes]:
            raise InterpError(f"{unknown[0]!r} is not a node of the graph")
        with self._lock:
            before = self._next_tokens({})
            after = self._next_tokens({self._nodes[name]: value for name, value in times.items()})
        likeliest = after.topk(min(N_ANSWERED_TOKENS, len(after))).indices.tolist()
        names = [str(token) if self._token_strings is None else self._token_strings[token] for token in likeliest]
        return {"next": [[name, float(before[t]), float(after[t])] for name, t in zip(names, likeliest, strict=True)]}
