# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The steps that make a host a standby, one method each; what to do is decided in standby_build."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import (
    clock,
    host_files,
    parting,
    rebuild_plan,
    repositories,
    restored_standby,
)
from ansible_collections.relevo.dr.plugins.module_utils.managed_file import WantedFile, apply, observe
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import Pgbackrest, PgbackrestError
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import (
    PostgresqlError,
    Psql,
    controldata,
    lsn_bytes,
    owner_switch,
    postmaster_pid,
)
from ansible_collections.relevo.dr.plugins.module_utils.standby_build import Site, without_recovery_parameters
from ansible_collections.relevo.dr.plugins.module_utils.stanza import current_backups

# What every module needs to know of the server that becomes a standby.
OF_A_SERVER: dict[str, dict[str, Any]] = {
    "host_name": {"type": "str", "required": True},
    "cluster_version": {"type": "str", "required": True},
    "cluster_name": {"type": "str", "default": "main"},
    "data_directory": {"type": "path", "required": True},
    "config_directory": {"type": "path", "required": True},
    "bin_directory": {"type": "path", "required": True},
    "unit": {"type": "str", "required": True},
    "port": {"type": "int", "default": 5432},
    "owner": {"type": "str", "default": "postgres"},
}
START_SECONDS = 3600
_POSITION = """
select pg_is_in_recovery() as in_recovery, coalesce(pg_last_wal_replay_lsn()::text, '0/0') as replay_lsn,
       coalesce((select status = 'streaming' from pg_stat_wal_receiver), false) as streaming
"""

# How long a standby may stand still before its log is asked why: longer than a retry of its receiver and a look into the archive.
_STANDS_SECONDS = 45.0
_GONE = re.compile(r"requested WAL segment \S+ has already been removed")

_STREAM = """
select pg_last_wal_replay_lsn()::text as replay_lsn, (select received_tli from pg_stat_wal_receiver where status = 'streaming') as timeline
"""


class BuildError(Exception):
    """A step failed; the message is a sentence."""


class WalGone(BuildError):
    """What the standby waits for is nowhere any more."""


def leading_backup(parameters: Mapping[str, Any], line: parting.Line, own: Sequence[int] = ()) -> Optional[tuple[int, str]]:
    """Repository and label of the newest backup that leads to the primary, of every repository that answers. own: see rebuild_plan.backup_of.

    pgBackRest itself takes the newest of the first repository, which may lie before a hole.
    """
    command = Pgbackrest(parameters["config"], parameters["stanza"], parameters["owner"], io_timeout=5, timeout=30)

    def ask(place: repositories.Place) -> Sequence[Mapping[str, Any]]:
        try:
            return current_backups(command.info(place.id)) if repositories.takes_connections(place) else []
        except PgbackrestError:
            return []

    answers = repositories.ask_each(repositories.configured(parameters["config"]), ask)
    return rebuild_plan.backup_of(line, own, [backup for backups in answers.values() for backup in backups])


class Steps:
    """parameters: those of the module standby_build."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._p = parameters
        self._data = str(parameters["data_directory"])
        self._owner = str(parameters["owner"])
        self.restore_seconds: Optional[float] = None
        self.restored_bytes = 0

    def observe(self) -> Site:
        """What is on the host."""
        found: dict[str, Any] = {}
        running = postmaster_pid(self._data) is not None
        if running:
            with contextlib.suppress(PostgresqlError), self._session() as session:
                found = session.row(_POSITION)
        return Site(
            configuration=os.path.exists(os.path.join(self._p["config_directory"], "postgresql.conf")),
            data=kind(self._data),
            running=running,
            in_recovery=found.get("in_recovery"),
            streaming=bool(found.get("streaming")),
            system_identifier=self._system_identifier(),
            standby_signal=os.path.exists(os.path.join(self._data, "standby.signal")),
            build=host_files.read_build(),
            fence=host_files.read_fence(),
            restore=restored_standby.unfinished(),
        )

    def mark(self, *, restored: bool, **more: str) -> None:
        """Say on this host what is being built, so that a later run knows its own leftovers."""
        mark = {"run_id": self._p["run_id"], "data_directory": self._data, "at": clock.utc_now(), "restored": restored, **more}
        host_files.write_build(mark)

    def create(self) -> None:
        """Debian's own way to make a configuration also makes a cluster, which is thrown away before the restore."""
        account, parent = pwd.getpwnam(self._owner), os.path.dirname(self._data)
        if not os.path.isdir(parent):
            os.makedirs(parent)
            os.chown(parent, account.pw_uid, account.pw_gid)
        options = ["--port", str(self._p["port"]), "--datadir", self._data, "--start-conf", "auto"]
        options += ["--pgoption", "add_include_dir=conf.d"]
        _run(["pg_createcluster", *options, self._p["cluster_version"], self._p["cluster_name"]], 300)

    def clean(self) -> None:
        """Only what this build put there: the mark says so, and no process uses it."""
        if postmaster_pid(self._data) is not None:
            raise BuildError("%s is in use by a running server" % self._data)
        _empty(self._data)

    def restore(self, *, resume: bool) -> None:
        """Restore the newest backup that leads to the primary; nothing in it may hide the parameters of conf.d."""
        restored_standby.forget(self._p["config_directory"])
        account = pwd.getpwnam(self._owner)
        os.makedirs(self._data, exist_ok=True)
        os.chown(self._data, account.pw_uid, account.pw_gid)
        os.chmod(self._data, 0o700)
        # pgBackRest goes on with a directory only when it finds its own manifest there; anything less is quicker to do again.
        delta = resume and os.path.exists(os.path.join(self._data, "backup.manifest"))
        if resume and not delta:
            self.clean()
        command = Pgbackrest(self._p["config"], self._p["stanza"], self._owner, io_timeout=60, timeout=self._p["restore_timeout"])
        line = parting.line(self._p["timeline"], self._p["history"])
        backup = leading_backup(self._p, line)
        if backup is None:
            raise BuildError("no backup in a repository that answers leads to the primary's timeline %d" % line.timeline)
        began = time.monotonic()
        chosen = ["--repo=%d" % backup[0], "--set=%s" % backup[1]]
        command.run("restore", *chosen, "--type=standby", *(["--delta"] if delta else []), log_file=True)
        self.restore_seconds = round(time.monotonic() - began, 3)
        self.restored_bytes = directory_bytes(self._data)
        path = os.path.join(self._data, "postgresql.auto.conf")
        found = observe(path)
        if found.content is not None:
            text = without_recovery_parameters(found.content)
            apply(WantedFile(path, content=text, owner=self._owner, group=found.group, mode="0600"), found)

    def start(self) -> None:
        """Start the unit; whether the server came up is seen by wait."""
        _run(["systemctl", "start", "--", self._p["unit"]], START_SECONDS)

    def wait(self) -> None:
        """Until it streams and has replayed what the primary had written by now."""
        target = lsn_bytes(self._ask_primary("select pg_current_wal_flush_lsn()"))
        deadline = time.monotonic() + self._p["catchup_timeout"]
        seen, stands, since = "", "", time.monotonic()
        while time.monotonic() < deadline:
            try:
                with self._session() as session:
                    position = session.row(_POSITION)
            except PostgresqlError as error:
                seen = "PostgreSQL does not answer (%s)" % error
                if postmaster_pid(self._data) is None:
                    # Nothing that is waited for comes from a server that is no more.
                    break
            else:
                if position["streaming"] and lsn_bytes(position["replay_lsn"]) >= target:
                    return
                seen = "%s, replayed up to %s" % ("streaming" if position["streaming"] else "not streaming", position["replay_lsn"])
                if position["streaming"] or position["replay_lsn"] != stands:
                    stands, since = position["replay_lsn"], time.monotonic()
                elif time.monotonic() - since > _STANDS_SECONDS and _GONE.search(self._log()):
                    raise WalGone(
                        "it has replayed up to %s, the primary has removed the WAL after that, and no repository holds it: the newest backup does not lead"
                        " to the present" % position["replay_lsn"]
                    )
            time.sleep(0.5)
        raise BuildError("%s after %d s; its log ends with: %s" % (seen, self._p["catchup_timeout"], self._log()))

    def give_up(self) -> None:
        """Waiting brings nothing back: the next run restores anew, from a backup that is taken meanwhile."""
        self.mark(restored=False)
        _run(["systemctl", "stop", "--", self._p["unit"]], 120)

    def proof(self, timeline: int) -> dict[str, Any]:
        """What is seen of a standby that streams: timeline and position, and when, by the primary's clock. BuildError when it is another timeline."""
        with self._session() as session:
            seen = session.row(_STREAM)
        said = self._ask_primary(
            "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') || ' ' || pg_is_in_recovery()"
        )
        at, recovering = said.split()
        if recovering != "false" or seen["timeline"] != timeline:
            raise BuildError("it streams on timeline %s; expected timeline %d, from a primary" % (seen["timeline"], timeline))
        return {"timeline": seen["timeline"], "replay_lsn": seen["replay_lsn"], "at": at}

    def _session(self) -> Psql:
        return Psql(self._p["bin_directory"], self._p["port"], "postgres", self._owner, timeout_seconds=5)

    def _system_identifier(self) -> Optional[str]:
        with contextlib.suppress(PostgresqlError):
            return controldata(self._p["bin_directory"], self._data, self._owner).get("Database system identifier")
        return None

    def _ask_primary(self, sql: str) -> str:
        command = [
            os.path.join(self._p["bin_directory"], "psql"),
            "-XAtqw",
            "--dbname=%s" % self._p["primary"],
            "--command=%s" % sql,
        ]
        environment = {
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "PGCONNECT_TIMEOUT": "5",
            "PGOPTIONS": "-c search_path=pg_catalog,pg_temp",
        }
        switch = owner_switch(self._owner)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=15, cwd="/", env=environment, **switch)
        if done.returncode != 0:
            raise BuildError("the primary does not let this host in as the monitoring role: %s" % done.stderr.strip())
        return str(done.stdout.strip())

    def _log(self) -> str:
        path = "/var/log/postgresql/postgresql-%s-%s.log" % (self._p["cluster_version"], self._p["cluster_name"])
        return " | ".join((observe(path).content or "no log").strip().splitlines()[-5:])


def kind(directory: str) -> str:
    """What is in the place of the data: absent | empty | cluster | partial."""
    if not os.path.isdir(directory):
        return "absent"
    if not os.listdir(directory):
        return "empty"
    whole = all(os.path.exists(os.path.join(directory, name)) for name in ("PG_VERSION", "global/pg_control"))
    return "cluster" if whole else "partial"


def _empty(directory: str) -> None:
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def directory_bytes(directory: str) -> int:
    """The size of all files in it; what vanishes meanwhile counts nothing."""
    total = 0
    for place, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def _run(command: list[str], timeout: float) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout, cwd="/")
    if done.returncode != 0:
        raise BuildError("%s failed: %s" % (command[0], (done.stderr or done.stdout).strip()))
