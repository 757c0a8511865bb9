#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_info
short_description: What the repositories hold of one stanza, as a gate
description:
  - Reads C(pgbackrest info) in bounded time and judges the newest backup (G05).
  - A repository that does not answer gives the verdict C(unknown), not a failed task.
options:
  config: {description: pgBackRest's configuration file., type: path, required: true}
  stanza: {description: The stanza., type: str, required: true}
  repositories: {description: See the role dr_pgbackrest; only for sentences., type: list, elements: dict, default: []}
  max_age: {description: Seconds that the newest backup may be old., type: int, required: true}
  owner: {description: Operating system user of the cluster., type: str, default: postgres}
  host_name: {description: Name of this host in sentences., type: str, required: true}
  io_timeout: {description: Seconds for one answer of a store., type: float, default: 3}
  timeout: {description: Seconds for the whole command., type: float, default: 30}
attributes:
  check_mode: {support: full, description: Only reads.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Read the repositories
  relevo.dr.pgbackrest_info:
    config: /etc/pgbackrest/pgbackrest.conf
    stanza: minimarket
    max_age: 90000
    host_name: "{{ inventory_hostname }}"
"""

RETURN = r"""
info: {description: The stanza as pgBackRest describes it; empty when no repository answered., returned: always, type: dict}
backups: {description: "The backups, oldest first.", returned: always, type: list, elements: dict}
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import stanza
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import Pgbackrest
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "path", "required": True},
            "stanza": {"type": "str", "required": True},
            "repositories": {"type": "list", "elements": "dict", "default": []},
            "max_age": {"type": "int", "required": True},
            "owner": {"type": "str", "default": "postgres"},
            "host_name": {"type": "str", "required": True},
            "io_timeout": {"type": "float", "default": 3},
            "timeout": {"type": "float", "default": 30},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    host = parameters["host_name"]
    command = Pgbackrest(
        parameters["config"],
        parameters["stanza"],
        parameters["owner"],
        io_timeout=parameters["io_timeout"],
        timeout=parameters["timeout"],
    )
    try:
        info = stanza.read(command, host, parameters["repositories"])
    except Refusal as refusal:
        gate = {**refusal.gate, "id": "G05", "title": "Newest backup", "verdict": "unknown"}
        module.exit_json(changed=False, info={}, backups=[], **told(gates=[gate]))
    gate = stanza.backup_gate(info, host, time.time(), parameters["max_age"])
    module.exit_json(changed=False, info=info, backups=stanza.backups(info), **told(gates=[gate]))


if __name__ == "__main__":
    main()
