#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: timer_info
short_description: Whether systemd timers really run something, a gate for each
description:
  - A timer that is not loaded, not started, not started at boot, or has no next time does not run anything; neither does one whose service failed to start.
options:
  timers: {description: The timers; the service of each has the same name., type: list, elements: str, required: true}
  host: {description: Inventory name of this host., type: str, required: true}
  gate: {description: Id of the gates., type: str, required: true}
  title: {description: What each gate asks; the timer is named after it., type: str, required: true}
  next_action: {description: What to do when it does not hold., type: str, required: true}
  installed: {description: Whether it must be installed; otherwise one that is not is told and spoils nothing., type: bool, default: true}
  succeeds: {description: "Whether its service must have succeeded; otherwise it may end as it likes, as long as it ran.", type: bool, default: true}
attributes:
  check_mode: {support: full, description: Only reads.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: See whether the dead-man's switch is armed
  relevo.dr.timer_info:
    timers: [relevo-deadman@minimarket.timer]
    host: wit1
    gate: DEADMAN
    title: The dead-man's switch is armed
    next_action: relevo run nightly -i INVENTORY
"""

RETURN = r"""
gates: {description: A gate for each timer., returned: always, type: list, elements: dict}
sentences: {description: The gates that fail for a person., returned: always, type: list, elements: str}
"""

import subprocess
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.timer import judge

_TIMER = "LoadState,ActiveState,UnitFileState,NextElapseUSecRealtime,NextElapseUSecMonotonic,NeedDaemonReload"
_SERVICE = "LoadState,ActiveState,Result,ExecMainStatus,ExecMainExitTimestamp"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "timers": {"type": "list", "elements": "str", "required": True},
            "host": {"type": "str", "required": True},
            "gate": {"type": "str", "required": True},
            "title": {"type": "str", "required": True},
            "next_action": {"type": "str", "required": True},
            "installed": {"type": "bool", "default": True},
            "succeeds": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    gates = [_gate(timer, module.params) for timer in module.params["timers"]]
    module.exit_json(changed=False, **told(gates=gates))


def _gate(timer: str, p: Mapping[str, Any]) -> dict[str, Any]:
    service = timer[: -len(".timer")] + ".service"
    verdict, observed = judge(_show(timer, _TIMER), _show(service, _SERVICE), p["succeeds"], p["installed"])
    return {
        "id": p["gate"],
        "title": "%s: %s" % (p["title"], timer),
        "phase": "PREFLIGHT",
        "host": p["host"],
        "observed": observed,
        "expected": "%s waits for its next time%s" % (timer, ", and the last time it succeeded" if p["succeeds"] else ""),
        "verdict": verdict,
        "next_action": p["next_action"] if verdict != "pass" else "",
    }


def _show(unit: str, properties: str) -> dict[str, str]:
    try:
        command = ["systemctl", "show", "--property=%s" % properties, "--", unit]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


if __name__ == "__main__":
    main()
