# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Carry out a rebuild on the host that comes back; what to do is decided in rebuild_plan."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import clock, host_files, rebuild_plan, restored_standby, server_start
from ansible_collections.relevo.dr.plugins.module_utils.follow_plan import Lineage, diverged
from ansible_collections.relevo.dr.plugins.module_utils.managed_file import WantedFile, apply, observe
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import Pgbackrest, PgbackrestError
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import (
    PostgresqlError,
    Psql,
    controldata,
    owner_switch,
    postmaster_pid,
)
from ansible_collections.relevo.dr.plugins.module_utils.rebuild_plan import DELTA, FULL, REWIND
from ansible_collections.relevo.dr.plugins.module_utils.server_stop import STOPPED_STATES, Server, stop_for_good
from ansible_collections.relevo.dr.plugins.module_utils.standby_build import without_recovery_parameters
from ansible_collections.relevo.dr.plugins.module_utils.standby_steps import MARK, BuildError, Steps, directory_bytes

# A standby of nobody: it replays its own WAL to the end, and asks no other host and no archive.
ALONE = ("primary_conninfo=", "restore_command=", "recovery_target_timeline=current", "listen_addresses=", "hot_standby=on")
_RECOVERED = "select pg_is_in_recovery()::text || ' ' || coalesce(pg_last_wal_replay_lsn()::text, '')"


class RebuildError(Exception):
    """A step failed; the message is a sentence."""


class Rebuild:
    """parameters: those of the module standby_rebuild."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._p = parameters
        self._data = str(parameters["data_directory"])
        self._server = Server(parameters["unit"], self._data, parameters["bin_directory"], parameters["port"], parameters["owner"])
        self._steps = Steps({**parameters, "primary": ""})

    def carry_out(self) -> dict[str, Any]:
        """See the RETURN of the module. Raises RebuildError, Refusal and what the steps raise."""
        began, begun = time.monotonic(), self._mark()
        if host_files.read_fence() is None or postmaster_pid(self._data) is not None:
            raise RebuildError("this host is not fenced and stopped")
        if begun and begun.get("restored"):
            return {"method": "none", "ways": {}, "failed": {}, "seconds": 0.0}
        if begun is None and self._same_lineage():
            return {"method": "none", "ways": {}, "failed": {}, "seconds": 0.0}
        host_files.write_journal(self._p["run_id"], "REBUILD", "intent")
        ways = rebuild_plan.ways(
            self._obstacles(begun), self._p["divergent_bytes"], directory_bytes(self._data), int(self._p["primary_bytes"])
        )
        methods = rebuild_plan.order(ways, self._p["method"], begun, self._p["host_name"])
        failed: dict[str, str] = {}
        for method in methods:
            self._write_mark(method, restored=False)
            try:
                self._act(method)
            except (RebuildError, BuildError, PgbackrestError, OSError, subprocess.TimeoutExpired) as error:
                failed[method] = str(error)[:500]
                continue
            self._write_mark(method, restored=True)
            host_files.write_journal(self._p["run_id"], "REBUILD", "result", outcome="ok", method=method)
            seconds = round(time.monotonic() - began, 3)
            return {"method": method, "ways": rebuild_plan.shown(ways), "failed": failed, "seconds": seconds}
        raise RebuildError(
            "no method came to its end (%s). Next: mend one of them, then start the same runbook again; what a rewind left half way is not started"
            % "; ".join("%s: %s" % (method, said) for method, said in failed.items())
        )

    def _same_lineage(self) -> bool:
        parents = self._p["history"]
        control = self._control()
        timeline = int(control.get("Latest checkpoint's TimeLineID") or 0)
        fork = next((str(entry["lsn"]) for entry in parents if int(entry["timeline"]) == timeline), None)
        return diverged(control, Lineage(self._p["system_identifier"], self._p["timeline"], timeline, fork)) is None

    def _control(self) -> dict[str, str]:
        try:
            return controldata(self._p["bin_directory"], self._data, self._p["owner"])
        except PostgresqlError:
            return {}

    def _end_cleanly(self) -> None:
        """pg_rewind wants a clean shutdown, and would make one by a server of its own, which standby.signal forbids."""
        if self._control().get("Database cluster state") in STOPPED_STATES:
            return
        server_start.start_aside(self._server, self._p["config_directory"], ALONE)
        deadline, last, since = time.monotonic() + 600, "", time.monotonic()
        # At the end of its WAL a standby of nobody stands still.
        while not (last and time.monotonic() - since > 3):
            if time.monotonic() > deadline or postmaster_pid(self._data) is None:
                raise RebuildError("the old server's own WAL could not be replayed: see its log")
            try:
                with Psql(self._p["bin_directory"], self._p["port"], owner=self._p["owner"], timeout_seconds=5) as session:
                    seen = session.execute(_RECOVERED)
            except PostgresqlError:
                seen = ""
            if seen != last:
                last, since = seen, time.monotonic()
            time.sleep(0.2)
        server_start.stop_aside(self._server, 60)

    def _obstacles(self, begun: Optional[Mapping[str, Any]]) -> dict[str, Optional[str]]:
        return {REWIND: None if begun else self._rewind_obstacle(), DELTA: self._delta_obstacle(), FULL: self._full_obstacle()}

    def _rewind_obstacle(self) -> Optional[str]:
        """pg_rewind's own dry run looks for everything: the grant, the WAL back to the last common checkpoint, the clean shutdown."""
        control = self._control()
        if control.get("wal_log_hints setting") != "on" and control.get("Data page checksum version") in ("0", None):
            return "neither data checksums nor wal_log_hints are on"
        try:
            self._end_cleanly()
            self._rewind("--dry-run")
        except (RebuildError, server_start.StartError, OSError, subprocess.TimeoutExpired) as error:
            self._end_what_runs()
            return str(error)
        return None

    def _end_what_runs(self) -> None:
        """A server that did not come up or down as it should stands in the way of every other method, and so does what it left."""
        stop_for_good(self._server, self._p["run_id"], 30, 5)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self._data, "postmaster.pid"))

    def _delta_obstacle(self) -> Optional[str]:
        try:
            info = Pgbackrest(self._p["config"], self._p["stanza"], self._p["owner"], io_timeout=5, timeout=30).info()
        except PgbackrestError as error:
            return error.observed
        return None if info.get("backup") else "no backup"

    def _full_obstacle(self) -> Optional[str]:
        free = os.statvfs(os.path.dirname(self._data))
        room = free.f_bavail * free.f_frsize + directory_bytes(self._data)
        return (
            None
            if room > int(self._p["primary_bytes"])
            else "%d MiB of room, %d needed" % (room >> 20, self._p["primary_bytes"] >> 20)
        )

    def _act(self, method: str) -> None:
        # A rewind takes standby.signal away, which its source does not have; with this option it puts one back by itself.
        acts: dict[str, Callable[[], None]] = {
            REWIND: lambda: self._rewind("--write-recovery-conf"),
            DELTA: self._delta,
            FULL: self._full,
        }
        restored_standby.forget(self._p["config_directory"])
        acts[method]()
        self._make_standby()

    def _rewind(self, *options: str) -> None:
        self._run(
            "pg_rewind",
            "--target-pgdata=%s" % self._data,
            "--source-server=%s" % self._p["source"],
            "--restore-target-wal",
            "--config-file=%s" % os.path.join(self._p["config_directory"], "postgresql.conf"),
            *options,
        )

    def _delta(self) -> None:
        self._end_what_runs()
        command = Pgbackrest(
            self._p["config"], self._p["stanza"], self._p["owner"], io_timeout=60, timeout=self._p["restore_timeout"]
        )
        command.run("restore", "--type=standby", "--delta", log_file=True)

    def _full(self) -> None:
        self._steps.clean()
        self._run(
            "pg_basebackup",
            "--pgdata=%s" % self._data,
            "--dbname=%s" % self._p["replication"],
            "--checkpoint=fast",
            "--write-recovery-conf",
        )

    def _make_standby(self) -> None:
        """Whatever the method put there: read-only at every start, and nothing that hides the parameters of conf.d."""
        path, account = server_start.signal_path(self._server), pwd.getpwnam(self._p["owner"])
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.fchown(descriptor, account.pw_uid, account.pw_gid)
        os.fsync(descriptor)
        os.close(descriptor)
        host_files.sync_directory(self._data)
        path = os.path.join(self._data, "postgresql.auto.conf")
        found = observe(path)
        if found.content is not None:
            text = without_recovery_parameters(found.content)
            apply(WantedFile(path, content=text, owner=self._p["owner"], group=found.group, mode="0600"), found)

    def _run(self, program: str, *options: str) -> None:
        done = subprocess.run(
            [os.path.join(self._p["bin_directory"], program), *options],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=self._p["restore_timeout"],
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "PGCONNECT_TIMEOUT": "10"},
            **owner_switch(self._p["owner"]),
        )
        if done.returncode != 0:
            words = [line for line in (done.stderr or done.stdout).splitlines() if "error" in line or "fatal" in line]
            raise RebuildError("%s: %s" % (program, " ".join(words)[:400] or "ended with %d" % done.returncode))

    def _mark(self) -> Optional[dict[str, Any]]:
        site = self._steps.observe()
        return site.build if site.build and site.build.get("data_directory") == self._data else None

    def _write_mark(self, method: str, *, restored: bool) -> None:
        mark = {
            "run_id": self._p["run_id"],
            "data_directory": self._data,
            "at": clock.utc_now(),
            "restored": restored,
            "method": method,
        }
        host_files.write_atomically(MARK, json.dumps(mark))
