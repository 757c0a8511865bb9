"""The guard with its self-fence armed: who stops, in what time, who does not, and what people do by hand."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from .conftest import DRILL, INVENTORY, ROOT, SNAPSHOT, Bench, Run, kill_all
from .test_failback import power_on
from .test_refusals import standing_still

pytestmark = pytest.mark.full

T = 20
# What the proof waits beyond the lease, as module_utils/lease.py has it, and a little for the looking itself.
PROVEN = T + 10 + 3
ARMED = "guard-armed"
GUARD = "/usr/local/lib/relevo/relevo-guard"
LEASE = {"dr_accept_fence": "lease_expired", "dr_reason": "the link of site a is down", "dr_accept_loss_seconds": "600"}
ELSEWHERE = ("wit1", "b-db1", "b-app1", "b-store1", "a-store1", "b-scratch", "controller")


def armed_inventory(place: Path) -> Path:
    """The laboratory's, with the self-fence armed and without a power switch."""
    copy = place / "lab"
    shutil.copytree(INVENTORY, copy)
    path = copy / "group_vars/all.yml"
    text = path.read_text()
    old = "dr_fence_providers: [service, command]"
    assert old in text
    kept = [line for line in text.splitlines() if not line.startswith("dr_fence_command_")]
    path.write_text("\n".join(kept).replace(old, f"dr_fence_providers: [service, lease]\ndr_guard_self_fence_seconds: {T}") + "\n")
    return copy


@pytest.fixture(scope="module")
def armed_once(protected: Bench, tmp_path_factory) -> Iterator[Bench]:
    """The protected cluster with its self-fence armed, kept as a snapshot of its own."""
    protected.verb("reset", SNAPSHOT)
    protected.wait_until_serving()
    bench = protected.with_inventory(armed_inventory(tmp_path_factory.mktemp("armed")))
    run = bench.run("protect", dr_allow_restart="true")
    assert run.code == 0, run.output[-3000:]
    wait_until_heard(bench)
    bench.verb("snapshot", ARMED)
    yield bench
    bench.verb("heal-all")
    bench.verb("reset", SNAPSHOT)
    protected.wait_until_serving()


@pytest.fixture
def bench(armed_once: Bench) -> Bench:
    armed_once.verb("heal-all")
    armed_once.verb("reset", ARMED)
    armed_once.wait_until_serving()
    wait_until_heard(armed_once)
    return armed_once


def asked(bench: Bench, host: str) -> dict[str, Any]:
    """What the guard says of its watch."""
    answer = bench.inside(host, GUARD, "check", check=False)
    found: dict[str, Any] = json.loads(answer)["watch"] if answer.startswith("{") else {}
    return found


def watch_pid(bench: Bench) -> str:
    return bench.inside("a-db1", "systemctl", "show", "--value", "--property=MainPID", "relevo-guard.service")


def kept_lease(bench: Bench) -> dict[str, Any]:
    """What the watch keeps of its lease: read from its file, for the guard itself is slow to answer where nobody answers it."""
    found: dict[str, Any] = json.loads(bench.inside("a-db1", "cat", "/run/relevo-guard/watch.json"))
    return found


def unheard_seconds(bench: Bench) -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) - float(kept_lease(bench)["heard"])


def heard(bench: Bench) -> bool:
    """Alive, and heard by all three: the witness, the other site's application host, the standby's guard."""
    state = asked(bench, "a-db1")
    return bool(state.get("alive")) and bool(state.get("heard_from")) and state["heard_age_seconds"] < 5


def wait_until_heard(bench: Bench) -> None:
    bench.wait("the primary is heard", lambda: heard(bench), 60, 0.5)
    counts = "select string_agg(observer || '=' || count, ' ' order by observer) from relevo.observation where observer <> 'a-db1'"
    before = dict(pair.split("=") for pair in bench.sql("a-db1", counts).split())

    def all_write() -> bool:
        after = dict(pair.split("=") for pair in bench.sql("a-db1", counts).split())
        return all(int(after[name]) > int(before[name]) + 2 for name in ("wit1", "b-app1", "b-db1"))

    bench.wait("every giver writes", all_write, 60, 0.5)


def isolate(bench: Bench) -> None:
    """From everything but its local application."""
    for other in ELSEWHERE:
        bench.verb("cut", "a-db1", other)


def processes(bench: Bench, host: str) -> str:
    return bench.inside(host, "pgrep", "-u", "postgres", "-x", "postgres", check=False)


class Writer(threading.Thread):
    """The local application's clients: one write after the other, each with the time of its acknowledgement."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[float] = []
        self._bench, self._ended = bench, threading.Event()
        self._token = (bench.lab.state / "secrets" / "ledger_token").read_text().strip()

    def run(self) -> None:
        number = 0
        while not self._ended.is_set():
            number += 1
            body = json.dumps({"reference": f"local-{time.time_ns()}-{number}"})
            words = ["curl", "-s", "-m", "2", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Content-Type: application/json"]
            words += ["-H", f"Authorization: Bearer {self._token}", "-d", body, "http://127.0.0.1:8080/ledger"]
            if self._bench.inside("a-app1", *words, check=False) == "201":
                self.acknowledged.append(time.monotonic())
            time.sleep(0.1)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join(30)


def never_writable(bench: Bench, host: str, seconds: float) -> None:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        assert not bench.writable(host)
        time.sleep(0.2)


def switch_off_and_on(bench: Bench, host: str) -> None:
    """A host that is cut off may be long in coming up as a whole: its guard and the start of PostgreSQL are what is waited for."""
    bench.verb("power-off", host)
    bench.verb("power-on", host)
    bench.wait("its guard is up", lambda: bool(asked(bench, host).get("alive")), 60, 0.5)
    jobs = ["systemctl", "list-jobs", "--no-legend", "postgresql*"]
    bench.wait("no start is pending", lambda: bench.inside(host, *jobs, check=False) == "", 60, 0.5)


@contextlib.contextmanager
def standing_behind_the_fence(bench: Bench, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A failover that stands still where the old primary is proven to be out of action and nothing is promoted yet; it goes on afterwards."""
    before = set((bench.store / "runs").glob("*"))
    process = bench.start("failover", **DRILL, **variables)

    def proven() -> bool:
        assert process.poll() is None, (process.stdout.read() if process.stdout else "")[-3000:]
        runs = set((bench.store / "runs").glob("*-failover-*")) - before
        return any((run / "control/handover/proof/a-db1.json").exists() for run in runs)

    bench.wait("the old primary is fenced", proven, 120, 0.001)
    with standing_still(process):
        assert not bench.writable("b-db1"), "it stood still too late"
        yield process


def assert_failed_over(bench: Bench, run: Run) -> None:
    """At once, or by the next run: what was proven may have become too old meanwhile."""
    assert run.record["verdict"] in ("passed", "partial", "failed"), run.output[-3000:]
    if run.record["verdict"] == "failed":
        again = bench.run("failover", **DRILL, **LEASE)
        assert again.code == 0, again.output[-4000:]
    assert bench.writable("b-db1")


def test_an_isolated_primary_whose_application_still_writes_stops_itself_in_time(bench, record_property):
    with Writer(bench) as writer:
        bench.wait("the application writes", lambda: len(writer.acknowledged) > 3)
        isolate(bench)
        cut_at = time.monotonic()
        bench.wait("PostgreSQL is gone", lambda: not processes(bench, "a-db1"), T + 5, 0.05)
        gone_after = time.monotonic() - cut_at
        time.sleep(1)
    written_after = writer.acknowledged[-1] - cut_at
    record_property("stopped_after_seconds", round(gone_after, 2))
    record_property("last_acknowledged_after_seconds", round(written_after, 2))
    assert 2 < written_after < T, "the local application went on until the stop"
    assert gone_after < T
    assert bench.fence("a-db1")["class"] == "self"
    assert bench.inside("a-db1", "systemctl", "is-enabled", "postgresql@17-main.service", check=False) in ("masked", "")
    assert bench.journal("a-db1")[-1]["decision"] == "self-fence"
    assert bench.journal("a-db1")[-1]["late_seconds"] < 0

    # Cut off it is never writable again, switched off and on or not; and its lease is a proof only when its time is over and somebody says so.
    bench.verb("heal", "a-db1", "controller")  # which is how the laboratory sees that a host is on again
    switch_off_and_on(bench, "a-db1")
    assert not bench.writable("a-db1")
    bench.verb("cut", "a-db1", "controller")
    refused = bench.run("failover", **DRILL)
    assert refused.code != 0
    assert refused.record["verdict"] == "refused"
    assert "dr_accept_fence" in refused.output.replace("\n", " ")
    bench.wait("the lease is over", lambda: time.monotonic() > cut_at + PROVEN, PROVEN)
    run = bench.run("failover", **DRILL, **LEASE)
    assert run.record["verdict"] == "partial", run.output[-4000:]
    assert run.record["fence"]["class"] == "lease_expired"
    assert bench.writable("b-db1")

    # The link heals: what it wrote alone makes its data another way, and no word of ours lifts that.
    bench.verb("heal-all")
    never_writable(bench, "a-db1", 5)
    lifted = bench.inside("a-db1", GUARD, "lift", "--reason", "the link is back", check=False)
    assert "NOT lifted" in lifted
    assert "another way" in lifted
    assert bench.fence("a-db1")


def test_without_the_witness_or_without_the_other_site_nothing_stops(bench):
    bench.verb("cut", "a-db1", "wit1")
    time.sleep(T + 5)
    assert bench.writable("a-db1")
    assert not bench.fence("a-db1")
    bench.verb("heal", "a-db1", "wit1")
    bench.wait("the primary is heard", lambda: asked(bench, "a-db1").get("heard_age_seconds", 99) < 5, 30, 0.5)
    for other in ("b-db1", "b-app1"):
        bench.verb("cut", "a-db1", other)
    time.sleep(T + 5)
    assert bench.writable("a-db1")
    assert not bench.fence("a-db1")
    # The proof by lease knows it as well: the controller alone has lost the primary.
    bench.verb("cut", "a-db1", "controller")
    run = bench.run("failover", **DRILL, **LEASE)
    assert run.record["verdict"] == "refused", run.output[-3000:]
    assert bench.writable("a-db1")
    assert not bench.writable("b-db1")


def test_a_crashed_server_whose_number_another_process_has_now_starts(bench):
    """As after a power cut, when numbers are given out anew: pg_ctlcluster takes whatever has its number, and `postgres` in its words, for the server."""
    unit, number = "postgresql@*-main.service", "/var/lib/postgresql/*/main/postmaster.pid"
    bench.inside("b-db1", "sh", "-c", f"systemctl kill -s KILL '{unit}'")
    bench.wait("it is dead", lambda: bench.inside("b-db1", "sh", "-c", f"systemctl is-active '{unit}'", check=False) != "active")
    other = "setsid bash -c 'exec -a \"postgres of somebody else\" sleep 600' >/dev/null 2>&1 & echo $!"
    pid = bench.inside("b-db1", "sh", "-c", other)
    bench.inside("b-db1", "sh", "-c", f"cd / && for file in {number}; do sed -i 1s/.*/{pid}/ $file; done")
    bench.inside("b-db1", "sh", "-c", "systemctl reset-failed && systemctl start postgresql@$(ls /etc/postgresql)-main.service")
    bench.wait_until_serving()


def test_a_watch_that_is_killed_comes_back_and_a_planned_stop_is_no_fence(bench):
    before = watch_pid(bench)
    bench.inside("a-db1", "kill", "-9", before)
    bench.wait("another watch", lambda: watch_pid(bench) not in ("0", before) and asked(bench, "a-db1")["alive"], 10)
    # One that hangs is no better than one that is dead.
    hanging = watch_pid(bench)
    bench.inside("a-db1", "kill", "-STOP", hanging)
    bench.wait("a third one", lambda: watch_pid(bench) not in ("0", hanging) and asked(bench, "a-db1")["alive"], 20)
    bench.inside("a-db1", "systemctl", "stop", "relevo-guard.service")
    isolate(bench)
    time.sleep(T + 5)
    assert bench.writable("a-db1")
    assert asked(bench, "a-db1")["alive"] is False
    bench.verb("heal-all")
    status = bench.relevo("status", "minimarket", "-i", str(bench.inventory)).stdout
    assert "self-fence of a-db1 is wanted and dead" in " ".join(status.split())
    bench.inside("a-db1", "systemctl", "start", "relevo-guard.service")
    bench.wait("the primary is heard", lambda: heard(bench), 30, 0.5)
    assert bench.writable("a-db1")


def test_a_host_that_thaws_after_its_lease_stops_before_it_writes(bench, record_property):
    with bench.frozen("a-db1"):
        time.sleep(PROVEN)
        run = bench.run("failover", **DRILL, **LEASE)
        assert run.record["verdict"] == "partial", run.output[-4000:]
        assert run.record["fence"]["class"] == "lease_expired"
        assert bench.writable("b-db1")
    thawed = time.monotonic()
    bench.wait("PostgreSQL is gone", lambda: not processes(bench, "a-db1"), 5, 0.02)
    record_property("stopped_after_thaw_seconds", round(time.monotonic() - thawed, 2))
    never_writable(bench, "a-db1", 5)
    bench.wait("it is marked", lambda: bool(bench.fence("a-db1")), 10)
    log = bench.lab.root(bench.lab.host("wit1")) / "var/lib/relevo-ledger/observer.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
    promoted = next(phase["ended_at"] for phase in run.record["phases"] if phase["name"] == "PROMOTE")
    late = [event for event in events if event["address"] == "a-db1" and event["outcome"] == "accepted" and event["at"] > promoted]
    # Nothing may be acknowledged beside the promoted one, however short the moment after the thaw.
    record_property("accepted_after_thaw", len(late))
    assert late == []


def arm_for(bench: Bench, seconds: int) -> None:
    settings = json.loads(bench.inside("a-db1", "cat", "/etc/relevo/guard.json"))
    bench.inside("a-db1", "tee", "/etc/relevo/guard.json", text=json.dumps({**settings, "self_fence_seconds": seconds}))
    bench.inside("a-db1", "systemctl", "restart", "relevo-guard.service")
    wait_until_heard(bench)


def test_a_watch_that_is_ended_by_a_signal_gives_an_isolated_primary_no_more_time(bench, record_property):
    # A watch takes up to eight seconds to leave, and the second one is to leave late: T leaves no room for two.
    longer = 2 * T
    arm_for(bench, longer)
    isolate(bench)
    cut_at = time.monotonic()
    bench.wait("nobody hears it", lambda: unheard_seconds(bench) > 4, T, 0.1)
    first, heard_at = watch_pid(bench), kept_lease(bench)["heard"]
    bench.inside("a-db1", "kill", f"-{int(signal.SIGTERM)}", first)
    bench.wait(
        "another watch", lambda: watch_pid(bench) not in ("0", first) and kept_lease(bench)["self_fence_seconds"] == longer, T
    )
    assert kept_lease(bench)["heard"] == heard_at, "it goes on with the same lease"
    assert bench.writable("a-db1")
    # Once more, shortly before the stop begins.
    bench.wait("it is late", lambda: unheard_seconds(bench) > longer - 8, longer, 0.1)
    bench.inside("a-db1", "kill", f"-{int(signal.SIGTERM)}", watch_pid(bench))
    bench.wait("PostgreSQL is gone", lambda: not processes(bench, "a-db1"), T, 0.05)
    record_property("stopped_after_seconds", round(time.monotonic() - cut_at, 2))
    assert time.monotonic() - cut_at < longer
    bench.wait("it is marked", lambda: bool(bench.fence("a-db1")), 10)
    assert bench.fence("a-db1")["class"] == "self"


def test_a_host_of_the_old_primary_that_is_power_cycled_between_fence_and_promotion(bench):
    with standing_behind_the_fence(bench) as process:
        assert bench.fence("a-db1")["class"] == "stopped"
        bench.verb("power-off", "a-db1")
        power_on(bench, "a-db1")
        never_writable(bench, "a-db1", 5)
        assert not bench.writable("b-db1"), "nothing was promoted meanwhile"
    run = bench.finish(process)
    never_writable(bench, "a-db1", 3)
    assert_failed_over(bench, run)
    # Neither by itself nor by hand, with the new primary in sight.
    unit = "systemctl start postgresql@$(ls /etc/postgresql)-main.service"
    bench.inside("a-db1", "sh", "-c", unit, check=False)
    said = bench.inside("a-db1", GUARD, "start", "--reason", "it was on all the time", check=False)
    assert "must NOT start" in said
    never_writable(bench, "a-db1", 5)
    assert bench.fence("a-db1")


def test_a_host_of_the_old_primary_that_thaws_between_fence_and_promotion(bench, record_property):
    with bench.frozen("a-db1"):
        time.sleep(PROVEN)
        with standing_behind_the_fence(bench, **LEASE) as process:
            bench.freeze("a-db1", frozen=False)
            thawed = time.monotonic()
            bench.wait("PostgreSQL is gone", lambda: not processes(bench, "a-db1"), 5, 0.02)
            record_property("stopped_after_thaw_seconds", round(time.monotonic() - thawed, 2))
            never_writable(bench, "a-db1", 3)
            assert not bench.writable("b-db1"), "nothing was promoted meanwhile"
        run = bench.finish(process)
    never_writable(bench, "a-db1", 3)
    assert_failed_over(bench, run)
    never_writable(bench, "a-db1", 3)
    assert bench.fence("a-db1")["class"] in ("self", "stopped")


def test_by_hand_nothing_is_lifted_or_started_while_a_run_is_at_work(bench):
    with standing_behind_the_fence(bench) as process:
        held = bench.lock_of("a-db1")
        assert held
        for verb in ("lift", "start"):
            said = bench.inside("a-db1", GUARD, verb, "--reason", "I want it back", check=False)
            assert held["run_id"] in said
        assert bench.fence("a-db1")
        assert not bench.writable("a-db1")
    assert_failed_over(bench, bench.finish(process))
    assert bench.lock_of("a-db1") is None


def test_a_partition_that_heals_in_the_middle_of_the_failover(bench):
    isolate(bench)
    time.sleep(PROVEN)
    process = bench.start("failover", **DRILL, **LEASE)
    bench.wait("the run holds its lock", lambda: bench.lock_of("b-db1") is not None, 60, 0.02)
    bench.verb("heal-all")
    run = bench.finish(process)
    assert run.record["verdict"] in ("partial", "failed"), run.output[-3000:]
    never_writable(bench, "a-db1", 5)
    if run.record["verdict"] == "failed":
        assert bench.run("failover", **DRILL, **LEASE).code == 0
    assert bench.writable("b-db1")
    assert bench.fence("a-db1")["class"] in ("self", "stopped")


def test_a_frozen_postgresql_is_ended_when_its_lease_is(bench):
    bench.verb("freeze-postgresql", "a-db1")
    frozen_at = time.monotonic()
    bench.wait("PostgreSQL is gone", lambda: not processes(bench, "a-db1"), T + 5, 0.1)
    assert time.monotonic() - frozen_at < T
    assert bench.fence("a-db1")["class"] == "self"


def test_a_full_disk_does_not_keep_an_isolated_primary_alive(bench):
    bench.verb("fill", "a-db1", "/var/lib/postgresql")
    try:
        isolate(bench)
        cut_at = time.monotonic()
        bench.wait("PostgreSQL is gone", lambda: not processes(bench, "a-db1"), T + 5, 0.1)
        assert time.monotonic() - cut_at < T
    finally:
        bench.verb("unfill", "a-db1")
    bench.verb("heal", "a-db1", "controller")
    switch_off_and_on(bench, "a-db1")
    never_writable(bench, "a-db1", 3)


# -- docs/by_hand.md: each line as it stands there --


def blocks(section: str) -> list[list[tuple[str, str]]]:
    """The commands of a section, block by block, each with where it is typed."""
    page = (ROOT / "docs/by_hand.md").read_text()
    text = re.search(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL).group(1)
    return [
        [re.fullmatch(r"([a-z0-9-]+)[#$] (.+)", line).groups() for line in block.splitlines()]
        for block in re.findall(r"```\n(.*?)```", text, re.DOTALL)
    ]


def walk(bench: Bench, commands: list[tuple[str, str]], *, check: bool = True) -> list[str]:
    """Type them, in order. A host that reboots is waited for."""
    version = bench.inside("a-db1", "sh", "-c", "ls /usr/lib/postgresql")
    said = []
    for place, command in commands:
        command = command.replace("postgresql@17-main", f"postgresql@{version}-main")
        if place == "controller":
            words = command.replace("INVENTORY", str(bench.inventory)).split()
            done = bench.relevo(*words[1:], "--json")
            said.append(done.stdout)
        elif command == "systemctl reboot":
            started = bench.leader(place)
            bench.inside(place, "sh", "-c", command, check=False)

            def rebooted(place: str = place, started: int = started) -> bool:
                try:
                    up = bench.leader(place) != started
                except Exception:  # noqa: BLE001 - between two lives of a host there is no process 1
                    return False
                return up and bench.inside(place, "systemctl", "is-system-running", check=False) in ("running", "degraded")

            # A standby that is gone is waited for up to wal_sender_timeout before it goes down, and once more by the guard when it comes up.
            bench.wait(f"{place} is back", rebooted, 300, 0.5)
            said.append("")
        else:
            said.append(bench.inside(place, "sh", "-c", command, check=check))
    return said


def state_after(bench: Bench, condition: str, seconds: float = 90) -> dict[str, Any]:
    """relevo status, asked until it says so."""
    found: dict[str, Any] = {}

    def said() -> bool:
        done = bench.relevo("status", "minimarket", "-i", str(bench.inventory), "--json")
        found.clear()
        found.update(json.loads(done.stdout))
        return condition in json.dumps(found)

    limit = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < limit, f"status does not say {condition}: {found}"
        time.sleep(1)
    return found


@pytest.mark.parametrize("section", ["Reboot a standby", "Reboot a primary", "Patch"])
def test_by_hand_a_host_goes_down_and_comes_back(bench, section):
    walk(bench, blocks(section)[0])
    bench.wait_until_serving()
    state = state_after(bench, '"protected": true')
    assert state["primary"] == "a-db1"
    assert not bench.fence("a-db1")
    wait_until_heard(bench)


def test_by_hand_a_primary_that_came_back_alone(bench):
    bench.verb("power-off", "b-db1")
    walk(bench, blocks("Reboot a primary")[0][1:2])
    state = state_after(bench, "holds it read-only")
    assert state["primary"] is None
    assert "relevo-guard start" in state["next"]
    walk(bench, blocks("Reboot a primary")[1])
    assert bench.writable("a-db1")


def test_by_hand_a_cut_on_purpose(bench):
    [(stop, start)] = [blocks("Cut or freeze a primary on purpose")[0]]
    walk(bench, [stop])
    assert kept_lease(bench)["told"] is True, "a giver has seen that nobody watches any more"
    with bench.frozen("a-db1"):
        time.sleep(T + 3)
    assert bench.writable("a-db1")
    walk(bench, [start])
    wait_until_heard(bench)
    assert not bench.fence("a-db1")


def test_by_hand_a_stale_lock(bench):
    process = bench.start("failover", **DRILL)
    bench.wait("the run holds its lock", lambda: bench.lock_of("b-db1") is not None, 60, 0.02)
    kill_all(process.pid)
    process.wait()
    state = json.loads(walk(bench, [("controller", "relevo status minimarket -i INVENTORY")])[0])
    assert state["interrupted_run"]
    assert "start failover again" in state["next"]
    locked = [host for host in ("a-db1", "b-db1", "a-app1", "b-app1") if bench.lock_of(host)]
    bench.wait("no module is at work", lambda: bench.inside("b-db1", "pgrep", "-f", "AnsiballZ", check=False) == "", 90, 0.5)
    cat, flock, remove, status = blocks("Unlock")[0]
    for host in locked:
        walk(bench, [(host, cat[1]), (host, flock[1]), (host, remove[1])])
    assert json.loads(walk(bench, [status])[0])["lock"] is None


def test_by_hand_a_fence_after_a_false_alarm_and_one_without_anybody_left(bench):
    isolate(bench)
    bench.wait("it has stopped itself", lambda: bool(bench.fence("a-db1")) and not processes(bench, "a-db1"), T + 5)
    # Alone it cannot know, and nothing changes.
    refused = bench.inside("a-db1", "sh", "-c", blocks("Lift a fence")[0][1][1], check=False)
    assert "NOT lifted" in refused
    assert "--gone b-db1" in refused
    assert bench.fence("a-db1")
    bench.verb("heal-all")
    state = state_after(bench, "stopped itself")
    assert "relevo-guard lift" in state["next"]
    walk(bench, blocks("Lift a fence")[0])
    assert bench.writable("a-db1")
    assert not bench.fence("a-db1")
    wait_until_heard(bench)

    # The other site is lost, and this one stopped itself before anybody knew.
    for host in ("b-db1", "b-app1", "wit1"):
        bench.verb("power-off", host)
    bench.wait("it has stopped itself", lambda: bool(bench.fence("a-db1")) and not processes(bench, "a-db1"), T + 5)
    *until_start, say = blocks("Lift a fence")[1]
    walk(bench, until_start)
    assert not bench.writable("a-db1"), "it is held until somebody answers for it"
    walk(bench, [say])
    assert bench.writable("a-db1")


def test_two_signals_reach_the_watch(bench):
    """A process group that is interrupted, as by a shell that ends, stops the watch and nothing else; systemd starts it again."""
    pid = watch_pid(bench)
    bench.inside("a-db1", "kill", f"-{int(signal.SIGTERM)}", pid)
    bench.wait("it is back", lambda: watch_pid(bench) not in ("0", pid) and asked(bench, "a-db1").get("alive") is True, 15)
    assert bench.writable("a-db1")
    wait_until_heard(bench)
