# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A server on a restored copy: its own configuration, no archive, no network, and a word about where recovery came to rest."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import subprocess
import time
from collections.abc import Mapping
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import clock, sandbox
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError, Psql, controldata, owner_switch
from ansible_collections.relevo.dr.plugins.module_utils.restore_ladder import Arrival, RungFailed, explained
from ansible_collections.relevo.dr.plugins.module_utils.sandbox import Place

# A standby that replays must not have less than its primary; pg_control says what that had.
_FROM_CONTROL = {
    "max_connections": "max_connections setting",
    "max_worker_processes": "max_worker_processes setting",
    "max_wal_senders": "max_wal_senders setting",
    "max_prepared_transactions": "max_prepared_xacts setting",
    "max_locks_per_transaction": "max_locks_per_xact setting",
    "wal_level": "wal_level setting",
}
# What production set for itself must not reach into a copy: these hold whatever its files say, for the command line is stronger.
_SAFE = {
    "archive_mode": "off",
    "archive_command": "",
    "archive_cleanup_command": "",
    "recovery_end_command": "",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "synchronous_standby_names": "",
    # No worker of a subscription ever talks to its publisher.
    "max_logical_replication_workers": "0",
    "ssl": "off",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] ",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "hot_standby": "on",
    "autovacuum": "off",
    "restart_after_crash": "off",
    "cluster_name": "relevo-restore-test",
}
_RECOVERY = re.compile(r"\s*(restore_command|recovery_target\w*)\s*=")
_POSITION = """
select pg_is_in_recovery() as in_recovery, coalesce(pg_last_wal_replay_lsn(), '0/0')::text as replayed,
       to_char(pg_last_xact_replay_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as last_commit,
       case when pg_is_in_recovery() then pg_is_wal_replay_paused() else false end as paused
"""
_SHOWN = ("archive_mode", "archive_command", "listen_addresses", "primary_conninfo", "restore_command")


def recovery_settings(auto_conf: str) -> str:
    """Of postgresql.auto.conf only what this restore wrote; the rest was production's."""
    kept = [line for line in auto_conf.splitlines() if _RECOVERY.match(line)]
    return "\n".join(["# Kept by Relevo for a restored copy: the recovery settings alone.", *kept]) + "\n"


class Server:
    """parameters: those of the module restore_prove."""

    def __init__(self, place: Place, parameters: Mapping[str, Any]) -> None:
        self._place, self._p = place, parameters
        self._process: Optional[subprocess.Popen[bytes]] = None
        self.settings: dict[str, str] = {}

    def start(self, *, fresh: bool) -> None:
        """Start it; whether it came up is seen later. fresh: with a log of its own, since the log is evidence."""
        place = self._place
        account = pwd.getpwnam(place.owner)
        control = controldata(self._p["bin_directory"], place.data, place.owner)
        settings = {name: control[label] for name, label in _FROM_CONTROL.items() if control.get(label)}
        settings.update({str(name): str(value) for name, value in self._p["parameters"].items()})
        _write(
            place.path("postgresql.conf"), "".join("%s = '%s'\n" % (n, v.replace("'", "''")) for n, v in settings.items()), account
        )
        _write(place.path("pg_hba.conf"), self._access(), account)
        _write(place.path("pg_ident.conf"), "", account)
        auto = os.path.join(place.data, "postgresql.auto.conf")
        with open(auto, encoding="utf-8") as source:
            text = source.read()
        _write(auto, recovery_settings(text), account)
        safe = {
            **_SAFE,
            "config_file": place.path("postgresql.conf"),
            "hba_file": place.path("pg_hba.conf"),
            "ident_file": place.path("pg_ident.conf"),
            "listen_addresses": self._p["listen_addresses"],
            "port": str(self._p["port"]),
            "unix_socket_directories": place.sockets,
        }
        if "shared_preload_libraries" not in settings:
            safe["shared_preload_libraries"] = ""
        words = [os.path.join(self._p["bin_directory"], "postgres"), "-D", place.data]
        for name, value in safe.items():
            words += ["-c", "%s=%s" % (name, value)]
        with open(place.log, "wb" if fresh else "ab") as log:
            os.fchown(log.fileno(), account.pw_uid, account.pw_gid)
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=place.data,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
                start_new_session=True,
                **owner_switch(place.owner),
            )

    def _access(self) -> str:
        """Its owner by the socket; others with their own password, as it was in the backup."""
        lines = ["local all %s peer" % self._place.owner, "local replication all reject", "local all all md5"]
        if self._p["listen_addresses"]:
            lines.append("host all all 127.0.0.1/32 md5")
        return "\n".join(lines) + "\n"

    def log(self) -> str:
        """All that the server wrote."""
        with contextlib.suppress(OSError), open(self._place.log, encoding="utf-8", errors="replace") as source:
            return source.read()
        return ""

    def session(self, database: str = "postgres", seconds: float = 30.0) -> Psql:
        """A session of the owner, over the socket."""
        return Psql(
            self._p["bin_directory"],
            int(self._p["port"]),
            "host=%s dbname=%s" % (self._place.sockets, database),
            self._place.owner,
            timeout_seconds=seconds,
        )

    def wait_at_rest(self, *, target: bool, seconds: float) -> dict[str, Any]:
        """Until recovery paused at its target, or, without one, is over. Raises RungFailed."""
        deadline = time.monotonic() + seconds
        seen = "no answer yet"
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                raise explained(self.log())
            try:
                with self.session(seconds=5) as session:
                    position = session.row(_POSITION)
                    if position["paused"] if target else not position["in_recovery"]:
                        self.settings = {row["name"]: row["setting"] for row in session.query(_settings())}
                        return position
                    seen = "in recovery, replayed to %s" % position["replayed"]
                    if target and not position["in_recovery"]:
                        raise RungFailed("recovery ended without stopping at its target", "read the server's log")
            except PostgresqlError as error:
                seen = str(error).splitlines()[-1][:200]
            time.sleep(0.2)
        raise RungFailed(
            "not there after %g s: %s" % (seconds, seen),
            "raise dr_backup_prove_replay_timeout_seconds, or look at the server's log",
        )

    def check_harmless(self) -> str:
        """It must not archive and must not follow anybody. Raises RungFailed."""
        wrong = [
            "%s = %s" % (name, self.settings[name])
            for name, wanted in (
                ("archive_mode", ("off",)),
                ("archive_command", ("", "(disabled)")),
                ("primary_conninfo", ("",)),
                ("listen_addresses", ("", "127.0.0.1")),
            )
            if self.settings.get(name) not in wanted
        ]
        if wrong or os.path.exists(os.path.join(self._place.data, "standby.signal")):
            raise RungFailed(
                "the copy could reach out: %s" % (", ".join(wrong) or "standby.signal"), "stop it; report this as a fault of Relevo"
            )
        return "archive_mode=%s, archive_command='%s', listen_addresses='%s'" % (
            self.settings["archive_mode"],
            self.settings["archive_command"].replace("(disabled)", ""),
            self.settings["listen_addresses"],
        )

    def arrival(self, position: Mapping[str, Any], database: str) -> Arrival:
        """Where it came to rest, as log, functions and the observers' rows say."""
        marker = None
        with contextlib.suppress(PostgresqlError), self.session(database) as session:
            if session.row("select to_regclass('relevo.observation') is not null as there")["there"]:
                newest = session.row(
                    "select to_char(max(seen_at) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') as at from relevo.observation"
                )["at"]
                marker = clock.parse_utc(newest) if newest else None
        commit = position["last_commit"]
        return Arrival(self.log(), position["replayed"], clock.parse_utc(commit) if commit else None, marker)

    def promote(self, seconds: float) -> None:
        """Open the copy for writing. Raises RungFailed."""
        try:
            with self.session(seconds=seconds + 5) as session:
                waits = session.row("select pg_is_in_recovery() as waits")["waits"]
                if waits and not session.row("select pg_promote(true, %d) as done" % int(seconds))["done"]:
                    raise RungFailed("the copy could not be opened for writing within %g s" % seconds)
        except PostgresqlError as error:
            raise RungFailed("the copy could not be opened for writing: %s" % error) from None

    def stop(self) -> None:
        """Stop every server on this copy."""
        sandbox.stop_servers(self._place)
        self._process = None

    def ready(self, seconds: float) -> None:
        """Until it answers and takes writes. Raises RungFailed."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                raise explained(self.log())
            with contextlib.suppress(PostgresqlError), self.session(seconds=5) as session:
                if not session.row("select pg_is_in_recovery() as waits")["waits"]:
                    return
            time.sleep(0.1)
        raise RungFailed("the copy did not come back within %g s" % seconds)


def _settings() -> str:
    return "select name, setting from pg_settings where name in (%s)" % ", ".join("'%s'" % name for name in _SHOWN)


def _write(path: str, content: str, account: pwd.struct_passwd) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as target:
        os.fchown(target.fileno(), account.pw_uid, account.pw_gid)
        os.fchmod(target.fileno(), 0o600)
        target.write(content)
