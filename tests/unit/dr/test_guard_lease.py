"""The self-fence: when a primary was heard for certain, when its lease ends, and that nothing of it is left then."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from . import test_server_stop
from .test_guard import guard

PRETEND = test_server_stop.PRETEND
# The fixture: pytest finds it by its name in this module.
start = test_server_stop.start

T = 20.0


def test_a_giver_is_heard_when_its_count_went_up_by_two():
    """One write may have been on its way since before a freeze; the one after it was sent when the giver had our answer."""
    lease = guard.Lease(1, 0.0)
    lease = guard.renew(lease, {"wit1": 5}, 1.0)
    lease = guard.renew(lease, {"wit1": 6}, 2.0)
    assert (lease.heard, lease.heard_from) == (0.0, "")
    lease = guard.renew(lease, {"wit1": 7}, 3.0)
    assert (lease.heard, lease.heard_from) == (1.0, "wit1")


def test_what_was_asked_last_with_the_same_count_counts():
    lease = guard.Lease(1, 0.0)
    for asked, count in ((1.0, 5), (1.5, 5), (2.0, 6), (2.5, 7)):
        lease = guard.renew(lease, {"wit1": count}, asked)
    assert lease.heard == 1.5


def test_a_single_write_that_waited_through_a_freeze_is_no_news():
    lease = guard.renew(guard.Lease(1, 0.0), {"wit1": 5, "b-db1": 9}, 1.0)
    lease = guard.renew(lease, {"wit1": 6, "b-db1": 10}, 1000.0)
    assert lease.heard == 0.0


def test_a_table_that_was_made_anew_begins_anew():
    lease = guard.renew(guard.Lease(1, 0.0), {"wit1": 500}, 1.0)
    lease = guard.renew(lease, {"wit1": 1}, 2.0)
    assert lease.heard == 0.0
    assert guard.renew(lease, {"wit1": 3}, 3.0).heard == 2.0


@given(st.lists(st.tuples(st.floats(0.01, 5.0), st.sampled_from(["wit1", "b-db1"]), st.integers(0, 3)), max_size=60))
def test_it_is_never_heard_later_than_the_giver_sent(steps):
    """The giver's own account is the promoter's proof: a lease must not outlive what a giver remembers of its sending."""
    lease, now = guard.Lease(1, 0.0), 0.0
    counts, sent = {"wit1": 0, "b-db1": 0}, {"wit1": 0.0, "b-db1": 0.0}
    for pause, giver, writes in steps:
        asked = now
        for _ in range(writes):
            # Each is sent when the one before it was answered, some time after the asking before.
            now += pause / 4
            sent[giver] = now
            counts[giver] += 1
        now += pause
        lease = guard.renew(lease, dict(counts), now)
        assert lease.heard <= max(sent.values())
        assert asked <= now


SERVED = (7, "ready")


@pytest.mark.parametrize(
    ("before", "server", "after"),
    [
        (None, None, None),
        (None, SERVED, guard.Lease(7, 50.0)),
        (None, (7, "starting"), None),
        (None, (7, "standby"), None),
        (None, (7, "stopping"), None),
        (guard.Lease(7, 10.0), SERVED, guard.Lease(7, 10.0)),
        (guard.Lease(7, 10.0), (7, "stopping"), guard.Lease(7, 10.0)),
        (guard.Lease(7, 10.0), (7, "standby"), guard.Lease(7, 10.0)),
        (guard.Lease(7, 10.0), None, None),
        (guard.Lease(6, 10.0), SERVED, guard.Lease(7, 50.0)),
    ],
)
def test_a_lease_is_of_one_process_that_serves(before, server, after):
    assert guard.lease_of(before, server, 50.0) == after


def test_a_primary_that_was_shut_down_has_no_lease_and_the_next_of_its_number_has():
    assert guard.lease_of(guard.Lease(7, 10.0), (7, "stopping"), 50.0, over=7) is None
    assert guard.lease_of(None, (7, "ready"), 50.0, over=7) == guard.Lease(7, 50.0)


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host whose files are here; systemd is told nothing."""
    monkeypatch.setattr(guard, "STATE", tmp_path / "state")
    monkeypatch.setattr(guard, "RUN", tmp_path / "run")
    monkeypatch.setattr(guard, "masked", lambda _: True)
    (tmp_path / "data").mkdir()
    owner = guard.pwd.getpwuid(os.getuid()).pw_name
    return guard.Settings(
        "minimarket", "u.service", str(tmp_path / "data"), "/nowhere", owner=owner, self_fence_seconds=int(T), heard_by=["wit1"]
    )


def lead(settings, process, state="ready"):
    """Make it the postmaster."""
    settings.file("postmaster.pid").write_text(f"{process.pid}\n{settings.data_directory}\n1\n5432\n/run\n*\n1 1\n{state}   \n")


def test_the_number_of_a_dead_postmaster_is_forgotten_and_that_of_a_living_one_never(host, start):
    """After a crash it may be another process's, which is then taken for a running server."""
    other = start("postgres", str(host.file("..")))
    lead(host, other)
    guard.forget_dead_server(host)
    assert not host.file("postmaster.pid").exists()
    postmaster = start("postgres", host.data_directory)
    lead(host, postmaster)
    guard.forget_dead_server(host)
    assert host.file("postmaster.pid").exists()


def test_a_backend_that_outlives_its_postmaster_keeps_its_number(host, start):
    lead(host, start("postgres", host.data_directory))
    host.file("postmaster.pid").write_text("999999999\n")
    guard.forget_dead_server(host)
    assert host.file("postmaster.pid").exists()


@pytest.mark.parametrize("state", ["ready", "standby", "starting", "stopping"])
def test_the_state_of_the_server_is_read_without_asking_it(host, start, state):
    assert guard.server_state(host) is None
    postmaster = start("postgres", host.data_directory)
    lead(host, postmaster, state)
    postmaster.send_signal(signal.SIGSTOP)
    assert guard.server_state(host) == (postmaster.pid, state)


@pytest.mark.parametrize("name", ["standby.signal", "recovery.signal"])
def test_a_standby_that_lets_readers_in_calls_itself_ready(host, start, name):
    lead(host, start("postgres", host.data_directory))
    host.file(name).touch()
    assert guard.server_state(host)[1] == "standby"


def test_a_number_of_another_process_is_not_our_postmaster(host, start, tmp_path):
    lead(host, start("postgres", tmp_path))
    assert guard.server_state(host) is None


def ended(host, seconds):
    began = time.monotonic()
    assert guard.end_server(host, guard.boottime() + seconds)
    return time.monotonic() - began


def test_a_healthy_server_is_asked_to_stop(host, start):
    postmaster = start("postgres", host.data_directory)
    lead(host, postmaster)
    assert ended(host, 5.0) < 2
    assert postmaster.wait(5) != -signal.SIGKILL


def test_a_server_that_hears_nothing_is_gone_when_the_lease_ends(host, start):
    postmaster, backend = start("postgres", host.data_directory, deaf=True), start("postgres", host.data_directory, deaf=True)
    lead(host, postmaster)
    assert ended(host, 4.0) < 4.0
    assert (postmaster.wait(5), backend.wait(5)) == (-signal.SIGKILL, -signal.SIGKILL)


def test_after_the_end_of_the_lease_nothing_is_waited_for(host, start):
    postmaster = start("postgres", host.data_directory)
    lead(host, postmaster)
    assert ended(host, -100.0) < 1
    assert postmaster.wait(5) == -signal.SIGKILL


def test_a_frozen_server_is_killed_at_once(host, start):
    postmaster, backend = start("postgres", host.data_directory), start("postgres", host.data_directory)
    lead(host, postmaster)
    for process in (postmaster, backend):
        process.send_signal(signal.SIGSTOP)
        while guard.of_the_server(host, process.pid) != "T":
            time.sleep(0.001)
    assert ended(host, 5.0) < 2
    assert (postmaster.wait(5), backend.wait(5)) == (-signal.SIGKILL, -signal.SIGKILL)


def test_backends_without_a_postmaster_are_ended_too(host, start):
    backend = start("postgres", host.data_directory)
    ended(host, 3.0)
    assert backend.wait(5) == -signal.SIGKILL


def fence(host, heard):
    guard.self_fence(host, guard.Lease(1, heard, "wit1"))


def test_a_fenced_host_is_marked_as_its_own_doing(host, start, monkeypatch):
    monkeypatch.setattr(guard.subprocess, "run", lambda *_, **__: None)
    postmaster = start("postgres", host.data_directory)
    lead(host, postmaster)
    fence(host, guard.boottime() - T + guard.LEAD_SECONDS)
    assert postmaster.wait(5) is not None
    mark = guard.read_mark(guard.FENCE)
    assert (mark["class"], mark["kind"]) == ("self", "self")
    assert "since wit1 did" in mark["reason"]
    assert host.file("standby.signal").exists()
    last = json.loads((guard.STATE / guard.JOURNAL).read_text().splitlines()[-1])
    assert (last["decision"], last["late_seconds"] < 0) == ("self-fence", True)


def test_a_full_disk_does_not_keep_the_server_alive_or_the_mark_away(host, start, monkeypatch):
    guard.set_reserve_aside()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("write_mark", "put_signal", "write_journal"):
        monkeypatch.setattr(guard, name, full)
    monkeypatch.setattr(guard.subprocess, "run", full)
    postmaster = start("postgres", host.data_directory)
    lead(host, postmaster)
    fence(host, guard.boottime() - T)
    assert postmaster.wait(5) is not None
    assert guard.read_mark(guard.FENCE)["class"] == "self"


def test_a_disk_that_hangs_does_not_keep_the_server_alive(host, start, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(guard, "write_mark", lambda *_: released.wait(60))
    monkeypatch.setattr(guard.subprocess, "run", lambda *_, **__: None)
    postmaster = start("postgres", host.data_directory)
    lead(host, postmaster)
    fencing = threading.Thread(target=fence, args=(host, guard.boottime() - T + guard.LEAD_SECONDS))
    fencing.start()
    assert postmaster.wait(4) is not None
    released.set()
    fencing.join()


# -- the service: a process of its own, as systemd starts it --

WATCH = """
import importlib.util, json, os, pathlib, sys
spec = importlib.util.spec_from_file_location("relevo_guard", sys.argv[1])
guard = importlib.util.module_from_spec(spec)
sys.modules["relevo_guard"] = guard
spec.loader.exec_module(guard)
guard.STATE, guard.RUN = pathlib.Path(sys.argv[2], "state"), pathlib.Path(sys.argv[2], "run")
guard.masked = lambda _: True
sys.exit(guard.watch(guard.Settings(**json.loads(sys.argv[3]))))
"""


@pytest.fixture
def watch(host, tmp_path):
    """Start the watch; it is ended afterwards."""
    started = []

    def one(**changes):
        words = [sys.executable, "-c", WATCH, guard.__file__, str(tmp_path), json.dumps({**vars(host), **changes})]
        began, limit = guard.boottime(), time.monotonic() + 10
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        started.append(process)
        # What an earlier one left is not this one's word.
        while guard.read_running(guard.WATCHED).get("at", 0.0) < began:
            assert time.monotonic() < limit
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.02)
        return process

    yield one
    for process in started:
        process.kill()
        process.communicate()


def heard():
    return guard.read_running(guard.WATCHED)["heard"]


def test_a_primary_that_nobody_hears_is_stopped_in_time(host, start, watch):
    postmaster = start("postgres", host.data_directory)
    lead(host, postmaster)
    watch(self_fence_seconds=7)
    began = heard()
    postmaster.wait(10)
    assert guard.LEAD_SECONDS - 4 < guard.boottime() - began < 7
    assert guard.read_mark(guard.FENCE)["class"] == "self"


def control(directory, state):
    """A pg_controldata that says so."""
    program = directory / "pg_controldata"
    program.write_text(f"#!/bin/sh\necho 'Database cluster state:               {state}'\n")
    program.chmod(0o755)
    return str(directory)


@pytest.mark.parametrize(
    ("server", "cluster", "fenced"),
    [("stopping", "shut down", False), ("stopping", "in production", True), ("ready", "shut down", True)],
)
def test_a_primary_that_is_shut_down_and_waits_for_a_dead_standby_is_not_fenced(
    host, start, watch, tmp_path, server, cluster, fenced
):
    """As at a planned reboot right after the standby vanished: its sender is waited for up to wal_sender_timeout."""
    host.file("global").mkdir()
    host.file("global/pg_control").touch()
    postmaster = start("postgres", host.data_directory)
    lead(host, postmaster)
    watch(self_fence_seconds=7, bin_directory=control(tmp_path, cluster))
    lead(host, postmaster, server)
    time.sleep(8)
    assert bool(guard.read_mark(guard.FENCE)) is fenced
    assert (postmaster.poll() is not None) is fenced


def test_a_standby_is_left_alone(host, start, watch):
    postmaster = start("postgres", host.data_directory)
    lead(host, postmaster)
    host.file("standby.signal").touch()
    watch(self_fence_seconds=5)
    time.sleep(2)
    assert heard() is None
    assert postmaster.poll() is None


def test_a_watch_that_was_killed_goes_on_with_the_same_lease(host, start, watch):
    postmaster = start("postgres", host.data_directory)
    lead(host, postmaster)
    first = watch(self_fence_seconds=60)
    began = heard()
    first.kill()
    first.wait()
    watch(self_fence_seconds=60)
    assert heard() == began


# Stands for psql and a server into which the witness writes.
PSQL = """#!{python}
import sys, time
for line in sys.stdin:
    with open(__file__ + ".log", "a") as log:
        log.write(line)
    if line.startswith("\\\\echo "):
        print(line.split()[1], flush=True)
    elif "relevo.observation" in line:
        print("wit1|%d" % (time.monotonic() * 10), flush=True)
"""


@pytest.fixture
def witness(tmp_path):
    """The directory of a psql that shows the witness's writes; what it is asked is in psql.log beside it."""
    program = tmp_path / "bin/psql"
    program.parent.mkdir()
    program.write_text(PSQL.format(python=sys.executable))
    program.chmod(0o755)
    return program.parent


def test_a_planned_stop_of_the_watch_is_no_fence_and_ends_the_lease_once_that_is_known_outside(host, start, watch, witness):
    postmaster = start("postgres", host.data_directory)
    lead(host, postmaster)
    first = watch(self_fence_seconds=60, bin_directory=str(witness))
    first.terminate()
    assert first.wait(10) == 0
    assert "set application_name" in (witness / "psql.log").read_text()
    kept = guard.read_running(guard.WATCHED)
    assert (kept["stopped"], kept["told"]) == (True, True)
    assert guard.watch_state(replace(host, self_fence_seconds=60))["alive"] is False
    assert postmaster.poll() is None
    watch(self_fence_seconds=60)
    assert heard() > kept["at"], "a new one"


def test_a_watch_that_is_ended_while_nobody_hears_it_prolongs_nothing(host, start, watch):
    postmaster = start("postgres", host.data_directory)
    lead(host, postmaster)
    first = watch(self_fence_seconds=60)
    began = heard()
    for _ in range(2):
        first.terminate()
        assert first.wait(10) == 0
        first = watch(self_fence_seconds=60)
        assert heard() == began
    assert postmaster.poll() is None


def test_a_watch_that_is_ended_late_in_the_lease_stops_the_server_in_time(host, start, watch):
    postmaster = start("postgres", host.data_directory)
    lead(host, postmaster)
    first = watch(self_fence_seconds=8)
    began = heard()
    first.terminate()
    postmaster.wait(10)
    assert guard.boottime() - began < 8
    assert guard.read_mark(guard.FENCE)["class"] == "self"
    assert first.wait(10) == 0


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        ({}, True),
        ({"heard": 100.0}, True),
        ({"stopped": True, "told": False}, True),
        ({"stopped": True, "told": True}, False),
        ({"stopped": True, "told": False, "heard": 100.0}, False),
        ({"postmaster": 8}, False),
    ],
    ids=["killed", "killed, and over", "stopped unheard", "stopped and known", "stopped for longer than it", "of another server"],
)
def test_a_lease_that_was_left_is_gone_on_with(host, monkeypatch, left, kept):
    now = 1000.0
    monkeypatch.setattr(guard, "boottime", lambda: now)
    guard.write_running(guard.WATCHED, {**guard.watched(host, guard.Lease(7, now - 5, "wit1"), now), **left})
    assert (guard.resumed((7, "ready"), T) is not None) == kept


def test_what_was_given_is_remembered_by_a_watch_that_is_started_anew(host):
    """Who forgets that a write was on its way proves that nobody can have renewed a lease which is renewed."""
    before = guard.Watch(host)
    before.sent["a-db1"], before.accepted["a-db1"] = 60.0, {"at": 59.0, "self_fence_seconds": 20, "heard_by": "1f2e3d4c"}
    guard.write_given(before)
    after = guard.Watch(host)
    after.sent["c-db1"] = 62.0
    guard.write_given(after)
    found = guard.read_running(guard.GIVEN)
    assert found["sent"] == {"a-db1": 60.0, "c-db1": 62.0}
    assert found["accepted"]["a-db1"]["at"] == 59.0


def test_a_watch_that_was_frozen_longer_than_the_lease_stops_before_it_listens(host, start, watch):
    postmaster = start("postgres", host.data_directory)
    lead(host, postmaster)
    first = watch(self_fence_seconds=8)
    began = heard()
    # The whole host is frozen: nobody on it notices the time that passes.
    for process in (first, postmaster):
        process.send_signal(signal.SIGSTOP)
    time.sleep(max(0.0, began + 8.2 - guard.boottime()))
    thawed = time.monotonic()
    for process in (postmaster, first):
        process.send_signal(signal.SIGCONT)
    assert postmaster.wait(5) == -signal.SIGKILL
    assert time.monotonic() - thawed < 1.0


def test_a_dead_watch_is_seen(host):
    assert guard.watch_state(host)["alive"] is False
    guard.write_running(guard.WATCHED, guard.watched(host, guard.Lease(1, guard.boottime() - 2, "wit1"), guard.boottime()))
    state = guard.watch_state(host)
    assert state["alive"] is True
    assert 2 <= state["heard_age_seconds"] < 3
    assert guard.watch_state(replace(host, self_fence_seconds=99))["alive"] is False, "it watches with other settings"
    guard.write_running(guard.WATCHED, guard.watched(host, None, guard.boottime() - 60))
    assert guard.watch_state(host)["alive"] is False


def test_what_an_earlier_boot_left_is_nothing(host):
    kept = {**guard.watched(host, guard.Lease(1, 5.0), 6.0), "boot_id": "another"}
    guard.write_running(guard.WATCHED, kept)
    assert guard.read_running(guard.WATCHED) == {}
