#!/usr/bin/python3
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The ledger writer: numbered writes through the application's own path, each one accounted for.

One line on disk before a request goes out, one after its answer came. A number is never used twice. While no endpoint is known to be good,
every endpoint is tried by a lane of its own, so that a hanging one does not delay the discovery of a working one.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import re
import secrets
import signal
import socket
import ssl
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

PACE_FILE = "/run/relevo-ledger/pace.json"
LOG_NAME = "ledger.jsonl"
TAIL_BYTES = 262144


class NotSentError(Exception):
    """The attempt ended before a byte of the write left this host."""


@dataclass(frozen=True)
class Answer:
    """How an attempt ended: acknowledged, failed (surely without effect) or indeterminate."""

    outcome: str
    server: Optional[str] = None
    status: Optional[int] = None
    error: Optional[str] = None


class Log:
    """Append-only JSON lines, each durable before `append` returns; bounded by rotation, numbered across restarts."""

    def __init__(self, directory: str, max_bytes: int, files: int) -> None:
        self._path = Path(directory) / LOG_NAME
        self._max_bytes, self._files = max_bytes, files
        self._lock = threading.Lock()
        self._descriptor = self._open()

    def _open(self) -> int:
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
        size = os.fstat(descriptor).st_size
        # A torn last line (power cut) must not swallow the next one.
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            os.write(descriptor, b"\n")
        return descriptor

    def last_intent(self) -> Optional[dict[str, Any]]:
        """The intent with the highest number, from the end of the newest file that has one."""
        for path in (self._path, self._path.with_name(LOG_NAME + ".1")):
            if not path.exists():
                continue
            with path.open("rb") as source:
                source.seek(max(0, path.stat().st_size - TAIL_BYTES))
                intents = [entry for entry in map(_parse, source) if entry and entry.get("kind") == "intent"]
            if intents:
                return max(intents, key=lambda entry: int(entry["n"]))
        return None

    def append(self, entry: dict[str, Any]) -> None:
        """Write one line; it is on disk when this returns."""
        line = (json.dumps(entry, separators=(",", ":")) + "\n").encode()
        with self._lock:
            if entry["kind"] == "intent" and os.fstat(self._descriptor).st_size > self._max_bytes:
                self._rotate()
            if os.write(self._descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, "the line was not written whole", LOG_NAME)
            os.fdatasync(self._descriptor)

    def _rotate(self) -> None:
        os.close(self._descriptor)
        for number in range(self._files, 0, -1):
            older = self._path.with_name("%s.%d" % (LOG_NAME, number))
            if older.exists():
                older.replace(self._path.with_name("%s.%d" % (LOG_NAME, number + 1)))
        self._path.replace(self._path.with_name(LOG_NAME + ".1"))
        self._path.with_name("%s.%d" % (LOG_NAME, self._files + 1)).unlink(missing_ok=True)
        self._descriptor = self._open()
        directory = os.open(self._path.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)


def _parse(line: bytes) -> Optional[dict[str, Any]]:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def stamp() -> dict[str, Any]:
    """This moment on both clocks."""
    return {
        "at": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "mono": round(time.clock_gettime(time.CLOCK_BOOTTIME), 6),
    }


def boot_id() -> str:
    """The kernel's id of this boot; `mono` means something only within one."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


class Pace:
    """Seconds between writes: the configured pace, or a faster one for as long as the pace file says."""

    def __init__(self, quiet_seconds: float, path: str = PACE_FILE, key: str = "ledger_interval_seconds") -> None:
        self._quiet_seconds, self._path, self._key = quiet_seconds, Path(path), key
        self._seen: Optional[tuple[int, int]] = None
        self._fast_seconds, self._until = quiet_seconds, 0.0

    def seconds(self) -> float:
        """Between two tries, at this moment."""
        try:
            found = self._path.stat()
        except OSError:
            return self._quiet_seconds
        if self._seen != (found.st_mtime_ns, found.st_ino):
            self._seen = (found.st_mtime_ns, found.st_ino)
            self._fast_seconds, self._until = self._read()
        return self._fast_seconds if time.time() < self._until else self._quiet_seconds

    def _read(self) -> tuple[float, float]:
        try:
            wish = json.loads(self._path.read_text(encoding="utf-8"))
            return max(0.005, float(wish[self._key])), float(wish["until"])
        except (OSError, ValueError, KeyError, TypeError):
            return self._quiet_seconds, 0.0


class Http:
    """One declared request to one endpoint. A connection of its own for every attempt: a refused one surely had no effect."""

    def __init__(self, endpoint: str, request: dict[str, Any], seconds: float) -> None:
        self.name = endpoint
        self._url = urllib.parse.urlsplit(endpoint)
        self._request, self._seconds = request, seconds
        self._token = Path(request["token_file"]).read_text(encoding="utf-8").strip()
        self._tls = ssl.create_default_context(cafile=request.get("ca_file")) if self._url.scheme == "https" else None

    def write(self, reference: str) -> Answer:
        """Send the request once."""
        deadline = time.monotonic() + self._seconds
        body = json.dumps(self._request["body"]).replace("{reference}", reference)
        headers = {"Content-Type": "application/json", "Authorization": "Bearer " + self._token, "Connection": "close"}
        connection = self._connect()
        try:
            connection.request(self._request["method"], self._url.path.rstrip("/") + self._request["path"], body, headers)
            response = connection.getresponse() if self._wait(connection, deadline) else None
            text = response.read(65536) if response is not None and self._wait(connection, deadline) else b""
        except (OSError, http.client.HTTPException) as error:
            return Answer("indeterminate", error=_sentence(error))
        finally:
            connection.close()
        return self._judge(response.status, text) if response is not None else Answer("indeterminate", error="no time left")

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        connection: http.client.HTTPConnection
        if self._tls is not None:
            connection = http.client.HTTPSConnection(host, port, timeout=self._seconds, context=self._tls)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=self._seconds)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise NotSentError(_sentence(error)) from error
        return connection

    @staticmethod
    def _wait(connection: http.client.HTTPConnection, deadline: float) -> bool:
        left = deadline - time.monotonic()
        if connection.sock is not None and left > 0:
            connection.sock.settimeout(left)
        return left > 0

    def _judge(self, status: int, text: bytes) -> Answer:
        said = _parse(text) or {}
        server = said.get("server")
        server = server if isinstance(server, str) else None
        if status in self._request["acknowledged_statuses"]:
            return Answer("acknowledged", server, status)
        error = str(said.get("error") or "status %d" % status)[:200]
        # Anything else may have come after the commit, unless the application says that nothing was committed.
        certain = status in self._request["failed_statuses"] or said.get("committed") is False
        return Answer("failed" if certain else "indeterminate", server, status, error)


class Sql:
    """One declared statement over the application's own DSN (and pooler)."""

    def __init__(self, request: dict[str, Any], seconds: float) -> None:
        # Not needed for the http writer, and not installed everywhere.
        import psycopg

        self._psycopg = psycopg
        self.name = "sql"
        self._request, self._seconds = request, seconds
        self._connection: Any = None

    def write(self, reference: str) -> Answer:
        """Run the statement once."""
        connection = self._connect()
        timer = threading.Timer(self._seconds, self._cut, [connection])
        timer.daemon = True
        timer.start()
        try:
            connection.execute(self._request["statement"], {"reference": reference})
            return Answer("acknowledged", server=connection.info.host)
        except self._psycopg.Error as error:
            self._drop()
            # An ERROR undid the statement; a FATAL or a lost connection may have come after the commit.
            certain = error.diag.severity_nonlocalized == "ERROR"
            return Answer("failed" if certain else "indeterminate", error=_sentence(error))
        finally:
            timer.cancel()

    def _connect(self) -> Any:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        try:
            self._connection = self._psycopg.connect(
                self._request["dsn"],
                passfile=self._request.get("passfile"),
                autocommit=True,
                prepare_threshold=None,
                connect_timeout=max(1, int(self._seconds)),
                application_name="relevo-ledger",
            )
        except self._psycopg.Error as error:
            raise NotSentError(_sentence(error)) from error
        return self._connection

    def _drop(self) -> None:
        self._connection.close()
        self._connection = None

    def _cut(self, connection: Any) -> None:
        # A frozen server keeps the session alive and silent: only closing our own end wakes the waiting thread. It may be closed by now.
        with contextlib.suppress(OSError, self._psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)


def _sentence(error: BaseException) -> str:
    text = str(error).strip()
    return (text.splitlines()[0] if text else type(error).__name__)[:200]


class Ledger:
    """The lanes' common book: numbers, the endpoint that is known to be good, and the log."""

    def __init__(self, log: Log, pace: Pace) -> None:
        self._log, self._pace = log, pace
        self._state = threading.Condition()
        self._good: Optional[str] = None
        self._stopping = False
        last = log.last_intent()
        self._next = int(last["n"]) + 1 if last else 1
        # A ledger has an id of its own: a rebuilt witness starts at 1 again and must not meet the numbers of an earlier one.
        self._prefix = last["reference"].rpartition("-")[0] if last else "relevo-" + secrets.token_hex(4)
        log.append({"kind": "start", "prefix": self._prefix, "boot_id": boot_id(), **stamp()})

    def stop(self) -> None:
        """Let attempts that are going on end, and begin no other."""
        with self._state:
            self._stopping = True
            self._state.notify_all()

    def run_lane(self, writer: Any) -> None:
        """Write through one endpoint whenever it is its turn, until the service stops."""
        began = float("-inf")
        while self._await_turn(writer.name, began):
            began = time.monotonic()
            self._attempt(writer)

    def _await_turn(self, name: str, began: float) -> bool:
        with self._state:
            while not self._stopping:
                if self._good not in (None, name):
                    self._state.wait()
                    continue
                left = began + self._pace.seconds() - time.monotonic()
                if left <= 0:
                    return True
                # Short naps, so that a faster pace is taken up at once and not at the end of a long pause.
                self._state.wait(min(left, 0.1))
            return False

    def _attempt(self, writer: Any) -> None:
        with self._state:
            number, self._next = self._next, self._next + 1
        reference = "%s-%d" % (self._prefix, number)
        self._log.append({"kind": "intent", "n": number, "reference": reference, **stamp()})
        try:
            answer = writer.write(reference)
        except NotSentError as error:
            answer = Answer("failed", error=str(error))
        moment = stamp()
        self._log.append(
            {
                "kind": "outcome",
                "n": number,
                "outcome": answer.outcome,
                **moment,
                "endpoint": writer.name,
                "server": answer.server,
                "status": answer.status,
                "error": answer.error,
            }
        )
        self._remember(writer.name, good=answer.outcome == "acknowledged")

    def _remember(self, name: str, *, good: bool) -> None:
        with self._state:
            if good and self._good is None:
                self._good = name
            elif not good and self._good == name:
                self._good = None
            self._state.notify_all()


def guarded(work: Callable[..., None], *arguments: Any) -> None:
    """A lane that dies takes the service with it: systemd starts it anew, and no silence is mistaken for an outage."""
    try:
        work(*arguments)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the service must not go on without this thread
        sys.stderr.write("relevo-ledger: %s: %s\n" % (type(error).__name__, error))
        os._exit(1)


def make_writers(settings: dict[str, Any]) -> list[Any]:
    """A writer for each lane."""
    seconds = float(settings["attempt_seconds"])
    if settings["writer"] == "sql":
        return [Sql(settings["sql"], seconds)]
    return [Http(endpoint, settings["http"], seconds) for endpoint in settings["http"]["endpoints"]]


def main(path: str) -> None:
    """Run until SIGTERM."""
    settings = json.loads(Path(path).read_text(encoding="utf-8"))
    if not re.fullmatch(r"http|sql", settings["writer"]):
        sys.exit("relevo-ledger: the writer must be http or sql")
    log = Log(settings["directory"], int(settings["log_max_bytes"]), int(settings["log_files"]))
    ledger = Ledger(log, Pace(float(settings["interval_seconds"])))
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=ledger.stop).start())
    lanes = [threading.Thread(target=guarded, args=(ledger.run_lane, writer)) for writer in make_writers(settings)]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "/etc/relevo/ledger.json")
