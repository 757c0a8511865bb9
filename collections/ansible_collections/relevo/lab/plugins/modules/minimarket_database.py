#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: minimarket_database
short_description: The minimarket's roles, objects and seeded data, on the host whose PostgreSQL is primary
description:
  - Runs as the cluster's owner over the local socket. Does nothing where PostgreSQL is down or in recovery.
  - Values that are secret travel as parameters, never inside SQL text; the role's password is sent as a SCRAM verifier.
options:
  port: {description: Port of the server., type: int, default: 5432}
  database: {description: The database to make., type: str, required: true}
  app_password: {description: Password of minimarket_app., type: str, required: true}
  user_password: {description: Password of every seeded shop user., type: str, required: true}
  key: {description: The key of the encrypted columns., type: str, required: true}
  schema: {description: The SQL text that makes the objects; safe to repeat., type: str, required: true}
  seed: {description: The SQL text that makes the data; run once., type: str, required: true}
  scale: {description: Size of the data., type: int, default: 1}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Make the shop's database
  relevo.lab.minimarket_database:
    database: minimarket
    schema: "{{ lookup('ansible.builtin.file', 'schema.sql') }}"
    seed: "{{ lookup('ansible.builtin.file', 'seed.sql') }}"
    app_password: "{{ app_password }}"
    user_password: "{{ user_password }}"
    key: "{{ key }}"
  become: true
  become_user: postgres
"""

RETURN = r"""
running: {description: Whether PostgreSQL answers., returned: always, type: bool}
primary: {description: Whether this host's PostgreSQL is the primary., returned: always, type: bool}
done: {description: What was made., returned: always, type: list, elements: str}
"""

import hashlib
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.relevo.dr.plugins.module_utils import scram

try:
    import psycopg
    from psycopg import sql

    HAS_PSYCOPG = True
except ImportError:
    HAS_PSYCOPG = False

USERS_PER_SCALE = 100
SCRYPT_COST = {"n": 4096, "r": 8, "p": 1}
SCHEMA_VERSION = "minimarket schema %s"


def password_hash(password: str, login: str) -> str:
    salt = hashlib.sha256(login.encode()).digest()[:16]
    return "scrypt$%s$%s" % (salt.hex(), hashlib.scrypt(password.encode(), salt=salt, **SCRYPT_COST).hex())


def ensure_roles(server: Any, password: str, apply: bool) -> list[str]:
    done = []
    verifier = scram.verifier(password, scram.salt_of("minimarket_app", password))
    existing = dict(server.execute("select rolname, rolpassword from pg_authid where rolname like 'minimarket%'").fetchall())
    if "minimarket_owner" not in existing:
        done.append("role minimarket_owner")
        if apply:
            server.execute("create role minimarket_owner nologin")
    if "minimarket_app" not in existing:
        done.append("role minimarket_app")
        if apply:
            server.execute("create role minimarket_app login connection limit 50")
            # The key travels as a parameter: a slow-query log must never print it.
            server.execute("alter role minimarket_app set log_parameter_max_length = 0")
    if existing.get("minimarket_app") != verifier:
        done.append("password of minimarket_app")
        if apply:
            server.execute(sql.SQL("alter role minimarket_app password {}").format(sql.Literal(verifier)))
    return done


def ensure_database(server: Any, name: str, apply: bool) -> list[str]:
    if server.execute("select 1 from pg_database where datname = %s", [name]).fetchone():
        return []
    if apply:
        server.execute(
            sql.SQL("create database {} owner minimarket_owner encoding 'UTF8' template template0").format(sql.Identifier(name))
        )
        server.execute(sql.SQL("revoke all on database {} from public").format(sql.Identifier(name)))
        server.execute(sql.SQL("grant connect on database {} to minimarket_app").format(sql.Identifier(name)))
    return ["database %s" % name]


def ensure_schema(shop: Any, text: str, apply: bool) -> list[str]:
    version = SCHEMA_VERSION % hashlib.sha256(text.encode()).hexdigest()[:16]
    found = shop.execute("select obj_description(oid, 'pg_namespace') from pg_namespace where nspname = 'shop'").fetchone()
    if found and found[0] == version:
        return []
    if apply:
        with shop.transaction():
            shop.execute(text)
            shop.execute(sql.SQL("comment on schema shop is {}").format(sql.Literal(version)))
    return ["schema shop"]


def ensure_seed(shop: Any, text: str, parameters: dict[str, Any], user_password: str, apply: bool) -> list[str]:
    if (
        shop.execute("select to_regclass('shop.seed') is not null").fetchone()[0]
        and shop.execute("select 1 from shop.seed").fetchone()
    ):
        return []
    if apply:
        users = USERS_PER_SCALE * parameters["scale"]
        hashes = [password_hash(user_password, "cliente%04d" % number) for number in range(1, users + 1)]
        with shop.transaction():
            shop.execute("set local log_min_duration_statement = -1")
            shop.execute("set local log_parameter_max_length = 0")
            for statement in text.split(";\n"):
                if statement.strip():
                    shop.execute(statement, {**parameters, "hashes": hashes})
    return ["data of scale %d" % parameters["scale"]]


def run(module: AnsibleModule) -> dict[str, Any]:
    given, apply = module.params, not module.check_mode
    try:
        server = psycopg.connect(dbname="postgres", port=given["port"], autocommit=True, connect_timeout=5)
    except psycopg.OperationalError as error:
        return {"running": False, "primary": False, "done": [], "detail": str(error).strip()}
    with server:
        if server.execute("select from pg_catalog.pg_is_in_recovery() as standby where standby").fetchone():
            return {"running": True, "primary": False, "done": []}
        done = ensure_roles(server, given["app_password"], apply) + ensure_database(server, given["database"], apply)
        if apply or not done:
            with psycopg.connect(dbname=given["database"], port=given["port"], autocommit=True) as shop:
                done += ensure_schema(shop, given["schema"], apply)
                parameters = {"scale": given["scale"], "key": given["key"]}
                done += ensure_seed(shop, given["seed"], parameters, given["user_password"], apply)
    return {"running": True, "primary": True, "done": done}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "port": {"type": "int", "default": 5432},
            "database": {"type": "str", "required": True},
            "app_password": {"type": "str", "required": True, "no_log": True},
            "user_password": {"type": "str", "required": True, "no_log": True},
            "key": {"type": "str", "required": True, "no_log": True},
            "schema": {"type": "str", "required": True},
            "seed": {"type": "str", "required": True},
            "scale": {"type": "int", "default": 1},
        },
        supports_check_mode=True,
    )
    if not HAS_PSYCOPG:
        module.fail_json(msg=missing_required_lib("psycopg"))
    result = run(module)
    module.exit_json(changed=bool(result["done"]), **result)


if __name__ == "__main__":
    main()
