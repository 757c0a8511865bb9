#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: repositories_in_use
short_description: Go on without a repository that does not answer
description:
  - pgBackRest counts a segment as archived only once every configured repository has it, and stops archiving into the good one while another is silent.
  - Takes repositories that do not answer out of this host's configuration, never the last one; playbooks/protect.yml brings them back.
options:
  config: {description: pgBackRest's configuration file., type: path, required: true}
  stanza: {description: The stanza., type: str, required: true}
  run_id: {description: The run., type: str, required: true}
  host_name: {description: Name of this host in sentences., type: str, required: true}
attributes:
  check_mode: {support: full, description: Only says which it would leave out.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Go on without the lost site's repository
  relevo.dr.repositories_in_use:
    config: /etc/pgbackrest/pgbackrest.conf
    stanza: minimarket
    run_id: 20261124T121530Z-failover-1f3a
    host_name: "{{ inventory_hostname }}"
"""

RETURN = r"""
in_use: {description: Numbers of the repositories that are configured here., returned: always, type: list, elements: int}
left_out: {description: "By number since when, by which run and why a repository is left out.", returned: always, type: dict}
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import repositories
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "path", "required": True},
            "stanza": {"type": "str", "required": True},
            "run_id": {"type": "str", "required": True},
            "host_name": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    p = module.params
    seen = repositories.facts(p["config"], p["stanza"], time.time())
    silent = [int(key) for key, found in seen.items() if found.get("error")]
    gone: list[int] = []
    if silent and len(silent) < len(seen) and not module.check_mode:
        reasons = "; ".join("%s: %s" % (key, seen[str(key)]["error"]) for key in silent)
        gone = repositories.leave_out(p["config"], silent, p["run_id"], reasons)
    left_out = repositories.left_out(p["config"])
    if left_out and not module.check_mode:
        # A push that began before still waits for the lost store, for minutes.
        repositories.release_archiver(p["stanza"])
    in_use = [place.id for place in repositories.configured(p["config"])]
    gates = [gate(p["host_name"], in_use, left_out)] if left_out else []
    measures = {"repositories": {"in_use": in_use, "left_out": sorted(int(key) for key in left_out)}}
    module.exit_json(changed=bool(gone), in_use=in_use, left_out=left_out, **told(gates=gates, measures=measures))


def gate(host: str, in_use: list[int], left_out: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "G23",
        "title": "every repository answers",
        "phase": "PROTECT",
        "host": host,
        "observed": "goes on with repository %s; left out: %s"
        % (", ".join(map(str, in_use)), "; ".join("%s since %s" % (key, why.get("at")) for key, why in sorted(left_out.items()))),
        "expected": "all of them",
        "verdict": "fail",
        "required": False,
        "next_action": "once its store is back, run playbooks/protect.yml: it takes a new full backup there",
    }


if __name__ == "__main__":
    main()
