# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The application on a restored copy: started as its own user, asked as a user would ask, and stopped."""

from __future__ import annotations

import contextlib
import http.cookiejar
import json
import os
import pwd
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.postgresql import owner_switch
from ansible_collections.relevo.dr.plugins.module_utils.restore_ladder import RungFailed

_OWN = ("127.0.0.1", "localhost", "::1")
_ANSWER_BYTES = 1 << 20


class Application:
    """declared: dr_backup_prove_application with every @placeholder@ filled in; log: where it writes."""

    def __init__(self, declared: Mapping[str, Any], log: str) -> None:
        self._declared, self._log = declared, log
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._cookies = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        )

    def start(self) -> None:
        """Start it and wait until it is ready. Raises RungFailed."""
        for step in ("ready", "login", *range(len(self._declared.get("reads") or []))):
            url = self._step(step).get("url", "")
            if urllib.parse.urlsplit(url).hostname not in _OWN:
                raise RungFailed("the URL %s is not on this host" % url, "declare URLs on 127.0.0.1 in dr_backup_prove_application")
        user = str(self._declared["user"])
        try:
            home = pwd.getpwnam(user).pw_dir
        except KeyError:
            raise RungFailed("the user %s does not exist here" % user, "install the application's release on the sandbox") from None
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": home, "LC_ALL": "C.UTF-8"}
        environment.update({str(name): str(value) for name, value in (self._declared.get("environment") or {}).items()})
        try:
            with open(self._log, "wb") as log:
                self._process = subprocess.Popen(
                    [str(word) for word in self._declared["command"]],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=str(self._declared.get("directory") or "/"),
                    env=environment,
                    start_new_session=True,
                    **owner_switch(user),
                )
        except OSError as error:
            raise RungFailed("the application cannot be started: %s" % error, "install its release on the sandbox") from None
        self._wait()

    def _wait(self) -> None:
        step = self._step("ready")
        deadline = time.monotonic() + float(step.get("seconds") or 60)
        said = ""
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                raise RungFailed("the application ended: %s" % self._tail(), "read its log; is every secret and library there?")
            try:
                self._ask(step)
                return
            except RungFailed as failed:
                said = failed.observed
            time.sleep(0.2)
        raise RungFailed("the application is not ready: %s" % said, "read its log: %s" % self._tail())

    def log_in(self) -> str:
        """As a user would. Raises RungFailed; what was sent is never shown."""
        self._ask(self._step("login"))
        reads = [self._ask(self._step(number)) for number in range(len(self._declared.get("reads") or []))]
        return "logged in at %s%s" % (
            self._step("login")["url"],
            "".join("; %s answered %d bytes as declared" % (self._step(n)["url"], len(body)) for n, body in enumerate(reads)),
        )

    def stop(self) -> None:
        """Stop it and what it started."""
        if self._process is None:
            return
        for number, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
                break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process = None

    def _step(self, step: Any) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._declared["reads"][step] if isinstance(step, int) else self._declared[step]
        return found

    def _ask(self, step: Mapping[str, Any]) -> str:
        body = step.get("body")
        data = None if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
        headers = (
            {"Content-Type": "application/json", **(step.get("headers") or {})}
            if data is not None
            else dict(step.get("headers") or {})
        )
        request = urllib.request.Request(
            step["url"], data=data, headers=headers, method=str(step.get("method") or ("POST" if data else "GET"))
        )
        try:
            with self._cookies.open(request, timeout=15) as answer:
                status, text = answer.status, answer.read(_ANSWER_BYTES).decode(errors="replace")
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read(2000).decode(errors="replace")
        except (urllib.error.URLError, OSError) as error:
            raise RungFailed(
                "%s does not answer: %s" % (step["url"], getattr(error, "reason", error)), "read the application's log"
            ) from None
        wanted = int(step.get("status") or 200)
        if status != wanted:
            raise RungFailed(
                "%s answered %d, not %d: %s" % (step["url"], status, wanted, text[:200].strip()), "read the application's log"
            )
        if step.get("contains") and str(step["contains"]) not in text:
            raise RungFailed("%s answered %d without %r" % (step["url"], status, step["contains"]), "compare with what is declared")
        return str(text)

    def _tail(self) -> str:
        with contextlib.suppress(OSError), open(self._log, encoding="utf-8", errors="replace") as source:
            return " | ".join(source.read().strip().splitlines()[-3:])[:400]
        return "no log"


def filled(value: Any, words: Mapping[str, str]) -> Any:
    """A declaration with every ``@name@`` replaced."""
    if isinstance(value, Mapping):
        return {key: filled(inner, words) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [filled(inner, words) for inner in value]
    if isinstance(value, str):
        for name, word in words.items():
            value = value.replace("@%s@" % name, word)
    return value
