"""No standby can be promoted, or everything on it is what nobody wants: a backup is restored at the other site and promoted like a standby."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import DRILL, SNAPSHOT, Bench
from .test_failback import bare_hands
from .test_failover import PHASES, assert_not_writable, assert_served_by_b, load
from .test_kill_sweep import kill_when
from .test_refusals import refused
from .test_restore import archived, enter

RESTORED = PHASES | {"RESTORE", "FENCE 2"}
STOP = "systemctl stop 'postgresql@*-main.service'"
SETTINGS = "ls /etc/postgresql/*/main/conf.d/99-relevo-restore.conf"
BOUND = {"dr_accept_loss_seconds": "300"}
NOW = """select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


@pytest.fixture
def breakable(bench: Bench) -> Iterator[Bench]:
    """A laboratory that the next test does not inherit: a standby that is gone, two histories."""
    yield bench
    bench.verb("heal-all")
    bench.verb("reset", SNAPSHOT)


def lose_the_standby(bench: Bench) -> None:
    bench.inside("b-db1", "sh", "-c", f"{STOP} && rm -rf /var/lib/postgresql/*/main")


def lose_both(bench: Bench) -> None:
    """Nothing is left of the cluster but its backups and its archive."""
    load(bench, 20)
    archived(bench)
    lose_the_standby(bench)
    bench.verb("power-off", "a-db1")


def mark(bench: Bench) -> dict[str, Any]:
    """What the target host says of its restore, read from its disk."""
    path = bench.lab.root(bench.lab.host("b-db1")) / "var/lib/relevo/standby-restore.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def assert_restored(bench: Bench, record: dict[str, Any]) -> dict[str, Any]:
    """Promoted like a standby, accounted for, and nothing of the restore is left. Returns what was measured of it."""
    assert record["verdict"] == "passed", record["verdict_reasons"]
    assert {phase["name"] for phase in record["phases"]} == RESTORED
    measures = record["measures"]
    assert measures["path"] == "restore"
    assert measures["restore"]["bytes"] > 0
    assert measures["restore"]["evidence"]
    assert measures["writable_overlap_seconds"] == 0
    ledger = measures["ledger"]
    assert ledger["present"] + ledger["lost"] == ledger["acknowledged"]
    assert len(ledger["lost_numbers"]) == ledger["lost"]
    assert measures["rpo_seconds"] is not None
    assert_served_by_b(bench)
    assert bench.inside("b-db1", "sh", "-c", SETTINGS, check=False) == "", "parameters of the recovery outlive it"
    assert bench.sql("b-db1", "select setting <> '' from pg_settings where name = 'archive_command'", "postgres") == "t"
    assert mark(bench)["state"] == "promoted"
    restored: dict[str, Any] = measures["restore"]
    return restored


def way_out(record: dict[str, Any]) -> str:
    [gate] = [gate for gate in record["gates"] if gate["id"] == "WAYOUT"]
    assert gate["host"] == "b-db1"
    return str(gate["observed"])


@pytest.mark.full
def test_without_a_standby_a_backup_is_restored_and_promoted(breakable):
    bench = breakable
    load(bench, 50)
    archived(bench)
    load(bench, 20)
    sent_before = bench.acknowledged()
    lose_the_standby(bench)
    bench.verb("power-off", "a-db1")

    run = bench.run("failover", **DRILL, dr_accept_loss_seconds="180")

    assert run.code == 0, run.output[-4000:]
    restored = assert_restored(bench, run.record)
    assert "Chosen: restore, for no standby can be promoted" in way_out(run.record)
    assert "bytes/s" in way_out(run.record)
    assert (restored["delta"], restored["bytes_per_second"] > 0) == (False, True)
    assert restored["salvage"] is None
    assert run.record["measures"]["ledger"]["acknowledged"] >= sent_before
    assert run.record["measures"]["rpo_seconds"] <= 180
    assert run.record["fence"]["class"] == "powered_off"

    again = bench.run("failover", **DRILL)
    assert again.code == 0, again.output[-4000:]
    assert "nothing to do" in again.output

    bench.verb("power-on", "a-db1")
    bench.wait(
        "the guard has decided",
        lambda: bench.inside("a-db1", "systemctl", "is-system-running", check=False) in ("running", "degraded"),
    )
    assert_not_writable(bench, "a-db1")


@pytest.mark.full
def test_a_standby_that_is_only_stopped_is_not_restored_over_unless_that_is_said(breakable):
    breakable.inside("b-db1", "sh", "-c", STOP)
    refused(breakable, "G08 on b-db1.*start PostgreSQL on b-db1.*dr_path=restore", **DRILL, dr_accept_loss_seconds="180")


def assert_not_started(bench: Bench, host: str) -> None:
    """What this host has lies behind the point that was restored to, in another history: PostgreSQL ends by itself when it finds no checkpoint there."""
    assert not bench.writable(host)
    bare_hands(bench, host, "-l /var/log/postgresql/bare-hands.log -W start")
    log = ["cat", "/var/log/postgresql/bare-hands.log"]
    bench.wait("it gives up", lambda: "startup process failure" in bench.inside(host, *log, check=False), 60)
    bench.wait("it is gone", lambda: bench.inside(host, "pgrep", "-x", "postgres", check=False) == "", 30)
    assert not bench.writable(host)


@pytest.mark.full
def test_a_dropped_table_comes_back_with_a_restore_to_before_it(bench):
    """The standby dropped it too. What is lost by wish is named first, and nothing is touched until it is accepted."""
    bench.sql("a-db1", "create table shop.precious as select 42 as answer")
    load(bench, 20)
    time.sleep(1.1)
    before = bench.sql("a-db1", NOW)
    time.sleep(1.1)
    bench.sql("a-db1", "drop table shop.precious")
    load(bench, 20)
    archived(bench)
    asked = {**DRILL, "dr_path": "restore", "dr_restore_target_time": before}

    record = refused(bench, "LOSS on b-db1.*to time .*about [0-9.]+ s", **asked)
    [loss] = [gate for gate in record["gates"] if gate["id"] == "LOSS" and "restore to" in gate["title"]]
    [bound] = re.findall(r"dr_accept_loss_seconds=(\d+)", loss["next_action"])
    assert "promote b-db1: " in way_out(record)
    assert bench.writable("a-db1")

    run = bench.run("failover", **asked, dr_accept_loss_seconds=str(int(bound) + 120))

    assert run.code == 0, run.output[-4000:]
    restored = assert_restored(bench, run.record)
    assert bench.sql("b-db1", "select answer from shop.precious") == "42"
    assert run.record["measures"]["ledger"]["lost"] > 0
    assert restored["delta"] is True
    assert restored["salvage"]["digest"], "what the standby had and no archive has is sealed"
    assert "the first one left out" in restored["evidence"]
    assert_not_started(bench, "a-db1")

    # The same words once more are done; other words would restore over a primary.
    again = bench.run("failover", **asked)
    assert "nothing to do" in again.output, again.output[-3000:]
    other = {**asked, "dr_restore_target_time": bench.sql("b-db1", NOW)}
    assert "it is the primary" in bench.run("failover", **other).output


@pytest.mark.full
@pytest.mark.parametrize("moment", ["restoring", "replaying"])
def test_a_controller_that_dies_while_it_restores_is_gone_on_for(breakable, moment):
    """The trap: what it left is in recovery like any standby, and must not be promoted as one."""
    bench = breakable
    lose_both(bench)
    killed = kill_when(bench, lambda: bench.begun("b-db1", "RESTORE") and mark(bench).get("state") == moment, 120, **BOUND)
    assert not bench.writable("b-db1")
    assert bench.record(killed)["verdict"] == "interrupted"

    run = bench.run("failover", **DRILL, **BOUND)

    assert run.code == 0, run.output[-4000:]
    assert run.record["parent_run_id"] == killed
    assert f"Chosen: restore, for run {killed} began it" in way_out(run.record)
    assert_restored(bench, run.record)
    assert [host for host in ("a-db1", "b-db1", "a-app1", "b-app1") if bench.lock_of(host)] == []


@pytest.mark.full
def test_a_server_that_a_dead_run_restored_is_no_standby(breakable):
    """Not for a promotion by name, not for a check; and it goes on, not back, when somebody only asks again."""
    bench = breakable
    lose_both(bench)
    kill_when(bench, lambda: mark(bench).get("state") == "reached", 120, **BOUND)
    run = bench.run("failover", **DRILL, **BOUND, dr_path="promote")
    assert run.code != 0
    assert "is not promoted" in run.output
    done = bench.relevo("status", "minimarket", "-i", str(bench.inventory), "--json")
    assert any("holds a restore of run" in said for said in json.loads(done.stdout)["unsafe"])
    run = bench.run("failover", **DRILL, **BOUND)
    assert run.code == 0, run.output[-4000:]
    assert_restored(bench, run.record)


@pytest.mark.full
def test_words_that_lead_nowhere_are_refused_with_what_can_be_restored(bench):
    window = r"Restorable: repository \d: timeline 1 from"
    refused(
        bench,
        "dr_path is promote, beside dr_restore_target_time",
        **DRILL,
        dr_path="promote",
        dr_restore_target_time="2026-11-24T03:12:00Z",
    )
    refused(bench, rf"is in the future.*{window}", **DRILL, dr_restore_target_time="2999-01-01T00:00:00Z")
    refused(bench, rf"has no timeline 7.*{window}", **DRILL, dr_restore_target_lsn="0/3000000", dr_restore_timeline="7")
    refused(bench, rf"has no offset.*{window}", **DRILL, dr_restore_target_time="2026-11-24T03:12:00")
    refused(bench, "only a restore test", **DRILL, dr_restore_set="all")


@pytest.mark.full
def test_a_timeline_that_was_left_must_be_named_here_too(breakable):
    """The standby was promoted by hand while the primary went on: two histories of the same time."""
    bench = breakable
    archived(bench)
    bench.verb("cut", "a-db1", "b-db1")
    bench.sql("b-db1", "select pg_promote()")
    bench.wait("b-db1 is writable", lambda: bench.writable("b-db1"))
    time.sleep(1.1)
    lsn = bench.sql("a-db1", "select pg_current_wal_insert_lsn()")
    enter(bench, "left-1")
    archived(bench)
    bench.sql("b-db1", "insert into shop.ledger_entries values ('newer-1')")
    bench.sql("b-db1", "select pg_switch_wal()")
    segments = "find /srv/store -name '000000020*-*'"
    bench.wait("a segment of timeline 2 is archived", lambda: bench.inside("b-store1", "sh", "-c", segments) != "")
    bench.verb("heal-all")
    lose_the_standby(bench)
    run = bench.run("failover", **DRILL, dr_restore_target_lsn=lsn)
    assert run.record["verdict"] == "refused"
    assert re.search(r"is also on timeline 1, which was left at.*dr_restore_timeline=1.*Restorable: repository", run.output), (
        run.output[-3000:]
    )
