"""A run that is ended anywhere is followed by one that finishes it.

By SIGKILL or by Ctrl-C, at each task that changes something and at seeded moments; and by the loss of any host that plays a part in it.

A moment that this code has passed is not tried again on the same laboratory, so that a sweep goes on where it was ended.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from ansible_collections.relevo.lab.plugins.module_utils.laboratory import Laboratory

from .conftest import DRILL, SNAPSHOT, Bench, Run, made_by, store_of_the_tests
from .test_failback import BACK, SALVAGE, lose, power_on, sealed_references
from .test_failover import load
from .test_kill_sweep import CLEAN, state
from .test_switchover import assert_serves, to, unchanged

pytestmark = pytest.mark.full

SEED = 20261127
LOST = "lost"
# The moments that were passed, by this very code.
SWEPT = Laboratory.at().state / ("swept-" + hashlib.sha256(made_by(store_of_the_tests()).encode()).hexdigest()[:16])

VARIABLES = {"failover": DRILL, "switchover": to("b"), "failback": BACK}
_LOCK, _PACE, _QUIET = "Take this host's part of the lock", "Choose the fast pace", "Go back to the quiet pace"
_HANDOVER, _FIRST_BACKUP = "Quiesce, fence, drain, promote and cut over", "Prove the archive and start the first backup"
_SLOT, _FOLLOW, _NO_SLOT = "Keep WAL on the primary", "Follow, and lift the fence", "Keep no WAL for anybody"
# Every task that changes a host; a clean run shows whether one is missing here.
TASKS = {
    "failover": (_LOCK, _PACE, _HANDOVER, _FIRST_BACKUP, _QUIET, "Give the lock back"),
    "switchover": (_LOCK, _PACE, _HANDOVER, _FIRST_BACKUP, _SLOT, _FOLLOW, _NO_SLOT, _QUIET, "Give the lock back"),
    "failback": (
        _LOCK,
        "Keep it for the salvage",
        "Stop for good, and seal",
        "Rewind, restore or copy",
        _SLOT,
        _FOLLOW,
        _NO_SLOT,
        "Give the lock back",
    ),
}
SIGNALS = ("SIGKILL", "SIGINT")
# Of each runbook the hosts that play a part in it.
LOSES = {
    "failover": ("a-db1", "b-db1", "b-app1", "wit1"),
    "switchover": ("a-db1", "b-db1", "a-app1", "b-app1", "wit1"),
    "failback": ("a-db1", "b-db1"),
}


@dataclass(frozen=True)
class Moment:
    """task: when it begins, else when the given share of a clean run's events has come; delay_seconds after that a signal comes, or a host is lost."""

    runbook: str
    task: str
    share: float
    delay_seconds: float
    signal: str = ""
    lost_host: str = ""

    def __str__(self) -> str:
        where = self.task.replace(" ", "-") or f"{self.share:.2f}"
        return f"{self.runbook}-{where}-{self.delay_seconds:.1f}s-{self.signal or self.lost_host}"


def at_tasks() -> Iterator[Moment]:
    for runbook, tasks in TASKS.items():
        for task in tasks:
            for name in SIGNALS:
                yield Moment(runbook, task, 0, 0.3 if name == "SIGKILL" else 0.1, name)


def drawn(what: str) -> float:
    """From 0 to 1, the same every time."""
    return int.from_bytes(hashlib.sha256(f"{SEED} {what}".encode()).digest()[:4], "big") / 2**32


def at_random(count: int) -> Iterator[Moment]:
    for index in range(count):
        name = SIGNALS[int(2 * drawn(f"signal {index}"))]
        yield Moment(sorted(TASKS)[index % 3], "", 0.1 + 0.75 * drawn(f"share {index}"), drawn(f"delay {index}"), name)


def without_a_host() -> Iterator[Moment]:
    for runbook, hosts in LOSES.items():
        for host in hosts:
            for part in (0, 1):
                share = 0.25 + 0.3 * (part + drawn(f"{runbook} {host} {part}"))
                yield Moment(runbook, "", share, 0.1, lost_host=host)


def journal(bench: Bench, run_id: str) -> list[dict[str, object]]:
    path = bench.store / "runs" / run_id / "journal.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def begun(event: dict[str, object], task: str) -> bool:
    return event["event"] == "playbook_on_task_start" and task in str(event["task"])


@pytest.fixture(scope="session")
def lost(protected: Bench) -> list[int]:
    """The numbers that only the old primary has; kept as a snapshot beside the protected one, as long as the code is the same."""
    kept, mark = protected.lab.state / "snapshots" / LOST, (protected.lab.state / "snapshots" / SNAPSHOT / LOST)
    if not (kept.exists() and mark.exists()):
        protected.verb("reset", SNAPSHOT)
        protected.wait_until_serving()
        numbers = lose(protected)
        protected.verb("snapshot", LOST)
        mark.write_text(json.dumps(numbers))
    found: list[int] = json.loads(mark.read_text())
    return found


def left() -> list[Moment]:
    """What this code has not passed yet on this laboratory."""
    moments = [*at_tasks(), *at_random(30), *without_a_host()]
    passed = SWEPT.read_text().splitlines() if SWEPT.exists() else []
    return [moment for moment in moments if str(moment) not in passed]


def begin(bench: Bench, runbook: str) -> None:
    """Where the runbook starts from, under load."""
    bench.verb("reset", LOST if runbook == "failback" else SNAPSHOT)
    if runbook == "failback":
        bench.wait("b-db1 serves", lambda: bench.health("b-app1").get("in_recovery") is False)
    else:
        bench.wait_until_serving()
    load(bench, 20)


@pytest.fixture(scope="session")
def clean(protected: Bench) -> dict[str, int]:
    """How many events a clean run of each runbook has. Raises when it changes something in a task that is not swept."""
    events = {}
    for runbook, variables in VARIABLES.items():
        begin(protected, runbook)
        run = protected.run(runbook, **variables)
        assert_ended(protected, runbook, run)
        seen = journal(protected, run.record["run_id"])
        changed = {str(event["task"]) for event in seen if event.get("changed")}
        missing = {task for task in changed if not any(known in task for known in TASKS[runbook])}
        assert not missing, f"{runbook} changes something in {missing}: sweep it too"
        events[runbook] = len(seen)
    return events


def assert_ended(bench: Bench, runbook: str, run: Run) -> None:
    """What a clean run leaves."""
    assert run.code == 0, run.output[-4000:]
    assert run.record["verdict"] == "passed", run.record["verdict_reasons"]
    if runbook == "failover":
        found = state(bench)
        assert found.pop("signal")
        assert found == CLEAN
    else:
        assert_serves(bench, "b")
    if runbook != "failback":
        assert run.record["measures"]["ledger"]["lost"] == 0


def writable_in_turn(bench: Bench, since: str) -> list[str]:
    """The hosts that accepted a write, as each observer saw them one after the other: a host that comes twice was writable beside another."""
    turns = []
    for observer in ("wit1", "b-app1"):
        path = bench.lab.root(bench.lab.host(observer)) / "var/lib/relevo-ledger/observer.jsonl"
        entries = [json.loads(line) for line in path.read_text().splitlines() if '"accepted"' in line and line.endswith("}")]
        accepted = [entry["address"] for entry in sorted(entries, key=lambda entry: entry["mono"]) if entry["at"] >= since]
        turns.append([host for index, host in enumerate(accepted) if index == 0 or accepted[index - 1] != host])
    assert all(len(set(seen)) == len(seen) for seen in turns), turns
    return max(turns, key=len)


def wait_for(bench: Bench, ended: str, process: subprocess.Popen[str], moment: Moment, events: int) -> None:
    """Until the moment has come. Fails when the run is over before it."""

    def has_come() -> bool:
        seen = journal(bench, ended)
        return any(begun(event, moment.task) for event in seen) if moment.task else len(seen) >= moment.share * events

    limit = time.monotonic() + 180
    while not has_come():
        assert process.poll() is None, "the run ended before the moment came"
        assert time.monotonic() < limit, "the moment never came"
        time.sleep(0.01)
    time.sleep(moment.delay_seconds)
    assert process.poll() is None, "the run ended before the moment came"


def blow(bench: Bench, process: subprocess.Popen[str], moment: Moment) -> None:
    """End the controller, or take a host away and let the run come to its own end."""
    if moment.lost_host:
        bench.verb("power-off", moment.lost_host)
    else:
        os.killpg(process.pid, signal.Signals[moment.signal])
    process.communicate(timeout=300)


@pytest.mark.parametrize("moment", left(), ids=str)
def test_a_run_that_is_ended_anywhere_is_finished_by_the_next_one(protected, lost, clean, moment):
    bench, runbook = protected, moment.runbook
    begin(bench, runbook)
    before = set((bench.store / "runs").glob("*"))
    process = bench.start(runbook, **VARIABLES[runbook])
    bench.wait("the run has begun", lambda: bool(set((bench.store / "runs").glob(f"*-{runbook}-*")) - before), 30)
    ended = (set((bench.store / "runs").glob(f"*-{runbook}-*")) - before).pop().name
    wait_for(bench, ended, process, moment, clean[runbook])
    blow(bench, process, moment)

    assert not (bench.writable("a-db1") and bench.writable("b-db1"))
    dead = bench.record(ended)
    if moment.lost_host:
        said = json.loads(bench.relevo("status", "minimarket", "-i", "inventories/lab", "--json").stdout)
        assert said["next"]
        power_on(bench, moment.lost_host)
        bench.wait(
            "the host is a host again", lambda: bench.relevo("status", "minimarket", "-i", "inventories/lab").returncode == 0
        )
    else:
        assert dead["verdict"] == "interrupted", dead["verdict_reasons"]

    run = bench.run(runbook, **VARIABLES[runbook])
    if run.code != 0 and runbook == "switchover":
        # Before the promotion a planned run goes back; the next one goes through.
        assert "the old side serves again" in run.output, run.output[-4000:]
        run = bench.run(runbook, **VARIABLES[runbook])
    if moment.lost_host and runbook == "failover":
        assert run.code == 0, run.output[-4000:]
        assert [bench.writable(host) for host in ("a-db1", "b-db1")] == [False, True]
        assert bench.health("b-app1")["server"] == "b-db1"
    else:
        assert_ended(bench, runbook, run)
    again = bench.run(runbook, **VARIABLES[runbook])
    assert "nothing to do" in again.output, again.output[-3000:]
    assert unchanged(again)
    assert writable_in_turn(bench, dead["opened_at"])[-1] == "b-db1"
    verified = bench.relevo("results", "verify", ended)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    if runbook == "failback":
        directories = bench.inside("a-db1", "sh", "-c", f"ls -d {SALVAGE}/*").split()
        sealed = {int(each.rpartition("-")[2]) for directory in directories for each in sealed_references(bench, directory)}
        assert set(lost) <= sealed
    with SWEPT.open("a") as target:
        target.write(f"{moment}\n")
