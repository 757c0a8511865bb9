# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Carry out a rebuild on the host that comes back; what to do is decided in rebuild_plan."""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import host_files, parting, rebuild_plan, restored_standby, server_start
from ansible_collections.relevo.dr.plugins.module_utils.follow_plan import diverged, newest
from ansible_collections.relevo.dr.plugins.module_utils.handover_message import chain
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
from ansible_collections.relevo.dr.plugins.module_utils.standby_steps import BuildError, Steps, directory_bytes, leading_backup
from ansible_collections.relevo.dr.plugins.module_utils.wal_archive import DEFAULT_SEGMENT_BYTES

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
        self._theirs = parting.line(parameters["timeline"], parameters["history"], parameters["births"])

    def choose(self) -> dict[str, Any]:
        """See the RETURN of the module. An old server that crashed is ended cleanly; its data are what they were. Raises Refusal and RebuildError."""
        begun = self._standing()
        self._check_place()
        if rebuild_plan.nothing_to_do(begun, self._p["method"], self._diverged()):
            return {"methods": [], "ways": {}}
        host_files.write_journal(self._p["run_id"], "REBUILD", "intent")
        ways = rebuild_plan.ways(
            self._obstacles(begun), self._p["divergent_bytes"], directory_bytes(self._data), int(self._p["primary_bytes"])
        )
        methods = rebuild_plan.order(ways, self._p["method"], begun, self._p["host_name"])
        return {"methods": methods, "ways": rebuild_plan.shown(ways)}

    def carry_out(self) -> dict[str, Any]:
        """See the RETURN of the module. Raises RebuildError."""
        began, failed = time.monotonic(), {}
        self._check_place()
        for method in self._p["methods"]:
            self._steps.mark(restored=False, method=method)
            try:
                self._act(method)
            except (RebuildError, BuildError, PgbackrestError, OSError, subprocess.TimeoutExpired) as error:
                failed[method] = str(error)[:500]
                continue
            self._steps.mark(restored=True, method=method)
            host_files.write_journal(self._p["run_id"], "REBUILD", "result", outcome="ok", method=method)
            return {"method": method, "failed": failed, "seconds": round(time.monotonic() - began, 3)}
        raise RebuildError(
            "no method came to its end (%s). Next: mend one of them, then start the same runbook again; what a rewind left half way is not started"
            % "; ".join("%s: %s" % (method, said) for method, said in failed.items())
        )

    def _check_place(self) -> None:
        if host_files.read_fence() is None or postmaster_pid(self._data) is not None:
            raise RebuildError("this host is not fenced and stopped")

    def _ours(self) -> Optional[parting.Line]:
        control = self._control()
        segment_bytes = int(control.get("Bytes per WAL segment", DEFAULT_SEGMENT_BYTES))
        return parting.of_host(self._data, newest(control), segment_bytes, self._theirs)

    def _diverged(self) -> Optional[str]:
        return diverged(self._control(), self._ours(), self._theirs)

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
        if newest(control) == self._theirs.timeline:
            return "pg_rewind takes both servers' timeline %d for the same one" % self._theirs.timeline
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
        return None if self._backup() else "no backup in a repository that answers leads to the primary's timeline"

    def _backup(self) -> Optional[tuple[int, str]]:
        ours = self._ours()
        left = parting.part(ours, self._theirs) if ours else None
        own = [leg.timeline for leg in left.own if leg.timeline != left.timeline] if left else []
        return leading_backup(self._p, self._theirs, own)

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
        backup = self._backup()
        if backup is None:
            raise RebuildError("no backup leads to the primary's timeline any more")
        command = Pgbackrest(
            self._p["config"], self._p["stanza"], self._p["owner"], io_timeout=60, timeout=self._p["restore_timeout"]
        )
        command.run("restore", "--repo=%d" % backup[0], "--set=%s" % backup[1], "--type=standby", "--delta", log_file=True)

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

    def _standing(self) -> Optional[Mapping[str, Any]]:
        runs = chain(host_files.read_journal(1 << 20), self._p["run_id"])
        return rebuild_plan.standing(host_files.read_build(), runs, self._data, parting.followed(self._control(), self._data))
