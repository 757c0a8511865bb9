# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Restore a backup on the host that is to be promoted, and bring it to where it was wanted, read-only all the time.

Each step leaves a mark that says how far it came: a run that was killed is gone on with, and what it left is never taken for a standby.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import select
import subprocess
import time
from collections.abc import Mapping
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import (
    clock,
    host_files,
    repositories,
    restored_standby,
    salvage_keep,
    server_start,
    standby,
)
from ansible_collections.relevo.dr.plugins.module_utils.managed_file import WantedFile, apply, observe
from ansible_collections.relevo.dr.plugins.module_utils.parting import Parting
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import Pgbackrest, explained
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import (
    PostgresqlError,
    Psql,
    cluster_processes,
    controldata,
    lsn_bytes,
    postmaster_pid,
)
from ansible_collections.relevo.dr.plugins.module_utils.restore_ladder import explained as server_explained
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import END, Leg
from ansible_collections.relevo.dr.plugins.module_utils.restored_standby import NotReached
from ansible_collections.relevo.dr.plugins.module_utils.standby_build import without_recovery_parameters
from ansible_collections.relevo.dr.plugins.module_utils.standby_steps import Steps, directory_bytes
from ansible_collections.relevo.dr.plugins.module_utils.wal_archive import read_segment
from ansible_collections.relevo.dr.plugins.module_utils.way_out import REACHED, REPLAYING, RESTORING

# What a dead controller leaves behind may be taken over that soon, however long a restore may take.
LEASE_SECONDS, RENEW_SECONDS = 180.0, 20.0
STOP_SECONDS = 300.0
# How long replay may stand still before its goal: longer than any retry of an archive that answers.
STANDS_SECONDS = 120.0
_SAFE = "select string_agg(name || ' = ' || setting, ', ') from pg_settings where (name in ('fsync', 'full_page_writes') and setting <> 'on')"
_SAFE += " or (name = 'synchronous_commit' and setting = 'off') or (name = 'synchronous_standby_names' and setting <> '')"


class RestoreError(Exception):
    """A step failed; the message is a sentence."""


class Breath:
    """The run's lease while a long step is at work, and whether anybody still waits for its answer."""

    def __init__(self, run_id: str) -> None:
        self._run_id, self._renewed = run_id, -RENEW_SECONDS

    def draw(self) -> None:
        """Raises LockError when the lock is another's, RestoreError when nobody leads this run any more."""
        if time.monotonic() - self._renewed > RENEW_SECONDS:
            host_files.extend_lock(self._run_id, LEASE_SECONDS)
            self._renewed = time.monotonic()
        if abandoned():
            raise RestoreError("the controller is gone. Next: start the failover again, it goes on with what is there")


def abandoned() -> bool:
    """Whether whoever reads this module's answer has gone away: the other end of a pipe is closed then."""
    poll = select.poll()
    poll.register(1, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


class Restoration:
    """parameters: those of the module standby_restore."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._p, self._goal = parameters, parameters["goal"]
        self._data, self._owner = str(parameters["data_directory"]), str(parameters["owner"])
        self._steps = Steps({**parameters, "primary": ""})
        self._breath = Breath(parameters["run_id"])
        self.left_out: list[int] = []

    def carry_out(self) -> dict[str, Any]:
        """The mark of a server that is seen where it was wanted. Raises Refusal, RestoreError and what the steps raise."""
        self._breath.draw()
        mark = restored_standby.unfinished()
        held = os.path.exists(os.path.join(host_files.STATE_DIRECTORY, server_start.HOLD))
        restored_standby.check_place(self._steps.observe(), held, mark, self._goal, self._p["host_name"])
        # Before anything waits for them: neither the restore nor the archive afterwards may hang on a store that is gone.
        self.left_out = repositories.leave_out(
            self._p["config"], self._p["leave_out"], self._p["run_id"], "did not answer when the site was left"
        )
        if mark is None or mark["state"] == RESTORING or not restored_standby.same(self._goal, mark):
            mark = self._restored(mark)
        return self._at_its_goal(mark)

    def _restored(self, before: Optional[Mapping[str, Any]]) -> dict[str, Any]:
        """The backup's files, and all that makes a start of them a read-only one that leads to the goal."""
        self._stop()
        salvage = self._kept() if before is None else before.get("salvage")
        mark: dict[str, Any] = {
            "run_id": self._p["run_id"],
            "at": clock.utc_now(),
            "state": RESTORING,
            "asked": self._goal["asked"],
            "goal": dict(self._goal),
            "data_directory": self._data,
            "settings_file": os.path.join(self._p["config_directory"], restored_standby.SETTINGS_FILE),
            "salvage": salvage,
        }
        host_files.write_restore(mark)
        began = time.monotonic()
        delta = self._restore()
        took = round(time.monotonic() - began, 3)
        self._make_standby()
        log = server_start.log_file(self._p["config_directory"])
        mark.update(
            state=REPLAYING,
            delta=delta,
            restore_seconds=took,
            restored_bytes=directory_bytes(self._data),
            settings_file=restored_standby.write_settings(self._p["config_directory"], self._goal, self._owner),
            log={"path": log, "offset": os.path.getsize(log) if os.path.exists(log) else 0},
        )
        host_files.write_restore(mark)
        return mark

    def _stop(self) -> None:
        """A standby of this cluster, or what a dead run started: what it received and no archive has is kept next."""
        self._run(["systemctl", "stop", "--", self._p["unit"]], STOP_SECONDS)
        if postmaster_pid(self._data) is not None or (os.path.isdir(self._data) and cluster_processes(self._data)):
            raise RestoreError("PostgreSQL still runs in %s after its unit was stopped. Next: see why, by hand" % self._data)
        # pgBackRest takes the file of a server that crashed for a server.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self._data, "postmaster.pid"))

    def _kept(self) -> Optional[dict[str, Any]]:
        """Seal what this standby received and the archive lacks; None where there was no cluster."""
        if self._steps.observe().data != "cluster":
            return None
        p = {
            **{name: self._p[name] for name in ("run_id", "data_directory", "bin_directory", "owner")},
            "host": self._p["host_name"],
            "prefix": "",
            "names": {},
            # What is not here is in the archive: it is what the restore replays.
            "config": "",
            "directory": self._p["salvage_directory"],
            "timeout_seconds": STOP_SECONDS,
        }
        found = self._unarchived()
        kept = salvage_keep.earlier(p, found) or salvage_keep.keep(p, found)
        return {name: kept[name] for name in ("directory", "digest", "committed", "end_lsn")}

    def _unarchived(self) -> salvage_keep.Found:
        """The timeline of the data from where its archive ends, or from where its WAL here begins when there is none."""
        control = controldata(self._p["bin_directory"], self._data, self._owner)
        timeline = salvage_keep.newest_timeline(self._data, int(control.get("Latest checkpoint's TimeLineID", "0")))
        size = int(self._goal["segment_bytes"])
        known = self._goal["tails"].get(str(timeline))
        begin = lsn_bytes(known) if known else oldest(os.listdir(os.path.join(self._data, "pg_wal")), timeline, size)
        return salvage_keep.Found(timeline, Parting(timeline, begin, (Leg(timeline, begin),)), size, control)

    def _restore(self) -> bool:
        """The repository's part. Whether it used what was there."""
        account = pwd.getpwnam(self._owner)
        os.makedirs(self._data, exist_ok=True)
        os.chown(self._data, account.pw_uid, account.pw_gid)
        os.chmod(self._data, 0o700)
        # pgBackRest goes on only with a directory in which it finds one of these; anything less is quicker to do again.
        delta = any(os.path.exists(os.path.join(self._data, name)) for name in ("PG_VERSION", "backup.manifest"))
        if not delta:
            self._steps.clean()
        command = Pgbackrest(self._p["config"], self._p["stanza"], self._owner, io_timeout=60)
        options = ["--repo=%d" % int(self._goal["repository"]), "--set=%s" % self._goal["label"], "--type=standby"]
        words = command.words("restore", *options, *(["--delta"] if delta else []), log_file=True)
        self._follow(words, command.process())
        return delta

    def _follow(self, words: list[str], how: Mapping[str, Any]) -> None:
        """A long command that ends with the run that wanted it."""
        deadline = time.monotonic() + self._p["restore_timeout"]
        output = os.memfd_create("relevo-restore")
        with os.fdopen(output, "w+b") as said:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=said, stderr=said, **how)
            try:
                while process.poll() is None:
                    self._breath.draw()
                    if time.monotonic() > deadline:
                        raise RestoreError("the restore took longer than %g s" % self._p["restore_timeout"])
                    time.sleep(0.1)
            finally:
                if process.poll() is None:
                    process.terminate()
                process.wait()
            said.seek(0)
            text = said.read().decode(errors="replace")
        if process.returncode != 0:
            raise explained(text)

    def _make_standby(self) -> None:
        """Whatever was in the backup: nothing in it may hide our parameters, and every start is read-only."""
        if not os.path.exists(os.path.join(self._data, "standby.signal")):
            raise RestoreError("the restore left no standby.signal in %s: it would start writable" % self._data)
        path = os.path.join(self._data, "postgresql.auto.conf")
        found = observe(path)
        if found.content is not None:
            text = without_recovery_parameters(found.content)
            apply(WantedFile(path, content=text, owner=self._owner, group=found.group, mode="0600"), found)

    def _at_its_goal(self, mark: dict[str, Any]) -> dict[str, Any]:
        if postmaster_pid(self._data) is None:
            self._run(["systemctl", "start", "--no-block", "--", self._p["unit"]], 60)
        began = time.monotonic()
        evidence = self._wait(mark)
        mark = {**mark, "state": REACHED, "evidence": evidence, "replay_seconds": round(time.monotonic() - began, 3)}
        host_files.write_restore(mark)
        return mark

    def _wait(self, mark: Mapping[str, Any]) -> str:
        """Until it is proven to be where it was wanted."""
        deadline = time.monotonic() + self._p["restore_timeout"]
        stands, since, said, appeared = "", time.monotonic(), "it does not answer yet", False
        while True:
            self._breath.draw()
            appeared = appeared or postmaster_pid(self._data) is not None
            if appeared and postmaster_pid(self._data) is None:
                failed = server_explained(restored_standby.server_log(mark, {}))
                raise RestoreError("%s. Next: %s" % (failed.observed, failed.next_action))
            position = self._position()
            if position and not position["in_recovery"]:
                raise RestoreError(
                    "the restored server left recovery by itself: it accepts writes. Next: stop it, find out who promoted it"
                )
            if position:
                if position["replay_lsn"] != stands:
                    stands, since = position["replay_lsn"], time.monotonic()
                try:
                    return self._proven(mark, position)
                except NotReached as reason:
                    said = str(reason)
            if time.monotonic() > deadline or (appeared and position and time.monotonic() - since > STANDS_SECONDS):
                raise RestoreError(
                    "%s, and stands there. Next: read the server's log (%s), then start again" % (said, mark["log"]["path"])
                )
            if not appeared and time.monotonic() - since > STANDS_SECONDS:
                raise RestoreError("PostgreSQL did not start: see systemctl status %s on this host" % self._p["unit"])
            time.sleep(0.5)

    def _position(self) -> dict[str, Any]:
        with contextlib.suppress(PostgresqlError), self._session() as session:
            return session.row(restored_standby.POSITION)
        return {}

    def _proven(self, mark: Mapping[str, Any], position: Mapping[str, Any]) -> str:
        more: Optional[bool] = None
        # The archive is asked only where an answer could end the wait.
        if self._goal["kind"] == END and lsn_bytes(position["replay_lsn"]) >= lsn_bytes(self._goal["end_lsn"]):
            more = standby.archived(
                standby.Archive(
                    self._p["config"], self._p["stanza"], int(position["segment_bytes"]), int(self._goal["timeline"]), 2.0
                ),
                position["replay_lsn"],
            )
        evidence = restored_standby.reached(self._goal, position, restored_standby.server_log(mark, position), more)
        with self._session() as session:
            unsafe = session.execute(_SAFE)
        if unsafe:
            raise RestoreError(
                "as a primary this server would not keep its word: %s. Next: mend that on this host, start again" % unsafe
            )
        return evidence

    def _session(self) -> Psql:
        return Psql(self._p["bin_directory"], self._p["port"], "postgres", self._owner, timeout_seconds=5)

    def _run(self, command: list[str], seconds: float) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds, cwd="/")
        if done.returncode != 0:
            raise RestoreError("%s failed: %s" % (" ".join(command[:2]), done.stderr.strip()[:300]))


def oldest(names: list[str], timeline: int, segment_bytes: int) -> int:
    """Where the WAL of a timeline begins among these files; 0 when none of it is there."""
    prefix = "%08X" % timeline
    mine = sorted(name for name in names if re.fullmatch("%s[0-9A-F]{16}" % prefix, name))
    return read_segment(mine[0], segment_bytes).number * segment_bytes if mine else 0
