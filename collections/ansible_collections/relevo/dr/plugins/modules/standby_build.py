#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: standby_build
short_description: A streaming standby from the backup repository
description:
  - >-
    Where nothing is: makes Debian's cluster configuration, restores the newest backup as a standby, starts it, and waits until it streams and has replayed
    what the primary had written when the wait began. A standby of this cluster that is there is adopted.
  - >-
    A directory that is not empty is never restored into, unless F(/var/lib/relevo/standby-build.json) says that it is this build, unfinished; then the build
    goes on. Another cluster, a second primary or a former primary are refused.
  - With I(state=prepared) it stops before the first start, so that access rules and parameters can be managed in between.
options:
  state: {description: How far to go., type: str, choices: [prepared, streaming], default: streaming}
  system_identifier: {description: The primary's., type: str, required: true}
  host_name: {description: Name of this host in sentences., type: str, required: true}
  cluster_version: {description: Major version., type: str, required: true}
  cluster_name: {description: Debian's name of the cluster., type: str, default: main}
  data_directory: {description: PGDATA., type: path, required: true}
  config_directory: {description: Directory of postgresql.conf., type: path, required: true}
  bin_directory: {description: Directory of psql and pg_controldata., type: path, required: true}
  unit: {description: The systemd unit of the cluster., type: str, required: true}
  port: {description: Port of the server., type: int, default: 5432}
  owner: {description: Operating system user of the cluster., type: str, default: postgres}
  config: {description: pgBackRest's configuration file., type: path, required: true}
  stanza: {description: The stanza., type: str, required: true}
  run_id: {description: The run; kept in the mark., type: str, default: ""}
  primary: {description: Connection string of the primary for a monitoring role., type: str, required: true}
  restore_timeout: {description: Seconds that the restore may take., type: int, default: 86400}
  catchup_timeout: {description: Seconds until the standby must stream and have caught up., type: int, default: 3600}
attributes:
  check_mode: {support: full, description: Stops after the plan.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Build the standby
  relevo.dr.standby_build:
    system_identifier: "7480000000000000000"
    host_name: b-db1
    cluster_version: "17"
    data_directory: /var/lib/postgresql/17/main
    config_directory: /etc/postgresql/17/main
    bin_directory: /usr/lib/postgresql/17/bin
    unit: postgresql@17-main.service
    config: /etc/pgbackrest/pgbackrest.conf
    stanza: minimarket
    primary: host=a-db1 user=relevo_monitor dbname=postgres passfile=/etc/relevo/pgpass sslmode=verify-full sslrootcert=/etc/ssl/ca.pem
"""

RETURN = r"""
changes: {description: "What differed (item, current, wanted).", returned: always, type: list, elements: dict}
steps: {description: What was done., returned: always, type: list, elements: str}
restored_bytes: {description: Size of the data directory after a restore., returned: always, type: int}
restore_seconds: {description: How long the restore took; null when there was none., returned: always, type: float}
"""

import contextlib
import json
import os
import pwd
import shutil
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.relevo.dr.plugins.module_utils import clock, host_files, standby_build
from ansible_collections.relevo.dr.plugins.module_utils.change import shown
from ansible_collections.relevo.dr.plugins.module_utils.managed_file import WantedFile, apply, observe
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import Pgbackrest, PgbackrestError
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError, Psql, controldata, lsn_bytes, owner_switch, postmaster_pid
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal, sentence
from ansible_collections.relevo.dr.plugins.module_utils.standby_build import CLEAN, CONTINUE, CREATE, RESTORE, START, WAIT, Site

MARK = "/var/lib/relevo/standby-build.json"
POSITION = """
select pg_is_in_recovery() as in_recovery, coalesce(pg_last_wal_replay_lsn()::text, '0/0') as replay_lsn,
       coalesce((select status = 'streaming' from pg_stat_wal_receiver), false) as streaming
"""


class BuildError(Exception):
    """A step failed; the message is a sentence."""


class Build:
    """The steps, one method each."""

    def __init__(self, parameters):
        self.p = parameters
        self.restore_seconds = None

    def observe(self) -> Site:
        data, found = self.p["data_directory"], {}
        running = postmaster_pid(data) is not None
        if running:
            with contextlib.suppress(PostgresqlError), self._session() as session:
                found = session.row(POSITION)
        return Site(
            configuration=os.path.exists(os.path.join(self.p["config_directory"], "postgresql.conf")),
            data=_kind(data),
            running=running,
            in_recovery=found.get("in_recovery"),
            streaming=found.get("streaming", False),
            system_identifier=self._system_identifier(),
            standby_signal=os.path.exists(os.path.join(data, "standby.signal")),
            build=_mark(),
            fence=host_files.read_fence(),
        )

    def _session(self):
        return Psql(self.p["bin_directory"], self.p["port"], "postgres", self.p["owner"], timeout_seconds=5)

    def _system_identifier(self):
        with contextlib.suppress(PostgresqlError):
            return controldata(self.p["bin_directory"], self.p["data_directory"], self.p["owner"]).get("Database system identifier")
        return None

    def mark(self, restored=False) -> None:
        mark = {"run_id": self.p["run_id"], "data_directory": self.p["data_directory"], "at": clock.utc_now(), "restored": restored}
        host_files.write_atomically(MARK, json.dumps(mark))

    def create(self) -> None:
        """Debian's own way to make a configuration also makes a cluster, which is thrown away before the restore."""
        command = ["pg_createcluster", "--port", str(self.p["port"]), "--datadir", self.p["data_directory"], "--start-conf", "auto"]
        command += ["--pgoption", "add_include_dir=conf.d"]
        self._run([*command, self.p["cluster_version"], self.p["cluster_name"]], 300)

    def clean(self) -> None:
        """Only what this build put there: the mark says so, and no process uses it."""
        if postmaster_pid(self.p["data_directory"]) is not None:
            raise BuildError("%s is in use by a running server" % self.p["data_directory"])
        _empty(self.p["data_directory"])

    def restore(self, resume: bool) -> None:
        data, account = self.p["data_directory"], pwd.getpwnam(self.p["owner"])
        os.makedirs(data, exist_ok=True)
        os.chown(data, account.pw_uid, account.pw_gid)
        os.chmod(data, 0o700)
        # pgBackRest goes on with a directory only when it finds its own manifest there; anything less is quicker to do again.
        delta = resume and os.path.exists(os.path.join(data, "backup.manifest"))
        if resume and not delta:
            _empty(data)
        command = Pgbackrest(self.p["config"], self.p["stanza"], self.p["owner"], io_timeout=60, timeout=self.p["restore_timeout"])
        began = time.monotonic()
        command.run("restore", "--type=standby", *(["--delta"] if delta else []), log_file=True)
        self.restore_seconds = round(time.monotonic() - began, 3)

    def own_parameters(self) -> None:
        path = os.path.join(self.p["data_directory"], "postgresql.auto.conf")
        found = observe(path)
        if found.content is not None:
            text = standby_build.without_recovery_parameters(found.content)
            apply(WantedFile(path, content=text, owner=self.p["owner"], group=self.p["owner"], mode="0600"), found)

    def start(self) -> None:
        self._run(["systemctl", "start", self.p["unit"]], 3600)

    def wait(self) -> None:
        """Until it streams and has replayed what the primary had written by now."""
        target = lsn_bytes(self._ask_primary("select pg_current_wal_flush_lsn()"))
        deadline = time.monotonic() + self.p["catchup_timeout"]
        seen = "PostgreSQL does not answer"
        while time.monotonic() < deadline:
            with contextlib.suppress(PostgresqlError), self._session() as session:
                position = session.row(POSITION)
                if position["streaming"] and lsn_bytes(position["replay_lsn"]) >= target:
                    return
                seen = "%s, replayed up to %s" % ("streaming" if position["streaming"] else "not streaming", position["replay_lsn"])
            if postmaster_pid(self.p["data_directory"]) is None and "does not answer" in seen:
                seen = "PostgreSQL does not run"
            time.sleep(0.5)
        raise BuildError("%s after %d s; its log ends with: %s" % (seen, self.p["catchup_timeout"], self._log()))

    def _ask_primary(self, sql) -> str:
        command = [os.path.join(self.p["bin_directory"], "psql"), "-XAtq", "--dbname=%s" % self.p["primary"], "--command=%s" % sql]
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "PGCONNECT_TIMEOUT": "5", "PGOPTIONS": "-c search_path=pg_catalog,pg_temp"}
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=15, cwd="/", env=environment, **owner_switch(self.p["owner"])
        )
        if done.returncode != 0:
            raise BuildError("the primary refuses this host as monitoring role: %s" % done.stderr.strip())
        return done.stdout.strip()

    def _log(self) -> str:
        path = "/var/log/postgresql/postgresql-%s-%s.log" % (self.p["cluster_version"], self.p["cluster_name"])
        return " | ".join((observe(path).content or "no log").strip().splitlines()[-5:])

    def _run(self, command, timeout) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout, cwd="/")
        if done.returncode != 0:
            raise BuildError("%s failed: %s" % (command[0], (done.stderr or done.stdout).strip()))


def _kind(data):
    if not os.path.isdir(data):
        return "absent"
    if not os.listdir(data):
        return "empty"
    whole = all(os.path.exists(os.path.join(data, name)) for name in ("PG_VERSION", "global/pg_control"))
    return "cluster" if whole else "partial"


def _mark():
    try:
        with open(MARK, encoding="utf-8") as source:
            return json.load(source)
    except (OSError, ValueError):
        return None


def _empty(directory) -> None:
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def _size(directory) -> int:
    return sum(os.lstat(os.path.join(place, name)).st_size for place, _, names in os.walk(directory) for name in names)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["prepared", "streaming"], "default": "streaming"},
            "system_identifier": {"type": "str", "required": True},
            "host_name": {"type": "str", "required": True},
            "cluster_version": {"type": "str", "required": True},
            "cluster_name": {"type": "str", "default": "main"},
            "data_directory": {"type": "path", "required": True},
            "config_directory": {"type": "path", "required": True},
            "bin_directory": {"type": "path", "required": True},
            "unit": {"type": "str", "required": True},
            "port": {"type": "int", "default": 5432},
            "owner": {"type": "str", "default": "postgres"},
            "config": {"type": "path", "required": True},
            "stanza": {"type": "str", "required": True},
            "run_id": {"type": "str", "default": ""},
            "primary": {"type": "str", "required": True},
            "restore_timeout": {"type": "int", "default": 86400},
            "catchup_timeout": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    host = module.params["host_name"]
    try:
        manage(module)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal), **told(gates=[refusal.gate], refused=True))
    except (BuildError, PgbackrestError, PostgresqlError, subprocess.TimeoutExpired) as error:
        next_action = getattr(error, "next_action", "mend that, then run playbooks/protect.yml again: it goes on with this build")
        module.fail_json(msg=sentence("STANDBY", host, str(error), "a streaming standby", next_action))


def manage(module) -> None:
    build = Build(module.params)
    plan = standby_build.plan(build.observe(), module.params["system_identifier"], module.params["host_name"], module.params["data_directory"])
    if plan.steps and not module.check_mode:
        _execute(build, plan.steps, module.params["state"] == "prepared")
    restored = _size(module.params["data_directory"]) if build.restore_seconds is not None else 0
    module.exit_json(
        changed=bool(plan.steps),
        changes=shown(plan.changes),
        steps=list(plan.steps),
        restored_bytes=restored,
        restore_seconds=build.restore_seconds,
    )


def _execute(build, steps, prepare_only) -> None:
    if CREATE in steps or RESTORE in steps or CONTINUE in steps:
        build.mark()
    if CREATE in steps:
        build.create()
    if CLEAN in steps:
        build.clean()
    if RESTORE in steps or CONTINUE in steps:
        build.restore(resume=CONTINUE in steps)
        build.own_parameters()
        build.mark(restored=True)
    if prepare_only:
        return
    if START in steps:
        build.start()
    if WAIT in steps:
        build.wait()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(MARK)


if __name__ == "__main__":
    main()
