#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: primary_info
short_description: What every other database host must have in common with the primary
options:
  parameters: {description: Parameters to read., type: list, elements: str, required: true}
  config_directory: {description: Directory of pg_hba.conf., type: path, required: true}
  bin_directory: {description: Directory of psql., type: path, required: true}
  port: {description: Port of the server., type: int, default: 5432}
  owner: {description: Operating system user and database superuser., type: str, default: postgres}
  host_name: {description: Name of this host in sentences., type: str, required: true}
attributes:
  check_mode: {support: full, description: Only reads.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Read the primary
  relevo.dr.primary_info:
    parameters: [max_connections, ssl]
    config_directory: /etc/postgresql/17/main
    bin_directory: /usr/lib/postgresql/17/bin
    host_name: "{{ inventory_hostname }}"
"""

RETURN = r"""
settings: {description: "The parameters, as pg_settings has them.", returned: always, type: dict}
access_rules: {description: The text of pg_hba.conf., returned: always, type: str}
timeline: {description: Where it is now., returned: always, type: int}
history: {description: "Its ancestors: timeline, lsn.", returned: always, type: list, elements: dict}
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils.access import literal
from ansible_collections.relevo.dr.plugins.module_utils.cluster_facts import ancestors
from ansible_collections.relevo.dr.plugins.module_utils.managed_file import observe
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError, Psql

_PLACE = """
select ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int as timeline,
       current_setting('data_directory') as data_directory
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "parameters": {"type": "list", "elements": "str", "required": True},
            "config_directory": {"type": "path", "required": True},
            "bin_directory": {"type": "path", "required": True},
            "port": {"type": "int", "default": 5432},
            "owner": {"type": "str", "default": "postgres"},
            "host_name": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    names = ", ".join(literal(name) for name in parameters["parameters"]) or "''"
    try:
        with Psql(parameters["bin_directory"], parameters["port"], "postgres", parameters["owner"]) as session:
            rows = session.query("select name, setting from pg_settings where name in (%s)" % names)
            place = session.row(_PLACE)
    except PostgresqlError as error:
        module.fail_json(msg="PostgreSQL on %s: %s" % (parameters["host_name"], error))
    rules = observe(os.path.join(parameters["config_directory"], "pg_hba.conf")).content or ""
    module.exit_json(
        changed=False,
        settings={row["name"]: row["setting"] for row in rows},
        access_rules=rules,
        timeline=place["timeline"],
        history=ancestors(place["data_directory"]),
    )


if __name__ == "__main__":
    main()
