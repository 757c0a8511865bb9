"""The dashboard on this machine's own address, for whoever sits at it: no other host, no other name, nothing but reading."""

from __future__ import annotations

import http.server
import threading
import time
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from relevo.dashboard_pages import FLEET, Site
from relevo.errors import RelevoError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from relevo.dashboard import Board

ADDRESS = "127.0.0.1"
# Another name that leads here is a page of somebody else that reads this one.
_NAMES = frozenset({"localhost", ADDRESS})
_KINDS = {"html": "text/html; charset=utf-8", "json": "application/json", "ics": "text/calendar; charset=utf-8"}
_PLAIN = "text/plain; charset=utf-8"
# As the pages say themselves, which know more exactly what they hold; and nobody may frame them.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_SILENT_SECONDS = 10
# Looked at again for each page, but never for more than a tenth of the time.
_SHARE, _SHORTEST_SECONDS = 10.0, 1.0


class Fresh:
    """A site that is made anew when it is asked for; as long as looking takes long, the last one, which says of when it is."""

    def __init__(self, look: Callable[[], Board], clock: Callable[[], float] = time.monotonic) -> None:
        self._look, self._clock = look, clock
        self._lock = threading.Lock()
        self._site: Site | None = None
        self._until = 0.0

    def read(self, path: str) -> bytes | None:
        """The file at a path of the site; None when there is none. RelevoError when the store is away."""
        with self._lock:
            began = self._clock()
            if self._site is None or began >= self._until:
                self._site = Site(self._look())
                ended = self._clock()
                self._until = ended + max(_SHARE * (ended - began), _SHORTEST_SECONDS)
            return self._site.read(path)


def bind(fresh: Fresh, port: int) -> http.server.ThreadingHTTPServer:
    """A server that listens on loopback, on any free port where 0 is asked for. UsageError when it cannot."""
    try:
        server = _Server((ADDRESS, port), _Pages)
    except (OSError, OverflowError) as error:
        message = (
            f"Port {port} of {ADDRESS} cannot be used: {getattr(error, 'strerror', None) or error}. Give another one with --port."
        )
        raise UsageError(message) from error
    server.fresh = fresh
    return server


class _Server(http.server.ThreadingHTTPServer):
    """fresh: the site that it shows."""

    fresh: Fresh


class _Pages(http.server.BaseHTTPRequestHandler):
    """Answers GET and HEAD with the files of the site, and nothing else."""

    server: _Server
    timeout = _SILENT_SECONDS
    server_version, sys_version = "relevo", ""

    def do_GET(self) -> None:
        """A file, with its contents."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """A file, without its contents."""
        self._answer(body=False)

    def end_headers(self) -> None:
        """Also of errors."""
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: the terminal is for whoever started it."""

    def _answer(self, *, body: bool) -> None:
        status, kind, contents = self._found()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(contents)))
        self.end_headers()
        if body:
            self.wfile.write(contents)

    def _found(self) -> tuple[HTTPStatus, str, bytes]:
        if not self._is_ours():
            return HTTPStatus.MISDIRECTED_REQUEST, _PLAIN, b"This dashboard answers to localhost only.\n"
        path = unquote(urlsplit(self.path).path).removeprefix("/") or FLEET
        try:
            contents = self.server.fresh.read(path)
        except RelevoError as error:
            return HTTPStatus.SERVICE_UNAVAILABLE, _PLAIN, f"{error}\n".encode("utf-8", "replace")
        if contents is None:
            return HTTPStatus.NOT_FOUND, _PLAIN, b"There is no such page. The fleet is at /\n"
        return HTTPStatus.OK, _KINDS[path.rpartition(".")[2]], contents

    def _is_ours(self) -> bool:
        """Whether it was asked by a name of this machine."""
        hosts = self.headers.get_all("Host") or []
        name, _, port = hosts[0].rpartition(":") if hosts and ":" in hosts[0] else ("".join(hosts), "", "")
        return len(hosts) == 1 and name.lower() in _NAMES and (not port or port == str(self.server.server_port))
