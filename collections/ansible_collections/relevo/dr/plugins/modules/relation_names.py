#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: relation_names
short_description: The relations of a database under the numbers by which WAL knows them
description:
  - Only reads. Copies of one cluster agree on the numbers of every relation that was not rewritten since they parted.
options:
  bin_directory: {description: Directory of psql., type: path, required: true}
  port: {description: Port of the server., type: int, default: 5432}
  database: {description: Database of the application., type: str, required: true}
attributes:
  check_mode: {support: full, description: Only reads.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Read the names of the relations
  relevo.dr.relation_names:
    bin_directory: /usr/lib/postgresql/17/bin
    database: minimarket
"""

RETURN = r"""
names: {description: Names by tablespace/database/filenode., returned: success, type: dict}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError, Psql

_NAMES = """
select concat_ws('/', coalesce(nullif(c.reltablespace, 0), d.dattablespace), d.oid, pg_relation_filenode(c.oid)) as number,
       n.nspname || '.' || c.relname as name
from pg_class c join pg_namespace n on n.oid = c.relnamespace cross join pg_database d
where d.datname = current_database() and not c.relisshared and pg_relation_filenode(c.oid) is not null
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "bin_directory": {"type": "path", "required": True},
            "port": {"type": "int", "default": 5432},
            "database": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    p = module.params
    try:
        with Psql(p["bin_directory"], p["port"], p["database"]) as session:
            rows = session.query(_NAMES)
    except PostgresqlError as error:
        module.fail_json(msg="the relations of %s cannot be read: %s" % (p["database"], error))
    module.exit_json(changed=False, names={row["number"]: row["name"] for row in rows})


if __name__ == "__main__":
    main()
