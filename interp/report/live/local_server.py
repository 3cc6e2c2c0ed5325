"""Serve one page over HTTP on 127.0.0.1, and answer the page's requests.

No other site can use the server from the browser. The host must be this machine by name (against DNS rebinding). A
request body must be JSON and come from this page (against forged requests). Only this page may read the answers.
"""

import json
import logging
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import ConfigDict
from typing_extensions import TypedDict

from interp.checks.errors import InterpError
from interp.checks.limits import STRICT

log = logging.getLogger(__name__)

MAX_BYTES = 1 << 20
"""Largest number of bytes that may be posted."""
HOSTS = ("127.0.0.1", "localhost")
SECONDS = 30
"""Longest time in seconds to wait for the next bytes of a request."""
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
CLOSED = "default-src 'none'"
"""The beginning of the content security policy of a page."""
ASKING = "default-src 'none'; connect-src 'self'"
"""The beginning of the policy of a page that may ask this server."""


class Asked(TypedDict):
    """The arguments of a posted call, and nothing else."""

    __pydantic_config__ = ConfigDict(**{**STRICT, "extra": "forbid"})  # type: ignore[misc]


class Refused(Exception):
    def __init__(self, status: HTTPStatus, reason: str):
        super().__init__(reason)
        self.status = status


class LocalServer(ThreadingHTTPServer):
    """A server of one page. Start it with `serve_forever`, in a `with` block. Subclasses define `file` and `answer`."""

    daemon_threads = True

    def __init__(self, port: int, policy: str):
        """Bind to a port.
        port: 0 means any free port.
        policy: the content security policy of the page. It allows requests to this server.
        Raises ValueError for a port that is in use."""
        self.policy = f"{policy.replace(CLOSED, ASKING, 1)}; frame-ancestors 'none'"
        try:
            super().__init__((HOSTS[0], port), Request)
        except (OSError, OverflowError) as error:  # the second for a number that no port has
            reason = getattr(error, "strerror", error)
            raise InterpError(f"port {port} is not available ({reason}): choose another port") from None

    @property
    def address(self) -> str:
        return f"http://{HOSTS[0]}:{self.server_port}"

    def file(self, path: str) -> tuple[str, bytes]:
        """Return the media type and bytes at a path. Raises Refused if there is nothing at the path."""
        raise Refused(HTTPStatus.NOT_FOUND, f"there is no {path}")

    def answer(self, path: str, request: Any) -> Any:
        """Answer a posted call. Raises ValueError for a call that cannot be done."""
        raise Refused(HTTPStatus.NOT_FOUND, f"there is no {path}")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a browser that left before its answer. Other errors are answered."""
        log.debug("%s left", client_address, exc_info=True)


def check_port(port: int) -> None:
    """Check a port before long work. Raises ValueError if it is in use."""
    LocalServer(port, CLOSED).server_close()


class Request(BaseHTTPRequestHandler):
    server: LocalServer
    timeout = SECONDS

    def do_GET(self) -> None:
        self._respond(lambda: self.server.file(self.path.partition("?")[0]))

    def do_POST(self) -> None:
        self._respond(lambda: json_response(self.server.answer(self.path, self._posted())))

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)

    def _respond(self, answer: Callable[[], tuple[str, bytes]]) -> None:
        try:
            self._check_sender()
            status, (media_type, body) = HTTPStatus.OK, answer()
        except Refused as error:
            status, (media_type, body) = error.status, json_response({"error": str(error)})
        except (ValueError, OSError) as error:
            status, (media_type, body) = HTTPStatus.BAD_REQUEST, json_response({"error": str(error)})
        except Exception:  # a mistake of ours must not stop the server; it is logged with its traceback
            log.exception("%s %s", self.command, self.path)
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            media_type, body = json_response({"error": "something went wrong; the terminal shows the error"})
        self.send_response(status)
        about = {"Content-Type": f"{media_type}; charset=utf-8", "Content-Length": str(len(body))}
        for name, value in (HEADERS | {"Content-Security-Policy": self.server.policy} | about).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _check_sender(self) -> None:
        host = self.headers.get("Host", "")
        origin = self.headers.get("Origin")
        if host.partition(":")[0] not in HOSTS:
            raise Refused(HTTPStatus.FORBIDDEN, f"the host {host!r} is not this machine: open {self.server.address}")
        if origin != f"http://{host}" and (origin is not None or self.command == "POST"):
            raise Refused(HTTPStatus.FORBIDDEN, f"the origin {origin!r} is not this page: open {self.server.address}")

    def _posted(self) -> Any:
        if self.headers.get_content_type() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a posted body must be application/json")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "a posted body must state its Content-Length")
        if int(length) > MAX_BYTES:
            many = f"{int(length):,} bytes are more than {MAX_BYTES:,}: shorten it"
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, many)
        try:
            return json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise InterpError(f"the posted body is not valid JSON ({error})") from None


def json_response(value: Any) -> tuple[str, bytes]:
    return "application/json", json.dumps(value, allow_nan=False).encode()
