"""The controller dies in the middle of each phase; starting the same runbook again ends where a clean run ends."""

from __future__ import annotations

import json
import time
from itertools import pairwise

import pytest

from .conftest import DRILL, Bench, kill_all

# Where the journal of a phase is.
HOSTS = {
    "QUIESCE": "a-app1",
    "FENCE": "a-db1",
    "RESTORE": "b-db1",
    "DRAIN": "b-db1",
    "PROMOTE": "b-db1",
    "CUTOVER": "b-app1",
    "PROTECT": "b-db1",
}


def locked(bench: Bench) -> bool:
    return bench.lock_of("b-db1") is not None


def looked(bench: Bench) -> bool:
    """Preflight has asked a database host and made no plan yet."""
    runs = sorted((bench.store / "runs").glob("*-failover-*"))
    return bool(runs) and any((runs[-1] / "control/database").glob("*.json")) and not (runs[-1] / "control/plan.json").exists()


def kill_when(bench: Bench, condition, seconds: float = 60, **variables: str) -> str:
    """Start the failover, SIGKILL all of its controller's processes at that moment, and return the run's id."""
    before = set((bench.store / "runs").glob("*"))
    process = bench.start("failover", **DRILL, **variables)
    bench.wait("the run has begun", lambda: bool(set((bench.store / "runs").glob("*-failover-*")) - before), 30)
    limit = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, (
            "the run ended before the moment came:\n" + (process.stdout.read() if process.stdout else "")[-3000:]
        )
        assert time.monotonic() < limit, "the moment never came"
        time.sleep(0.001)
    kill_all(process.pid)
    process.communicate(timeout=30)
    return (set((bench.store / "runs").glob("*-failover-*")) - before).pop().name


def longest_hole_seconds(bench: Bench, since: str) -> float:
    """Between two acknowledged writes, as the witness's log has them: counted here once more, by other code."""
    lines = (bench.lab.root(bench.lab.host("wit1")) / "var/lib/relevo-ledger/ledger.jsonl").read_text().splitlines()
    outcomes = [json.loads(line) for line in lines if '"acknowledged"' in line and line.endswith("}")]
    times = sorted((entry["mono"], entry["at"]) for entry in outcomes)
    return max(after[0] - before[0] for before, after in pairwise(times) if after[1] >= since)


def state(bench: Bench) -> dict[str, object]:
    """What a failover leaves, without its times and names."""
    return {
        "writable": [host for host in ("a-db1", "b-db1") if bench.writable(host)],
        "timeline": bench.sql("b-db1", "select timeline_id from pg_control_checkpoint()", "postgres"),
        "fenced": bench.inside(
            "a-db1", "sh", "-c", "test -e /var/lib/relevo/fence.json && readlink /etc/systemd/system/postgresql@*.service"
        ),
        "signal": bench.inside("a-db1", "sh", "-c", "ls /var/lib/postgresql/*/main/standby.signal"),
        "applications": {
            host: [bench.inside(host, "systemctl", verb, "minimarket", check=False) for verb in ("is-active", "is-enabled")]
            for host in ("a-app1", "b-app1")
        },
        "served by": bench.health("b-app1")["server"],
        "locks": [host for host in ("a-db1", "b-db1", "a-app1", "b-app1") if bench.lock_of(host)],
    }


CLEAN = {
    "writable": ["b-db1"],
    "timeline": "2",
    "fenced": "/dev/null",
    "applications": {"a-app1": ["inactive", "disabled"], "b-app1": ["active", "enabled"]},
    "served by": "b-db1",
    "locks": [],
}


# CI kills it in each phase; a switchover and a failback once each, in the phase that only they have and that changes data.
@pytest.mark.smoke
@pytest.mark.parametrize("phase", ["PREFLIGHT", "LOCK", "QUIESCE", "FENCE", "DRAIN", "PROMOTE", "CUTOVER", "PROTECT"])
def test_a_killed_controller_is_recorded_and_the_next_run_goes_on(bench, phase):
    moments = {"PREFLIGHT": lambda: looked(bench), "LOCK": lambda: locked(bench)}
    killed = kill_when(bench, moments.get(phase, lambda: bench.begun(HOSTS[phase], phase)))

    assert not (bench.writable("a-db1") and bench.writable("b-db1"))
    dead = bench.record(killed)
    assert dead["verdict"] == "interrupted"

    run = bench.run("failover", **DRILL)

    assert run.code == 0, run.output[-4000:]
    assert run.record["verdict"] == "passed"
    if phase != "PREFLIGHT":
        assert run.record["parent_run_id"] == killed
    assert run.record["measures"]["ledger"]["lost"] == 0
    # The outage is the whole one, not the part that was left for the second run.
    hole = longest_hole_seconds(bench, dead["opened_at"])
    assert run.record["measures"]["outage_seconds"] == pytest.approx(hole, abs=0.01)
    found = state(bench)
    assert found.pop("signal")
    assert found == CLEAN

    # All end in that same state: of one it is seen that a finished runbook finds nothing to do in it.
    if phase != "PROTECT":
        return
    once_more = bench.run("failover", **DRILL)
    assert once_more.code == 0
    assert "nothing to do" in once_more.output
    assert not [line for line in once_more.output.splitlines() if " changed=" in line and "changed=0 " not in line]


def test_status_names_the_interrupted_run_and_the_next_step(bench):
    killed = kill_when(bench, lambda: bench.begun(HOSTS["DRAIN"], "DRAIN"))
    time.sleep(1)
    done = bench.relevo("status", "minimarket", "-i", "inventories/lab", "--json")
    found = json.loads(done.stdout)
    assert found["interrupted_run"] == killed
    assert f"run {killed} was interrupted: start failover again" in found["next"]
