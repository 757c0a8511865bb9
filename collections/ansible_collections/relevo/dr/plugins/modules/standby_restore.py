#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: standby_restore
short_description: Restore a backup on the host that is to be promoted, read-only, and bring it to where it was wanted
description:
  - >-
    Stops a standby of the same cluster, seals the WAL that it received and no archive has, restores the chosen backup over it or into an empty place, and
    starts it as a standby of nobody: nothing streams in, nothing is archived, and it stays read-only. To the end of the archive it replays until no
    repository has more; to a point it pauses there, which its own log must prove.
  - >-
    F(/var/lib/relevo/standby-restore.json) says what is wanted and how far it is. What a killed run left is gone on with; until the mark says that the goal is
    reached, M(relevo.dr.standby_promote) promotes nothing here.
  - A fenced host, one that its guard holds, a primary, a stopped primary and another cluster are refused, and nothing is touched.
  - Acts only while this host's lock is held by the run, whose lease it renews; it ends when nobody waits for its answer any more.
options:
  run_id: {description: The run., type: str, required: true}
  host_name: {description: Name of this host in sentences., type: str, required: true}
  cluster_version: {description: Major version., type: str, required: true}
  cluster_name: {description: Debian's name of the cluster., type: str, default: main}
  data_directory: {description: PGDATA., type: path, required: true}
  config_directory: {description: Directory of postgresql.conf., type: path, required: true}
  bin_directory: {description: Directory of psql and pg_controldata., type: path, required: true}
  unit: {description: The systemd unit of the cluster., type: str, required: true}
  port: {description: Port of the server., type: int, default: 5432}
  owner: {description: Operating system user of the cluster., type: str, default: postgres}
  config: {description: pgBackRest's configuration file., type: path, default: /etc/pgbackrest/pgbackrest.conf}
  stanza: {description: The stanza., type: str, required: true}
  goal: {description: What M(relevo.dr.restore_info) chose., type: dict, required: true}
  leave_out: {description: Numbers of repositories that do not answer., type: list, elements: int, default: []}
  salvage_directory: {description: Where WAL that is nowhere else is kept., type: path, default: /var/lib/relevo-salvage}
  restore_timeout: {description: Seconds that the restore and the replay may take each., type: float, default: 86400}
attributes:
  check_mode: {support: none, description: It belongs to a run that changes this host afterwards.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Restore what is promoted next
  relevo.dr.standby_restore:
    run_id: 20261124T121530Z-failover-1f3a
    host_name: b-db1
    cluster_version: "17"
    data_directory: /var/lib/postgresql/17/main
    config_directory: /etc/postgresql/17/main
    bin_directory: /usr/lib/postgresql/17/bin
    unit: postgresql@17-main.service
    stanza: minimarket
    goal: "{{ __dr_standby_plan['restore'] }}"
"""

RETURN = r"""
restore: {description: "What was restored: repository, set, timeline, target, bytes, seconds, replay_seconds, evidence.", returned: success, type: dict}
left_out: {description: Repositories that were taken out of this host's configuration., returned: success, type: list, elements: int}
phase: {description: The milestone., returned: success, type: dict}
"""

import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import host_files, restored_standby
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import PgbackrestError
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.module_utils.restored_steps import Restoration, RestoreError
from ansible_collections.relevo.dr.plugins.module_utils.salvage_keep import SalvageError
from ansible_collections.relevo.dr.plugins.module_utils.standby_steps import OF_A_SERVER, BuildError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "run_id": {"type": "str", "required": True},
            **OF_A_SERVER,
            "config": {"type": "path", "default": "/etc/pgbackrest/pgbackrest.conf"},
            "stanza": {"type": "str", "required": True},
            "goal": {"type": "dict", "required": True},
            "leave_out": {"type": "list", "elements": "int", "default": []},
            "salvage_directory": {"type": "path", "default": "/var/lib/relevo-salvage"},
            "restore_timeout": {"type": "float", "default": 86400},
        },
        supports_check_mode=False,
    )
    p = module.params
    phase = Milestone("RESTORE", p["host_name"])
    try:
        with host_files.acting(p["run_id"]):
            host_files.write_journal(p["run_id"], "RESTORE", "intent", goal=p["goal"]["label"], target=p["goal"]["target"])
            restoration = Restoration(p)
            restored = restored_standby.shown(restoration.carry_out())
            host_files.write_journal(p["run_id"], "RESTORE", "result", outcome="ok", evidence=restored["evidence"])
    except (
        Refusal,
        RestoreError,
        BuildError,
        SalvageError,
        PgbackrestError,
        PostgresqlError,
        OSError,
        subprocess.TimeoutExpired,
        host_files.LockError,
    ) as error:
        said = "%s. Nothing was promoted" % error
        module.fail_json(msg="RESTORE on %s: %s" % (p["host_name"], said), phase=phase.ended("failed", said))
    detail = "%s to %s: %s" % (restored["set"], restored["target"], restored["evidence"])
    module.exit_json(changed=True, restore=restored, left_out=restoration.left_out, phase=phase.ended(detail=detail))


if __name__ == "__main__":
    main()
