"""Roles, slots and access rules: exactly the statements that are missing; a password only as a verifier."""

from __future__ import annotations

import base64

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import access, scram
from ansible_collections.relevo.dr.plugins.module_utils.access import WantedRole

MONITOR = WantedRole("relevo_monitor", "SCRAM-SHA-256$v", member_of=("pg_monitor",))
REPLICATION = WantedRole("relevo_replication", "SCRAM-SHA-256$r", replication=True)
PRESENT = {
    "relevo_monitor": {
        "login": True,
        "replication": False,
        "superuser": False,
        "verifier": "SCRAM-SHA-256$v",
        "member_of": ["pg_monitor"],
    },
    "relevo_replication": {"login": True, "replication": True, "superuser": False, "verifier": "SCRAM-SHA-256$r", "member_of": []},
}


def statements(**changes):
    present = {name: {**row, **changes.get(name, {})} for name, row in PRESENT.items()}
    return [statement.sql for statement in access.plan_roles([MONITOR, REPLICATION], present)]


def test_roles_that_are_right_are_left_alone():
    assert statements() == []


def test_missing_roles_are_made_with_their_groups():
    made = [statement.sql for statement in access.plan_roles([MONITOR, REPLICATION], {})]
    assert made == [
        "CREATE ROLE \"relevo_monitor\" LOGIN NOREPLICATION NOSUPERUSER PASSWORD 'SCRAM-SHA-256$v'",
        'GRANT "pg_monitor" TO "relevo_monitor"',
        "CREATE ROLE \"relevo_replication\" LOGIN REPLICATION NOSUPERUSER PASSWORD 'SCRAM-SHA-256$r'",
    ]


@pytest.mark.parametrize(
    ("role", "drift", "repair"),
    [
        ("relevo_monitor", {"superuser": True}, 'ALTER ROLE "relevo_monitor" LOGIN NOREPLICATION NOSUPERUSER'),
        ("relevo_monitor", {"login": False}, 'ALTER ROLE "relevo_monitor" LOGIN NOREPLICATION NOSUPERUSER'),
        ("relevo_replication", {"replication": False}, 'ALTER ROLE "relevo_replication" LOGIN REPLICATION NOSUPERUSER'),
        ("relevo_monitor", {"member_of": []}, 'GRANT "pg_monitor" TO "relevo_monitor"'),
        ("relevo_replication", {"verifier": "md5abc"}, "ALTER ROLE \"relevo_replication\" PASSWORD 'SCRAM-SHA-256$r'"),
        ("relevo_replication", {"verifier": None}, "ALTER ROLE \"relevo_replication\" PASSWORD 'SCRAM-SHA-256$r'"),
    ],
)
def test_each_drift_of_a_role_is_repaired(role, drift, repair):
    assert statements(**{role: drift}) == [repair]


def test_a_verifier_is_never_shown():
    for statement in access.plan_roles([MONITOR], {"relevo_monitor": {**PRESENT["relevo_monitor"], "verifier": "x"}}):
        assert "SCRAM" not in str(statement.change)


def slot(name, *, active=False, status="reserved", kind="physical"):
    return {"slot_name": name, "slot_type": kind, "active": active, "wal_status": status}


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ([], ["create relevo_b_db1"]),
        ([slot("relevo_b_db1")], []),
        ([slot("relevo_b_db1", status="lost")], ["drop relevo_b_db1", "create relevo_b_db1"]),
        ([slot("relevo_b_db1", active=True), slot("relevo_gone")], ["drop relevo_gone"]),
        ([slot("relevo_b_db1"), slot("relevo_busy", active=True), slot("theirs")], []),
        ([slot("relevo_b_db1"), slot("relevo_logical", kind="logical")], []),
    ],
)
def test_slots(present, expected):
    done = [statement.sql for statement in access.plan_slots(["relevo_b_db1"], present)]
    words = {"SELECT pg_create_physical_replication_slot('%s')": "create %s", "SELECT pg_drop_replication_slot('%s')": "drop %s"}
    assert done == [sql % line.split()[1] for line in expected for sql, shape in words.items() if shape % line.split()[1] == line]


def test_a_standby_keeps_no_slot_that_would_hold_wal():
    assert len(access.plan_slots([], [slot("relevo_a_db1")])) == 1


@pytest.mark.parametrize(
    ("host", "name"), [("b-db1", "relevo_b_db1"), ("DB.example.org", "relevo_db_example_org"), ("x" * 80, "relevo_" + "x" * 56)]
)
def test_slot_names(host, name):
    assert access.slot_name(host) == name


def test_access_rules_are_the_same_whatever_the_order():
    clients = {
        "database": ["192.0.2.2", "192.0.2.1"],
        "monitor": ["2001:db8::1", "wit1"],
        "application": ["192.0.2.9"],
        "application_roles": ["shop", "Shop Admin"],
    }
    rules = access.access_rules({"database": "minimarket"}, clients).splitlines()
    assert rules == [
        "hostssl replication relevo_replication 192.0.2.1/32 scram-sha-256",
        "hostssl replication relevo_replication 192.0.2.2/32 scram-sha-256",
        "hostssl postgres relevo_rewind 192.0.2.1/32 scram-sha-256",
        "hostssl postgres relevo_rewind 192.0.2.2/32 scram-sha-256",
        "hostssl minimarket,postgres relevo_monitor,relevo_observer 2001:db8::1/128 scram-sha-256",
        "hostssl minimarket,postgres relevo_monitor,relevo_observer wit1 scram-sha-256",
        'hostssl minimarket shop,"Shop Admin" 192.0.2.9/32 scram-sha-256',
    ]
    assert all(rule.startswith("hostssl ") for rule in rules)


def test_the_verifier_of_rfc_7677():
    # The RFC's example: user "user", password "pencil", its salt and 4096 iterations.
    made = scram.verifier("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
    assert made == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )
    assert scram.matches("pencil", made)
    assert not scram.matches("pencils", made)


def test_a_verifier_is_the_same_on_every_run_and_differs_by_role():
    first, again, other = (scram.verifier("secret", scram.salt_of(role, "secret")) for role in ("r1", "r1", "r2"))
    assert first == again != other


def test_a_role_gets_the_functions_it_lacks_and_no_more():
    rewind = WantedRole(
        "relevo_rewind", "SCRAM-SHA-256$w", functions=("pg_ls_dir(text, boolean, boolean)", "pg_read_binary_file(text)")
    )
    found = {
        **PRESENT["relevo_replication"],
        "replication": False,
        "verifier": "SCRAM-SHA-256$w",
        "functions": ["pg_read_binary_file(text)"],
    }
    assert [one.sql for one in access.plan_roles([rewind], {"relevo_rewind": found})] == [
        'GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text, boolean, boolean) TO "relevo_rewind"'
    ]
    assert access.plan_roles([rewind], {"relevo_rewind": {**found, "functions": list(rewind.functions)}}) == []
