#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: observation_table
short_description: The table that observers write to, and their role
description:
  - Makes the schema C(relevo), the table C(relevo.observation) with a row for each observer, and the role C(relevo_observer), which may update that table
    and nothing else; C(relevo_monitor), with which the guards of the database hosts write, may update it too.
  - Only where PostgreSQL is primary; a standby gets it all by replication.
options:
  observers: {description: Names of the observers., type: list, elements: str, required: true}
  password: {description: The role's password; PostgreSQL is given its SCRAM verifier., type: str, required: true}
  bin_directory: {description: Directory of psql., type: path, required: true}
  port: {description: Port of the server., type: int, default: 5432}
  database: {description: Database of the application., type: str, required: true}
attributes:
  check_mode: {support: full, description: Says what would change.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Let observers write
  relevo.dr.observation_table:
    observers: [wit1, b-app1]
    password: "{{ lookup('ansible.builtin.file', dr_secrets_directory ~ '/relevo_observer_password') }}"
    bin_directory: /usr/lib/postgresql/17/bin
    database: minimarket
  no_log: true
"""

RETURN = r"""
running: {description: Whether PostgreSQL answers., returned: always, type: bool}
primary: {description: Whether it is the primary., returned: always, type: bool}
changes: {description: "What differed (item, current, wanted).", returned: always, type: list, elements: dict}
"""

import re
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import scram
from ansible_collections.relevo.dr.plugins.module_utils.change import Change, shown
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError, Psql

ROLE = "relevo_observer"
OBSERVER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
STATE = """
select pg_is_in_recovery() as in_recovery,
       to_regnamespace('relevo') is not null as has_schema,
       to_regclass('relevo.observation') is not null as has_table,
       (select row_to_json(r) from (select rolpassword, rolcanlogin, rolconnlimit,
               rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls as powerful
          from pg_authid where rolname = 'relevo_observer') r) as role,
       to_regrole('relevo_monitor') is not null as has_monitor
"""
RIGHTS = """
select has_database_privilege('relevo_observer', current_database(), 'connect')
       and has_schema_privilege('relevo_observer', 'relevo', 'usage')
       and has_table_privilege('relevo_observer', 'relevo.observation', 'select')
       and has_table_privilege('relevo_observer', 'relevo.observation', 'update') as enough,
       has_table_privilege('relevo_observer', 'relevo.observation', 'insert,delete,truncate,references,trigger')
       or has_schema_privilege('relevo_observer', 'relevo', 'create') as too_much
"""
MONITOR = """
select has_database_privilege('relevo_monitor', current_database(), 'connect')
       and has_schema_privilege('relevo_monitor', 'relevo', 'usage')
       and has_table_privilege('relevo_monitor', 'relevo.observation', 'select')
       and has_table_privilege('relevo_monitor', 'relevo.observation', 'update') as enough
"""
CREATE_TABLE = """
create table relevo.observation (
    observer text primary key,
    seen_at timestamptz not null default pg_catalog.now(),
    count bigint not null default 0
) with (fillfactor = 50)
"""


def plan(session: Psql, observers: list[str], password: str, database: str) -> list[tuple[Change, list[str]]]:
    """Each difference with the statements that repair it."""
    state = session.row(STATE)
    verifier = scram.verifier(password, scram.salt_of(ROLE, password))
    steps: list[tuple[Change, list[str]]] = []
    role = state["role"]
    wanted_role = "login, connection limit 20, no other attribute"
    make = "alter role relevo_observer login connection limit 20 nosuperuser nocreaterole nocreatedb noreplication nobypassrls"
    if role is None:
        steps.append((Change("role relevo_observer", "absent", wanted_role), ["create role relevo_observer", make]))
    elif not role["rolcanlogin"] or role["rolconnlimit"] != 20 or role["powerful"]:
        steps.append((Change("role relevo_observer", "other attributes", wanted_role), [make]))
    if role is None or role["rolpassword"] != verifier:
        steps.append(
            (
                Change("password of relevo_observer", "other", "the secret's"),
                ["alter role relevo_observer password '%s'" % verifier],
            )
        )
    if not state["has_schema"]:
        steps.append((Change("schema relevo", "absent", "present"), ["create schema relevo"]))
    if not state["has_table"]:
        steps.append((Change("table relevo.observation", "absent", "present"), [CREATE_TABLE]))
    there = session.query("select observer from relevo.observation") if state["has_table"] else []
    missing = sorted(set(observers) - {row["observer"] for row in there})
    if missing:
        rows = ", ".join("('%s')" % name for name in missing)
        steps.append(
            (
                Change("rows of relevo.observation", "absent", ", ".join(missing)),
                ["insert into relevo.observation (observer) values %s" % rows],
            )
        )
    rights = session.row(RIGHTS) if role and state["has_table"] else {"enough": False, "too_much": False}
    if not rights["enough"] or rights["too_much"]:
        grants = [
            "revoke all on relevo.observation from relevo_observer",
            "revoke all on schema relevo from relevo_observer",
            'grant connect on database "%s" to relevo_observer' % database,
            "grant usage on schema relevo to relevo_observer",
            "grant select, update on relevo.observation to relevo_observer",
        ]
        steps.append((Change("rights of relevo_observer", "other", "select and update on relevo.observation"), grants))
    monitored = state["has_monitor"] and state["has_table"] and session.row(MONITOR)["enough"]
    if state["has_monitor"] and not monitored:
        grants = [
            'grant connect on database "%s" to relevo_monitor' % database,
            "grant usage on schema relevo to relevo_monitor",
            "grant select, update on relevo.observation to relevo_monitor",
        ]
        steps.append((Change("rights of relevo_monitor", "other", "select and update on relevo.observation"), grants))
    return steps


def run(p: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    with Psql(p["bin_directory"], p["port"], p["database"]) as session:
        if session.row("select pg_is_in_recovery() as answer")["answer"]:
            return {"running": True, "primary": False, "changes": [], "changed": False}
        steps = plan(session, p["observers"], p["password"], p["database"])
        if steps and not check_mode:
            for _change, statements in steps:
                for statement in statements:
                    session.execute(statement)
    return {"running": True, "primary": True, "changes": shown(change for change, _ in steps), "changed": bool(steps)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "observers": {"type": "list", "elements": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "bin_directory": {"type": "path", "required": True},
            "port": {"type": "int", "default": 5432},
            "database": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    p = module.params
    wrong = [name for name in p["observers"] if not OBSERVER.fullmatch(name)]
    if wrong or '"' in p["database"]:
        module.fail_json(msg="names of observers have letters, digits and . _ - only: %s" % ", ".join(wrong or [p["database"]]))
    try:
        with Psql(p["bin_directory"], p["port"], "postgres") as session:
            session.row("select 1 as answer")
    except PostgresqlError as error:
        module.exit_json(changed=False, running=False, primary=False, changes=[], detail=str(error))
    try:
        module.exit_json(**run(p, module.check_mode))
    except PostgresqlError as error:
        module.fail_json(msg="the observers' table cannot be made in database %s: %s" % (p["database"], error))


if __name__ == "__main__":
    main()
