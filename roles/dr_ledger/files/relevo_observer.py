#!/usr/bin/python3
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The observer: tries a real write on every database address of the cluster and logs which ones accept it.

One thread for each address, so that a silent host never delays the observation of another one.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

import psycopg

PACE_FILE = "/run/relevo-ledger/pace.json"
LOG_NAME = "observer.jsonl"
READ_ONLY = "25006"
REFUSALS = (
    "Connection refused",
    "the database system is starting up",
    "the database system is not yet accepting connections",
    "the database system is not accepting connections",
    "the database system is in recovery mode",
)

WRITE = "update relevo.observation set seen_at = pg_catalog.now(), count = count + 1 where observer = %s"
# Read after the write is committed: the position then includes it.
IDENTITY = """
select (select system_identifier::text from pg_catalog.pg_control_system()),
       ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int,
       pg_current_wal_flush_lsn()::text,
       (select application_name from pg_catalog.pg_stat_activity
        where usesysid = 10 and application_name like 'relevo-guard armed=%' limit 1)
"""
# How that host's guard says that it is armed, for how long the host may go unheard, and by whom it is heard.
ARMED = re.compile(r"relevo-guard armed=(\d+) by=([0-9a-f]{8})")


class Log:
    """Append-only JSON lines, durable before `append` returns, bounded by rotation."""

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

    def append(self, event: dict[str, Any]) -> None:
        """Write one line; it is on disk when this returns."""
        line = (json.dumps(event, separators=(",", ":")) + "\n").encode()
        with self._lock:
            if os.fstat(self._descriptor).st_size > self._max_bytes:
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


class Pace:
    """Seconds between observations: the configured pace, or a faster one for as long as the pace file says."""

    def __init__(self, quiet_seconds: float, path: str = PACE_FILE, key: str = "observer_interval_seconds") -> None:
        self._quiet_seconds, self._path, self._key = quiet_seconds, Path(path), key

    def seconds(self) -> float:
        """Between two tries, at this moment."""
        try:
            wish = json.loads(self._path.read_text(encoding="utf-8"))
            return max(0.02, float(wish[self._key])) if time.time() < float(wish["until"]) else self._quiet_seconds
        except (OSError, ValueError, KeyError, TypeError):
            return self._quiet_seconds


class NotAcceptedError(Exception):
    """An observation that is not `accepted`; outcome says which."""

    def __init__(self, outcome: str, error: str) -> None:
        super().__init__(error)
        self.outcome = outcome


class Watch:
    """One address: a connection that is kept while it is healthy, so that an observation costs a round trip."""

    def __init__(self, address: str, settings: dict[str, Any]) -> None:
        self.address = address
        self._settings = settings
        self._connection: Optional[psycopg.Connection[Any]] = None
        self._sent: Optional[float] = None

    def observe(self) -> dict[str, Any]:
        """Try the write once; what the address answered, and when it was asked."""
        kept = self._connection is not None
        self._sent = None
        event = self._ask()
        if kept and event["outcome"] == "error":
            # A kept connection that broke says that something happened earlier, not what the address does now.
            event = self._ask()
        return event

    def _ask(self) -> dict[str, Any]:
        event: dict[str, Any] = {
            "at": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "mono": _boottime(),
            "end_mono": None,
            "boot_id": self._settings["boot_id"],
            "address": self.address,
            "outcome": "accepted",
            "system_identifier": None,
            "timeline": None,
            "flush_lsn": None,
            "self_fence_seconds": None,
            "heard_by": None,
            "sent_mono": None,
            "error": None,
        }
        try:
            event.update(self._write())
        except NotAcceptedError as seen:
            event.update(outcome=seen.outcome, error=str(seen))
        except psycopg.Error as error:
            event.update(outcome=_outcome(error), error=_sentence(error))
        # A standby says no over a healthy connection, which survives its promotion.
        if event["outcome"] not in ("accepted", "read_only"):
            self._drop()
        event.update(end_mono=_boottime(), sent_mono=self._sent)
        return event

    def _write(self) -> dict[str, Any]:
        connection = self._connection or self._connect()
        expired = threading.Event()
        timer = threading.Timer(self._settings["statement_seconds"], _cut, [connection, expired])
        timer.daemon = True
        timer.start()
        # From here on the host may have heard us, whatever we hear of it.
        self._sent = _boottime()
        try:
            if connection.execute(WRITE, [self._settings["observer"]]).rowcount != 1:
                raise NotAcceptedError("error", "relevo.observation has no row for observer %s" % self._settings["observer"])
            return self._identity(connection)
        except psycopg.Error as error:
            if expired.is_set():
                raise NotAcceptedError("unreachable", "no answer within %g s" % self._settings["statement_seconds"]) from error
            raise
        finally:
            timer.cancel()

    def _identity(self, connection: psycopg.Connection[Any]) -> dict[str, Any]:
        # The write is accepted by now, whatever becomes of this question.
        try:
            row = connection.execute(IDENTITY).fetchone()
        except psycopg.Error:
            self._drop()
            row = None
        if not row:
            return {}
        armed = ARMED.fullmatch(row[3] or "")
        return {
            **dict(zip(("system_identifier", "timeline", "flush_lsn"), row)),
            "self_fence_seconds": int(armed.group(1)) if armed else 0,
            "heard_by": armed.group(2) if armed else None,
        }

    def _connect(self) -> psycopg.Connection[Any]:
        settings = self._settings
        self._knock()
        self._connection = psycopg.connect(
            host=self.address,
            port=settings["port"],
            dbname=settings["database"],
            user="relevo_observer",
            passfile=settings["passfile"],
            sslmode="verify-full",
            sslrootcert=settings["ca_file"],
            connect_timeout=max(1, int(settings["connect_seconds"])),
            application_name="relevo-observer",
            autocommit=True,
            prepare_threshold=None,
            # An unanswered synchronous standby must not hide that this node is writable.
            options="-c synchronous_commit=local -c search_path=pg_catalog,pg_temp",
        )
        return self._connection

    def _knock(self) -> None:
        # A plain TCP connection first: it alone tells "refused" from "silent" without reading translated messages.
        try:
            socket.create_connection((self.address, self._settings["port"]), self._settings["connect_seconds"]).close()
        except ConnectionRefusedError as error:
            raise NotAcceptedError("refused", _sentence(error)) from error
        except OSError as error:
            raise NotAcceptedError("unreachable", _sentence(error)) from error

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _outcome(error: psycopg.Error) -> str:
    if error.sqlstate == READ_ONLY:
        return "read_only"
    # While a connection is made psycopg gives no SQLSTATE: the message is the only sign. "Shutting down" is left out on purpose,
    # since sessions that are open may still commit.
    text = str(error)
    if "timeout expired" in text:
        return "unreachable"
    if any(sign in text for sign in REFUSALS):
        return "refused"
    return "error"


def _cut(connection: psycopg.Connection[Any], expired: threading.Event) -> None:
    # A frozen server keeps the session alive and silent: only closing our own end wakes the waiting thread.
    expired.set()
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.Error):
        return


def _sentence(error: BaseException) -> str:
    text = str(error).strip()
    return (text.splitlines()[0] if text else type(error).__name__)[:200]


def _boottime() -> float:
    return round(time.clock_gettime(time.CLOCK_BOOTTIME), 6)


def boot_id() -> str:
    """The kernel's id of this boot; `mono` means something only within one."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def watch_forever(watch: Watch, log: Log, pace: Pace, stopping: threading.Event) -> None:
    """Observe one address until the service stops."""
    while not stopping.is_set():
        began = time.monotonic()
        log.append(watch.observe())
        # Short naps, so that a faster pace is taken up at once.
        while not stopping.is_set() and (left := began + pace.seconds() - time.monotonic()) > 0:
            stopping.wait(min(left, 0.1))


def guarded(work: Callable[..., None], *arguments: Any) -> None:
    """A watch that dies takes the service with it: systemd starts it anew, and no silence is mistaken for an observation."""
    try:
        work(*arguments)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the service must not go on without this thread
        sys.stderr.write("relevo-observer: %s: %s\n" % (type(error).__name__, error))
        os._exit(1)


def main(path: str) -> None:
    """Run until SIGTERM."""
    settings = json.loads(Path(path).read_text(encoding="utf-8"))
    settings["boot_id"] = boot_id()
    log = Log(settings["directory"], int(settings["log_max_bytes"]), int(settings["log_files"]))
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    pace = Pace(float(settings["interval_seconds"]), settings.get("pace_file", PACE_FILE))
    threads = [
        threading.Thread(target=guarded, args=(watch_forever, Watch(address, settings), log, pace, stopping))
        for address in settings["addresses"]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "/etc/relevo/observer.json")
