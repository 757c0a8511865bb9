#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_stanza
short_description: The stanza of this cluster in every repository
description:
  - Makes the stanza where it does not exist, adopts one of this cluster, and refuses one of another cluster. Never deletes or upgrades a stanza.
  - Needs a running PostgreSQL on this host.
options:
  config: {description: pgBackRest's configuration file., type: path, required: true}
  config_differs:
    description: Whether that file is not what it should be. Then check mode does not ask with it; its keys may be no longer valid.
    type: bool
    default: false
  stanza: {description: The stanza., type: str, required: true}
  system_identifier: {description: The one of the cluster., type: str, required: true}
  postgresql_version: {description: The major version., type: str, required: true}
  repositories: {description: See the role dr_pgbackrest; only for sentences., type: list, elements: dict, default: []}
  owner: {description: Operating system user of the cluster., type: str, default: postgres}
  host_name: {description: Name of this host in sentences., type: str, required: true}
  io_timeout: {description: Seconds for one answer of a store., type: float, default: 3}
  timeout: {description: Seconds for the whole command., type: float, default: 60}
attributes:
  check_mode: {support: full, description: Stops after the plan.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Make the stanza
  relevo.dr.pgbackrest_stanza:
    config: /etc/pgbackrest/pgbackrest.conf
    stanza: minimarket
    system_identifier: "7480000000000000000"
    postgresql_version: "17"
    host_name: "{{ inventory_hostname }}"
"""

RETURN = r"""
changes: {description: "What differed (item, current, wanted).", returned: always, type: list, elements: dict}
backups: {description: Labels of the backups that exist., returned: always, type: list, elements: str}
"""

import os

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
            "system_identifier": {"type": "str", "required": True},
            "postgresql_version": {"type": "str", "required": True},
            "repositories": {"type": "list", "elements": "dict", "default": []},
            "config_differs": {"type": "bool", "default": False},
            "owner": {"type": "str", "default": "postgres"},
            "host_name": {"type": "str", "required": True},
            "io_timeout": {"type": "float", "default": 3},
            "timeout": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    try:
        manage(module)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal), **told(gates=[refusal.gate], refused=True))
    except PgbackrestError as error:
        module.fail_json(msg="%s: %s. Next: %s" % (module.params["host_name"], error.observed, error.next_action))


def manage(module: AnsibleModule) -> None:
    parameters = module.params
    name, host = parameters["stanza"], parameters["host_name"]
    if not os.path.exists(parameters["config"]):
        # Only in check mode, before the first real run.
        module.exit_json(changed=True, backups=[], changes=shown([Change("stanza %s" % name, "absent", "made")]))
    if module.check_mode and parameters["config_differs"]:
        # What it should be was tried when it was compared.
        module.exit_json(changed=False, backups=[], changes=[])
    command = Pgbackrest(
        parameters["config"], name, parameters["owner"], io_timeout=parameters["io_timeout"], timeout=parameters["timeout"]
    )
    info = stanza.read(command, host, parameters["repositories"])
    changes = stanza.plan(info, name, parameters["system_identifier"], parameters["postgresql_version"], host)
    if changes and not module.check_mode:
        command.run_when_free("stanza-create", wait_seconds=parameters["timeout"], log_file=True)
        info = stanza.read(command, host, parameters["repositories"])
        stanza.plan(info, name, parameters["system_identifier"], parameters["postgresql_version"], host)
        if stanza.missing_repositories(info):
            module.fail_json(
                msg="%s: the stanza %s is still missing after stanza-create. Next: read /var/log/pgbackrest on this host"
                % (host, name)
            )
    module.exit_json(changed=bool(changes), changes=shown(changes), backups=[backup["label"] for backup in stanza.backups(info)])


if __name__ == "__main__":
    main()
