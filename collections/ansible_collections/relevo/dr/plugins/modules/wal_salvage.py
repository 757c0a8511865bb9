#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: wal_salvage
short_description: Keep what a stopped old primary has and the new one never had
description:
  - Copies the WAL from where this host's history parts from the primary's, compressed, lists its transactions and the ledger's references in it, and seals all
    of it by a manifest of SHA-256 digests. A timeline of the primary's number that was begun here is another timeline.
  - Segments that are not on this host any more are fetched from the repositories.
  - Nothing is started and nothing in the data directory is changed. What a dead run of the same chain has sealed of these very data is verified and not made
    again; where this host has written since, it is sealed anew.
  - Acts only while this host's lock is held by the run.
options:
  run_id: {description: The run., type: str, required: true}
  host: {description: Inventory name of this host., type: str, required: true}
  data_directory: {description: PGDATA., type: path, required: true}
  bin_directory: {description: Directory of pg_waldump., type: path, required: true}
  timeline: {description: The new primary's timeline., type: int, required: true}
  history: {description: "Its ancestors: timeline, lsn.", type: list, elements: dict, required: true}
  births: {description: "How its timelines began, by number, as far as it knows; see C(cluster_info).", type: dict, default: {}}
  config: {description: "pgBackRest's configuration, to fetch segments that are not on this host any more; empty for not.", type: path, default: ''}
  stanza: {description: pgBackRest's stanza., type: str, default: ''}
  prefix: {description: What the ledger's references begin with; empty when it is not known., type: str, default: ''}
  directory: {description: Where salvage is kept., type: path, default: /var/lib/relevo-salvage}
  names: {description: Names of relations by tablespace/database/filenode., type: dict, default: {}}
  owner: {description: Operating system user of the cluster., type: str, default: postgres}
  timeout_seconds: {description: Limit of reading the WAL., type: float, default: 3600}
attributes:
  check_mode: {support: none, description: It belongs to a run that changes this host afterwards.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Keep the old primary's own WAL
  relevo.dr.wal_salvage:
    run_id: 20261124T121530Z-failback-1f3a
    host: a-db1
    data_directory: /var/lib/postgresql/17/main
    bin_directory: /usr/lib/postgresql/17/bin
    timeline: 2
    history: [{timeline: 1, lsn: 0/5000000}]
"""

RETURN = r"""
salvage:
  description: >-
    directory, digest (of the manifest), complete, missing and fetched (segments), state, timeline, common_timeline, fork_lsn, end_lsn, checkpoint_lsn, unknown
    (why it cannot be told where the histories part, or empty), bytes, committed, unfinished, aborted (counts), relations
    (rows by relation), transactions (the first of them; all are in the sealed file), before (whether an earlier run sealed it).
  returned: success
  type: dict
references: {description: The ledger's references in everything that is sealed on this host., returned: success, type: list, elements: str}
phase: {description: The milestone., returned: success, type: dict}
"""

import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import host_files
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError
from ansible_collections.relevo.dr.plugins.module_utils.salvage_keep import SalvageError, earlier, every_reference, keep, look


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "run_id": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "data_directory": {"type": "path", "required": True},
            "bin_directory": {"type": "path", "required": True},
            "timeline": {"type": "int", "required": True},
            "history": {"type": "list", "elements": "dict", "required": True},
            "births": {"type": "dict", "default": {}},
            "config": {"type": "path", "default": ""},
            "stanza": {"type": "str", "default": ""},
            "prefix": {"type": "str", "default": ""},
            "directory": {"type": "path", "default": "/var/lib/relevo-salvage"},
            "names": {"type": "dict", "default": {}},
            "owner": {"type": "str", "default": "postgres"},
            "timeout_seconds": {"type": "float", "default": 3600},
        },
        supports_check_mode=False,
    )
    p = module.params
    phase = Milestone("SALVAGE", p["host"])
    try:
        with host_files.acting(p["run_id"]):
            host_files.extend_lock(p["run_id"], p["timeout_seconds"] + 120)
            found = look(p)
            before = earlier(p, found)
            host_files.write_journal(p["run_id"], "SALVAGE", "intent")
            kept = before or keep(p, found)
            host_files.write_journal(p["run_id"], "SALVAGE", "result", outcome="ok", digest=kept["digest"])
    except (SalvageError, PostgresqlError, host_files.LockError, OSError, ValueError, subprocess.TimeoutExpired) as error:
        module.fail_json(msg="SALVAGE on %s: %s" % (p["host"], error), phase=phase.ended("failed", str(error)))
    shown = {name: value for name, value in kept.items() if name not in ("files", "references")}
    shown.update(before=bool(before), bytes=sum(entry["bytes"] for entry in kept["files"]))
    detail = "%d transactions behind the fork at %s, sealed in %s" % (kept["committed"], kept["fork_lsn"], kept["directory"])
    module.exit_json(
        changed=not before, salvage=shown, references=every_reference(p["directory"]), phase=phase.ended(detail=detail)
    )


if __name__ == "__main__":
    main()
