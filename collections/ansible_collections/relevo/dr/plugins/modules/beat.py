#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: beat
short_description: Tell the witness how the newest finished run of a runbook ended
description:
  - Keeps one file per cluster, replaced as a whole, which the dead-man's switch on the witness reads; it says when the run ended by the controller's clock, and
    when this host heard of it by its own.
  - Told again, the same run changes nothing. An older run than the one that is kept is no news.
  - The action plugin of the same name reads the run from the store of results on the controller; use only O(cluster) and O(runbook).
options:
  cluster: {description: The cluster., type: str, required: true}
  runbook: {description: The runbook of the nightly check., type: str, required: true}
  path: {description: The file., type: path, required: true}
  run_id: {description: Filled by the action plugin., type: str}
  verdict: {description: Filled by the action plugin., type: str}
  at: {description: Filled by the action plugin; the end of the run., type: str}
  passed_at: {description: Filled by the action plugin; the end of the newest run that passed., type: str}
  controller: {description: Filled by the action plugin., type: str}
attributes:
  check_mode: {support: full, description: Says what would change.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Tell the witness
  relevo.dr.beat:
    cluster: minimarket
    runbook: verify_backup
    path: /var/lib/relevo-beat/minimarket.json
"""

RETURN = r"""
beat: {description: "What is kept: cluster, runbook, run_id, verdict, at, passed_at, controller, heard_at.", returned: always, type: dict}
"""

import json

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import clock
from ansible_collections.relevo.dr.plugins.module_utils.heartbeat import Heard, next_beat
from ansible_collections.relevo.dr.plugins.module_utils.host_files import write_atomically


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "cluster": {"type": "str", "required": True},
            "runbook": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
            "run_id": {"type": "str"},
            "verdict": {"type": "str"},
            "at": {"type": "str"},
            "passed_at": {"type": "str"},
            "controller": {"type": "str"},
        },
        supports_check_mode=True,
    )
    path = module.params["path"]
    try:
        with open(path, encoding="utf-8") as source:
            kept = json.load(source)
    except (OSError, ValueError):
        kept = {}
    heard = Heard(clock.utc_now(), clock.boottime_seconds(), clock.boot_id())
    try:
        beat = next_beat(module.params, kept if isinstance(kept, dict) else {}, heard)
        changed = beat != kept
        if changed and not module.check_mode:
            write_atomically(path, json.dumps(beat, sort_keys=True) + "\n", 0o644)
    except (OSError, ValueError) as error:
        module.fail_json(msg="BEAT on this witness: %s cannot be written: %s" % (path, error))
    module.exit_json(changed=changed, beat=beat)


if __name__ == "__main__":
    main()
