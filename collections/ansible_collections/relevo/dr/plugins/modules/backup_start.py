#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_start
short_description: Begin, and end, the phase in which a promoted server is protected again
description:
  - O(step=begin) writes the intent of the phase PROTECT into this host's journal, and says whether a backup of the present timeline was started before.
  - O(step=finish) starts a backup as a transient systemd unit, which outlives the task, and writes the result.
options:
  step: {description: What to do., type: str, required: true, choices: [begin, finish]}
  run_id: {description: The run., type: str, required: true}
  data_directory: {description: PGDATA., type: path, required: true}
  owner: {description: Operating system user of the cluster., type: str, default: postgres}
attributes:
  check_mode: {support: full, description: Starts nothing and writes nothing.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Start the first backup on the new timeline
  relevo.dr.backup_start:
    step: finish
    run_id: 20261124T121530Z-failover-1f3a
    data_directory: /var/lib/postgresql/17/main
"""

RETURN = r"""
unit: {description: The transient unit that runs the backup., returned: always, type: str}
started_before: {description: Whether this timeline's backup was started before., returned: always, type: bool}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import backup_unit, host_files, standby


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "step": {"type": "str", "required": True, "choices": ["begin", "finish"]},
            "run_id": {"type": "str", "required": True},
            "data_directory": {"type": "path", "required": True},
            "owner": {"type": "str", "default": "postgres"},
        },
        supports_check_mode=True,
    )
    p = module.params
    timeline = standby.fork(p["data_directory"])["timeline"]
    unit = "relevo-backup-timeline-%d.service" % timeline
    before = any(
        entry["phase"] == "PROTECT" and entry["kind"] == "result" and entry.get("timeline") == timeline
        for entry in host_files.read_journal(1 << 20)
    )
    if module.check_mode:
        module.exit_json(changed=not before, unit=unit, started_before=before)
    try:
        with host_files.acting(p["run_id"]):
            host_files.extend_lock(p["run_id"], 120)
            if p["step"] == "begin":
                host_files.write_journal(p["run_id"], "PROTECT", "intent")
                module.exit_json(changed=False, unit=unit, started_before=before)
            if not before:
                start(module, unit, p["run_id"])
            host_files.write_journal(p["run_id"], "PROTECT", "result", outcome="ok", timeline=timeline, unit=unit)
    except host_files.LockError as error:
        module.fail_json(msg="PROTECT: %s" % error)
    module.exit_json(changed=not before, unit=unit, started_before=before)


def start(module: AnsibleModule, unit: str, run_id: str) -> None:
    try:
        backup_unit.start(unit, module.params["owner"], ["--name=after-failover", "--type=incr", "--run=%s" % run_id])
    except backup_unit.UnitError as error:
        module.fail_json(msg="PROTECT: the backup could not be started: %s" % error)


if __name__ == "__main__":
    main()
