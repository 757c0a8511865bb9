#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_backup
short_description: Take a backup
options:
  config: {description: pgBackRest's configuration file., type: path, required: true}
  stanza: {description: The stanza., type: str, required: true}
  type: {description: Kind of backup., type: str, choices: [full, diff, incr], default: full}
  only_first: {description: Take one only when a repository holds none., type: bool, default: false}
  repositories: {description: See the role dr_pgbackrest., type: list, elements: dict, default: []}
  owner: {description: Operating system user of the cluster., type: str, default: postgres}
  host_name: {description: Name of this host in sentences., type: str, required: true}
  timeout: {description: Seconds that one backup may take., type: float, default: 86400}
attributes:
  check_mode: {support: full, description: Stops after the plan.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Take the first full backup
  relevo.dr.pgbackrest_backup:
    config: /etc/pgbackrest/pgbackrest.conf
    stanza: minimarket
    only_first: true
    host_name: "{{ inventory_hostname }}"
"""

RETURN = r"""
changes: {description: "What was missing (item, current, wanted).", returned: always, type: list, elements: dict}
backups: {description: The backups that this task took., returned: always, type: list, elements: dict}
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import stanza
from ansible_collections.relevo.dr.plugins.module_utils.change import Change, shown
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import Pgbackrest, PgbackrestError
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "path", "required": True},
            "stanza": {"type": "str", "required": True},
            "type": {"type": "str", "choices": ["full", "diff", "incr"], "default": "full"},
            "only_first": {"type": "bool", "default": False},
            "repositories": {"type": "list", "elements": "dict", "default": []},
            "owner": {"type": "str", "default": "postgres"},
            "host_name": {"type": "str", "required": True},
            "timeout": {"type": "float", "default": 86400},
        },
        supports_check_mode=True,
    )
    try:
        take(module)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal), **told(gates=[refusal.gate], refused=True))
    except PgbackrestError as error:
        module.fail_json(
            msg="%s: the backup failed: %s. Next: %s" % (module.params["host_name"], error.observed, error.next_action)
        )


def take(module: AnsibleModule) -> None:
    parameters = module.params
    name, kind, host = parameters["stanza"], parameters["type"], parameters["host_name"]
    ids = [int(repository["id"]) for repository in parameters["repositories"]] or [1]
    command = Pgbackrest(parameters["config"], name, parameters["owner"])
    info = stanza.read(command, host, parameters["repositories"]) if os.path.exists(parameters["config"]) else {}
    wanted = [key for key in ids if not parameters["only_first"] or not stanza.backups(info, key)]
    changes = [
        Change("%s backup in repository %d" % (kind, key), "no backup" if not stanza.backups(info, key) else "older", "taken")
        for key in wanted
    ]
    if not wanted or module.check_mode:
        module.exit_json(changed=bool(wanted), changes=shown(changes), backups=[])
    started = time.time()
    # The stores' own limit for one answer (io-timeout of the configuration file) is too short only for a dead store.
    patient = Pgbackrest(parameters["config"], name, parameters["owner"], io_timeout=60, timeout=parameters["timeout"])
    for key in wanted:
        patient.run("backup", "--type=%s" % kind, "--repo=%d" % key, log_file=True)
    info = stanza.read(command, host, parameters["repositories"])
    taken = [backup for backup in stanza.backups(info) if backup["timestamp"]["stop"] >= int(started)]
    for backup in taken:
        if backup.get("error"):
            module.fail_json(
                msg="%s: backup %s has page checksum errors. Next: run pg_amcheck and restore the damaged relations"
                % (host, backup["label"])
            )
    module.exit_json(changed=True, changes=shown(changes), backups=taken)


if __name__ == "__main__":
    main()
