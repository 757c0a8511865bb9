#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: column_digests
short_description: Digests of what an application's encrypted columns decrypt to
description:
  - Runs each declared query with its key, and returns a digest for each row that only who has the key can make; never a key or a value.
  - The key reaches the server as data of a COPY, in a transaction that is rolled back. Changes nothing.
options:
  columns:
    description: "Queries, each {name, key, generation, sql}: the first column names a row, the second is decrypted with C(@key@)."
    type: list
    elements: dict
    required: true
  keys: {description: "Filled by the action plugin: the keys by item, in base64.", type: dict, default: {}}
  bin_directory: {description: Directory of PostgreSQL's programs., type: path, required: true}
  port: {description: Port of the server., type: int, default: 5432}
  database: {description: The application's database., type: str, required: true}
  owner: {description: Operating system user of the cluster., type: str, default: postgres}
  host_name: {description: Inventory name of this host., type: str, required: true}
  timeout: {description: Seconds that one query may take., type: float, default: 300}
attributes:
  check_mode: {support: full, description: Changes nothing.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Take digests of what production decrypts
  relevo.dr.column_digests:
    columns:
      - name: mail addresses
        key: shop
        generation: "2"
        sql: select user_id, extensions.pgp_sym_decrypt(email_encrypted, @key@) from shop.users where user_id <= 1000 order by user_id
    bin_directory: /usr/lib/postgresql/17/bin
    database: minimarket
    host_name: a-db1
"""

RETURN = r"""
columns: {description: "By name: key, generation, taken_at, and rows as [row, digest].", returned: success, type: dict}
"""

import base64

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import clock
from ansible_collections.relevo.dr.plugins.module_utils.column_proof import ColumnsError, digests
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import Psql


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "columns": {"type": "list", "elements": "dict", "required": True},
            "keys": {"type": "dict", "default": {}, "no_log": True},
            "bin_directory": {"type": "path", "required": True},
            "port": {"type": "int", "default": 5432},
            "database": {"type": "str", "required": True},
            "owner": {"type": "str", "default": "postgres"},
            "host_name": {"type": "str", "required": True},
            "timeout": {"type": "float", "default": 300},
        },
        supports_check_mode=True,
    )
    p = module.params
    found = {}
    for column in p["columns"]:
        item = "keys/%s/%s" % (column["key"], column["generation"])
        try:
            with Psql(p["bin_directory"], p["port"], p["database"], p["owner"], p["timeout"]) as session:
                rows = digests(session, column, base64.b64decode(p["keys"].get(item, "")))
        except ColumnsError as error:
            module.fail_json(msg="%s: %s. Next: correct dr_keys_columns or the key" % (p["host_name"], error))
        said = {"name": column["name"], "key": column["key"], "generation": str(column["generation"])}
        found[str(column["name"])] = {**said, "taken_at": clock.utc_now(), "rows": rows}
    module.exit_json(changed=False, columns=found)


if __name__ == "__main__":
    main()
