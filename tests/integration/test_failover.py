"""The main job: the primary's host dies under load, the service moves, and the record says what it cost."""

from __future__ import annotations

import json
import re
import time

import pytest

from .conftest import DRILL, SNAPSHOT, Bench, Run

PHASES = {"PREFLIGHT", "LOCK", "QUIESCE", "FENCE", "DRAIN", "PROMOTE", "CUTOVER", "PROTECT"}


def load(bench: Bench, transactions: int) -> None:
    """The fast pace of a drill, until that many more transactions were acknowledged."""
    pace = '{"ledger_interval_seconds": 0.02, "observer_interval_seconds": 0.2, "until": 4102444800}'
    for host in ("wit1", "b-app1"):
        bench.inside(host, "sh", "-c", f"mkdir -p /run/relevo-ledger && echo '{pace}' > /run/relevo-ledger/pace.json")
    before = bench.acknowledged()
    bench.wait(f"{transactions} acknowledged", lambda: bench.acknowledged() >= before + transactions, 120)


def assert_served_by_b(bench: Bench) -> None:
    """One primary, on the other side, and the application writes through it."""
    assert bench.writable("b-db1")
    health = bench.health("b-app1")
    assert health["server"] == "b-db1"
    assert health["in_recovery"] is False
    assert bench.inside("b-app1", "systemctl", "is-enabled", "minimarket", check=False) == "enabled"


def assert_not_writable(bench: Bench, host: str) -> None:
    """Neither now, nor when somebody starts PostgreSQL with bare hands."""
    assert not bench.writable(host)
    control = "cd / && runuser -u postgres -- sh -c '/usr/lib/postgresql/*/bin/pg_ctl -D /etc/postgresql/*/main %s'"
    bench.inside(host, "sh", "-c", control % "-l /var/log/postgresql/bare-hands.log -W start")
    bench.wait("it runs", lambda: "server is running" in bench.inside(host, "sh", "-c", control % "status", check=False), 30)
    bench.wait("it answers", lambda: bench.sql(host, "select 1", "postgres", check=False) == "1", 60)
    assert bench.sql(host, "select pg_is_in_recovery()", "postgres") == "t"
    bench.inside(host, "sh", "-c", control % "-m fast stop")


@pytest.mark.smoke
def test_a_killed_primary_fails_over_under_load_and_the_record_accounts_for_everything(bench):
    load(bench, 200)
    sent_before = bench.acknowledged()
    bench.verb("power-off", "a-db1")

    run = bench.run("failover", **DRILL, dr_accept_loss_seconds="5")

    assert run.code == 0, run.output[-4000:]
    record = run.record
    assert record["verdict"] == "passed"
    assert {phase["name"] for phase in record["phases"]} == PHASES
    assert all(phase["started_at"] <= phase["ended_at"] and phase["outcome"] == "ok" for phase in record["phases"])
    assert record["fence"]["class"] == "powered_off"
    measures = record["measures"]
    assert 0 < measures["outage_seconds"] == measures["rto_seconds"] < 120
    assert measures["t0_source"] == "ledger"
    assert measures["writable_overlap_seconds"] == 0
    ledger = measures["ledger"]
    assert ledger["acknowledged"] >= sent_before
    assert ledger["present"] + ledger["lost"] == ledger["acknowledged"]
    assert len(ledger["lost_numbers"]) == ledger["lost"]
    assert measures["rpo_seconds"] <= 5
    assert record["objectives_met"] is True
    assert_served_by_b(bench)

    # The dead host comes back: its boot guard knows better than its data.
    bench.verb("power-on", "a-db1")
    bench.wait(
        "the guard has decided",
        lambda: bench.inside("a-db1", "systemctl", "is-system-running", check=False) in ("running", "degraded"),
    )
    assert_not_writable(bench, "a-db1")

    # A finished failover has nothing to do, and says so.
    again = bench.run("failover", **DRILL)
    assert again.code == 0, again.output[-4000:]
    assert "nothing to do" in again.output
    assert "changed=0" in again.output
    assert not [line for line in again.output.splitlines() if " changed=" in line and "changed=0 " not in line]
    assert_served_by_b(bench)


def test_a_living_primary_is_stopped_cleanly_and_nothing_is_lost(bench):
    load(bench, 50)
    run = bench.run("failover", **DRILL)
    assert run.code == 0, run.output[-4000:]
    record = run.record
    assert record["verdict"] == "passed"
    assert record["fence"]["class"] == "stopped"
    assert record["measures"]["ledger"]["lost"] == 0
    assert record["measures"]["rpo_seconds"] == 0
    assert record["measures"]["loss_bytes"] == 0
    assert record["measures"]["writable_overlap_seconds"] == 0
    assert_served_by_b(bench)
    assert_not_writable(bench, "a-db1")
    bench.verb("power-off", "a-db1")
    bench.verb("power-on", "a-db1")
    assert_not_writable(bench, "a-db1")


def test_database_scope_points_the_same_application_at_the_other_database(bench):
    run = bench.run("failover", **{**DRILL, "dr_scope": "database"})
    assert run.code == 0, run.output[-4000:]
    assert bench.health("a-app1")["server"] == "b-db1"
    assert bench.inside("a-app1", "systemctl", "is-enabled", "minimarket") == "enabled"
    assert bench.health("b-app1") == {}
    assert_not_writable(bench, "a-db1")


def shape(record: dict) -> dict:
    """A record without what differs from run to run: identities, times, positions and counts."""
    return {
        "keys": sorted(record),
        **{
            name: record[name]
            for name in ("runbook", "cluster", "mode", "scope", "verdict", "verdict_reasons", "objectives_met", "operator")
        },
        "phases": sorted((phase["name"], phase["host"], phase["outcome"], sorted(phase)) for phase in record["phases"]),
        "gates": sorted(
            (gate["id"], gate["phase"], gate["host"], gate["title"], gate["expected"], gate["verdict"]) for gate in record["gates"]
        ),
        "measures": sorted(record["measures"]),
        "objectives": [(one["name"], one["target"], one["verdict"]) for one in record["objectives"]],
        "fence": [
            (
                host["host"],
                host["class"],
                host["provider"],
                sorted((probe["vantage"], probe["address"], probe["method"], probe["result"]) for probe in host["probes"]),
            )
            for host in record["fence"]["hosts"]
        ],
        "versions": record["versions"],
        "digests": {name: record["digests"][name] for name in ("inventory", "commit")},
    }


def test_relevo_run_and_ansible_playbook_leave_the_same_record(bench):
    inputs = {**DRILL, "dr_accept_loss_seconds": "5"}
    bench.verb("power-off", "a-db1")
    words = [word for name, value in inputs.items() for word in ("-e", f"{name}={value}")]
    done = bench.relevo("run", "failover", "-i", "inventories/lab", *words)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    by_the_runner = bench.record("latest")
    assert by_the_runner["verdict"] == "passed"
    assert {phase["name"] for phase in by_the_runner["phases"]} == PHASES
    assert_served_by_b(bench)

    bench.verb("reset", SNAPSHOT)
    bench.wait_until_serving()
    bench.verb("power-off", "a-db1")
    run = bench.run("failover", **inputs)
    assert run.code == 0, run.output[-3000:]
    assert shape(run.record) == shape(by_the_runner)


def postgresql_on(bench: Bench, host: str) -> str:
    """Processes of PostgreSQL, stopped ones too."""
    return bench.inside(host, "ps", "-C", "postgres,postmaster", "-o", "pid,stat,args", "--no-headers", check=False)


def acknowledged_by(bench: Bench, host: str) -> set[int]:
    """Ledger entries that this database host acknowledged."""
    path = bench.lab.root(bench.lab.host("wit1")) / "var/lib/relevo-ledger/ledger.jsonl"
    entries = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return {entry["n"] for entry in entries if entry.get("outcome") == "acknowledged" and entry.get("server") == host}


def assert_nothing_outlives_the_fence(bench: Bench, run: Run) -> None:
    """Whoever thaws the old primary now finds nobody to thaw; what was inside its commit never ends it."""
    assert run.code == 0, run.output[-4000:]
    assert run.record["fence"]["class"] == "stopped"
    assert postgresql_on(bench, "a-db1") == ""
    before = acknowledged_by(bench, "a-db1")
    assert before, "the ledger never wrote through a-db1: nothing was tried here"
    bench.verb("thaw-postgresql", "a-db1")
    served = bench.acknowledged()
    bench.wait("the new side acknowledges", lambda: bench.acknowledged() > served + 2)
    assert acknowledged_by(bench, "a-db1") == before
    assert_served_by_b(bench)
    assert_not_writable(bench, "a-db1")


HANGS = {"dr_accept_loss_seconds": "5", "dr_accept_unknown": "G03", "dr_reason": "the primary hangs"}


def test_a_frozen_primary_is_stopped_although_it_answers_nobody(bench):
    load(bench, 20)
    bench.verb("freeze-postgresql", "a-db1")
    run = bench.run("failover", **DRILL, **HANGS)
    assert_nothing_outlives_the_fence(bench, run)
    fence = next(phase for phase in run.record["phases"] if phase["name"] == "FENCE")
    assert fence["duration_seconds"] < 5, "it waited for signals that a stopped process never takes"


def test_backends_that_outlive_their_postmaster_are_ended_too(bench):
    """As the kernel leaves it when it kills the largest process for its memory, under a systemd unit that is told to leave the others alone."""
    load(bench, 20)
    unit = "/etc/systemd/system/postgresql@.service.d"
    leave_alone = f"mkdir -p {unit} && printf '[Service]\\nKillMode=process\\n' > {unit}/kill.conf && systemctl daemon-reload"
    bench.inside("a-db1", "sh", "-c", leave_alone)
    bench.verb("freeze-postgresql", "a-db1")
    bench.inside("a-db1", "sh", "-c", "kill -9 $(head -1 /var/lib/postgresql/*/main/postmaster.pid)")
    time.sleep(1)
    assert "postgres:" in postgresql_on(bench, "a-db1")
    assert_nothing_outlives_the_fence(bench, bench.run("failover", **DRILL, **HANGS))


def test_a_witness_that_is_gone_can_be_accepted_by_name(bench):
    """With a living primary: its loss is zero by a clean stop, and the record says that nobody counted."""
    bench.verb("power-off", "wit1")
    refused = bench.run("failover", **DRILL)
    assert refused.record["verdict"] == "refused"
    assert "REACH on wit1" in refused.output
    run = bench.run("failover", **DRILL, dr_accept_unknown="LOSS", dr_reason="the witness is under repair")
    assert run.code == 0, run.output[-4000:]
    assert run.record["verdict"] == "partial", run.record["verdict_reasons"]
    assert {gate["verdict"] for gate in run.record["gates"] if gate["id"] == "LOSS"} == {"accepted"}
    assert_served_by_b(bench)
    assert_not_writable(bench, "a-db1")


def test_an_observer_that_is_gone_makes_the_record_poorer_and_ends_nothing(bench):
    bench.verb("power-off", "b-app1")
    run = bench.run("failover", **{**DRILL, "dr_scope": "database"})
    assert run.code == 0, run.output[-4000:]
    # The observer that is left and the proofs cover the whole time by themselves.
    assert run.record["verdict"] == "passed", run.record["verdict_reasons"]
    assert run.record["measures"]["writable_overlap_seconds"] == 0
    seen = {one["observer"]: one["overlap_seconds"] for one in run.record["measures"]["observers"]}
    assert seen == {"wit1": 0, "b-app1": None}
    assert bench.health("a-app1")["server"] == "b-db1"
    assert_not_writable(bench, "a-db1")


def test_a_receiver_that_hangs_loses_nothing(bench):
    """It looks like one that streams; what it kept from the standby comes from the archive."""
    load(bench, 20)
    bench.inside("b-db1", "bash", "-ec", "kill -STOP $(pgrep -f '[p]ostgres: .*walreceiver')")
    before = bench.acknowledged()
    bench.wait("acknowledged work that the standby lacks", lambda: bench.acknowledged() > before + 5)
    run = bench.run("failover", **DRILL)
    assert run.code == 0, run.output[-4000:]
    assert run.record["measures"]["ledger"]["lost"] == 0
    assert_served_by_b(bench)
    assert_not_writable(bench, "a-db1")


def test_commits_that_only_the_stopped_primary_has_are_counted_and_not_promoted_over(bench):
    """Cut off from the standby and from every store in the last seconds."""
    load(bench, 20)
    for other in ("b-db1", "b-store1", "a-store1"):
        bench.verb("cut", "a-db1", other)
    before = bench.acknowledged()
    bench.wait("acknowledged work that the standby lacks", lambda: bench.acknowledged() > before + 5)
    run = bench.run("failover", **DRILL)
    assert run.code != 0, run.output[-3000:]
    # In the old primary's WAL, where it could still shut down in time; by number in the ledger, where it could not.
    assert re.search(r"holds \d+ commits|\d+ acknowledged ledger transactions .* are missing", run.output)
    assert not bench.writable("b-db1")
    assert_not_writable(bench, "a-db1")
    # The number was shown; a bound that holds it lets the next run go on.
    again = bench.run("failover", **DRILL, dr_accept_loss_seconds="300")
    assert again.code == 0, again.output[-3000:]
    assert again.record["measures"]["ledger"]["lost"] >= 5
    assert bench.writable("b-db1")
