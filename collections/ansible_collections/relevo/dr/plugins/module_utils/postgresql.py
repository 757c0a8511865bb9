# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""PostgreSQL as seen on its own host: one psql session over the local socket, and pg_controldata."""

from __future__ import annotations

import json
import os
import pwd
import select
import subprocess
import time
import uuid
from typing import Any, Optional

# An object of an attacker in public must never shadow a function that root's probes call (CVE-2018-1058).
SESSION_OPTIONS = "-c search_path=pg_catalog,pg_temp -c default_transaction_isolation=read\\ committed"


class PostgresqlError(Exception):
    """PostgreSQL did not answer, or answered with an error; the message is what it said."""


def owner_switch(owner: str) -> dict[str, Any]:
    """Arguments for subprocess that run a command as the cluster's owner; nothing when we already are that user."""
    account = pwd.getpwnam(owner)
    if os.geteuid() == account.pw_uid:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": os.getgrouplist(owner, account.pw_gid)}


class Psql:
    """One psql session over the local socket, kept open so that polling costs a round trip and not a process.

    bin_directory: where psql is. port, database: what to connect to. owner: operating system user and database superuser.
    timeout_seconds: how long a single answer may take. Raises PostgresqlError.
    """

    def __init__(
        self,
        bin_directory: str,
        port: int = 5432,
        database: str = "postgres",
        owner: str = "postgres",
        timeout_seconds: float = 10.0,
    ) -> None:
        self._command = [
            os.path.join(bin_directory, "psql"),
            "-XAtq",
            "--set=ON_ERROR_STOP=1",
            "--port=%d" % int(port),
            "--dbname=%s" % database,
            "--username=%s" % owner,
        ]
        self._owner = owner
        self._timeout_seconds = timeout_seconds
        self._session: Optional[subprocess.Popen[bytes]] = None

    def query(self, sql: str) -> list[dict[str, Any]]:
        """The rows of one SELECT, as dictionaries of JSON values."""
        text = self.execute("select coalesce(json_agg(relevo_row), '[]') from (%s) relevo_row" % sql.rstrip("; \n"))
        rows: list[dict[str, Any]] = json.loads(text)
        return rows

    def row(self, sql: str) -> dict[str, Any]:
        """The single row of one SELECT."""
        rows = self.query(sql)
        if len(rows) != 1:
            raise PostgresqlError("expected one row, got %d: %s" % (len(rows), sql))
        return rows[0]

    def execute(self, sql: str) -> str:
        """Run one statement in autocommit and return what psql printed."""
        session = self._open()
        marker = "relevo-%s" % uuid.uuid4().hex
        assert session.stdin is not None
        try:
            session.stdin.write(("%s;\n\\echo %s\n" % (sql.rstrip("; \n"), marker)).encode())
            session.stdin.flush()
        except (BrokenPipeError, OSError):
            raise self._failure() from None
        return self._read_until(marker)

    def close(self) -> None:
        """End the session; the next call opens a new one."""
        if self._session is not None:
            self._session.kill()
            self._session.communicate()
            self._session = None

    def __enter__(self) -> Psql:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> subprocess.Popen[bytes]:
        if self._session is None:
            environment = {
                "PATH": "/usr/bin:/bin",
                "LC_ALL": "C.UTF-8",
                "PGOPTIONS": SESSION_OPTIONS,
                "PGAPPNAME": "relevo",
                "PGCONNECT_TIMEOUT": "5",
            }
            try:
                self._session = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    cwd="/",
                    env=environment,
                    **owner_switch(self._owner),
                )
            except (OSError, KeyError) as error:
                raise PostgresqlError("psql cannot be started: %s" % error) from None
        return self._session

    def _read_until(self, marker: str) -> str:
        session = self._session
        assert session is not None and session.stdout is not None
        deadline = time.monotonic() + self._timeout_seconds
        received = b""
        ending = ("%s\n" % marker).encode()
        while not received.endswith(ending):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([session.stdout], [], [], left)[0]:
                self.close()
                raise PostgresqlError("no answer within %g s" % self._timeout_seconds)
            chunk = os.read(session.stdout.fileno(), 65536)
            if not chunk:
                raise self._failure()
            received += chunk
        return received[: -len(ending)].decode().strip()

    def _failure(self) -> PostgresqlError:
        assert self._session is not None and self._session.stderr is not None
        said = self._session.stderr.read().decode(errors="replace").strip()
        self.close()
        return PostgresqlError(said or "psql ended without a word")


def controldata(bin_directory: str, data_directory: str, owner: str = "postgres") -> dict[str, str]:
    """pg_controldata as a dictionary of its English labels. Raises PostgresqlError."""
    try:
        done = subprocess.run(
            [os.path.join(bin_directory, "pg_controldata"), data_directory],
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
            cwd="/",
            env={"LC_ALL": "C"},
            **owner_switch(owner),
        )
    except (OSError, KeyError, subprocess.TimeoutExpired) as error:
        raise PostgresqlError("pg_controldata cannot be run: %s" % error) from None
    if done.returncode != 0:
        raise PostgresqlError(done.stderr.strip() or "pg_controldata failed")
    pairs = (line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)
    return {label.strip(): value.strip() for label, value in pairs}


def postmaster_pid(data_directory: str) -> Optional[int]:
    """The process id of the running postmaster of this data directory, or None.

    The number in a stale postmaster.pid may be another cluster's by now: a process whose working directory is seen to be elsewhere is not ours.
    """
    try:
        with open(os.path.join(data_directory, "postmaster.pid"), encoding="utf-8") as source:
            pid = int(source.readline())
    except (OSError, ValueError):
        return None
    return pid if _server_state(pid) and _works_in(pid, data_directory) is not False else None


def cluster_processes(data_directory: str) -> list[int]:
    """Every process of the cluster: server programs whose working directory is the data directory, whether a postmaster leads them or not.

    A backend outlives a killed postmaster for as long as it is stopped or busy, with its client's socket open. Raises PostgresqlError when that cannot be seen.
    """
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and _server_state(int(name)):
            ours = _works_in(int(name), data_directory)
            if ours is None:
                raise PostgresqlError("the working directory of process %s cannot be read" % name)
            if ours:
                found.append(int(name))
    return sorted(found)


def stopped(pid: int) -> bool:
    """Whether a server process is stopped by a signal: it takes no other until it is continued, but SIGKILL."""
    return _server_state(pid) == "T"


def _server_state(pid: int) -> str:
    """The kernel's letter for the state of a PostgreSQL server process (R, S, T ...); empty for any other process and for one that has ended."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as source:
            name, _, rest = source.read().partition("(")[2].rpartition(")")
    except OSError:
        return ""
    state = rest.split()[0]
    # The name is the program's, whatever title the process gives itself; before release 16 it may be a link called postmaster.
    return state if ("postgres" in name or name == "postmaster") and state not in "ZX" else ""


def _works_in(pid: int, directory: str) -> Optional[bool]:
    """Whether a process's working directory is this one, by whatever path; None when it may not be seen."""
    try:
        return os.path.samestat(os.stat("/proc/%d/cwd" % pid), os.stat(directory))
    except PermissionError:
        return None
    except OSError:
        return False


def lsn_bytes(lsn: str) -> int:
    """A log sequence number such as ``0/3000148`` as a number of bytes."""
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)
