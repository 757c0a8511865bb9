"""The commands over a real store: what they print, and how they exit."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relevo import entries, signature
from relevo.cli import app
from relevo.clock import utc_now
from relevo.paths import find_place
from relevo.record import Record, canonical
from relevo.store import Store
from tests.house.tree import ROOT
from tests.unit.runner.past import run

Command = Callable[..., Any]


@pytest.fixture
def relevo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("RELEVO_STORE", str(tmp_path / "state"))
    for name in ("RELEVO_POLICY", "RELEVO_INVENTORY", "SUDO_USER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(ROOT)

    def command(*words: str, code: int = 0) -> Any:
        monkeypatch.setattr("sys.argv", ["relevo", *words])
        with pytest.raises(SystemExit) as ended:
            app()
        printed = capsys.readouterr()
        assert ended.value.code == code, printed.err
        return json.loads(printed.out) if "--json" in words and code == 0 else printed.out + printed.err

    return command


def keep(*records: Record) -> None:
    store, key = Store(find_place(os.environ)), signature.ready_key(find_place(os.environ).keys)
    for record in records:
        document = canonical(record.document())
        store.add(record, document, signature.sign(key, document))


def test_the_policy_that_holds_is_shown_and_a_mistake_exits_with_4(relevo: Command, tmp_path: Path) -> None:
    assert "full_site" in relevo("policy")
    shown = relevo("policy", "--json", "--policy", "inventories/example/policy.yml")
    assert shown["policy"]["clusters"]["minimarket"] == {"tier": "critical", "tests": None}
    assert len(shown["read_from"]["sha256"]) == 64
    (tmp_path / "p.yml").write_text("tests: {full_site: {every: monthly}}")
    assert "p.yml, line 1: tests.full_site.every: observed 'monthly'" in relevo(
        "policy", "--policy", str(tmp_path / "p.yml"), code=4
    )


def test_the_calendar_says_what_is_due(relevo: Command, tmp_path: Path) -> None:
    assert "No cluster" in relevo("calendar")
    keep(
        run("20260101T000000Z-failover-0001", "2026-01-31T12:00:00Z"),
        run("20260101T000000Z-failover-0002", "2020-01-31T12:00:00Z", scope="database"),
    )
    found = relevo("calendar", "--json")
    by_test = {entry["test"]: entry for entry in found["tests"]}
    assert set(by_test) == {"backup_restoration", "partial_failover", "full_site", "encryption_keys"}
    assert by_test["partial_failover"]["due_at"] == "2020-04-30T12:00:00.000000Z"
    assert by_test["partial_failover"]["overdue"] is True
    assert by_test["encryption_keys"]["state"] == "NEVER PASSED"
    assert found["policy"]["source"] == "the built-in policy"
    words = relevo("calendar", "--ics", str(tmp_path / "tests.ics"), "--require-current", code=1)
    assert "NEVER PASSED" in words
    assert (tmp_path / "tests.ics").read_text().count("BEGIN:VEVENT") == 4
    assert relevo("calendar", "--json", "--cluster", "other")["tests"] == []


def test_a_run_is_shown_as_a_test_criterion_by_criterion(relevo: Command) -> None:
    keep(run("20260101T000000Z-failover-0001", "2026-01-31T12:00:00Z"))
    (judged,) = relevo("verdict", "latest", "--json")["tests"]
    assert (judged["test"], judged["verdict"], len(judged["criteria"])) == ("full_site", "passed", 8)
    keep(run("20260101T000000Z-failover-0002", "2026-02-01T12:00:00Z", measures={"application": {}}))
    line = next(line for line in relevo("verdict", code=5).splitlines() if "Users can login" in line)
    assert line.split() == ["unknown", "Users", "can", "login", "measures.application.login", "not", "observed", "pass"]
    keep(run("20260101T000000Z-failover-0003", "2026-02-02T12:00:00Z", verdict="failed"))
    assert "the run itself ended as failed" in relevo("verdict", code=1)
    keep(run("20260101T000000Z-check-0004", "2026-02-03T12:00:00Z", "check_passed", runbook="check"))
    assert "counts as no test" in relevo("verdict")


def test_an_inventory_that_changed_since_needs_to_be_verified(relevo: Command, tmp_path: Path) -> None:
    (tmp_path / "inventory").mkdir()
    (tmp_path / "inventory" / "hosts.yml").write_text("all: {hosts: {a-db1: {dr_cluster: minimarket}, b-db1: {dr_cluster: new}}}\n")
    keep(run("20260101T000000Z-failover-0001", "2026-01-31T12:00:00Z"))
    found = relevo("calendar", "--json", "-i", str(tmp_path / "inventory"))
    states = {(entry["cluster"], entry["test"]): entry for entry in found["tests"]}
    site = states["minimarket", "full_site"]
    assert site["state"] == "NEEDS VERIFIED"
    assert [one["what"] for one in site["changed"]] == ["inventory"]
    assert states["new", "full_site"]["state"] == "NEVER PASSED"


def test_a_finding_from_its_run_to_its_closing(relevo: Command) -> None:
    keep(run("20260101T000000Z-failover-0001", "2026-01-31T12:00:00Z", verdict="failed"))
    assert "Of which cluster" in relevo("findings", "add", "x", "--severity", "low", "--owner", "a", "--due", "2026-12-31", code=4)
    new = ["findings", "add", "DNS is slow", "--severity", "high", "--owner", "mira", "--due", "2026-02-28", "--json"]
    found = relevo(*new, "--run", "latest")
    assert (found["cluster"], found["run_id"], found["state"]) == ("minimarket", "20260101T000000Z-failover-0001", "open")
    assert found["overdue"] is True
    assert "'r9'" in relevo(*new, "--run", "r9", code=4)
    name = found["id"]
    assert "has no passed re-test" in relevo("findings", "close", name, "--resolution", "mended", code=4)
    assert "expected a later one" in relevo("findings", "retest", name, "--run", "latest", code=4)
    keep(run("29990101T000000Z-failover-0002", "2999-01-31T12:00:00Z"))
    assert relevo("findings", "retest", name, "--run", "latest", "--json")["state"] == "retested"
    relevo(*new[:-1], "--cluster", "other")
    assert [one["cluster"] for one in relevo("findings", "list", "--json", "--cluster", "minimarket")] == ["minimarket"]
    assert name in relevo("findings", "list")
    closed = relevo("findings", "close", name, "--resolution", "mended", "--json")
    assert (closed["state"], closed["retests"][0]["run_id"]) == ("closed", "29990101T000000Z-failover-0002")
    assert name not in relevo("findings", "list")
    assert name in relevo("findings", "list", "--all")
    assert "was closed at" in relevo("findings", "close", name, "--resolution", "again", code=4)


def test_every_entry_verifies(relevo: Command) -> None:
    relevo("findings", "add", "x", "--severity", "low", "--owner", "a", "--due", "2026-12-31", "--cluster", "c")
    relevo("contacts", "ack", "ana", "--policy", "inventories/example/policy.yml")
    relevo("signoff", "runbooks", "--as", "Mira Paz", "--statement", "read and right")
    place = find_place(os.environ)
    kept = entries.read(Store(place))
    assert [entries.parse(one.document).kind for one in kept] == ["finding", "contact", "sign_off"]
    verified = relevo("results", "verify", "--json")
    assert (verified["statements"], verified["findings"]) == (3, [])
    assert "3 of 3 statements verify." in relevo("results", "verify")


def test_contacts_acknowledge_and_the_team_is_counted(relevo: Command) -> None:
    policy = ["--policy", "inventories/example/policy.yml"]
    assert "no contact 'bob'" in relevo("contacts", "ack", "bob", *policy, code=4)
    assert "names no contact" in relevo("contacts", "list")
    assert "acknowledged until" in relevo("contacts", "ack", "ana", "--note", "by phone", *policy)
    keep(run("20260101T000000Z-failover-0001", utc_now(), operator="ana"))
    found = relevo("contacts", "list", "--json", *policy)
    assert [one["state"] for one in found["contacts"]] == ["acknowledged", "never acknowledged", "never acknowledged"]
    assert ([one["name"] for one in found["team"]["operators"]], found["team"]["ready"]) == (["ana"], False)
    shown = relevo("contacts", "list", *policy)
    assert "after 15 min 00 s: ana: decide whether to fail over" in shown
    assert "ana (1 run); wanted 2: not ready" in shown


def test_a_sign_off_is_bound_to_what_was_seen(relevo: Command) -> None:
    record = run("20260101T000000Z-failover-0001", "2026-01-31T12:00:00Z")
    keep(record)
    assert "no subject of the checklist. Subjects: runbooks" in relevo(
        "signoff", "weather", "--as", "M", "--statement", "x", code=4
    )
    assert "needs the name" in relevo("signoff", "latest", "--statement", "x", code=4)
    (given,) = relevo("signoff", "latest", "--as", "Mira", "--statement", "accepted", "--json")
    assert (given["subject"], given["name"]) == (record.run_id, "Mira")
    assert given["seen"] == hashlib.sha256(canonical(record.document())).hexdigest()
    relevo("signoff", "runbooks", "--as", "Mira", "--statement", "read")
    assert [one["subject"] for one in relevo("signoff", "--json")] == [record.run_id, "runbooks"]
