#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: server_reopen
short_description: Start a server again that this run has stopped
description:
  - Takes back what M(relevo.dr.server_fence) did, when a planned run ended before anything was promoted. What was a standby starts as one.
  - Acts only while this host's lock is held by the run, and only on a fence of this run or of the dead runs for which it goes on. A host that was
    fenced before stays so; with O(required) that is an error.
  - The boot guard has its say at the start.
  - Whoever calls it knows that nothing was promoted and that nothing can be any more.
options:
  run_id: {description: The run., type: str, required: true}
  host: {description: Inventory name of this host., type: str, required: true}
  unit: {description: The systemd unit., type: str, required: true}
  data_directory: {description: PGDATA., type: path, required: true}
  bin_directory: {description: Directory of psql and pg_controldata., type: path, required: true}
  port: {description: Port of the server., type: int, default: 5432}
  required: {description: Whether the old side does not serve without this host., type: bool, default: true}
  timeout_seconds: {description: How long it may take., type: float, default: 60}
attributes:
  check_mode: {support: none, description: It belongs to a run that failed.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Open the old side again
  relevo.dr.server_reopen:
    run_id: 20261124T121530Z-switchover-1f3a
    host: a-db1
    unit: postgresql@17-main.service
    data_directory: /var/lib/postgresql/17/main
    bin_directory: /usr/lib/postgresql/17/bin
"""

RETURN = r"""
phase: {description: The milestone., returned: success, type: dict}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import host_files, server_start
from ansible_collections.relevo.dr.plugins.module_utils.handover_message import chain
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError, postmaster_pid
from ansible_collections.relevo.dr.plugins.module_utils.server_start import StartError
from ansible_collections.relevo.dr.plugins.module_utils.server_stop import Server


class NotOurs(StartError):
    """Somebody else fenced this host; the message says who."""


def check_fence(run_id: str) -> bool:
    """Whether there is a fence, and it is ours to take away. Raises NotOurs."""
    fence = host_files.read_fence()
    if fence is None:
        return False
    ours = chain(host_files.read_journal(1 << 20), run_id)
    if fence.get("run_id") not in ours:
        raise NotOurs("the fence is of %s and not of this run" % (fence.get("run_id") or fence.get("by") or "an unknown hand"))
    return True


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "run_id": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "unit": {"type": "str", "required": True},
            "data_directory": {"type": "path", "required": True},
            "bin_directory": {"type": "path", "required": True},
            "port": {"type": "int", "default": 5432},
            "required": {"type": "bool", "default": True},
            "timeout_seconds": {"type": "float", "default": 60},
        },
        supports_check_mode=False,
    )
    p = module.params
    phase = Milestone("REOPEN", p["host"])
    server = Server(p["unit"], p["data_directory"], p["bin_directory"], p["port"])
    try:
        with host_files.acting(p["run_id"]):
            host_files.extend_lock(p["run_id"], p["timeout_seconds"] + 60)
            # One that died meanwhile is down as well, and nobody else would start it.
            stopped = check_fence(p["run_id"]) or postmaster_pid(server.data_directory) is None
            if stopped:
                host_files.write_journal(p["run_id"], "REOPEN", "intent")
                server_start.reopen(server, p["run_id"], p["timeout_seconds"])
                host_files.write_journal(p["run_id"], "REOPEN", "result", outcome="ok")
    except NotOurs as error:
        if not p["required"]:
            module.exit_json(changed=False, phase=phase.ended("skipped", "stays as it was: %s" % error))
        module.fail_json(msg="REOPEN on %s: %s" % (p["host"], error), phase=phase.ended("failed", str(error)))
    except (StartError, PostgresqlError, host_files.LockError) as error:
        module.fail_json(msg="REOPEN on %s: %s" % (p["host"], error), phase=phase.ended("failed", str(error)))
    detail = "%s runs again" % p["unit"] if stopped else "was never stopped"
    module.exit_json(changed=stopped, phase=phase.ended(detail=detail))


if __name__ == "__main__":
    main()
