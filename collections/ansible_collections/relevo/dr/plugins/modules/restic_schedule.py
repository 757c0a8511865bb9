#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: restic_schedule
short_description: Snapshots of a host's files at their times, as systemd timers
description:
  - One timer for each set, and one service template for all; timers of sets that are gone are removed.
  - The sets are judged before anything is changed.
options:
  sets: {description: See the role dr_files., type: list, elements: dict, required: true}
  repositories: {description: How many repositories are filled one after the other., type: int, required: true}
  host_name: {description: Name of this host in sentences., type: str, required: true}
attributes:
  check_mode: {support: full, description: Stops after the plan.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Keep the configuration every night
  relevo.dr.restic_schedule:
    sets:
      - {name: configuration, paths: [/etc], calendar: "*-*-* 02:30:00", jitter_seconds: 3600, keep: {daily: 14}, max_age_seconds: 93600}
    repositories: 2
    host_name: "{{ inventory_hostname }}"
"""

RETURN = r"""
changes: {description: "What differed (item, current, wanted).", returned: always, type: list, elements: dict}
"""

import os
import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import file_schedule, systemd_units
from ansible_collections.relevo.dr.plugins.module_utils.change import shown
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "sets": {"type": "list", "elements": "dict", "required": True},
            "repositories": {"type": "int", "required": True},
            "host_name": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    host = module.params["host_name"]
    try:
        sets = file_schedule.judge(module.params["sets"], host)
        for entry in sets:
            # Nothing but systemd knows its own grammar.
            done = systemd_units.run("systemd-analyze", "calendar", "--", str(entry["calendar"]))
            if done.returncode != 0:
                raise file_schedule.calendar_refusal(host, entry, " ".join((done.stderr or done.stdout).split())[:200])
        wanted = systemd_units.compare(
            file_schedule.units(sets, module.params["repositories"]), file_schedule.ours(os.listdir(systemd_units.UNITS))
        )
        if wanted.changes and not module.check_mode:
            systemd_units.carry_out(wanted)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal), **told(gates=[refusal.gate], refused=True))
    except systemd_units.UnitError as error:
        module.fail_json(msg="%s: %s. Next: mend that, then run again" % (host, error))
    except subprocess.TimeoutExpired as error:
        module.fail_json(msg="%s: %s had no result within %g s" % (host, error.cmd[0], error.timeout))
    module.exit_json(changed=bool(wanted.changes), changes=shown(wanted.changes))


if __name__ == "__main__":
    main()
