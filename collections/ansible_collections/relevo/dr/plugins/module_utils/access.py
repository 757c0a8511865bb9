# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Roles of the database and replication slots: which statements are missing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.change import HIDDEN, Change


@dataclass(frozen=True)
class WantedRole:
    """verifier: a SCRAM verifier, never a password. member_of: roles that are granted; functions: those that it may execute."""

    name: str
    verifier: str
    replication: bool = False
    member_of: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Statement:
    """One statement and the difference it removes."""

    sql: str
    change: Change


def plan_roles(wanted: Iterable[WantedRole], present: Mapping[str, Mapping[str, Any]]) -> list[Statement]:
    """present: by name {login, replication, superuser, verifier, member_of, functions}. A role keeps rights that others gave it, but is never superuser."""
    statements = []
    for role in wanted:
        found = present.get(role.name)
        item = "role %s" % role.name
        rights = "LOGIN %s NOSUPERUSER" % ("REPLICATION" if role.replication else "NOREPLICATION")
        if found is None:
            sql = "CREATE ROLE %s %s PASSWORD %s" % (identifier(role.name), rights, literal(role.verifier))
            statements.append(Statement(sql, Change(item, "absent", rights)))
            found = {"member_of": []}
        else:
            if (found["login"], found["replication"], found["superuser"]) != (True, role.replication, False):
                statements.append(
                    Statement("ALTER ROLE %s %s" % (identifier(role.name), rights), Change(item, "other rights", rights))
                )
            if found["verifier"] != role.verifier:
                sql = "ALTER ROLE %s PASSWORD %s" % (identifier(role.name), literal(role.verifier))
                statements.append(Statement(sql, Change("%s password" % item, "another one", HIDDEN)))
        for group in role.member_of:
            if group not in found["member_of"]:
                sql = "GRANT %s TO %s" % (identifier(group), identifier(role.name))
                statements.append(Statement(sql, Change(item, "not in %s" % group, "member of %s" % group)))
        for function in role.functions:
            if function not in found.get("functions", ()):
                sql = "GRANT EXECUTE ON FUNCTION pg_catalog.%s TO %s" % (function, identifier(role.name))
                statements.append(Statement(sql, Change(item, "may not execute %s" % function, "may execute it")))
    return statements


def slot_name(host: str, prefix: str = "relevo_") -> str:
    """The slot of one standby; slot names know only lower case letters, digits and underscores."""
    return (prefix + re.sub(r"[^a-z0-9_]", "_", host.lower()))[:63]


def plan_slots(wanted: Iterable[str], present: Iterable[Mapping[str, Any]], prefix: str = "relevo_") -> list[Statement]:
    """present: {slot_name, slot_type, active, wal_status}. Of the others only our own unused ones are dropped: they would hold WAL for ever."""
    names = list(wanted)
    found = {str(slot["slot_name"]): slot for slot in present}
    statements = []
    for name in names:
        slot = found.get(name)
        if slot is not None and slot["wal_status"] == "lost" and not slot["active"]:
            statements.append(_drop(name, "its WAL is lost", "made again"))
            slot = None
        if slot is None:
            sql = "SELECT pg_create_physical_replication_slot(%s)" % literal(name)
            statements.append(Statement(sql, Change("replication slot %s" % name, "absent", "physical")))
    for name, slot in found.items():
        if name.startswith(prefix) and name not in names and slot["slot_type"] == "physical" and not slot["active"]:
            statements.append(_drop(name, "unused, holds WAL", "absent"))
    return statements


def _drop(name: str, current: str, wanted: str) -> Statement:
    return Statement("SELECT pg_drop_replication_slot(%s)" % literal(name), Change("replication slot %s" % name, current, wanted))


def identifier(name: str) -> str:
    """A quoted SQL identifier."""
    return '"%s"' % name.replace('"', '""')


def literal(value: str) -> str:
    """A quoted SQL literal, for standard_conforming_strings."""
    return "'%s'" % value.replace("'", "''")


def access_rules(cluster: Mapping[str, str], addresses: Mapping[str, list[str]]) -> str:
    """Lines of pg_hba.conf that are the same on every database host.

    cluster: {database}. addresses: by purpose (database, monitor, application) the clients' addresses; application_roles: the application's roles.
    """
    lines = [
        "hostssl replication relevo_replication %s scram-sha-256" % _client(address) for address in sorted(addresses["database"])
    ]
    lines += ["hostssl postgres relevo_rewind %s scram-sha-256" % _client(address) for address in sorted(addresses["database"])]
    databases = ",".join(dict.fromkeys((_word(cluster["database"]), "postgres")))
    lines += [
        "hostssl %s relevo_monitor,relevo_observer %s scram-sha-256" % (databases, _client(address))
        for address in sorted(addresses["monitor"])
    ]
    roles = ",".join(_word(role) for role in addresses.get("application_roles", []))
    if roles:
        lines += [
            "hostssl %s %s %s scram-sha-256" % (_word(cluster["database"]), roles, _client(address))
            for address in sorted(addresses["application"])
        ]
    return "\n".join(lines)


def _word(name: str) -> str:
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"%s"' % name


def _client(address: str) -> str:
    """An address with its whole mask; a name stays a name."""
    if "/" in address:
        return address
    if re.fullmatch(r"[0-9.]+", address):
        return address + "/32"
    return address + "/128" if ":" in address else address
