#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: archive_probe
short_description: Prove that WAL written now is in every repository, readable
description:
  - >-
    Writes a marker into the WAL (C(pg_logical_emit_message), no table needed), switches the segment, and waits until that very segment can be read back from
    each repository with the marker in it (G03). An archive_command that is C(true) or leads elsewhere is seen by this and by nothing less.
  - Needs the primary. In check mode nothing is written and the verdict is C(unknown).
options:
  config: {description: pgBackRest's configuration file., type: path, required: true}
  stanza: {description: The stanza., type: str, required: true}
  repositories: {description: See the role dr_pgbackrest., type: list, elements: dict, default: []}
  bin_directory: {description: Directory of psql., type: path, required: true}
  port: {description: Port of the server., type: int, default: 5432}
  owner: {description: Operating system user of the cluster., type: str, default: postgres}
  host_name: {description: Name of this host in sentences., type: str, required: true}
  timeout: {description: Seconds until the segment must be in every repository., type: float, default: 60}
  required: {description: Fail the task when the proof fails., type: bool, default: true}
attributes:
  check_mode: {support: full, description: Writes nothing and proves nothing.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Prove the archive
  relevo.dr.archive_probe:
    config: /etc/pgbackrest/pgbackrest.conf
    stanza: minimarket
    bin_directory: /usr/lib/postgresql/17/bin
    host_name: "{{ inventory_hostname }}"
"""

RETURN = r"""
segment: {description: The segment that holds the marker., returned: always, type: str}
seconds: {description: From the switch to the last repository., returned: always, type: float}
proven: {description: Whether every repository gave the segment back., returned: always, type: bool}
"""

import os
import pwd
import shutil
import tempfile
import time
import uuid

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.relevo.dr.plugins.module_utils import clock
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import Pgbackrest, explained
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError, Psql
from ansible_collections.relevo.dr.plugins.module_utils.refusal import sentence

EXPECTED = "the segment with this run's marker, read back from every repository"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "path", "required": True},
            "stanza": {"type": "str", "required": True},
            "repositories": {"type": "list", "elements": "dict", "default": []},
            "bin_directory": {"type": "path", "required": True},
            "port": {"type": "int", "default": 5432},
            "owner": {"type": "str", "default": "postgres"},
            "host_name": {"type": "str", "required": True},
            "timeout": {"type": "float", "default": 60},
            "required": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    host = module.params["host_name"]
    gate = {"id": "G03", "title": "End-to-end archive probe", "phase": "PREFLIGHT", "host": host, "expected": EXPECTED, "next_action": ""}
    if module.check_mode:
        gate.update(observed="not tried in check mode", verdict="unknown")
        module.exit_json(changed=False, segment="", seconds=0.0, proven=False, **told(gates=[gate]))
    try:
        segment, seconds, missing, said = probe(module.params)
    except PostgresqlError as error:
        segment, seconds, missing, said = "", 0.0, {"PostgreSQL": str(error)}, ""
    if missing:
        reasons = "; ".join("%s: %s" % place for place in missing.items())
        gate.update(
            observed="segment %s not read back within %g s (%s)%s" % (segment or "?", module.params["timeout"], reasons, said),
            verdict="fail",
            next_action="read the server's log on this host for what archive_command said, then run again",
        )
        message = sentence("G03", host, gate["observed"], EXPECTED, gate["next_action"])
    else:
        gate.update(observed="segment %s after %.1f s, at %s" % (segment, seconds, clock.utc_now()), verdict="pass")
        message = gate["observed"]
    outcome = {"changed": False, "segment": segment, "seconds": seconds, "proven": not missing, "msg": message, **told(gates=[gate])}
    if missing and module.params["required"]:
        module.fail_json(**outcome)
    module.exit_json(**outcome)


def probe(parameters):
    """The marker's segment, how long it took, what was wrong with which repository, and what the archiver says."""
    marker = "relevo-archive-probe-%s" % uuid.uuid4().hex
    with Psql(parameters["bin_directory"], parameters["port"], "postgres", parameters["owner"]) as session:
        # Twice, for a page header may cut one in two.
        lsn = [session.execute("select pg_logical_emit_message(true, 'relevo', '%s')" % marker) for _ in range(2)][-1]
        segment = session.row("select pg_walfile_name('%s') as name" % lsn)["name"]
        session.execute("select pg_switch_wal()")
        started = time.monotonic()
        left = _read_back(parameters, segment, marker.encode(), started + parameters["timeout"])
        seconds = round(time.monotonic() - started, 3)
        said = _archiver(session) if left else ""
    return segment, seconds, left, said


def _read_back(parameters, segment, marker, deadline):
    account = pwd.getpwnam(parameters["owner"])
    missing = {int(repository["id"]): "not tried" for repository in parameters["repositories"]} or {1: "not tried"}
    directory = tempfile.mkdtemp(prefix="relevo-archive-probe-", dir="/var/tmp")
    try:
        os.chown(directory, account.pw_uid, account.pw_gid)
        while missing and time.monotonic() < deadline:
            for key in list(missing):
                reason = _get(parameters, key, segment, os.path.join(directory, "segment"), marker, deadline)
                if reason:
                    missing[key] = reason
                else:
                    del missing[key]
            if missing:
                time.sleep(0.3)
    finally:
        shutil.rmtree(directory)
    return {"repository %d" % key: reason for key, reason in missing.items()}


def _get(parameters, key, segment, target, marker, deadline):
    """Why the segment is not there, or an empty text."""
    left = max(1.0, min(15.0, deadline - time.monotonic()))
    command = Pgbackrest(parameters["config"], parameters["stanza"], parameters["owner"], io_timeout=3, timeout=left)
    # Not asynchronously: that would fill the spool with segments nobody asked for.
    got, said = command.succeeds("archive-get", "--no-archive-async", "--repo=%d" % key, segment, target)
    if not got:
        return "not in the archive" if "unable to find" in said or not said else explained(said).observed
    with open(target, "rb") as source:
        found = marker in source.read()
    os.unlink(target)
    return "" if found else "another segment of the same name is in the archive"


def _archiver(session):
    row = session.row(
        "select last_archived_wal, last_failed_wal, coalesce(last_failed_time > last_archived_time, last_failed_time is not null) as failing,"
        " current_setting('archive_command') as command from pg_stat_archiver"
    )
    if row["failing"]:
        return "; archive_command fails, last for %s" % row["last_failed_wal"]
    return "; archive_command is %s and does not fail" % row["command"]


if __name__ == "__main__":
    main()
