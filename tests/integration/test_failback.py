"""The old primary comes back: what only it had is sealed first, and then it follows."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import time

import pytest

from .conftest import DRILL, Bench, Run
from .test_failover import load
from .test_restore import archived
from .test_switchover import assert_passed, assert_serves, to, unchanged, when

PHASES = {"PREFLIGHT", "LOCK", "FENCE", "SALVAGE", "REBUILD", "FOLLOW"}
BACK = {"dr_target_site": "a", "dr_confirm": "failback minimarket to a"}
SALVAGE = "/var/lib/relevo-salvage"


def power_on(bench: Bench, host: str) -> None:
    bench.verb("power-on", host)
    bench.wait(
        "the guard has decided",
        lambda: bench.inside(host, "systemctl", "is-system-running", check=False) in ("running", "degraded"),
    )


def assert_back(bench: Bench, run: Run, method: str | None = None) -> None:
    assert run.code == 0, run.output[-4000:]
    record = run.record
    assert record["verdict"] == "passed", record["verdict_reasons"]
    assert {phase["name"] for phase in record["phases"]} == PHASES
    assert record["measures"]["time_to_reprotect_seconds"] > 0
    if method:
        assert record["measures"]["rebuild"]["a-db1"]["method"] == method
    kept = record["measures"]["salvage"]["a-db1"]
    assert (
        bench.inside("a-db1", "sh", "-c", f"cd {kept['directory']} && sha256sum --quiet -c SHA256SUMS && stat -c '%a %U' .")
        == "700 root"
    )
    assert bench.inside("a-db1", "sha256sum", f"{kept['directory']}/manifest.json").split()[0] == kept["digest"]
    assert_serves(bench, "b")
    again = bench.run("failback", **BACK)
    assert again.code == 0, again.output[-3000:]
    assert "nothing to do" in again.output
    assert unchanged(again)


def sealed_references(bench: Bench, directory: str) -> set[str]:
    """Read once more, by other code: the plain bytes of the sealed segments."""
    place = bench.lab.root(bench.lab.host("a-db1")) / directory.lstrip("/")
    found: set[str] = set()
    for path in sorted(place.glob("0000000*.gz")):
        if ".history" not in path.name:
            plain = gzip.decompress(path.read_bytes())
            found |= {match.decode() for match in re.findall(rb"relevo-[0-9a-f]{8}-\d+", plain)}
    return found


def moment_of(bench: Bench, primary: str) -> str:
    """A time with committed work on both sides of it, and all of it archived."""
    load(bench, 20)
    time.sleep(1.1)
    at = bench.sql(primary, """select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')""")
    time.sleep(1.1)
    load(bench, 20)
    archived(bench, primary)
    return at


def assert_restorable(bench: Bench, at: str) -> None:
    run = bench.run("restore_test", dr_restore_target_time=at)
    assert run.code == 0, run.output[-4000:]
    [test] = run.record["measures"]["restore_tests"]
    assert {rung["id"]: rung["verdict"] for rung in test["rungs"]}["R5"] == "pass", test


def test_there_killed_and_home_again(bench):
    """Switchover a to b to a to b under load; the primary is killed, a failover to a, failback of b, and home: nothing planned loses anything.

    A moment before and one after each change of primary can be restored at the end.
    """
    moments = [moment_of(bench, "a-db1")]
    for site in ("b", "a", "b"):
        assert_passed(bench.run("switchover", **to(site)))
        assert_serves(bench, site)
        moments.append(moment_of(bench, f"{site}-db1"))
    bench.verb("power-off", "b-db1")
    over = bench.run(
        "failover", **{**DRILL, "dr_target_site": "a", "dr_confirm": "drill production minimarket to a"}, dr_accept_loss_seconds="5"
    )
    assert over.code == 0, over.output[-4000:]
    moments.append(moment_of(bench, "a-db1"))
    power_on(bench, "b-db1")
    assert not bench.writable("b-db1")
    back = bench.run("failback", dr_target_site="b", dr_confirm="failback minimarket to b")
    assert back.code == 0, back.output[-4000:]
    assert back.record["verdict"] == "passed", back.record["verdict_reasons"]
    assert_serves(bench, "a")
    assert_passed(bench.run("switchover", **to("b")))
    assert_serves(bench, "b")
    moments.append(moment_of(bench, "b-db1"))
    assert unchanged(bench.run("switchover", **to("b")))
    for at in moments:
        assert_restorable(bench, at)


def lose(bench: Bench, transactions: int = 10) -> list[int]:
    """Writes that are acknowledged on a primary which is cut off from its standby and from every store; their numbers."""
    load(bench, 20)
    for other in ("b-db1", "b-store1", "a-store1"):
        bench.verb("cut", "a-db1", other)
    before = bench.acknowledged()
    bench.wait("acknowledged work that the standby lacks", lambda: bench.acknowledged() > before + transactions)
    refused = bench.run("failover", **DRILL)
    assert refused.code != 0
    assert re.search(r"holds \d+ commits|\d+ acknowledged ledger transactions .* are missing", refused.output)
    assert not bench.writable("b-db1")
    accepted = bench.run("failover", **DRILL, dr_accept_loss_seconds="300")
    assert accepted.code == 0, accepted.output[-3000:]
    bench.verb("heal-all")
    lost: list[int] = accepted.record["measures"]["ledger"]["lost_numbers"]
    assert len(lost) >= transactions
    return lost


@pytest.mark.full
def test_lost_transactions_are_salvaged_and_sealed_before_the_rewind(bench):
    lost = lose(bench)
    run = bench.run("failback", **BACK)
    assert_back(bench, run, "rewind")
    measures = run.record["measures"]
    assert measures["salvaged"] == {"lost_numbers": lost, "not_found_numbers": []}
    kept = measures["salvage"]["a-db1"]
    assert kept["committed"] >= len(lost)
    assert kept["relations"]["shop.ledger_entries"]["inserted"] >= len(lost)
    numbers = {int(reference.rpartition("-")[2]) for reference in sealed_references(bench, kept["directory"])}
    assert set(lost) <= numbers
    place = bench.lab.root(bench.lab.host("a-db1")) / kept["directory"].lstrip("/")
    listed = [json.loads(line) for line in gzip.decompress((place / "transactions.jsonl.gz").read_bytes()).splitlines()]
    assert len(listed) == kept["committed"]
    assert_passed(bench.run("switchover", **to("a")))
    assert_serves(bench, "a")


@pytest.mark.parametrize("method", ["delta", "full"])
def test_the_operator_may_choose_the_way(bench, method):
    lose(bench)
    assert_back(bench, bench.run("failback", **BACK, dr_failback_method=method), method)


def test_without_the_grant_it_comes_back_another_way(bench):
    lose(bench)
    bench.sql(
        "b-db1", "revoke execute on function pg_read_binary_file(text, bigint, bigint, boolean) from relevo_rewind", "postgres"
    )
    run = bench.run("failback", **BACK)
    assert_back(bench, run)
    rebuild = run.record["measures"]["rebuild"]["a-db1"]
    assert rebuild["method"] != "rewind"
    assert "permission denied" in rebuild["ways"]["rewind"]["obstacle"]


def test_missing_wal_stops_it_before_anything_is_rewound(bench):
    lose(bench)
    wal = "/var/lib/postgresql/*/main/pg_wal"
    # The segment of the old primary's last checkpoint: what only it has ends there.
    last = bench.inside(
        "a-db1",
        "sh",
        "-c",
        "/usr/lib/postgresql/*/bin/pg_controldata /var/lib/postgresql/*/main | sed -n 's/.*REDO WAL file: *//p'",
    )
    bench.inside("a-db1", "sh", "-c", f"rm {wal}/{last}")
    control = bench.inside("a-db1", "sh", "-c", "sha256sum /var/lib/postgresql/*/main/global/pg_control")
    run = bench.run("failback", **BACK)
    assert run.code != 0, run.output[-3000:]
    assert "G21" in run.output
    assert bench.inside("a-db1", "sh", "-c", "sha256sum /var/lib/postgresql/*/main/global/pg_control") == control
    accepted = bench.run("failback", **BACK, dr_accept_unknown="G21", dr_reason="that WAL is gone for good")
    assert accepted.record["verdict"] == "partial", accepted.output[-3000:]
    assert_serves(bench, "b")


HOSTS = {"FENCE": "a-db1", "SALVAGE": "a-db1", "REBUILD": "a-db1", "FOLLOW": "a-db1"}


@pytest.mark.parametrize("phase", sorted(HOSTS))
def test_a_killed_failback_is_gone_on_with(bench, phase):
    lost = lose(bench)
    # Its own mark of the failover is older: only what comes now counts.
    before = len(bench.journal("a-db1"))
    process = bench.start("failback", **BACK)
    when(process, lambda: any(entry["phase"] == phase for entry in bench.journal("a-db1")[before:]))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    assert not bench.writable("a-db1")
    assert bench.record("latest")["verdict"] == "interrupted"
    run = bench.run("failback", **BACK)
    assert run.code == 0, run.output[-4000:]
    assert_serves(bench, "b")
    kept = bench.inside("a-db1", "sh", "-c", f'cat {SALVAGE}/*/manifest.json | grep -c \'"digest\\|"run_id"\'', check=False)
    assert kept
    assert unchanged(bench.run("failback", **BACK))
    references = set()
    for directory in bench.inside("a-db1", "sh", "-c", f"ls -d {SALVAGE}/*").split():
        references |= sealed_references(bench, directory)
    assert set(lost) <= {int(reference.rpartition("-")[2]) for reference in references}


def test_a_half_rewound_directory_is_not_started_and_another_way_is_taken(bench):
    """As a rewind leaves it that was ended half way: the mark says so."""
    lose(bench)
    mark = {"run_id": "dead", "data_directory": "/var/lib/postgresql/17/main", "at": "", "restored": False, "method": "rewind"}
    data = bench.inside("a-db1", "sh", "-c", "ls -d /var/lib/postgresql/*/main")
    mark["data_directory"] = data
    bench.inside("a-db1", "sh", "-c", "cat > /var/lib/relevo/standby-build.json", text=json.dumps(mark))
    run = bench.run("failback", **BACK)
    assert_back(bench, run)
    assert run.record["measures"]["rebuild"]["a-db1"]["method"] in ("delta", "full")
