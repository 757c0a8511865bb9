#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_info
short_description: What one database host says about its PostgreSQL and about Relevo's own files
description:
  - Reads the running server over its local socket, C(pg_controldata), the systemd unit, and the lock, fence mark and journal of Relevo.
  - Never changes anything and never fails because PostgreSQL is down; an answer that could not be had is absent.
options:
  unit: {description: The systemd unit of the cluster., type: str, required: true}
  data_directory: {description: PGDATA., type: path, required: true}
  bin_directory: {description: Directory of psql and pg_controldata., type: path, required: true}
  port: {description: Port of the server., type: int, default: 5432}
  database: {description: Database of the application., type: str, default: postgres}
  stanza: {description: pgBackRest stanza whose newest backup is wanted; empty to leave the repository alone., type: str, default: ''}
  pgbackrest_config: {description: pgBackRest's configuration file., type: path, default: /etc/pgbackrest/pgbackrest.conf}
attributes:
  check_mode: {support: full, description: Only reads.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Read the database host
  relevo.dr.cluster_info:
    unit: postgresql@17-main.service
    data_directory: /var/lib/postgresql/17/main
    bin_directory: /usr/lib/postgresql/17/bin
    database: minimarket
  register: __dr_cluster_info
"""

RETURN = r"""
cluster:
  description: >-
    state (running, stopped, absent, unresponsive), role (primary, standby, none), system_identifier, timeline, version_num, control (pg_controldata),
    settings, shared_buffers_bytes, work_mem_bytes, replication, primary (with its client_connections), standby, archiver,
    extensions, collations, in_recovery; history (timeline, lsn of each that was left) and births (by timeline the
    header of its first record, where its first segment is still there); times are UTC, sizes are bytes.
  returned: always
  type: dict
host:
  description: >-
    Clock, boot id, free space, unit state, of a running server its server_limits (memory_bytes, memory_from, tasks, open_files),
    Relevo's lock (C(lock_unreadable) when there is a file that says nothing), fence mark and open phases,
    running high-availability managers.
  returned: always
  type: dict
guard:
  description: "self_fence_seconds, alive, heard_age_seconds, held (the mark of a read-only hold or null)."
  returned: always
  type: dict
leases: {description: "By other database host what this host's guard gave it; see C(witness_info).", returned: always, type: dict}
repository:
  description: >-
    repositories, by number: host, and newest_backup (label), newest_backup_age_seconds, newest_backup_error, newest_backup_bytes, or error when it did not
    answer; left_out, by number: run_id, at, reason.
  returned: when O(stanza) is given
  type: dict
"""

from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import clock, host_files, lease
from ansible_collections.relevo.dr.plugins.module_utils.cluster_facts import (
    ClusterLocation,
    cluster_facts,
    guard_facts,
    host_facts,
    repository_facts,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "data_directory": {"type": "path", "required": True},
            "bin_directory": {"type": "path", "required": True},
            "port": {"type": "int", "default": 5432},
            "database": {"type": "str", "default": "postgres"},
            "stanza": {"type": "str", "default": ""},
            "pgbackrest_config": {"type": "path", "default": "/etc/pgbackrest/pgbackrest.conf"},
        },
        supports_check_mode=True,
    )
    stanza, config = module.params.pop("stanza"), module.params.pop("pgbackrest_config")
    location = ClusterLocation(**module.params)
    # Side by side: the repository may be slow to say that it is not there.
    with ThreadPoolExecutor(max_workers=1) as pool:
        asked = pool.submit(repository_facts, config, stanza) if stanza else None
        cluster, host = cluster_facts(location), host_facts(location)
    module.exit_json(
        changed=False,
        cluster=cluster,
        host=host,
        guard=guard_facts(location.unit),
        leases=lease.facts_of_guard(host_files.read_peers(), clock.boottime_seconds(), clock.boot_id(), lease.started_boottime()),
        repository=asked.result() if asked else {},
    )


if __name__ == "__main__":
    main()
