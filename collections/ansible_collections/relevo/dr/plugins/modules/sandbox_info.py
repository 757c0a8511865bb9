#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: sandbox_info
short_description: Whether backups may be tried on this host
description:
  - >-
    Refuses a host that is production by name, by address, by its data directory or by a server that runs on it, one that can reach a host of production by
    TCP, and a directory that holds anything but copies of ours. Reads, and knocks at the ports of production with packets marked DSCP CS1; changes nothing.
options:
  directory: {description: Where copies go., type: path, required: true}
  owner: {description: Operating system user of the copies., type: str, default: postgres}
  production: {description: "Hosts of production (name, address).", type: list, elements: dict, required: true}
  ports: {description: Ports at which they are asked., type: list, elements: int, required: true}
  data_directory: {description: PGDATA of production., type: path, required: true}
  bin_directory: {description: Directory of PostgreSQL's programs., type: path, required: true}
  host_name: {description: Name of this host in the inventory., type: str, required: true}
  timeout: {description: Seconds to wait for the answer of one port., type: float, default: 1.5}
attributes:
  check_mode: {support: full, description: Only reads.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: See whether this is a sandbox
  relevo.dr.sandbox_info:
    directory: /var/lib/postgresql/relevo-restore
    production: [{name: a-db1, address: 192.0.2.11}]
    ports: [22, 5432]
    data_directory: /var/lib/postgresql/17/main
    bin_directory: /usr/lib/postgresql/17/bin
    host_name: b-scratch
"""

RETURN = r"""
probes: {description: How many doors of production were knocked at., returned: success, type: int}
"""

import os
import socket

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import sandbox
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

PROGRAMS = ("postgres", "initdb", "pg_controldata", "pg_waldump", "pg_amcheck", "pg_checksums", "psql")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "owner": {"type": "str", "default": "postgres"},
            "production": {"type": "list", "elements": "dict", "required": True},
            "ports": {"type": "list", "elements": "int", "required": True},
            "data_directory": {"type": "path", "required": True},
            "bin_directory": {"type": "path", "required": True},
            "host_name": {"type": "str", "required": True},
            "timeout": {"type": "float", "default": 1.5},
        },
        supports_check_mode=True,
    )
    try:
        probes = judge(module)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal), **told(gates=[refusal.gate], refused=True))
    gate = {
        "id": "SANDBOX",
        "title": "a host that is not production and cannot reach it",
        "phase": "PREFLIGHT",
        "host": module.params["host_name"],
        "observed": "%d doors of %d hosts of production are silent" % (probes, len(module.params["production"])),
        "expected": "silence",
        "verdict": "pass",
        "next_action": "",
    }
    module.exit_json(changed=False, probes=probes, **told(gates=[gate]))


def judge(module: AnsibleModule) -> int:
    p = module.params
    place = sandbox.Place(p["directory"], p["owner"])
    production = p["production"]
    if not production:
        raise Refusal(
            "SANDBOX",
            p["host_name"],
            "no host of production in the inventory",
            "at least one in dr_database",
            "use the whole inventory",
        )
    if socket.gethostname() in {entry["name"] for entry in production}:
        raise Refusal(
            "SANDBOX",
            p["host_name"],
            "this host calls itself %s" % socket.gethostname(),
            "a host that is no host of production",
            "correct ansible_host of the host in dr_sandbox",
        )
    missing = [name for name in PROGRAMS if not os.access(os.path.join(p["bin_directory"], name), os.X_OK)]
    if missing:
        raise Refusal(
            "SANDBOX",
            p["host_name"],
            "%s not in %s" % (", ".join(missing), p["bin_directory"]),
            "PostgreSQL's programs of the cluster's release",
            "install the same major release of PostgreSQL on the sandbox",
        )
    seen = sandbox.look(place, p["host_name"], production, p["ports"], p["data_directory"], p["timeout"])
    sandbox.check(seen, place, p["production"])
    return seen.probes


if __name__ == "__main__":
    main()
