#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: guard_info
short_description: Whether the boot guard is armed, and what it would decide
description:
  - Armed means that systemd will ask the guard before the next start; a drop-in that was written and not loaded is not armed.
options:
  unit: {description: The systemd unit of the cluster., type: str, required: true}
  host_name: {description: Name of this host in sentences., type: str, required: true}
  path: {description: The guard., type: path, default: /usr/local/lib/relevo/relevo-guard}
attributes:
  check_mode: {support: full, description: Only reads.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: See whether the guard is armed
  relevo.dr.guard_info:
    unit: postgresql@17-main.service
    host_name: "{{ inventory_hostname }}"
"""

RETURN = r"""
armed: {description: Whether systemd asks the guard before the next start., returned: always, type: bool}
reload_needed: {description: Whether systemd has not loaded its files as they are., returned: always, type: bool}
verdict: {description: "Of the gate GUARD: pass, fail, or not_applicable on a fenced host.", returned: always, type: str}
sentence: {description: The gate for a person., returned: always, type: str}
guard: {description: "What C(relevo-guard check) says (evidence, decision); empty when it cannot be asked.", returned: always, type: dict}
"""

import json
import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import host_files
from ansible_collections.relevo.dr.plugins.module_utils.guard_state import gate
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.refusal import sentence


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "host_name": {"type": "str", "required": True},
            "path": {"type": "path", "default": "/usr/local/lib/relevo/relevo-guard"},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    unit = _unit(parameters["unit"])
    state: dict[str, Any] = {
        "armed": parameters["path"] in unit.get("ExecStartPre", ""),
        "reload_needed": unit.get("NeedDaemonReload") == "yes",
        "guard": _asked(parameters["path"]),
    }
    verdict = gate(parameters["host_name"], state["armed"] and not state["reload_needed"], state["guard"], host_files.read_fence())
    said = sentence("GUARD", verdict["host"], verdict["observed"], verdict["expected"], verdict["next_action"] or "nothing")
    module.exit_json(changed=False, **state, verdict=verdict["verdict"], sentence=said, **told(gates=[verdict]))


def _unit(name: str) -> dict[str, str]:
    command = ["systemctl", "show", "--property=ExecStartPre,NeedDaemonReload,LoadState", "--", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def _asked(path: str) -> dict[str, Any]:
    try:
        done = subprocess.run([path, "check"], capture_output=True, text=True, check=False, timeout=30)
        answer: dict[str, Any] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return {}
    return answer


if __name__ == "__main__":
    main()
