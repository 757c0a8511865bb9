"""A watcher as a whole: real streams of real files, its decisions kept in the store's chain, and one run, once."""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relevo import (
    armed,
    attention,
    automatic,
    clerk,
    clock,
    entries,
    identity,
    journal,
    lookout,
    maintenance,
    signature,
    trigger,
    watcher,
)
from relevo.automatic import Cluster, Host
from relevo.decision import Automatic, Policy
from relevo.errors import RelevoError, UsageError
from relevo.paths import Place
from relevo.store import Store
from relevo.streams import Stream, Told

ROOT = Path(__file__).resolve().parents[3]
A, B = "a-db1", "b-db1"
LIMIT_SECONDS = 90


def host(name: str, site: str, *, observes: bool, database: bool) -> Host:
    return Host(name, site, name, observes, database, (), sys.executable)


HOSTS = (
    host("wit1", "w", observes=True, database=False),
    host("b-app1", "b", observes=True, database=False),
    host(B, "b", observes=False, database=True),
)


class Observers:
    """Writes what both observers log, as they do: ten times a second, so that a test is short."""

    def __init__(self, directory: Path) -> None:
        self.primary = {"wit1": "accepted", "b-app1": "accepted"}
        self.logs = {name: directory / f"{name}.jsonl" for name in self.primary}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stopping.is_set():
            for name, log in self.logs.items():
                for address, outcome in ((A, self.primary[name]), (B, "read_only")):
                    now = clock.boottime_seconds()
                    line = {"at": clock.utc_now(), "mono": now - 0.01, "end_mono": now, "boot_id": self._boot}
                    with log.open("a") as target:
                        target.write(json.dumps({**line, "address": address, "outcome": outcome, "timeline": 1}) + "\n")
            self._stopping.wait(0.1)


class Scene:
    """A watcher, its world, and what it said."""

    def __init__(self, directory: Path, automatic: Automatic, **changed: Any) -> None:
        self.directory, self.place = directory, Place(directory / "state", f"sqlite:///{directory}/store.db")
        self.observers = Observers(directory)
        self.said: list[dict[str, Any]] = []
        self.ran = directory / "ran"
        policy = Policy(automatic, "b", {A: "a", B: "b"}, window_seconds=0.6, restart_seconds=30.0)
        inputs = {"dr_mode": "disaster", "dr_scope": "site", "dr_target_site": "b", "dr_accept_loss_seconds": "5"}
        cluster = Cluster("minimarket", policy, inputs, HOSTS, None, 600.0)
        watch = watcher.Watch(
            self.place, ROOT, ("inventory",), cluster, None, False, Told("minimarket", lock=str(directory / "lock.json"))
        )
        self.watch = replace(watch, **changed)
        self.start()

    def start(self) -> None:
        self.watcher = watcher.Watcher(self.watch, lambda said: self.said.append(dict(said)))
        for stream in self.watcher._streams:
            log = self.observers.logs.get(stream.host.name, self.directory / "none")
            stream._program = stream._program.replace(b"/var/lib/relevo-ledger/observer.jsonl", str(log).encode())
        self._thread = threading.Thread(target=self.watcher.run)
        self._thread.start()

    def stop(self) -> None:
        self.watcher.stop()
        self._thread.join()

    def close(self) -> None:
        self.stop()
        self.observers.stop()

    def wait(self, what: Callable[[], bool]) -> None:
        limit = time.monotonic() + LIMIT_SECONDS
        while not what():
            assert time.monotonic() < limit, self.said
            time.sleep(0.05)

    def events(self) -> list[tuple[str, str | None]]:
        return [(said["event"], said.get("action")) for said in self.said]

    def kill(self) -> None:
        self.observers.primary = dict.fromkeys(self.observers.primary, "unreachable")

    def kept(self) -> list[entries.Entry]:
        return [entries.parse(signed.document) for signed in Store(self.place).statements(clerk.KIND)]

    def say(self, kind: str, event: str, said: dict[str, Any]) -> None:
        speaker = entries.Speaker("sre", "here", clock.parse_utc(clock.utc_now()))
        entry = entries.make(speaker, kind, "minimarket", event, said)
        entries.append(Store(self.place), entry, signature.ready_key(self.place.keys))


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Scene]]:
    """Makes a scene in which `relevo` is a script that writes down how it was called."""
    program = tmp_path / "bin" / "relevo"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nfor word; do echo "$word"; done >> {tmp_path}/ran\necho started; printf \'{{\\n"run_id": "R", "verdict": "passed"}}\\n\'\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(trigger, "sys", type("sys", (), {"executable": str(program.with_name("python"))}))
    monkeypatch.setattr(attention, "_SETTLE_SECONDS", dict.fromkeys(attention._SETTLE_SECONDS, 0.3))
    scenes: list[Scene] = []

    def make(automatic: Automatic, **changed: Any) -> Scene:
        scenes.append(Scene(tmp_path, automatic, **changed))
        scenes[0].wait(lambda: ("healthy", "none") in scenes[0].events())
        return scenes[0]

    yield make
    for scene in scenes:
        scene.close()


def test_an_outage_starts_the_run_once_and_every_decision_is_in_the_chain(stage: Callable[..., Scene]) -> None:
    scene = stage(Automatic.ACT)
    killed = clock.boottime_seconds()
    scene.kill()
    scene.wait(lambda: "run_ended" in dict(scene.events()))
    assert clock.boottime_seconds() - killed >= 0.5

    words = scene.ran.read_text().splitlines()
    assert words[:4] == ["run", "failover", "-i", "inventory"]
    assert words[-1] == "--json"
    given = dict(word.split("=", 1) for word in words if word.startswith("dr_"))
    assert given.pop("dr_failed_at").endswith("Z")
    assert given == {
        "dr_mode": "disaster",
        "dr_scope": "site",
        "dr_target_site": "b",
        "dr_accept_loss_seconds": "5",
        "dr_reason": "automatic: a-db1 is lost",
        "dr_confirm": "failover minimarket to b",
    }
    # Another watcher, after a crash of this one, finds the mark.
    scene.stop()
    scene.start()
    scene.wait(lambda: ("outage", "none") in scene.events()[-1:])
    assert "its one run was decided at" in scene.said[-1]["because"]
    scene.stop()
    assert scene.ran.read_text().splitlines() == words

    kept = scene.kept()
    assert [entry.event for entry in kept].count("run_ended") == 1
    assert next(entry for entry in kept if entry.event == "outage").said["action"] == "act"
    ended = next(entry for entry in kept if entry.event == "run_ended")
    assert ended.said["run_id"] == "R"
    assert ended.said["verdict"] == "passed"


def test_a_proposal_is_a_plan_and_one_command_and_starts_nothing(stage: Callable[..., Scene]) -> None:
    scene = stage(Automatic.PROPOSE)
    scene.kill()
    scene.wait(lambda: ("outage", "propose") in scene.events())
    said = next(said for said in scene.said if said["event"] == "outage")
    assert said["command"].startswith("relevo run failover -i inventory -e dr_mode=disaster -e dr_scope=site")
    assert "-e 'dr_confirm=failover minimarket to b'" in said["command"]
    assert not scene.ran.exists()


def test_one_observer_that_is_cut_off_starts_nothing(stage: Callable[..., Scene]) -> None:
    scene = stage(Automatic.ACT)
    scene.observers.primary["wit1"] = "unreachable"
    scene.wait(lambda: ("partition", "none") in scene.events())
    scene.observers.primary["wit1"] = "accepted"
    scene.wait(lambda: scene.events()[-1] == ("healthy", "none"))
    assert not scene.ran.exists()


def test_maintenance_and_a_lock_keep_it_still_and_it_acts_when_they_are_over(stage: Callable[..., Scene]) -> None:
    scene = stage(Automatic.ACT)
    scene.say(
        maintenance.KIND, maintenance.STARTED, {"reason": "patches", "seconds": 600.0, "until": "2126-01-01T00:00:00.000000Z"}
    )
    (scene.directory / "lock.json").write_text('{"run_id": "20261128T030000Z-switchover-1f3a", "since": "now"}')
    scene.wait(lambda: scene.watcher._clerk.maintenance(clock.boottime_seconds()) is not None)
    scene.kill()
    scene.wait(lambda: ("outage", "none") in scene.events())
    assert "planned maintenance until 2126-01-01 00:00:00 UTC, said by sre: patches" in scene.said[-1]["because"]
    scene.say(maintenance.KIND, maintenance.STOPPED, {})
    scene.wait(lambda: "is locked by the run 20261128T030000Z-switchover-1f3a" in scene.said[-1]["because"])
    assert not scene.ran.exists()
    (scene.directory / "lock.json").unlink()
    scene.wait(lambda: ("outage", "act") in scene.events())


def test_a_decision_that_the_store_does_not_take_waits_and_is_kept_once(stage: Callable[..., Scene]) -> None:
    scene = stage(Automatic.PROPOSE)
    scene.stop()
    store = scene.directory / "store.db"
    store.rename(scene.directory / "away.db")
    store.mkdir()
    own = clerk.Clerk(scene.place, "minimarket", scene.directory / "own")
    entry = own.note("outage", {"action": "propose"})
    own.start()
    own.stop()
    assert own.problem
    assert [path.stem.split()[1] for path in (scene.directory / "own/spool").iterdir()] == [entry.entry_id]
    store.rmdir()
    (scene.directory / "away.db").rename(store)
    # Kept, and killed before it was taken off the spool.
    entries.append(Store(scene.place), entry, signature.ready_key(scene.place.keys))
    again = clerk.Clerk(scene.place, "minimarket", scene.directory / "own")
    again.start()
    again.stop()
    assert list((scene.directory / "own/spool").iterdir()) == []
    assert [one.entry_id for one in scene.kept()].count(entry.entry_id) == 1


WAITING = armed.Waiting(Path("none"), "R", "minimarket", True, "", 1.0, 1.0, 1, None, "", (), "failover minimarket to b", {})


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An armed run stands there, and does not go."""
    monkeypatch.setattr(armed, "fitting", lambda *_: WAITING)
    monkeypatch.setattr(armed, "say", lambda *_, **__: armed.Answer(granted=False, sentences=("G07 is red.",)))
    monkeypatch.setattr(armed, "ended", lambda _: None, raising=False)


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> list[watcher.Notice]:
    """What people hear; a watch needs contacts for that."""
    heard: list[watcher.Notice] = []
    monkeypatch.setattr(watcher, "_send", lambda _contacts, letter: heard.append(letter))
    return heard


@pytest.mark.usefixtures("refusing")
@pytest.mark.parametrize("stopped", [False, True], ids=["watching", "stopped meanwhile"])
def test_a_run_that_was_announced_and_could_not_be_started_is_a_persons_and_kept(
    stage: Callable[..., Scene], letters: list[watcher.Notice], monkeypatch: pytest.MonkeyPatch, *, stopped: bool
) -> None:
    told = threading.Event()

    def launch(*_: object) -> None:
        told.wait(LIMIT_SECONDS)
        message = "The run could not be started: no space left on device."
        raise RelevoError(message)

    monkeypatch.setattr(trigger.Trigger, "_launch", launch)
    scene = stage(Automatic.ACT, contacts=Path("contacts"))
    scene.kill()
    scene.wait(lambda: ("armed_run", None) in scene.events())
    assert (
        "R was told to go, and does not: G07 is red."
        in next(said for said in scene.said if said["event"] == "armed_run")["because"]
    )
    if stopped:
        scene.watcher.stop()
        time.sleep(0.5)
    told.set()
    scene.wait(lambda: ("outage", "propose") in scene.events())
    scene.stop()
    said = next(said for said in scene.said if said.get("action") == "propose")
    assert said["because"].endswith(" The run could not be started: no space left on device.")
    assert "-e 'dr_reason=proposed by relevo watch: a-db1 is lost'" in said["command"]
    assert {"act", "propose"} <= {entry.said.get("action") for entry in scene.kept()}
    assert any(letter.title.startswith("FAILOVER STARTED") for letter in letters)
    (decide,) = [letter for letter in letters if letter.title.startswith("DECIDE")]
    assert said["command"] in decide.text


@pytest.mark.usefixtures("refusing")
def test_without_room_for_a_thread_it_goes_on_proposes_and_people_hear_it(
    stage: Callable[..., Scene], letters: list[watcher.Notice], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        message = "can't start new thread"
        raise RuntimeError(message)

    scene = stage(Automatic.ACT, contacts=Path("contacts"))
    with monkeypatch.context() as exhausted:
        exhausted.setattr(threading.Thread, "start", start)
        scene.kill()
        scene.wait(lambda: ("outage", "none") in scene.events())
    assert ("outage", "act") not in scene.events()
    said = next(said for said in scene.said if said.get("action") == "propose")
    assert said["because"].endswith(" The run could not be started: can't start new thread.")
    assert letters[0].title.startswith("DECIDE")
    assert scene._thread.is_alive()


def test_armed_runs_that_cannot_be_read_keep_nobody_from_the_run_that_is_started(
    stage: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fitting(*_: object) -> None:
        # The mark is not spent yet: what goes wrong here costs nothing.
        assert not (scene.watcher._directory / trigger.ACTED).exists()
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(armed, "fitting", fitting)
    scene = stage(Automatic.ACT)
    scene.kill()
    scene.wait(lambda: "run_ended" in dict(scene.events()))
    assert ("outage", "act") in scene.events()


def gate(name: str, verdict: str) -> dict[str, str]:
    return {
        "id": name,
        "title": "a backup is there",
        "host": B,
        "observed": "none",
        "expected": "one",
        "next_action": "make one",
        "verdict": verdict,
    }


@pytest.mark.parametrize(
    ("event", "name"),
    [("archive_stalled", "G03"), ("backup_missing", "G05"), ("rpo_at_risk", "G08"), ("check_missing", None)],
)
def test_each_slow_event_is_said_and_told_and_again_after_it_was_gone(
    stage: Callable[..., Scene],
    letters: list[watcher.Notice],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    event: str,
    name: str | None,
) -> None:
    program, deadman = tmp_path / "status" / "relevo", tmp_path / "deadman"
    program.parent.mkdir()
    deadman.mkdir()
    program.write_text(f"#!/bin/sh\n[ $1 = status ] && cat {tmp_path}/gates\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(lookout, "sys", type("sys", (), {"executable": str(program.with_name("python"))}))
    scene = stage(
        Automatic.ACT, contacts=Path("contacts"), told=Told("minimarket", lock=str(tmp_path / "lock.json"), deadman=str(deadman))
    )

    def find(verdict: str) -> None:
        if name is None:
            told = {"silence": 2.0} if verdict == "fail" else {}
            draft = tmp_path / "draft"
            draft.write_text(json.dumps({"watching_since": 1.0, "told": told}))
            draft.rename(deadman / "verify_backup@minimarket.json")
        else:
            (tmp_path / "gates").write_text(json.dumps({"gates": [gate("G01", "fail"), gate(name, verdict)]}))
            scene.watcher._lookout._look()

    def times() -> int:
        return scene.events().count((event, "none"))

    find("fail")
    scene.wait(lambda: times() == 1)
    find("fail")
    if name:
        # Whoever could not be asked has not said that it is well.
        find("unknown")
        time.sleep(0.5)
        find("fail")
    time.sleep(0.5)
    assert times() == 1
    find("pass")
    scene.wait(lambda: not scene.watcher._slow)
    find("fail")
    scene.wait(lambda: times() == 2)
    scene.stop()
    assert [entry.event for entry in scene.kept()].count(event) == 2
    assert sum(letter.title.startswith(event.replace("_", " ").upper()) for letter in letters) == 2


def test_an_alarm_of_a_witness_that_is_not_heard_for_a_while_is_no_new_one(
    stage: Callable[..., Scene], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = stage(Automatic.OFF, told=Told("minimarket", lock=str(tmp_path / "lock.json"), deadman=str(tmp_path / "none")))
    scene.stop()
    now, own = clock.boottime_seconds(), scene.watcher
    own._feeds["wit1"] = replace(own._feeds["wit1"], alarms=("verify_backup: silence",))
    heard: list[str] = []
    monkeypatch.setattr(own, "_keep", lambda event, *_: heard.append(event))
    alarm = lookout.Decision(lookout.Event.CHECK_MISSING, lookout.Action.NONE, "it is missed", {})
    late = now + 3600
    own._raise_slow([alarm], late)
    own._raise_slow([], late)
    own._raise_slow([alarm], late)
    assert heard == ["check_missing"]


def test_two_watchers_of_one_cluster_are_one_too_many(stage: Callable[..., Scene]) -> None:
    scene = stage(Automatic.OFF)
    with pytest.raises(UsageError, match="Another relevo watch of minimarket"):
        watcher.Watcher(scene.watch, lambda _: None).run()


def test_a_stream_reads_over_a_password_that_sudo_did_not_take_and_over_a_rotation(tmp_path: Path) -> None:
    log = tmp_path / "observer.jsonl"
    log.write_text('{"address": "a-db1", "outcome": "accepted"}\n')
    heard: list[dict[str, Any]] = []
    program = (ROOT / "roles/dr_ledger/files/relevo_vantage.py").read_text()
    one = replace(HOSTS[0], password="hunter2")
    told = Told("minimarket", str(log), str(tmp_path / "lock.json"), str(tmp_path))
    (tmp_path / "verify_backup@minimarket.json").write_text('{"watching_since": 1.0, "told": {"silence": 2.0}}')
    stream = Stream(one, program, lambda _name, line, _at: heard.append(dict(line)), told)
    stream.start()

    def seen() -> list[str]:
        return [line["seen"]["outcome"] for line in heard if line["kind"] == "seen"]

    limit = time.monotonic() + LIMIT_SECONDS
    while seen() != ["accepted"] and time.monotonic() < limit:
        time.sleep(0.02)
    with log.open("a") as target:
        target.write('{"address": "a-db1", "outcome": "read_only"}\n{"torn')
    os.rename(log, tmp_path / "observer.jsonl.1")
    log.write_text('{"address": "a-db1", "outcome": "refused"}\n')
    while len(seen()) < 3 and time.monotonic() < limit:
        time.sleep(0.02)
    stream.stop()
    assert seen() == ["accepted", "read_only", "refused"]
    assert heard[-1]["kind"] in {"tick", "seen"}
    ticks = [line for line in heard if line["kind"] == "tick"]
    assert ticks[0]["lock"] is None
    assert ticks[0]["alarms"] == ["verify_backup: silence"]


def test_over_ssh_and_sudo_each_word_arrives_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ssh does it: words are joined, and the other side's shell reads them anew. As sudo does it: one line of input is the password."""
    for name, words in {
        "ssh": 'while [ "$1" != -- ]; do shift; done; shift 2; exec sh -c "$*"',
        "sudo": f'[ "$1" = -S ] && [ -z "$3" ] && [ "$4" = -- ] && shift 4 && read -r word && echo "$word" > {tmp_path}/word && exec "$@"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{words}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    said = {"connection": "ssh", "arguments": "", "host": "wit1.example.org", "port": "", "user": "sre", "key": ""}
    one = replace(HOSTS[0], reach=automatic._reach(said), password="hunter2")
    heard: list[dict[str, Any]] = []
    program = (ROOT / "roles/dr_ledger/files/relevo_vantage.py").read_text()
    told = Told("minimarket", str(tmp_path / "none"), str(tmp_path / "lock.json"), str(tmp_path))
    stream = Stream(one, program, lambda _name, line, _at: heard.append(dict(line)), told)
    stream.start()
    limit = time.monotonic() + LIMIT_SECONDS
    while not heard and time.monotonic() < limit:
        time.sleep(0.02)
    stream.stop()
    assert heard, stream.said
    assert (tmp_path / "word").read_text() == "hunter2\n"


def test_a_run_of_this_controller_is_seen_until_it_is_over(tmp_path: Path) -> None:
    place, closed = Place(tmp_path, ""), set[str]()
    assert trigger.at_work(place, "minimarket", closed) is None
    opening = journal.Opening(
        "R", "failover", "runner", operator="sre", controller=identity.controller(), cluster="minimarket", **journal.now()
    )
    log = journal.Journal.open(place.run_directory("R"), opening)
    assert trigger.at_work(place, "minimarket", closed) == "R"
    assert trigger.at_work(place, "other", closed) is None
    log.close()
    (place.run_directory("R") / "record.json").write_text("{}")
    assert trigger.at_work(place, "minimarket", closed) is None
    assert closed == {"R"}


def test_without_its_mark_nothing_is_started(tmp_path: Path) -> None:
    own = trigger.Trigger(tmp_path, tmp_path)
    assert own.spent() is None
    own.spend("it is lost")
    assert "its one run was decided at" in str(trigger.Trigger(tmp_path, tmp_path).spent())
    (tmp_path / trigger.ACTED).write_text("torn")
    assert "cannot be read" in str(own.spent())
    assert own.rearm()
    assert own.spent() is None
    assert not own.rearm()
