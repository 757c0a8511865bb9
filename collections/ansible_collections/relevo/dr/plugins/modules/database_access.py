#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: database_access
short_description: Relevo's roles in the database and the replication slots of the standbys
description:
  - Roles are made and repaired on the primary only; a standby gets them by replication. Passwords travel as SCRAM verifiers.
  - >-
    Slots named C(relevo_...) are Relevo's. Those in I(slots) are made where they are missing and made again when their WAL is lost; unused others are dropped,
    on a standby too, for they would hold WAL for ever.
  - The action plugin of the same name reads each role's secret and computes the verifier on the controller.
options:
  roles:
    description: Roles that log in.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Role., type: str, required: true}
      secret: {description: Name of the secret with its password., type: str, required: true}
      verifier: {description: Filled by the action plugin., type: str}
      replication: {description: REPLICATION., type: bool, default: false}
      member_of: {description: Granted roles., type: list, elements: str, default: []}
      functions: {description: "Functions of C(pg_catalog), with their arguments' types, that it may execute.", type: list, elements: str, default: []}
  slots: {description: Physical replication slots., type: list, elements: str, default: []}
  secrets_directory: {description: Where secrets are on the controller., type: str}
  bin_directory: {description: Directory of psql., type: path, required: true}
  port: {description: Port of the server., type: int, default: 5432}
  owner: {description: Operating system user and database superuser., type: str, default: postgres}
  host_name: {description: Name of this host in sentences., type: str, required: true}
attributes:
  check_mode: {support: full, description: Stops after the plan.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Let the standby replicate
  relevo.dr.database_access:
    roles:
      - {name: relevo_replication, secret: relevo_replication_password, replication: true}
    slots: [relevo_b_db1]
    secrets_directory: "{{ dr_secrets_directory }}"
    bin_directory: /usr/lib/postgresql/17/bin
    host_name: "{{ inventory_hostname }}"
"""

RETURN = r"""
changes: {description: "What differed (item, current, wanted).", returned: always, type: list, elements: dict}
"""

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils.access import Statement, WantedRole, literal, plan_roles, plan_slots
from ansible_collections.relevo.dr.plugins.module_utils.change import shown
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError, Psql

_ROLES = """
select a.rolname as name, a.rolcanlogin as login, a.rolreplication as replication, a.rolsuper as superuser, a.rolpassword as verifier,
       (select coalesce(json_agg(g.rolname), '[]') from pg_auth_members m join pg_authid g on g.oid = m.roleid where m.member = a.oid) as member_of,
       (select coalesce(json_agg(f.name), '[]') from (values %s) f (name) where has_function_privilege(a.oid, 'pg_catalog.' || f.name, 'execute')) as functions
from pg_authid a where a.rolname in (%s)
"""
_SLOTS = "select slot_name, slot_type, active, wal_status from pg_replication_slots"


def main() -> None:
    role = {
        "name": {"type": "str", "required": True},
        "secret": {"type": "str", "required": True, "no_log": False},
        "verifier": {"type": "str", "no_log": True},
        "replication": {"type": "bool", "default": False},
        "member_of": {"type": "list", "elements": "str", "default": []},
        "functions": {"type": "list", "elements": "str", "default": []},
    }
    module = AnsibleModule(
        argument_spec={
            "roles": {"type": "list", "elements": "dict", "default": [], "options": role},
            "slots": {"type": "list", "elements": "str", "default": []},
            "secrets_directory": {"type": "str"},
            "bin_directory": {"type": "path", "required": True},
            "port": {"type": "int", "default": 5432},
            "owner": {"type": "str", "default": "postgres"},
            "host_name": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    try:
        with Psql(parameters["bin_directory"], parameters["port"], "postgres", parameters["owner"]) as session:
            statements = _plan(session, parameters)
            if not module.check_mode:
                for statement in statements:
                    session.execute(statement.sql)
    except PostgresqlError as error:
        module.fail_json(msg="PostgreSQL on %s: %s" % (parameters["host_name"], error))
    module.exit_json(changed=bool(statements), changes=shown(statement.change for statement in statements))


def _plan(session: Psql, parameters: Mapping[str, Any]) -> list[Statement]:
    standby = session.row("select pg_is_in_recovery() as answer")["answer"]
    roles = [] if standby else parameters["roles"]
    wanted = [
        WantedRole(role["name"], role["verifier"], role["replication"], tuple(role["member_of"]), tuple(role["functions"]))
        for role in roles
    ]
    present = {}
    if wanted:
        functions = sorted({function for role in wanted for function in role.functions}) or ["version()"]
        values = ", ".join("(%s)" % literal(function) for function in functions)
        rows = session.query(_ROLES % (values, ", ".join(literal(role.name) for role in wanted)))
        present = {row["name"]: row for row in rows}
    return plan_roles(wanted, present) + plan_slots([] if standby else parameters["slots"], session.query(_SLOTS))


if __name__ == "__main__":
    main()
