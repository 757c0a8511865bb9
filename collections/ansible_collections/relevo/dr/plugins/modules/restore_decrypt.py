#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_decrypt
short_description: Start a restored copy and take digests of what its encrypted columns decrypt to
description:
  - Starts the copy that M(relevo.dr.restore_copy) made, opens it, runs the queries of M(relevo.dr.column_digests) with recovered keys, and stops it.
options:
  columns: {description: "Queries, each {name, key, generation, sql}.", type: list, elements: dict, required: true}
  keys: {description: "Filled by the action plugin: the recovered keys by item, in base64.", type: dict, default: {}}
  target_kind: {description: "What the copy was restored to: end, time, lsn or name.", type: str, default: end}
  directory: {description: Where copies are made; ours alone., type: path, required: true}
  owner: {description: Operating system user of the copies., type: str, default: postgres}
  bin_directory: {description: Directory of PostgreSQL's programs., type: path, required: true}
  port: {description: Port of the copy., type: int, required: true}
  listen_addresses: {description: Where the copy listens beside its socket., type: str, default: "", choices: ["", 127.0.0.1]}
  parameters: {description: More parameters of the copy's server., type: dict, default: {}}
  database: {description: The application's database., type: str, required: true}
  run_id: {description: The run., type: str, required: true}
  host_name: {description: Inventory name of this host., type: str, required: true}
  wait_timeout: {description: Seconds to wait for another task on the sandbox., type: float, default: 60}
  replay_timeout: {description: Seconds until the target must be reached., type: float, default: 86400}
  query_timeout: {description: Seconds that one query may take., type: float, default: 600}
attributes:
  check_mode: {support: full, description: Proves nothing.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Decrypt what was restored
  relevo.dr.restore_decrypt:
    columns: "{{ dr_keys_columns }}"
    directory: /var/lib/postgresql/relevo-restore
    bin_directory: /usr/lib/postgresql/17/bin
    port: 5499
    database: minimarket
    run_id: 20261124T121530Z-recover_keys-1f3a
    host_name: b-scratch
"""

RETURN = r"""
columns: {description: "By name: rows as [row, digest].", returned: success, type: dict}
wrong: {description: "By name: why a column cannot be read with its key.", returned: success, type: dict}
"""

import base64
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import sandbox
from ansible_collections.relevo.dr.plugins.module_utils.column_proof import ColumnsError, digests
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.module_utils.restore_ladder import RungFailed
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import END
from ansible_collections.relevo.dr.plugins.module_utils.sandbox_server import Server

START_SECONDS = 300


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "columns": {"type": "list", "elements": "dict", "required": True},
            "keys": {"type": "dict", "default": {}, "no_log": True},
            "target_kind": {"type": "str", "default": "end"},
            "directory": {"type": "path", "required": True},
            "owner": {"type": "str", "default": "postgres"},
            "bin_directory": {"type": "path", "required": True},
            "port": {"type": "int", "required": True},
            "listen_addresses": {"type": "str", "choices": ["", "127.0.0.1"], "default": ""},
            "parameters": {"type": "dict", "default": {}},
            "database": {"type": "str", "required": True},
            "run_id": {"type": "str", "required": True},
            "host_name": {"type": "str", "required": True},
            "wait_timeout": {"type": "float", "default": 60},
            "replay_timeout": {"type": "float", "default": 86400},
            "query_timeout": {"type": "float", "default": 600},
        },
        supports_check_mode=True,
    )
    p = module.params
    if module.check_mode:
        module.exit_json(changed=False, columns={}, wrong={})
    place = sandbox.Place(p["directory"], p["owner"])
    server = Server(place, p)
    found, wrong = {}, {}
    try:
        with sandbox.held(place, p["run_id"], p["wait_timeout"]):
            sandbox.write_mark(place, p["run_id"], "proving")
            sandbox.stop_servers(place)
            try:
                server.start(fresh=True)
                server.wait_at_rest(target=p["target_kind"] != END, seconds=p["replay_timeout"])
                server.check_harmless()
                server.promote(START_SECONDS)
                for column in p["columns"]:
                    try:
                        found[str(column["name"])] = rows(server, column, p)
                    except ColumnsError as error:
                        wrong[str(column["name"])] = str(error)
            finally:
                server.stop()
    except Refusal as refusal:
        module.fail_json(msg=str(refusal), **told(gates=[refusal.gate]))
    except RungFailed as failure:
        module.fail_json(msg="%s: the copy cannot be opened: %s" % (p["host_name"], failure))
    except (OSError, PostgresqlError) as error:
        module.fail_json(msg="%s: decrypting failed: %s. Next: mend that, then run the test again" % (p["host_name"], error))
    module.exit_json(changed=True, columns=found, wrong=wrong)


def rows(server: Server, column: Mapping[str, Any], p: Mapping[str, Any]) -> list[list[str]]:
    item = "keys/%s/%s" % (column["key"], column["generation"])
    if item not in p["keys"]:
        raise ColumnsError("its key %s was not recovered" % item)
    with server.session(p["database"], p["query_timeout"]) as session:
        return digests(session, column, base64.b64decode(p["keys"][item]))


if __name__ == "__main__":
    main()
