"""The watcher on real hosts: it moves a dead primary's service once, and keeps still in every case that only looks like one."""

from __future__ import annotations

import json
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from relevo import armed
from relevo.paths import Place

from .conftest import BIN, INVENTORY, ROOT, Bench, kill_all
from .test_failover import assert_served_by_b, load

pytestmark = pytest.mark.full
WINDOW_SECONDS = 3.0
POLICY = {
    "dr_automatic": "act",
    "dr_automatic_target_site": "b",
    "dr_automatic_scope": "site",
    "dr_automatic_window_seconds": WINDOW_SECONDS,
    "dr_automatic_restart_seconds": 60,
    "dr_automatic_inputs": {"dr_accept_loss_seconds": 5},
    "dr_automatic_check_seconds": 86400,
}


class Guardian:
    """`relevo watch` of the laboratory's cluster, and what it said."""

    def __init__(self, bench: Bench, directory: Path, **policy: Any) -> None:
        self.bench, self.said = bench, []
        more = directory / "automatic.json"
        more.write_text(json.dumps({"all": {"vars": {**POLICY, **policy}}}))
        # A store that was acted upon in an earlier test is allowed another run.
        assert bench.relevo("watch", "minimarket", "--rearm", "--reason", "a test begins").returncode == 0
        self.process = subprocess.Popen(
            [BIN / "relevo", "watch", "minimarket", "-i", INVENTORY, "-i", more, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=bench.environment,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        bench.wait("the watcher has seen the primary", lambda: "healthy" in self.events(), 90)

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.said.append(json.loads(line))

    def events(self) -> list[str]:
        return [said["event"] for said in self.said]

    def actions(self) -> set[str]:
        return {said.get("action", "none") for said in self.said}

    def decision(self, action: str) -> dict[str, Any]:
        return next(said for said in self.said if said.get("action") == action)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        self._reader.join()


@contextmanager
def guarded(bench: Bench, directory: Path, **policy: Any) -> Iterator[Guardian]:
    guardian = Guardian(bench, directory, **policy)
    try:
        yield guardian
    finally:
        guardian.stop()


def test_the_witness_is_cut_from_the_primary_only(healthy: Bench, tmp_path: Path) -> None:
    with guarded(healthy, tmp_path) as guardian:
        healthy.verb("cut", "wit1", "a-db1")
        healthy.wait("it is told", lambda: "partition" in guardian.events(), 60)
        time.sleep(3 * WINDOW_SECONDS)
        healthy.verb("heal", "wit1", "a-db1")
        healthy.wait("it is over", lambda: guardian.events()[-1] == "healthy", 60)
        assert guardian.actions() == {"none"}


def test_the_other_site_is_cut_from_the_primary_only(healthy: Bench, tmp_path: Path) -> None:
    with guarded(healthy, tmp_path) as guardian:
        for host in ("b-app1", "b-db1"):
            healthy.verb("cut", host, "a-db1")
        healthy.wait("it is told", lambda: "partition" in guardian.events(), 60)
        time.sleep(3 * WINDOW_SECONDS)
        healthy.verb("heal-all")
        assert guardian.actions() == {"none"}


def test_a_primary_that_stands_still_for_less_than_the_window(healthy: Bench, tmp_path: Path) -> None:
    with guarded(healthy, tmp_path) as guardian:
        with healthy.frozen("a-db1"):
            time.sleep(WINDOW_SECONDS / 2)
        time.sleep(3 * WINDOW_SECONDS)
        assert guardian.events() == ["healthy"]


def test_a_primary_that_restarts(healthy: Bench, tmp_path: Path) -> None:
    with guarded(healthy, tmp_path) as guardian:
        healthy.inside("a-db1", "sh", "-c", "systemctl restart 'postgresql@*-main.service'")
        time.sleep(3 * WINDOW_SECONDS)
        assert healthy.writable("a-db1")
        assert guardian.actions() == {"none"}


def test_a_network_that_is_slow(healthy: Bench, tmp_path: Path) -> None:
    """This kernel has no netem: a host that stands still again and again answers as late."""
    with guarded(healthy, tmp_path) as guardian:
        for _ in range(12):
            with healthy.frozen("a-db1"):
                time.sleep(0.7)
            time.sleep(0.5)
        time.sleep(2 * WINDOW_SECONDS)
        assert guardian.actions() == {"none"}


def test_planned_maintenance(healthy: Bench, tmp_path: Path) -> None:
    with guarded(healthy, tmp_path) as guardian:
        done = healthy.relevo("maintenance", "start", "minimarket", "--for", "10m", "--reason", "a test")
        assert done.returncode == 0, done.stderr
        time.sleep(3)
        with healthy.frozen("a-db1"):
            healthy.wait("it is seen", lambda: "outage" in guardian.events(), 60)
            time.sleep(WINDOW_SECONDS)
        healthy.wait("it is back", lambda: "primary_returned" in guardian.events(), 60)
        assert healthy.relevo("maintenance", "stop", "minimarket").returncode == 0
        assert guardian.actions() == {"none"}
        assert "planned maintenance" in next(said for said in guardian.said if said["event"] == "outage")["because"]


def test_a_second_event_while_a_run_is_on(bench: Bench, tmp_path: Path) -> None:
    """A planned hand-over is an outage of its own, and the primary's host is lost in the middle of it."""
    with guarded(bench, tmp_path) as guardian:
        run = bench.start("switchover", dr_scope="site", dr_target_site="b", dr_confirm="switchover minimarket to b")
        bench.wait("it holds the lock", lambda: bench.lock_of("b-db1") is not None, 120)
        bench.freeze("a-db1", frozen=True)
        time.sleep(3 * WINDOW_SECONDS)
        bench.freeze("a-db1", frozen=False)
        bench.finish(run)
        assert guardian.actions() == {"none"}


def test_a_proposal_is_a_plan_and_one_command(bench: Bench, tmp_path: Path) -> None:
    with guarded(bench, tmp_path, dr_automatic="propose") as guardian:
        bench.verb("power-off", "a-db1")
        bench.wait("it is proposed", lambda: "propose" in guardian.actions(), 60)
        time.sleep(2 * WINDOW_SECONDS)
        assert "act" not in guardian.actions()
        assert guardian.decision("propose")["command"].startswith("relevo run failover ")
        assert not bench.writable("b-db1")


def test_a_killed_primary_is_left_at_once_and_once(bench: Bench, tmp_path: Path) -> None:
    with guarded(bench, tmp_path) as guardian:
        load(bench, 100)
        bench.verb("power-off", "a-db1")
        killed = datetime.now().astimezone()
        bench.wait("it has decided", lambda: "act" in guardian.actions(), 60)
        decided = datetime.fromisoformat(guardian.decision("act")["decided_at"])
        bench.wait("the run has ended", lambda: "run_ended" in guardian.events(), 180)
        ended = next(said for said in guardian.said if said["event"] == "run_ended")
        assert ended["verdict"] == "passed", ended
        record = bench.record(ended["run_id"])
        assert_served_by_b(bench)
        assert record["run"]["reason"] == "automatic: a-db1 is lost"
        written = datetime.fromisoformat(record["measures"]["first_write_at"])
        opened = datetime.fromisoformat(record["opened_at"])
        seconds = [round((later - killed).total_seconds(), 2) for later in (decided, opened, written)]
        print(f"from the kill on: decided {seconds[0]} s, opened {seconds[1]} s, written {seconds[2]} s")  # noqa: T201 - the figures, with -s
        # A try a second, each of up to a second and more on a busy machine.
        assert seconds[0] < WINDOW_SECONDS + 3.0
        # The old one comes back; nothing is done about it, and nobody goes back.
        bench.verb("power-on", "a-db1")
        bench.verb("power-off", "b-db1")
        time.sleep(4 * WINDOW_SECONDS)
        assert [said.get("action") for said in guardian.said].count("act") == 1


@contextmanager
def kept_armed(bench: Bench) -> Iterator[None]:
    """What docs/automatic.md keeps beside the watcher: the run that the watcher would start, armed."""
    inputs = {"dr_mode": "disaster", "dr_scope": "site", "dr_target_site": "b", **POLICY["dr_automatic_inputs"]}
    words = [word for name, value in inputs.items() for word in ("-e", f"{name}={value}")]
    run = subprocess.Popen(
        [BIN / "relevo", "arm", "failover", "-i", INVENTORY, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env=bench.environment,
        start_new_session=True,
    )
    try:
        bench.wait("a run is armed", lambda: any(one.ready for one in armed.waiting(Place(bench.store, ""))), 120)
        yield
    finally:
        if run.poll() is None:
            kill_all(run.pid)


def seconds_from_the_kill(bench: Bench, directory: Path) -> dict[str, float]:
    """To the first try in vain, the decision, the word to the armed run, and the first write through the application on the other side."""
    bench.verb("reset", "protected")
    bench.wait_until_serving()
    with guarded(bench, directory) as guardian, kept_armed(bench):
        load(bench, 100)
        killed = datetime.now().astimezone()
        bench.verb("power-off", "a-db1")
        bench.wait("the run has ended", lambda: "run_ended" in guardian.events(), 180)
        ended = next(said for said in guardian.said if said["event"] == "run_ended")
        assert ended["verdict"] == "passed", ended
        record = bench.record(ended["run_id"])
        assert record["run"]["armed"]["by"].startswith("relevo watch")
        assert_served_by_b(bench)
        decision = guardian.decision("act")
        moments = {
            "failed": min(word["first_failed_at"] for word in decision["evidence"]["vantage_points"] if word["first_failed_at"]),
            "decided": decision["decided_at"],
            "told": record["run"]["armed"]["go_at"],
            "written": record["measures"]["first_write_at"],
        }
        return {name: (datetime.fromisoformat(at) - killed).total_seconds() for name, at in moments.items()}


def test_with_an_armed_run_the_other_site_takes_writes_within_ten_seconds_of_the_kill(bench: Bench, tmp_path: Path) -> None:
    """The median of five."""
    rounds = [seconds_from_the_kill(bench, tmp_path) for _ in range(5)]
    print("\n".join(" ".join(f"{name} {seconds:.2f} s" for name, seconds in found.items()) for found in rounds))  # noqa: T201 - with -s
    assert statistics.median(found["written"] for found in rounds) <= 10.0
