"""Serve a run's page and its model, over HTTP on 127.0.0.1.

    GET  /, /assets/…              the page, with its live parts
    GET  /data/…                   the data that the stage `report` wrote
    GET  /api/{notes,hooks}        the notes in the run folder; the run's hooks in the model's order
    POST /api/{read,at,effects,edges,common,multiple,steer,dose,without,notes}
                                   JSON in, JSON out; a refusal is {"error": "…"}

`interp.report.live.local_server` restricts who may ask.

A run folder may come from someone else. So the page and its code are taken from the installation, and only data are
served from the folder: files that the run's manifest lists, that are not links, and that contain only JSON. None of
them can run code.
"""

from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import Field

from interp.checks.arguments import has_lone_surrogate
from interp.checks.errors import InterpError
from interp.checks.json_values import AtLeastOne, AtLeastZero, validate_json
from interp.display.scripts import join_scripts
from interp.report.inputs import ReadableRun
from interp.report.live.live_model import LiveModel
from interp.report.live.local_server import ASKING, CLOSED, Asked, LocalServer, Refused, json_response
from interp.report.notes import FILE_NAME, edit_notes, features_key, notes_of
from interp.report.writing import PAGE, assets, check_data_script, index, page_is_current, page_policy, plotly_script

MAX_NEW_TOKENS, MAX_MULTIPLE, MAX_HELD = 200, 100, 16
CONTENT_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
LAST_STYLE = '<link rel="stylesheet" href="assets/page.css">'

Latent = Annotated[str, Field(pattern="^(0|[1-9][0-9]{0,8})$")]
MAX_NOTE = 20_000
"""Largest number of characters of a label or note. A longer one, which another program wrote, can be edited but may not
grow."""
Multiple = Annotated[float, Field(ge=-MAX_MULTIPLE, le=MAX_MULTIPLE)]


class _Read(Asked):
    text: str


class _At(_Read):
    position: AtLeastZero


class _Effects(_At):
    token: AtLeastZero


class _OfLatent(_Read):
    latent: AtLeastZero


class _Edges(_At):
    other: str
    ablate: bool


class _Steer(Asked):
    prompt: str
    multiples: Annotated[dict[Latent, Multiple], Field(max_length=MAX_HELD)]
    n_tokens: Annotated[AtLeastOne, Field(le=MAX_NEW_TOKENS)]
    temperature: Annotated[float, Field(ge=0, le=10)]
    seed: Annotated[int, Field(ge=0, lt=2**31)]


class _Dose(Asked):
    latent: AtLeastZero


class _Without(_Dose):
    sequence: AtLeastZero


class _Common(_Dose):
    other: AtLeastZero


class _Edit(Asked):
    star: NotRequired[Annotated[list[bool], Field(min_length=2, max_length=2)]]
    label: NotRequired[Annotated[list[str], Field(min_length=2, max_length=2)]]
    note: NotRequired[Annotated[list[str], Field(min_length=2, max_length=2)]]


class _Edits(Asked):
    edits: dict[Latent, _Edit]


class Explorer(LocalServer):
    def __init__(self, run: ReadableRun, port: int = 0):
        """Serve the page of a run.
        port: 0 means any free port.

        Raises ValueError for a port that is in use, for a page of another version and for notes of other features, and
        AttributeError for a run that is not finished."""
        self.live = LiveModel(run)
        self.notes = run.path / FILE_NAME
        self.key = features_key(self.live.features)
        notes_of(self.notes, self.key)
        self._assets = {name: text.encode() for name, text in assets().items()}
        self._folder = run.page.parent.resolve()
        self._index = index(run.title)
        self._listed = set((run.manifest("report") or {"files": ()})["files"])
        if not page_is_current(self._folder):
            raise InterpError(f"{self._folder} has another version: `interp report {run.path}` writes it again")
        self._assets["plotly.js"] = plotly_script()
        self._assets["page.js"] = join_scripts(PAGE, "live/main.js").encode()
        self._assets["live.css"] = (PAGE / "live" / "live.css").read_bytes()
        super().__init__(port, page_policy())

    def index(self) -> bytes:
        """Return the page with its live parts, which may ask this server."""
        text = self._index.replace(CLOSED, ASKING, 1)
        return text.replace(LAST_STYLE, LAST_STYLE + LAST_STYLE.replace("page.css", "live.css")).encode()

    def file(self, path: str) -> tuple[str, bytes]:
        """Return the media type and bytes at a path. Only the page, its code and its data have a path."""
        if path in ("/", "/index.html"):
            return CONTENT_TYPES[".html"], self.index()
        if path == "/api/notes":
            return json_response(notes_of(self.notes, self.key))
        if path == "/api/hooks":
            return json_response({"own": self.live.hook, "all": self.live.hooks})
        _, folder, name = path.split("/") if path.count("/") == 2 else ("", "", "")
        if folder == "assets" and name in self._assets:
            return CONTENT_TYPES[Path(name).suffix], self._assets[name]
        if folder == "data" and name.endswith(".js") and (script := self._read(f"data/{name}")) is not None:
            check_data_script(name, script)
            return CONTENT_TYPES[".js"], script
        raise Refused(HTTPStatus.NOT_FOUND, f"there is no {path}")

    def _read(self, name: str) -> bytes | None:
        """Read a file of the page's folder. Returns None for a file that the run did not write, and for a path out of
        the folder."""
        file = self._folder / name
        if f"{self._folder.name}/{name}" not in self._listed or file.resolve() != file or not file.is_file():
            return None
        return file.read_bytes()

    def answer(self, path: str, request: Any) -> Any:
        """Answer a posted call. Raises ValueError for a call that cannot be done."""
        calls: dict[str, tuple[Any, Callable[..., Any]]] = {
            "/api/read": (_Read, self.live.read),
            "/api/at": (_At, self.live.at),
            "/api/effects": (_Effects, self.live.effects),
            "/api/common": (_Common, self.live.common),
            "/api/edges": (_Edges, self.live.edges),
            "/api/multiple": (_OfLatent, self.live.multiple),
            "/api/steer": (_Steer, self._steer),
            "/api/dose": (_Dose, self.live.dose),
            "/api/without": (_Without, self.live.without),
            "/api/notes": (_Edits, self._edit),
        }
        if path not in calls:
            raise Refused(HTTPStatus.NOT_FOUND, f"there is no {path}")
        request_type, call = calls[path]
        return call(**validate_json(request_type, request, f"what {path} was asked", "reload the page"))

    def _steer(self, prompt: str, multiples: dict[str, float], **options: Any) -> dict[str, Any]:
        return self.live.steer(prompt, {int(latent): multiple for latent, multiple in multiples.items()}, **options)

    def _edit(self, edits: dict[str, dict[str, list]]) -> dict[str, Any]:
        if wrong := [latent for latent in edits if int(latent) >= self.live.features.d_sae]:
            raise InterpError(f"latent {wrong[0]} is not in 0..{self.live.features.d_sae - 1}")
        for latent, fields in edits.items():
            for name, (before, after) in fields.items():
                if name != "star" and has_lone_surrogate(after):
                    raise InterpError(f"the {name} of latent {latent} contains an unpaired surrogate: remove it")
                if name != "star" and len(after) > max(MAX_NOTE, len(before)):
                    raise InterpError(
                        f"the {name} of latent {latent} has {len(after):,} characters: at most {MAX_NOTE:,}"
                    )
        return edit_notes(self.notes, self.key, edits)
