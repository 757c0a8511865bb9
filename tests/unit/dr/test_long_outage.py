"""Hours after the failure the witness still knows what it last saw of the old primary: the logs hold thousands of failures by then."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import ledger, ledger_tail
from ansible_collections.relevo.dr.plugins.modules import witness_info, witness_statement

NOW = datetime.now(UTC)
OUTAGE_SECONDS = 20_000
DATABASES = [
    {"host": "a-db1", "name": "a-db1.example.org", "reachable": False},
    {"host": "b-db1", "name": "b-db1.example.org", "reachable": True},
]


def at(seconds_ago: float) -> str:
    return (NOW - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def attempt(number: int, outcome: str, ago: float) -> list[dict]:
    times = {"at": at(ago), "mono": 1e6 - ago}
    intent = {"kind": "intent", "n": number, "reference": f"relevo-1-{number}", **times}
    return [intent, {"kind": "outcome", "n": number, "outcome": outcome, "error": "connection refused " * 5, **times}]


@pytest.fixture
def ledger_log(tmp_path):
    lines = [{"kind": "start", "prefix": "relevo-1", "boot_id": "boot", "at": at(OUTAGE_SECONDS + 100), "mono": 0.0}]
    for number in range(100):
        lines += attempt(number, "acknowledged", OUTAGE_SECONDS + 100 - number)
    for number in range(100, OUTAGE_SECONDS):
        lines += attempt(number, "failed", OUTAGE_SECONDS - number)
    path = tmp_path / "ledger.jsonl"
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    return str(path)


def test_the_last_acknowledged_write_is_found_however_long_ago_it_was(ledger_log):
    found = witness_info.last_acknowledgement(ledger_log)
    assert found["last_number"] == 99
    assert found["last_acknowledged_at"] == at(OUTAGE_SECONDS + 1)
    # Both ages are of now, whenever that is; between the two lies the outage.
    assert found["last_acknowledged_age_seconds"] - found["last_attempt_age_seconds"] == pytest.approx(OUTAGE_SECONDS, abs=30)


def test_the_tail_that_the_standby_is_compared_with_holds_acknowledged_writes(ledger_log):
    acknowledged = ledger.acknowledged(ledger_tail.newest(ledger_log, 2000))
    assert [entry.reference for entry in acknowledged] == [f"relevo-1-{number}" for number in range(100)]


def test_what_an_earlier_failover_lost_is_not_stated_again(ledger_log, monkeypatch):
    # However long the tests before this one took.
    monkeypatch.setattr(witness_statement.clock, "utc_now", lambda: at(0))
    promoted = at(OUTAGE_SECONDS + 50)
    stated = witness_statement.stated(ledger_log, 2000, promoted, 60)
    assert [entry["n"] for entry in stated] == list(range(50, 100))
    assert len(witness_statement.stated(ledger_log, 2000, "", 60)) == 100
    assert witness_statement.stated(ledger_log, 2000, at(0), 60) is None


def test_the_loss_of_a_primary_that_was_cut_off_for_long_is_stated_whole(tmp_path, monkeypatch):
    """It went on alone, with more acknowledged than a tail has by itself: without the rest nobody could say how much is lost."""
    monkeypatch.setattr(witness_statement.clock, "utc_now", lambda: at(0))
    lines = [line for number in range(5000) for line in attempt(number, "acknowledged", 5000 - number)]
    path = tmp_path / "ledger.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def numbers(back_to):
        return [entry["n"] for entry in witness_statement.stated(str(path), 2000, "", 60, back_to)]

    assert numbers("") == list(range(3000, 5000))
    assert numbers(at(4000)) == list(range(940, 5000))
    assert numbers(at(1)) == numbers("")
    assert numbers(at(100_000)) == list(range(5000))


def test_the_last_accepted_write_on_the_old_primary_is_found_however_long_ago_it_was(tmp_path):
    lines = [
        {"at": at(OUTAGE_SECONDS), "address": "a-db1.example.org", "outcome": "accepted", "system_identifier": "7", "timeline": 3}
    ]
    for ago in range(OUTAGE_SECONDS - 1, 0, -1):
        lines.append({"at": at(ago), "address": "a-db1.example.org", "outcome": "unreachable", "error": "timed out"})
        lines.append({"at": at(ago), "address": "b-db1.example.org", "outcome": "read_only", "error": None})
    path = tmp_path / "observer.jsonl"
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    found = witness_info.last_accepted(str(path), "wit1", DATABASES)
    assert set(found) == {"a-db1"}
    assert (found["a-db1"]["system_identifier"], found["a-db1"]["timeline"]) == ("7", 3)


def test_a_host_that_died_before_it_said_who_it_is_is_known_by_an_older_write(tmp_path):
    about = {"system_identifier": "7", "timeline": 3, "flush_lsn": "0/5000000"}
    nobody = dict.fromkeys(about)
    lines = [
        {"at": at(3), "address": "a-db1.example.org", "outcome": "accepted", **about},
        {"at": at(2), "address": "a-db1.example.org", "outcome": "accepted", **nobody},
        {"at": at(1), "address": "a-db1.example.org", "outcome": "unreachable", **nobody},
    ]
    path = tmp_path / "observer.jsonl"
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    found = witness_info.last_accepted(str(path), "wit1", DATABASES)["a-db1"]
    assert found["at"] == at(2)
    assert {name: found[name] for name in about} == about
    path.write_text(json.dumps(lines[1], separators=(",", ":")) + "\n")
    assert witness_info.last_accepted(str(path), "wit1", DATABASES)["a-db1"]["flush_lsn"] is None


def test_the_lease_is_judged_by_the_last_write_that_was_sent_however_long_ago_it_was(tmp_path, monkeypatch):
    now = 100_000.0
    monkeypatch.setattr(witness_info.clock, "boottime_seconds", lambda: now)
    monkeypatch.setattr(witness_info.clock, "boot_id", lambda: "boot")

    def event(ago, outcome, **more):
        times = {"at": at(ago), "mono": now - ago, "boot_id": "boot", "sent_mono": None, "self_fence_seconds": None}
        return {**times, "address": "a-db1.example.org", "outcome": outcome, **more}

    lines = [event(9001, "accepted", sent_mono=now - 9001, self_fence_seconds=20, heard_by="x")]
    lines.append(event(9000, "unreachable", sent_mono=now - 9000))
    lines += [event(ago, "unreachable") for ago in range(8999, 0, -1)]
    path = tmp_path / "observer.jsonl"
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    assert set(witness_info.leases(str(path), DATABASES)) == {"a-db1"}
    found = witness_info.leases(str(path), DATABASES)["a-db1"]
    assert found == {"sent_age_seconds": 9000.0, "accepted_age_seconds": 9001.0, "self_fence_seconds": 20, "heard_by": "x"}


def test_a_log_of_nothing_says_nothing(tmp_path):
    assert witness_info.leases(str(tmp_path / "none.jsonl"), DATABASES)["a-db1"]["sent_age_seconds"] is None
    missing = str(tmp_path / "none.jsonl")
    assert witness_info.last_acknowledgement(missing)["last_number"] is None
    assert witness_info.last_accepted(missing, "wit1", DATABASES) == {}
