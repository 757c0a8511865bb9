"""A run that is ended anywhere is followed by one that finishes it.

By a power cut of the controller, by SIGKILL, which the workers of ansible-playbook outlive, or by Ctrl-C, at each task that changes something and at
seeded moments; and by the loss of any host that plays a part in it. After a loss
nothing is done but what `relevo status` says. It ends where a run that nobody disturbed ends, by the digest of what matters on every host.

A moment that this code has passed is not tried again on the same laboratory, so that a sweep goes on where it was ended.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.relevo.lab.plugins.module_utils.laboratory import Laboratory

from .conftest import CATALOG, DRILL, SNAPSHOT, Bench, Run, kill_all, made_by, store_of_the_tests
from .test_failback import BACK, SALVAGE, assert_restorable, lose, moment_of, power_on, sealed_references
from .test_failover import load
from .test_guard import GUARD
from .test_kill_sweep import CLEAN, state
from .test_switchover import assert_serves, timeline, to, unchanged

pytestmark = pytest.mark.full

SEED = 20261127
LOST = "lost"
# The moments that were passed, by this very code.
SWEPT = Laboratory.at().state / ("swept-" + hashlib.sha256(made_by(store_of_the_tests()).encode()).hexdigest()[:16])

VARIABLES = {"failover": DRILL, "switchover": to("b"), "failback": BACK}
_LOCK, _PACE, _QUIET = "Take this host's part of the lock", "Choose the fast pace", "Go back to the quiet pace"
_HANDOVER, _FIRST_BACKUP = "Quiesce, fence, drain, promote and cut over", "Prove the archive and start the first backup"
_PROOF = "Use the application as its users do"
_SLOT, _FOLLOW, _NO_SLOT = "Keep WAL on the primary", "Follow, and lift the fence", "Keep no WAL for anybody"
# Every task that changes a host; a clean run shows whether one is missing here.
TASKS = {
    "failover": (_LOCK, _PACE, _HANDOVER, _PROOF, _FIRST_BACKUP, _QUIET, "Give the lock back"),
    "switchover": (_LOCK, _PACE, _HANDOVER, _PROOF, _FIRST_BACKUP, _SLOT, _FOLLOW, _NO_SLOT, _QUIET, "Give the lock back"),
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
POWER = "power"
ENDS = (POWER, "SIGKILL", "SIGINT")
# The hosts that play a part in a runbook, and those that stand by while the old primary comes back.
LOSES = dict.fromkeys(TASKS, ("a-db1", "b-db1", "a-app1", "b-app1", "wit1", "a-store1", "b-store1"))
# What `relevo status` may name as the next step, with what an operator adds to it.
STEPS = {**VARIABLES, "protect": {"dr_allow_restart": "true"}, "backup": {}}
# What it may name when nothing is left to mend: evidence of backups that is due.
PROOFS = ("verify_backup", "restore_test")
# A run that goes on, one that goes through, a failback, a repair of what was left out.
MOST_STEPS = 5
# What a clean run is compared by: nothing of it holds a time or the name of a run.
_END = """
import hashlib, os, subprocess
def said(*words):
    return subprocess.run(words, capture_output=True, text=True).stdout.strip()
for top in ("/etc/systemd/system", "/etc/postgresql", "/etc/pgbackrest", "/etc/relevo", "/etc/minimarket"):
    for directory, below, files in sorted(os.walk(top)):
        for name in sorted([*files, *(name for name in below if os.path.islink(os.path.join(directory, name)))]):
            path = os.path.join(directory, name)
            what = os.readlink(path) if os.path.islink(path) else hashlib.sha256(open(path, "rb").read()).hexdigest() if os.path.isfile(path) else "?"
            print(path, what)
for name in ("fence", "lock", "challenge", "guard-held", "standby-build", "standby-restore"):
    print(name, os.path.exists("/var/lib/relevo/%s.json" % name))
print("signals", said("sh", "-c", "ls /var/lib/postgresql/*/main/*.signal 2>/dev/null"))
for unit in said("sh", "-c", "ls /etc/postgresql 2>/dev/null").split():
    # How long a stop took, and so how systemd calls what is stopped, is no matter.
    runs = said("systemctl", "is-active", "postgresql@%s-main" % unit) in ("active", "activating", "deactivating")
    print(unit, runs, said("systemctl", "is-enabled", "postgresql@%s-main" % unit))
for unit in ("minimarket", "relevo-guard", "relevo-ledger", "relevo-observer"):
    print(unit, said("systemctl", "is-active", unit), said("systemctl", "is-enabled", unit))
print("packets", hashlib.sha256(said("nft", "list", "ruleset").encode()).hexdigest())
"""


@dataclass(frozen=True)
class Moment:
    """task: when it begins, else when the given share of a clean run's events has come; delay_seconds after that the controller is ended, or a host is lost."""

    runbook: str
    task: str
    share: float
    delay_seconds: float
    end: str = ""
    lost_host: str = ""

    def __str__(self) -> str:
        where = self.task.replace(" ", "-") or f"{self.share:.2f}"
        return f"{self.runbook}-{where}-{self.delay_seconds:.1f}s-{self.end or self.lost_host}"


def at_tasks() -> Iterator[Moment]:
    for runbook, tasks in TASKS.items():
        for task in tasks:
            for name in ENDS:
                yield Moment(runbook, task, 0, 0.1 if name == "SIGINT" else 0.3, name)


def drawn(what: str) -> float:
    """From 0 to 1, the same every time."""
    return int.from_bytes(hashlib.sha256(f"{SEED} {what}".encode()).digest()[:4], "big") / 2**32


def at_random(count: int) -> Iterator[Moment]:
    for index in range(count):
        name = ENDS[int(len(ENDS) * drawn(f"signal {index}"))]
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


def lost_once(bench: Bench) -> list[int]:
    """The numbers that only the old primary has; kept as a snapshot beside the protected one, as long as the code is the same."""
    kept, mark = bench.lab.state / "snapshots" / LOST, (bench.lab.state / "snapshots" / SNAPSHOT / LOST)
    if not (kept.exists() and mark.exists()):
        bench.verb("reset", SNAPSHOT)
        bench.wait_until_serving()
        numbers = lose(bench)
        bench.verb("snapshot", LOST)
        mark.write_text(json.dumps(numbers))
    found: list[int] = json.loads(mark.read_text())
    return found


@pytest.fixture(scope="session")
def lost(protected: Bench) -> list[int]:
    return lost_once(protected)


def left() -> list[Moment]:
    """What this code has not passed yet on this laboratory."""
    moments = [*at_tasks(), *at_random(30), *without_a_host()]
    passed = SWEPT.read_text().splitlines() if SWEPT.exists() else []
    return [moment for moment in moments if str(moment) not in passed]


def begin(bench: Bench, runbook: str) -> None:
    """Where the runbook starts from, under load."""
    bench.verb("reset", LOST if runbook == "failback" else SNAPSHOT)
    if runbook == "failback":
        # As a power cut leaves it: its guard sees nobody, and asks for a person's word.
        held = bench.lab.root(bench.lab.host("b-db1")) / "var/lib/relevo/guard-held.json"
        bench.wait("b-db1 is held read-only", held.exists, 90)
        unit = ["sh", "-c", "systemctl is-active 'postgresql@*-main.service'"]
        bench.wait("it is up", lambda: bench.inside("b-db1", *unit, check=False) == "active")
        bench.inside("b-db1", GUARD, "start", "--reason", "a-db1 is fenced")
        bench.wait("b-db1 serves", lambda: bench.health("b-app1").get("in_recovery") is False)
    else:
        bench.wait_until_serving()
    load(bench, 20)


def end_state(bench: Bench) -> dict[str, str]:
    """What matters on every host and in the catalogs, line by line where it is of a file or a unit."""
    found = {}
    for host in ("a-db1", "b-db1", "a-app1", "b-app1", "wit1"):
        for line in bench.inside(host, "python3", "-", text=_END).splitlines():
            name, _, what = line.partition(" ")
            found[f"{host} {name}"] = what
    for host in ("a-db1", "b-db1"):
        found[f"{host} catalog"] = bench.sql(host, CATALOG, check=False)
    return found


def difference(one: dict[str, str], other: dict[str, str]) -> dict[str, tuple[str | None, str | None]]:
    return {name: (one.get(name), other.get(name)) for name in sorted({*one, *other}) if one.get(name) != other.get(name)}


@dataclass(frozen=True)
class Clean:
    """Of a run that nobody disturbed: how many events it has, and what it leaves."""

    events: int
    end: dict[str, str]


@pytest.fixture(scope="session")
def clean(protected: Bench) -> Callable[[str], Clean]:
    """A clean run of a runbook, once. Raises when it changes something in a task that is not swept."""

    @functools.cache
    def run(runbook: str) -> Clean:
        begin(protected, runbook)
        run = protected.run(runbook, **VARIABLES[runbook])
        assert_ended(protected, runbook, run)
        seen = journal(protected, run.record["run_id"])
        changed = {str(event["task"]) for event in seen if event.get("changed")}
        missing = {task for task in changed if not any(known in task for known in TASKS[runbook])}
        assert not missing, f"{runbook} changes something in {missing}: sweep it too"
        return Clean(len(seen), end_state(protected))

    return run


def assert_ended(bench: Bench, runbook: str, run: Run, dead: dict[str, Any] | None = None) -> None:
    """What a clean run leaves. dead: the record of the run before it, whose workers may have brought it to its end without it."""
    assert run.code == 0, run.output[-4000:]
    assert run.record["verdict"] == "passed", run.record["verdict_reasons"]
    if runbook == "failover":
        found = state(bench)
        assert found.pop("signal")
        assert found == CLEAN
    else:
        assert_serves(bench, "b")
    if runbook != "failback":
        lost = [record["measures"]["ledger"]["lost"] for record in (run.record, dead) if record]
        assert [count for count in lost if count is not None][:1] == [0], lost


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


def run_since(bench: Bench, runbook: str, before: set[Path]) -> str:
    """The run that has begun since; its journal is there."""

    def journals() -> set[Path]:
        return {path for path in set((bench.store / "runs").glob(f"*-{runbook}-*")) - before if (path / "journal.jsonl").exists()}

    bench.wait("the run has begun", lambda: bool(journals()), 30)
    return journals().pop().name


def wait_for(bench: Bench, ended: str, process: subprocess.Popen[str], moment: Moment, of: int) -> None:
    """Until the moment has come; of: how many events a clean run has. Fails when the run is over before it."""

    path, read, seen = bench.store / "runs" / ended / "journal.jsonl", 0, 0

    def has_come() -> bool:
        """By the lines that came since it was asked: a moment that is looked for slowly is another one."""
        nonlocal read, seen
        with path.open("rb") as source:
            source.seek(read)
            new = source.read()
        whole = new[: new.rfind(b"\n") + 1]
        read += len(whole)
        events = [json.loads(line) for line in whole.splitlines()]
        seen += len(events)
        return any(begun(event, moment.task) for event in events) if moment.task else seen >= moment.share * of

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
    elif moment.end == POWER:
        kill_all(process.pid)
    else:
        os.killpg(process.pid, signal.Signals[moment.end])
    process.communicate(timeout=300)


def status_of(bench: Bench) -> dict[str, Any]:
    done = bench.relevo("status", "minimarket", "-i", "inventories/lab", "--json")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def runbook_of(step: str) -> str | None:
    """The runbook that a next step names; None where it is something else, or nothing, that a person does."""
    found = re.search(r"start (\w+) again|(?:run|with) playbooks/(\w+)\.yml|run the (failover) to", step)
    return next(name for name in found.groups() if name) if found else None


def by_hand(bench: Bench) -> None:
    """What status says to do on a host: one whose only neighbour is fenced has nobody who could tell it that it may go on."""
    found = re.match(r"restart PostgreSQL on (\S+) once the others answer; or,", status_of(bench)["next"])
    if found:
        bench.inside(found[1], GUARD, "start", "--reason", "the other one is fenced")
        bench.wait(f"{found[1]} serves", lambda: bench.writable(found[1]))


def follow(bench: Bench) -> list[Run]:
    """Do what status says, as long as it names a runbook. Each step ends well, or opens the old side again and says so."""
    by_hand(bench)
    runs: list[Run] = []
    while (name := runbook_of(said := status_of(bench)["next"])) and name not in PROOFS:
        assert len(runs) < MOST_STEPS, f"after {[run.record['runbook'] for run in runs]} status still says: {said}"
        run = bench.run(name, **STEPS[name])
        opened = name == "switchover" and "the old side serves again" in run.output
        assert run.code == 0 or opened, f"status said: {said}\n{run.output[-4000:]}"
        assert not (bench.writable("a-db1") and bench.writable("b-db1"))
        runs.append(run)
    return runs


def assert_seen(said: dict[str, Any], host: str) -> None:
    """Status shows that the host is gone, and says something to do about what hangs on it."""
    assert said["next"]
    if host in said["hosts"]:
        assert str(said["hosts"][host]["state"]).startswith("unreachable"), said
    if host.endswith("-db1") or host == "wit1":
        assert said["unsafe"], said


def is_back(bench: Bench, host: str) -> bool:
    """By what status says of it, or of the store on it."""
    said = status_of(bench)
    state = str(said["hosts"].get(host, {}).get("state"))
    return not state.startswith("unreachable") and not [one for one in said["unsafe"] if f"{host}:" in one]


def assert_accounted(records: list[dict[str, Any]]) -> None:
    """Of a run and those that went on for it: the newest account says that nothing is lost, and behind which fence somebody was promoted."""
    # Null where a run had nothing to do.
    account = [record for record in records if ((record.get("measures") or {}).get("ledger") or {}).get("acknowledged") is not None]
    assert account, [record["verdict_reasons"] for record in records]
    measures = account[-1]["measures"]
    assert measures["ledger"]["acknowledged"] > 0
    assert measures["ledger"]["lost"] == 0
    # Null where an observer was the host that was lost.
    assert measures["writable_overlap_seconds"] in (0, None)
    fences = [record["fence"]["class"] for record in records if (record.get("fence") or {}).get("class")]
    assert fences and fences[-1] in ("stopped", "powered_off"), fences


@pytest.mark.parametrize("moment", left(), ids=str)
def test_a_run_that_is_ended_anywhere_is_finished_by_the_next_one(protected, lost, clean, moment):
    bench, runbook = protected, moment.runbook
    undisturbed = clean(runbook)
    begin(bench, runbook)
    before = set((bench.store / "runs").glob("*"))
    process = bench.start(runbook, **VARIABLES[runbook])
    ended = run_since(bench, runbook, before)
    wait_for(bench, ended, process, moment, undisturbed.events)
    blow(bench, process, moment)

    assert not (bench.writable("a-db1") and bench.writable("b-db1"))
    dead = bench.record(ended)
    steps: list[Run] = []
    if moment.lost_host:
        assert_seen(status_of(bench), moment.lost_host)
        power_on(bench, moment.lost_host)
        bench.wait("the host is a host again", lambda: is_back(bench, moment.lost_host))
        steps = follow(bench)
    else:
        assert dead["verdict"] == "interrupted", dead["verdict_reasons"]

    run = bench.run(runbook, **VARIABLES[runbook])
    if run.code != 0 and runbook == "switchover":
        # Before the promotion a planned run goes back; the next one goes through.
        assert "the old side serves again" in run.output, run.output[-4000:]
        run = bench.run(runbook, **VARIABLES[runbook])
    if moment.lost_host:
        assert run.code == 0, run.output[-4000:]
        assert run.record["verdict"] == "passed", run.record["verdict_reasons"]
        steps += follow(bench)
        # A failover ends as the others do: status says to bring the old primary back.
        assert_serves(bench, "b")
        assert timeline(bench, "b-db1") == 2
        if runbook != "failback":
            assert_accounted([dead, *(step.record for step in steps if step.record["runbook"] == runbook), run.record])
    else:
        assert_ended(bench, runbook, run, dead)
    if not (moment.lost_host and runbook == "failover"):
        assert difference(end_state(bench), undisturbed.end) == {}
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


@pytest.mark.usefixtures("lost")
@pytest.mark.parametrize("runbook", sorted(VARIABLES))
def test_a_moment_before_and_one_after_a_run_that_was_killed_can_be_restored(protected, runbook):
    bench = protected
    begin(bench, runbook)
    moments = [moment_of(bench, "b-db1" if runbook == "failback" else "a-db1")]
    before = set((bench.store / "runs").glob("*"))
    process = bench.start(runbook, **VARIABLES[runbook])
    ended = run_since(bench, runbook, before)
    killed = Moment(runbook, "Rewind, restore or copy" if runbook == "failback" else _HANDOVER, 0, 0.5, POWER)
    wait_for(bench, ended, process, killed, 0)
    blow(bench, process, killed)
    run = bench.run(runbook, **VARIABLES[runbook])
    if run.code != 0 and runbook == "switchover":
        assert "the old side serves again" in run.output, run.output[-4000:]
        run = bench.run(runbook, **VARIABLES[runbook])
    assert_ended(bench, runbook, run)
    moments.append(moment_of(bench, "b-db1"))
    for at in moments:
        assert_restorable(bench, at)
