#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: server_fence
short_description: Stop a PostgreSQL server for good and prove it
description:
  - Marks the host as fenced, puts C(standby.signal) in place, stops the postmaster (fast, then immediate, then kill), masks the unit, kills what outlives
    the postmaster, and proves the result. A postmaster that is stopped by a signal (SIGSTOP) is killed without waiting.
  - Processes of the cluster are the server programs whose working directory is O(data_directory); the proof demands that there is none.
  - Acts only while this host's lock is held by the run. A host that is fenced already is proven again and not changed.
  - With O(handover) a running primary writes this run's own message into its WAL before it is stopped, and the proof names it. One that cannot is not stopped.
options:
  run_id: {description: The run., type: str, required: true}
  host: {description: Inventory name of this host., type: str, required: true}
  unit: {description: The systemd unit., type: str, required: true}
  data_directory: {description: PGDATA., type: path, required: true}
  bin_directory: {description: Directory of pg_controldata., type: path, required: true}
  port: {description: Port of the server., type: int, default: 5432}
  fast_seconds: {description: How long the fast stop may take before the immediate one., type: float, default: 10}
  immediate_seconds: {description: How long the immediate stop may take before SIGKILL., type: float, default: 5}
  handover: {description: Whether a primary is to leave the message of a planned change of site., type: bool, default: false}
  letter: {description: "Wait for a letter of this name before anything is done; see C(module_utils/letter.py).", type: str, default: ''}
  letter_seconds: {description: How long to wait for it., type: float, default: 300}
  letter_silence_seconds: {description: How long the beat of the run may be missing meanwhile; 0 when there is none., type: float, default: 0}
attributes:
  check_mode: {support: full, description: Says whether the host is fenced.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Fence this database host
  relevo.dr.server_fence:
    run_id: 20261124T121530Z-failover-1f3a
    host: a-db1
    unit: postgresql@17-main.service
    data_directory: /var/lib/postgresql/17/main
    bin_directory: /usr/lib/postgresql/17/bin
"""

RETURN = r"""
proof:
  description: >-
    class, cluster_state, shutdown_lsn (null after an immediate stop), timeline, system_identifier, probes; with O(handover) also
    handover (the newest message and the shutdown after it, null when there is none) and unarchived (segments that no archive has).
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import handover_message, host_files, letter
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError, Psql, postmaster_pid
from ansible_collections.relevo.dr.plugins.module_utils.server_stop import (
    FenceError,
    Server,
    fenced,
    proof,
    stop_for_good,
    unarchived,
)


def leave_message(server: Server, run_id: str) -> None:
    """A running primary's last word. Raises PostgresqlError, with the server as it was."""
    if postmaster_pid(server.data_directory) is None:
        return
    with Psql(server.bin_directory, server.port) as session:
        if session.execute("select pg_is_in_recovery()") == "f":
            host_files.write_journal(run_id, "HANDOVER", "intent")
            handover = handover_message.write(session, run_id)
            host_files.write_journal(run_id, "HANDOVER", "result", outcome="ok", handover=handover)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "run_id": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "unit": {"type": "str", "required": True},
            "data_directory": {"type": "path", "required": True},
            "bin_directory": {"type": "path", "required": True},
            "port": {"type": "int", "default": 5432},
            "fast_seconds": {"type": "float", "default": 10},
            "immediate_seconds": {"type": "float", "default": 5},
            "handover": {"type": "bool", "default": False},
            **letter.OPTIONS,
        },
        supports_check_mode=True,
    )
    try:
        p = letter.complete(module.params, module.params["run_id"])
    except letter.NoLetter as error:
        module.fail_json(msg="FENCE on %s: %s" % (module.params["host"], error))
    server = Server(p["unit"], p["data_directory"], p["bin_directory"], p["port"])
    phase = Milestone("FENCE", p["host"])
    changed = not fenced(server)
    if module.check_mode:
        module.exit_json(changed=changed)
    try:
        with host_files.acting(p["run_id"]):
            host_files.extend_lock(p["run_id"], p["fast_seconds"] + p["immediate_seconds"] + 60)
            host_files.write_journal(p["run_id"], "FENCE", "intent")
            if p["handover"]:
                leave_message(server, p["run_id"])
            if changed:
                stop_for_good(server, p["run_id"], p["fast_seconds"], p["immediate_seconds"])
            evidence = proof(server, p["host"])
            if p["handover"]:
                said = handover_message.last_written(host_files.read_journal(1 << 20), p["run_id"])
                evidence["handover"] = (
                    {**said, "shutdown_lsn": evidence["shutdown_lsn"], "timeline": evidence["timeline"]} if said else None
                )
                evidence["unarchived"] = unarchived(server)
            host_files.write_journal(p["run_id"], "FENCE", "result", outcome="ok", proof=evidence)
    except (FenceError, PostgresqlError, host_files.LockError) as error:
        # A run that no longer holds the lock must not reach for the power switch next.
        lost = isinstance(error, host_files.LockError)
        module.fail_json(msg="FENCE on %s: %s" % (p["host"], error), phase=phase.ended("failed", str(error)), lock_lost=lost)
    module.exit_json(changed=changed, proof=evidence, phase=phase.ended(detail="stopped, masked, %s" % evidence["cluster_state"]))


if __name__ == "__main__":
    main()
