#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: fence_lift
short_description: Lift the fence of a database host, where what is seen allows it
description:
  - Has the guard on the host decide (C(relevo-guard lift)), so that there is one rule for runbooks and for people. It removes the fence mark, unmasks the unit,
    and keeps in the journal who did it, why, and on what evidence. PostgreSQL is not started.
  - >-
    The host comes back as a standby beside a primary that holds all its data. Where no other host is primary and no newer timeline is known, it is held: the
    boot guard looks again at its next start, and only then lets it write.
  - A host without a fence mark is not changed. Acts only while no other run holds this host's lock.
options:
  run_id: {description: The run., type: str, required: true}
  host: {description: Inventory name of this host., type: str, required: true}
  reason: {description: Why; kept in the journal., type: str, required: true}
  path: {description: The guard., type: path, default: /usr/local/lib/relevo/relevo-guard}
attributes:
  check_mode: {support: full, description: Says whether the fence would be lifted.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Lift the fence of the old primary
  relevo.dr.fence_lift:
    run_id: 20261124T121530Z-failback-1f3a
    host: a-db1
    reason: its data were rewound
"""

RETURN = r"""
decision: {description: "action (start, start-as-standby), reason and next_action.", returned: success, type: dict}
"""

import json
import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import clock, host_files
from ansible_collections.relevo.dr.plugins.module_utils.refusal import sentence


def lift(p: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    command = [
        p["path"],
        "lift",
        "--json",
        "--reason",
        p["reason"],
        "--run-id",
        p["run_id"],
        *(["--dry-run"] if check_mode else []),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        answer: dict[str, Any] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return {
            "lifted": False,
            "decision": {
                "action": "refuse",
                "reason": "the guard cannot be asked: %s" % error,
                "next_action": "run playbooks/protect.yml",
            },
        }
    return answer


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "run_id": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "reason": {"type": "str", "required": True},
            "path": {"type": "path", "default": "/usr/local/lib/relevo/relevo-guard"},
        },
        supports_check_mode=True,
    )
    p = module.params
    held = host_files.read_lock()
    if held is not None and held.run_id != p["run_id"] and not held.expired(clock.boottime_seconds(), clock.boot_id()):
        module.fail_json(msg="LIFT on %s: %s. Next: wait for that run" % (p["host"], host_files.describe(held)))
    try:
        with host_files.acting(p["run_id"]):
            answer = lift(p, module.check_mode)
    except host_files.LockError as error:
        module.fail_json(msg="LIFT on %s: %s" % (p["host"], error))
    decision = answer["decision"]
    if decision["action"] == "refuse":
        module.fail_json(
            msg=sentence(
                "LIFT", p["host"], decision["reason"], "a host that cannot become a second primary", decision["next_action"]
            )
        )
    module.exit_json(changed=answer["lifted"], decision=decision)


if __name__ == "__main__":
    main()
