"""The minimarket, the ledger and the observers on the laboratory: what they say is compared with what the database says."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import ledger, observation, witness_log

from tests.integration.conftest import BIN, INVENTORY, ROOT, Bench

pytestmark = pytest.mark.smoke
JAR = "/run/minimarket-test-cookies"


def token(bench: Bench) -> str:
    return (bench.lab.state / "secrets" / "ledger_token").read_text().strip()


def call(bench: Bench, path: str, body: dict[str, Any] | None = None, *headers: str) -> tuple[int, dict[str, Any]]:
    """One request from the application's own host; the token goes in by standard input."""
    words = ["curl", "-s", "-m", "5", "-w", "\n%{http_code}", "-K", "-"]
    lines = [f'url = "http://127.0.0.1:8080{path}"', *[f'header = "{header}"' for header in headers]]
    if body is not None:
        lines += ['header = "Content-Type: application/json"', f"data = {json.dumps(json.dumps(body))}"]
    text, _, status = bench.inside("a-app1", *words, text="\n".join(lines) + "\n").rpartition("\n")
    return int(status), json.loads(text) if text.startswith("{") else {}


def log(bench: Bench, host: str, name: str) -> str:
    return str(bench.lab.root(bench.lab.host(host)) / "var/lib/relevo-ledger" / name)


def entries(bench: Bench, since: str) -> list[ledger.Entry]:
    return ledger.parse(witness_log.since(log(bench, "wit1", "ledger.jsonl"), since))


def present(bench: Bench, references: list[str]) -> int:
    wanted = ",".join(f"'{reference}'" for reference in references)
    return int(bench.sql("a-db1", f"select count(*) from shop.ledger_entries where reference in ({wanted})"))  # noqa: S608 - numbers that this test made


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())


def playbook(path: Path) -> str:
    done = subprocess.run(
        [BIN / "ansible-playbook", "-i", INVENTORY, path], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


def test_health_names_the_server(healthy: Bench) -> None:
    status, health = call(healthy, "/health")
    assert status == 200
    assert health["server"] == "a-db1"
    assert health["in_recovery"] is False
    assert health["system_identifier"] == healthy.sql("a-db1", "select system_identifier from pg_control_system()")


def test_a_reference_is_written_once_and_acknowledged_after_the_commit(healthy: Bench) -> None:
    reference = f"test-{time.time_ns()}"
    authorised = f"Authorization: Bearer {token(healthy)}"
    status, answer = call(healthy, "/ledger", {"reference": reference}, authorised)
    assert (status, answer["server"]) == (201, "a-db1")
    assert present(healthy, [reference]) == 1
    assert call(healthy, "/ledger", {"reference": reference}, authorised)[0] == 409
    assert call(healthy, "/ledger", {"reference": reference}, "Authorization: Bearer wrong")[0] == 401
    assert call(healthy, "/ledger", {"reference": "'; drop table"}, authorised)[0] == 400


def test_a_user_logs_in_and_an_order_takes_the_stock_or_nothing(healthy: Bench) -> None:
    password = (healthy.lab.state / "secrets" / "minimarket_user_password").read_text().strip()
    healthy.inside("a-app1", "rm", "-f", JAR)
    body = json.dumps({"login": "cliente0007", "password": password})
    login = f'url = "http://127.0.0.1:8080/login"\nheader = "Content-Type: application/json"\ndata = {json.dumps(body)}\n'
    healthy.inside("a-app1", "curl", "-sf", "-c", JAR, "-K", "-", text=login)
    try:
        account = json.loads(healthy.inside("a-app1", "curl", "-sf", "-b", JAR, "http://127.0.0.1:8080/account"))
        assert account["email"] == "cliente7@example.com"
        before = healthy.sql("a-db1", "select quantity from shop.inventory_items where product_id = 5")
        for quantity, status in ((2, "201"), (10_000_000, "409")):
            order = json.dumps({"lines": [{"product_id": 5, "quantity": quantity}]})
            words = [
                "curl",
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "-b",
                JAR,
                "-H",
                "Content-Type: application/json",
                "-d",
            ]
            assert healthy.inside("a-app1", *words, order, "http://127.0.0.1:8080/orders") == status
        after = healthy.sql("a-db1", "select quantity from shop.inventory_items where product_id = 5")
        assert int(before) - int(after) == 2
    finally:
        healthy.inside("a-app1", "rm", "-f", JAR)


def test_columns_are_encrypted_and_the_key_is_in_no_statement(healthy: Bench) -> None:
    stored = healthy.sql("a-db1", "select encode(email_encrypted, 'hex') from shop.users where login = 'cliente0007'")
    assert b"cliente7".hex() not in stored
    key = (healthy.lab.state / "secrets" / "minimarket_key").read_text().strip()
    written = healthy.inside("a-db1", "grep", "-rlF", "-f", "-", "/var/log/postgresql", text=key + "\n", check=False)
    assert written == ""
    owned = "select count(*) from pg_class where relowner = (select oid from pg_roles where rolname = 'minimarket_app')"
    assert healthy.sql("a-db1", owned) == "0"


def test_the_ledger_agrees_with_the_database(healthy: Bench) -> None:
    began = now()
    time.sleep(6)
    written = [one for one in entries(healthy, began) if one.outcome == "acknowledged"]
    assert len(written) >= 4
    assert present(healthy, [one.reference for one in written]) == len(written)


def test_numbers_go_on_after_a_restart_and_none_is_used_twice(healthy: Bench) -> None:
    began = now()
    healthy.inside("wit1", "systemctl", "kill", "--signal=KILL", "relevo-ledger.service")
    healthy.wait(
        "the ledger writes again",
        lambda: healthy.inside("wit1", "systemctl", "is-active", "relevo-ledger.service", check=False) == "active",
    )
    time.sleep(3)
    lines = witness_log.since(log(healthy, "wit1", "ledger.jsonl"), began)
    numbers = [line["n"] for line in lines if line["kind"] == "intent"]
    assert [line["kind"] for line in lines].count("start") == 1
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert len({line["reference"].rpartition("-")[0] for line in lines if line["kind"] == "intent"}) == 1


def test_the_fast_pace_is_taken_up_and_expires(healthy: Bench) -> None:
    pace = {"ledger_interval_seconds": 0.05, "observer_interval_seconds": 0.2, "until": int(time.time()) + 5}
    healthy.inside("wit1", "mkdir", "-p", "/run/relevo-ledger")
    healthy.inside("wit1", "tee", "/run/relevo-ledger/pace.json", text=json.dumps(pace))
    time.sleep(1)
    began = now()
    time.sleep(8)
    found = entries(healthy, began)
    fast = [one for one in found if one.at < time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(pace["until"]))]
    assert len(fast) > 20
    assert len(found) - len(fast) < 10


def test_two_observers_see_one_writable_node(healthy: Bench) -> None:
    for host in ("wit1", "b-app1"):
        seen = observation.parse(witness_log.tail(log(healthy, host, "observer.jsonl"), 20_000))
        assert {one.outcome for one in seen[-4:] if one.address == "a-db1"} == {"accepted"}, host
        assert {one.outcome for one in seen[-4:] if one.address == "b-db1"} <= {"read_only", "refused"}, host
        identifiers = {one.system_identifier for one in seen if one.outcome == "accepted"}
        assert identifiers == {healthy.sql("a-db1", "select system_identifier from pg_control_system()")}


def test_the_observers_role_may_do_nothing_else(healthy: Bench) -> None:
    rights = "select count(*) from information_schema.role_table_grants where grantee = 'relevo_observer'"
    assert healthy.sql("a-db1", rights) == "2"
    assert (
        healthy.sql("a-db1", "select rolsuper or rolcreaterole or rolcreatedb from pg_roles where rolname = 'relevo_observer'")
        == "f"
    )


def test_two_writable_nodes_made_on_purpose_are_seen(healthy: Bench) -> None:  # noqa: ARG001  # needs the laboratory
    output = playbook(ROOT / "tests/fixtures/ledger/two_writable.yml")
    seen = json.loads(re.search(r"OVERLAP (\{.*\})", output.replace("\n", " ")).group(1))  # type: ignore[union-attr]
    assert seen["overlap_seconds"] > 1
    assert all(address["accepted"] > 5 for address in seen["addresses"].values())


@pytest.mark.full
def test_a_frozen_database_is_unhealthy_in_seconds_and_heals_by_itself(bench: Bench) -> None:
    began = now()
    time.sleep(2)
    bench.verb("freeze-postgresql", "a-db1")
    try:
        asked = time.monotonic()
        status, _ = call(bench, "/health")
        assert status == 503
        assert time.monotonic() - asked < 4
        time.sleep(3)
    finally:
        bench.verb("thaw-postgresql", "a-db1")
    bench.wait("the application is healthy again", lambda: call(bench, "/health")[0] == 200, 20)
    time.sleep(3)
    found = entries(bench, began)
    hole = ledger.outage(found)
    assert hole is not None
    assert (hole.seconds or 0) > 3
    # Nothing that was acknowledged is missing, and what was not is told apart.
    acknowledged = [one.reference for one in ledger.acknowledged(found)]
    assert present(bench, acknowledged) == len(acknowledged)
    unsure = [one for one in found if one.outcome == "indeterminate"]
    assert unsure
    silent = observation.parse(witness_log.since(log(bench, "wit1", "observer.jsonl"), began))
    assert "unreachable" in {one.outcome for one in silent if one.address == "a-db1"}
    assert "unreachable" not in {one.outcome for one in silent if one.address == "b-db1"}
