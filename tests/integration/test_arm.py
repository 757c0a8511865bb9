"""An armed failover on real hosts: it changes nothing while it waits, goes at once, and leaves nothing behind when it does not."""

from __future__ import annotations

import getpass
import json
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from relevo import armed
from relevo.paths import Place

from .conftest import BIN, DRILL, INVENTORY, ROOT, Bench, kill_all
from .test_failover import PHASES, assert_served_by_b, load
from .test_refusals import approvers_of

pytestmark = pytest.mark.full
WISH = {**DRILL, "dr_accept_loss_seconds": "5"}
HOSTS = ("a-db1", "b-db1", "a-app1", "b-app1", "wit1")


class Armed:
    """`relevo arm failover` with this inventory and what stands in it besides; ready when the constructor returns."""

    def __init__(self, bench: Bench, directory: Path, **more: Any) -> None:
        self.bench, self.place, self.said = bench, Place(bench.store, ""), ""
        known = {one.run_id for one in armed.waiting(self.place)}
        beside = directory / f"armed-{len(known)}.json"
        beside.write_text(json.dumps({"all": {"vars": more}}))
        words = [word for name, value in WISH.items() for word in ("-e", f"{name}={value}")]
        self.process = subprocess.Popen(
            [BIN / "relevo", "arm", "failover", "-i", INVENTORY, "-i", beside, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=bench.environment,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        bench.wait("a run is armed", lambda: self.process.poll() is not None or bool(self._new(known)), 120)
        assert self.process.poll() is None, self.said
        self.run_id = self._new(known)[0].run_id

    def _new(self, known: set[str]) -> list[armed.Waiting]:
        return [one for one in armed.waiting(self.place) if one.run_id not in known and one.ready]

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.said += line

    def state(self) -> armed.Waiting:
        return armed.choose(self.place, self.run_id)

    def go(self) -> subprocess.CompletedProcess[str]:
        return self.bench.relevo("go", self.run_id, "--confirm", WISH["dr_confirm"])

    def finish(self, seconds: float = 120) -> dict[str, Any]:
        """The record."""
        self.process.wait(seconds)
        self._reader.join(10)
        return self.bench.record(self.run_id)

    def box(self, host: str) -> str:
        """What waits for a letter of this run."""
        return self.bench.inside(host, "sh", "-c", f"ls /run/relevo/letters/{self.run_id} 2>/dev/null", check=False)

    def waits_on(self, host: str) -> str:
        """What of this run is on a host, every process of Ansible's too."""
        return self.box(host) + self.bench.inside(host, "pgrep", "-f", "BECOME-SUCCESS", check=False)


@pytest.fixture
def arm(bench, tmp_path):
    runs: list[Armed] = []

    def arm(**more: Any) -> Armed:
        runs.append(Armed(bench, tmp_path, **more))
        return runs[-1]

    yield arm
    for run in runs:
        if run.process.poll() is None:
            kill_all(run.process.pid)


def test_it_changes_nothing_while_it_waits_and_with_the_word_the_service_moves_at_once(bench, arm):
    load(bench, 100)
    before = bench.digest()
    run = arm()
    looks = run.state().looks
    bench.wait("it looks again and again", lambda: run.state().looks >= looks + 2, 60)
    assert run.state().red == ()
    assert bench.digest() == before
    assert all(bench.lock_of(host) is None for host in ("a-db1", "b-db1", "a-app1", "b-app1"))
    assert "promote.2.json.ready" in run.waits_on("b-db1") or ".ready" in run.waits_on("b-db1")

    bench.verb("power-off", "a-db1")
    said = run.go()
    assert said.returncode == 0, said.stdout + said.stderr
    record = run.finish()

    assert run.process.returncode == 0, run.said[-4000:]
    assert record["verdict"] == "passed"
    assert {phase["name"] for phase in record["phases"]} == PHASES
    assert record["fence"]["class"] == "powered_off"
    assert len(record["fence"]["probes"]) >= 4
    about = record["run"]["armed"]
    assert (about["ended"], about["played"], about["by"]) == ("gone", "at once", getpass.getuser())
    assert about["looks"] >= 2
    assert set(about["evidence_age_seconds"]) == {"b-db1", "a-app1", "b-app1", "wit1"}
    assert max(about["evidence_age_seconds"].values()) < 30
    assert about["armed_at"] < about["go_at"] <= min(phase["started_at"] for phase in record["phases"])
    measures = record["measures"]
    assert 0 < measures["outage_seconds"] == measures["rto_seconds"] < 30
    assert measures["writable_overlap_seconds"] == 0
    assert measures["ledger"]["present"] + measures["ledger"]["lost"] == measures["ledger"]["acknowledged"]
    assert_served_by_b(bench)
    assert [host for host in HOSTS[1:] if run.waits_on(host)] == []


@pytest.mark.parametrize("how", ["word", "ctrl-c", "sigterm"])
def test_cancelled_it_leaves_nothing(bench, arm, how):
    run = arm()
    before = bench.digest()
    if how == "word":
        said = bench.relevo("cancel", run.run_id, "--reason", "the storm has passed")
        assert said.returncode == 0, said.stderr
    else:
        os.kill(run.process.pid, signal.SIGINT if how == "ctrl-c" else signal.SIGTERM)
    record = run.finish(60)
    assert run.process.returncode == 6, run.said[-4000:]
    assert record["verdict"] == "cancelled"
    assert (record["run"]["armed"]["ended"], record["run"]["armed"]["go_at"]) == ("cancelled", None)
    bench.wait("nothing waits", lambda: not any(run.waits_on(host) for host in HOSTS), 10)
    assert bench.digest() == before
    assert bench.writable("a-db1")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"dr_armed_limit_seconds": 45}, "armed for"),
        ({"dr_standby_armed_unheard_seconds": 40}, "its evidence is too old"),
    ],
    ids=["armed for too long", "hosts that cannot be asked"],
)
def test_it_ends_when_its_evidence_is_old(bench, arm, more, says):
    run = arm(**more)
    if "unheard" in str(more):
        bench.verb("cut", "controller", "b-db1")
    record = run.finish(180)
    bench.verb("heal-all")
    assert record["verdict"] == "cancelled"
    assert record["run"]["armed"]["ended"] == "expired"
    assert says in " ".join(record["verdict_reasons"])
    # Of a connection that was cut sshd may keep an interpreter to which nothing was ever said.
    bench.wait("nothing waits", lambda: not any(run.box(host) for host in HOSTS), 60)


def test_a_gate_that_turns_red_stands_in_the_way_until_it_is_green_again(bench, arm):
    run = arm()
    bench.sql("b-db1", "select pg_wal_replay_pause()")
    bench.wait("it is seen", lambda: any("G08 on b-db1" in one for one in run.state().red), 60)
    said = run.go()
    assert said.returncode == 2
    assert "G08 on b-db1: replay runs" in said.stderr
    assert run.process.poll() is None
    assert bench.lock_of("b-db1") is None
    bench.sql("b-db1", "select pg_wal_replay_resume()")
    bench.wait("it is green", lambda: not run.state().red, 60)
    assert run.go().returncode == 0
    record = run.finish()
    assert "In the way of go: G08 on b-db1" in run.said
    assert record["verdict"] == "passed", run.said[-4000:]
    # With a primary that serves there is time.
    assert record["run"]["armed"]["played"].startswith("anew: a-db1 still serves")
    assert record["fence"]["class"] == "stopped"
    assert record["measures"]["ledger"]["lost"] == 0
    assert_served_by_b(bench)


def test_a_controller_that_is_killed_leaves_nothing(bench, arm):
    run = arm()
    before = bench.digest()
    kill_all(run.process.pid)
    bench.wait("nothing waits", lambda: not any(run.waits_on(host) for host in HOSTS), 90, 1.0)
    assert bench.digest() == before
    assert run.finish()["verdict"] == "interrupted"
    assert bench.run("failover", **DRILL).code == 0
    assert_served_by_b(bench)


def test_of_two_armed_runs_one_gets_the_lock(bench, arm):
    load(bench, 20)
    runs = [arm(), arm()]
    bench.verb("power-off", "a-db1")
    said: list[subprocess.CompletedProcess[str]] = []
    words = [threading.Thread(target=lambda run=run: said.append(run.go())) for run in runs]
    for word in words:
        word.start()
    for word in words:
        word.join()
    bench.wait("one is over", lambda: any(run.process.poll() is not None for run in runs), 120)
    for run in runs:
        if run.process.poll() is None and any(one.run_id == run.run_id for one in armed.waiting(run.place)):
            # It saw the other's lock before it was judged.
            assert bench.relevo("cancel", run.run_id).returncode == 0
    verdicts = sorted(run.finish()["verdict"] for run in runs)
    assert verdicts in (["passed", "refused"], ["cancelled", "passed"]), [run.said[-2000:] for run in runs]
    assert_served_by_b(bench)


def test_the_second_person_may_agree_while_it_waits(bench, arm, tmp_path):
    run = arm(dr_approval="dual", dr_approvers=approvers_of(tmp_path, getpass.getuser(), "mira"))
    bench.wait("it is missed", lambda: any("APPROVAL" in one for one in run.state().red), 60)
    said = run.go()
    assert said.returncode == 2
    assert "APPROVAL" in said.stderr
    asked = json.loads((run.place.run_directory(run.run_id) / "control/approval.json").read_text())
    words = ["--as", "mira", "--key", str(tmp_path / "mira"), "--confirm", f"approve {asked['digest'][:12]}"]
    approved = bench.relevo("approve", run.run_id, *words)
    assert approved.returncode == 0, approved.stderr
    bench.verb("power-off", "a-db1")
    assert run.go().returncode == 0
    assert run.finish()["verdict"] == "passed", run.said[-4000:]
    assert_served_by_b(bench)
