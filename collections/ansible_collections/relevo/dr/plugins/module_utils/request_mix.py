# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Requests to an application as its users send them: log in, keep the cookies, send a declared mix for a while, and keep what came of each."""

from __future__ import annotations

import http.cookiejar
import json
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import http_answer

# As many as say something about one in twenty, however slow each of them is.
LANES = 20
# For a mix that is too slow for its window; what was not sent by then is not.
GRACE_SECONDS = 30.0


@dataclass(frozen=True)
class Request:
    """One declared request. body: a mapping, sent as JSON; None for none. statuses: those that are an answer."""

    name: str
    path: str
    method: str = "GET"
    body: Optional[Mapping[str, Any]] = None
    statuses: tuple[int, ...] = (200,)
    token: str = ""


@dataclass(frozen=True)
class Answer:
    """seconds: until its last byte. status: None when there was none. said: of a JSON object, what it says; else empty. error: why it is not whole."""

    name: str
    ok: bool
    seconds: float
    status: Optional[int]
    said: Mapping[str, Any]
    error: Optional[str] = None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer of its own: a cookie must not follow it to somebody else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class User:
    """One who talks to one endpoint, with cookies of their own; TLS is verified. May send from several threads, as a browser does."""

    def __init__(self, endpoint: str, ca_file: str = "", limit_seconds: float = 5.0) -> None:
        scheme = urllib.parse.urlsplit(endpoint).scheme
        if scheme not in ("http", "https"):
            raise ValueError("an endpoint begins with http:// or https://")
        handlers = [urllib.request.ProxyHandler({}), _NoRedirect(), urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())]
        if scheme == "https":
            handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca_file or None)))
        self._opener = urllib.request.build_opener(*handlers)
        self._endpoint, self._limit = endpoint.rstrip("/"), limit_seconds

    def send(self, request: Request) -> Answer:
        """Never raises: whatever comes is an answer."""
        data = None if request.body is None else json.dumps(request.body).encode()
        headers = {"Content-Type": "application/json"} if data is not None else {}
        if request.token:
            headers["Authorization"] = "Bearer " + request.token
        asked = urllib.request.Request(self._endpoint + request.path, data=data, headers=headers, method=request.method)
        began, status, text, error = time.monotonic(), None, b"", None
        try:
            try:
                answer = self._opener.open(asked, timeout=self._limit)
            except urllib.error.HTTPError as refused:
                answer = refused
            with answer:
                status = answer.status
                text = http_answer.body(answer)
        except http_answer.FAULTS as wrong:
            error = http_answer.why(wrong)
        seconds = time.monotonic() - began
        ok = error is None and status in request.statuses
        return Answer(request.name, ok, seconds, status, http_answer.said(text), error)


def run(user: User, mix: Sequence[Request], window_seconds: float, per_second: float) -> list[Answer]:
    """The mix in turn, at that rate, for that long. A slow answer keeps only its own lane busy."""
    began, answers, lock = time.monotonic(), [], threading.Lock()
    turn = iter(range(max(1, int(window_seconds * per_second))))

    def lane() -> None:
        while True:
            with lock:
                number = next(turn, None)
            if number is None or time.monotonic() - began > window_seconds + GRACE_SECONDS:
                return
            time.sleep(max(0.0, began + number / per_second - time.monotonic()))
            answer = user.send(mix[number % len(mix)])
            with lock:
                answers.append(answer)

    threads = [threading.Thread(target=lane) for _ in range(LANES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
