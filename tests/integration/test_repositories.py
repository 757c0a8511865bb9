"""A repository at each site: the lost site takes its store with it, and the other one is enough."""

from __future__ import annotations

import json
import time

import pytest

from .conftest import DRILL, Bench
from .test_failover import assert_served_by_b, load
from .test_restore import inventory_saying

SEGMENT = "select pg_walfile_name(pg_switch_wal())"
ARCHIVED = "select coalesce(last_archived_wal, '') from pg_stat_archiver"


def pgbackrest(bench: Bench, host: str, *words: str, check: bool = True) -> str:
    command = ["timeout", "50", "pgbackrest", "--stanza=minimarket", "--log-level-file=off", *words]
    return bench.inside(host, "runuser", "-u", "postgres", "--", *command, check=check)


def held(bench: Bench, repository: int) -> list[str]:
    """Labels of the backups in one repository, as the new primary sees them."""
    info = json.loads(pgbackrest(bench, "b-db1", f"--repo={repository}", "info", "--output=json"))
    return [backup["label"] for backup in info[0]["backup"]]


def archives(bench: Bench, host: str) -> None:
    """A segment that is finished now is archived, and nothing waits behind it."""
    bench.sql(host, "select pg_logical_emit_message(true, 'test', 'x')")
    segment = bench.sql(host, SEGMENT)
    bench.wait(f"{segment} is archived", lambda: bench.sql(host, ARCHIVED)[:24] >= segment, 40)


@pytest.mark.full
def test_the_lost_site_takes_its_store_with_it_and_the_other_repository_is_enough(bench, tmp_path):
    load(bench, 50)
    bench.verb("power-off", "a-store1")
    bench.verb("power-off", "a-db1")

    run = bench.run("failover", **DRILL, dr_accept_loss_seconds="5")
    assert run.code == 0, run.output[-4000:]
    record = run.record
    assert record["verdict"] == "passed", record["verdict_reasons"]
    assert 0 < record["measures"]["outage_seconds"] < 120
    assert record["measures"]["rpo_seconds"] <= 5
    assert record["measures"]["repositories"] == {"in_use": [1], "left_out": [2]}
    findings = [gate for gate in record["gates"] if gate["id"] == "G23"]
    assert {(gate["phase"], gate["verdict"], gate["required"]) for gate in findings} == {
        ("PREFLIGHT", "fail", False),
        ("PROTECT", "fail", False),
    }
    assert_served_by_b(bench)

    # Archiving goes on alone, and backups too.
    archives(bench, "b-db1")
    bench.inside("b-db1", "systemctl", "start", "relevo-backup-hourly-full.service")
    assert len(held(bench, 1)) >= 2
    status = bench.relevo("status", "minimarket", "-i", str(bench.inventory)).stdout
    assert "repository 2 is left out since" in " ".join(status.split())

    # What is there is enough: a restore from it holds every entry that was there before its last segment.
    entries = bench.sql("b-db1", "select count(*) from shop.ledger_entries")
    archives(bench, "b-db1")
    sql = "select count(*) >= {} from shop.ledger_entries"
    there = {"name": "every entry of before", "sql": sql.format(entries), "expect": "t"}
    inventory = inventory_saying(tmp_path, dr_backup_prove_invariants=[there])
    proof = bench.with_inventory(inventory).run("restore_test")
    (test,) = proof.record["measures"]["restore_tests"]
    assert (test["repository"], test["timeline"]) == (1, 2)
    # What the failover lost, the witness still knows.
    missing = ["LEDGER"] if record["measures"]["ledger"]["lost"] else []
    assert [rung["id"] for rung in test["rungs"] if rung["verdict"] != "pass"] == missing, test
    assert (proof.code == 0) == (not missing), proof.output[-4000:]
    assert 0 <= test["rpo_seconds"] < 120


@pytest.mark.full
def test_a_dead_store_stops_the_archive_but_not_the_failover_of_a_living_primary(bench):
    bench.verb("power-off", "a-store1")
    segment = bench.sql("a-db1", SEGMENT)
    time.sleep(15)
    # pgBackRest itself archives nothing any more, not even into the store that is alive: this is what is to be survived.
    assert bench.sql("a-db1", ARCHIVED)[:24] < segment
    began = time.monotonic()
    run = bench.run("failover", **DRILL)
    assert run.code == 0, run.output[-4000:]
    assert time.monotonic() - began < 120
    assert run.record["verdict"] == "passed", run.record["verdict_reasons"]
    assert run.record["measures"]["ledger"]["lost"] == 0
    assert_served_by_b(bench)
    archives(bench, "b-db1")

    # The store and the site are back: protect configures it again and begins it anew, for it misses segments.
    bench.verb("power-on", "a-store1")
    unfence = "rm /var/lib/relevo/fence.json; systemctl unmask $(basename /etc/systemd/system/postgresql@*); cd /var/lib/postgresql/*; mv main old"
    bench.inside("a-db1", "bash", "-ec", unfence)
    before = json.loads(pgbackrest(bench, "a-db1", "--repo=2", "info", "--output=json"))[0]["backup"]
    protected = bench.run("protect", dr_allow_restart="true")
    assert protected.code == 0, protected.output[-4000:]
    assert len(held(bench, 2)) == len(before) + 1, "no backup that begins after the hole"
    assert "left-out" not in bench.inside("b-db1", "ls", "/etc/relevo")
    archives(bench, "b-db1")
    segment = bench.sql("b-db1", ARCHIVED)[:24]
    pgbackrest(bench, "b-db1", "--repo=2", "--no-archive-async", "archive-get", segment, "/var/tmp/segment")
