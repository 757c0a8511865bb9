#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: standby_rebuild
short_description: Bring an old primary's data directory into the new primary's lineage
description:
  - By C(pg_rewind), by pgBackRest's delta restore, or by a new base backup of the primary, whichever is possible and will be quickest.
  - O(step=choose) sees what is possible and predicts how long it takes; the data stay what they are. O(step=act) takes O(methods), the next one when one fails.
  - A restore takes the newest backup from which the primary's timeline can be followed.
  - A server that was not shut down cleanly is first brought to the end of its own WAL as a standby of nobody, read-only; it never starts writable.
  - A mark on disk says what was begun. What a rewind left half way is not started and not rewound again.
  - Data that are an earlier state of the new primary's are left as they are, unless O(method) is given.
  - Acts only while this host's lock is held by the run, and only on a fenced host.
options:
  step: {description: What to do., type: str, required: true, choices: [choose, act]}
  methods: {description: "What O(step=choose) returned, in that order.", type: list, elements: str, default: []}
  method: {description: The method that is wanted; empty for the best one., type: str, default: ''}
  system_identifier: {description: The new primary's system identifier., type: str, required: true}
  timeline: {description: The new primary's timeline., type: int, required: true}
  history: {description: "Its ancestors: timeline, lsn.", type: list, elements: dict, required: true}
  births: {description: "How its timelines began, by number, as far as it knows; see C(cluster_info).", type: dict, default: {}}
  primary_bytes: {description: Size of the new primary's databases., type: int, default: 0}
  divergent_bytes: {description: How much WAL lies behind the fork., type: int, default: 0}
  run_id: {description: The run., type: str, required: true}
  host_name: {description: Inventory name of this host., type: str, required: true}
  cluster_version: {description: Major version., type: str, required: true}
  cluster_name: {description: Debian's name of the cluster., type: str, default: main}
  data_directory: {description: PGDATA., type: path, required: true}
  config_directory: {description: Directory of postgresql.conf., type: path, required: true}
  bin_directory: {description: Directory of pg_rewind and pg_basebackup., type: path, required: true}
  unit: {description: The systemd unit., type: str, required: true}
  port: {description: Port of the server., type: int, default: 5432}
  owner: {description: Operating system user of the cluster., type: str, default: postgres}
  config: {description: pgBackRest's configuration file., type: path, required: true}
  stanza: {description: pgBackRest's stanza., type: str, required: true}
  source: {description: How the role that may read files connects to the primary (libpq)., type: str, required: true}
  replication: {description: How the replication role connects to the primary (libpq)., type: str, required: true}
  restore_timeout: {description: Limit of one method in seconds., type: int, default: 86400}
attributes:
  check_mode: {support: none, description: It belongs to a run that has sealed what is replaced.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Bring the old primary back into the lineage
  relevo.dr.standby_rebuild:
    step: act
    methods: [rewind, full]
    system_identifier: "7400000000000000001"
    timeline: 2
    history: [{timeline: 1, lsn: 0/5000000}]
    run_id: 20261124T121530Z-failback-1f3a
    host_name: a-db1
    cluster_version: "17"
    data_directory: /var/lib/postgresql/17/main
    config_directory: /etc/postgresql/17/main
    bin_directory: /usr/lib/postgresql/17/bin
    unit: postgresql@17-main.service
    config: /etc/pgbackrest/pgbackrest.conf
    stanza: minimarket
    source: host=b-db1 user=relevo_rewind dbname=postgres
    replication: host=b-db1 user=relevo_replication
"""

RETURN = r"""
choice: {description: "methods (none where nothing is to do), ways (predicted_seconds and obstacle of each).", returned: step is choose, type: dict}
rebuild: {description: "method, failed, seconds.", returned: step is act, type: dict}
phase: {description: The milestone., returned: success, type: dict}
"""

import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import host_files
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import PgbackrestError
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError
from ansible_collections.relevo.dr.plugins.module_utils.rebuild_steps import Rebuild, RebuildError
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.module_utils.server_start import StartError
from ansible_collections.relevo.dr.plugins.module_utils.standby_steps import OF_A_SERVER, BuildError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "step": {"type": "str", "required": True, "choices": ["choose", "act"]},
            "methods": {"type": "list", "elements": "str", "default": []},
            "method": {"type": "str", "default": ""},
            "system_identifier": {"type": "str", "required": True},
            "timeline": {"type": "int", "required": True},
            "history": {"type": "list", "elements": "dict", "required": True},
            "births": {"type": "dict", "default": {}},
            "primary_bytes": {"type": "int", "default": 0},
            "divergent_bytes": {"type": "int", "default": 0},
            "run_id": {"type": "str", "required": True},
            **OF_A_SERVER,
            "config": {"type": "path", "required": True},
            "stanza": {"type": "str", "required": True},
            "source": {"type": "str", "required": True},
            "replication": {"type": "str", "required": True},
            "restore_timeout": {"type": "int", "default": 86400},
        },
        supports_check_mode=False,
    )
    p = module.params
    phase = Milestone("REBUILD", p["host_name"])
    try:
        with host_files.acting(p["run_id"]):
            host_files.extend_lock(p["run_id"], p["restore_timeout"] + 120)
            rebuild = Rebuild(p)
            result = rebuild.choose() if p["step"] == "choose" else rebuild.carry_out()
    except (
        Refusal,
        RebuildError,
        BuildError,
        StartError,
        PgbackrestError,
        PostgresqlError,
        OSError,
        subprocess.TimeoutExpired,
        host_files.LockError,
    ) as error:
        module.fail_json(msg="REBUILD on %s: %s" % (p["host_name"], error), phase=phase.ended("failed", str(error)))
    if p["step"] == "choose":
        module.exit_json(changed=False, choice=result)
    module.exit_json(changed=True, rebuild=result, phase=phase.ended(detail="by %s" % result["method"]))


if __name__ == "__main__":
    main()
