"""Lock, journal and flock on a host."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import signal
import sys

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import clock, cluster_facts, host_files


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setattr(host_files, "STATE_DIRECTORY", str(tmp_path / "relevo"))


def lock(run_id, seconds=60.0):
    return host_files.Lock(
        run_id, "ana", "ops1", "boot", 1, "1", clock.utc_now(), clock.boottime_seconds() + seconds, clock.boot_id()
    )


def test_one_run_holds_the_lock_and_the_other_is_told_who():
    host_files.acquire_lock(lock("first"))
    with pytest.raises(host_files.LockError, match="first of ana on ops1 since"):
        host_files.acquire_lock(lock("second"))
    host_files.acquire_lock(lock("first"))
    assert not host_files.remove_lock("second")
    assert host_files.remove_lock("first")
    host_files.acquire_lock(lock("second"))


def test_a_lease_ends_with_its_time_and_with_its_boot():
    held = lock("first", seconds=10)
    now = clock.boottime_seconds()
    assert not held.expired(now, held.boot_id)
    assert held.expired(now + 11, held.boot_id)
    assert held.expired(now, "another boot")


def test_an_actor_that_lost_the_lock_does_not_act():
    with pytest.raises(host_files.LockError):
        host_files.extend_lock("first", 60)
    host_files.acquire_lock(lock("second"))
    with pytest.raises(host_files.LockError, match="second"):
        host_files.extend_lock("first", 60)


def hold(path, ready, release):
    host_files.STATE_DIRECTORY = path
    with host_files.acting("orphan"):
        ready.set()
        release.wait(10)


def test_a_task_of_a_killed_run_is_seen_and_waited_for():
    ready, release = multiprocessing.Event(), multiprocessing.Event()
    orphan = multiprocessing.Process(target=hold, args=(host_files.STATE_DIRECTORY, ready, release))
    orphan.start()
    assert ready.wait(10)
    assert host_files.actor_alive() == "orphan"
    with pytest.raises(host_files.LockError, match="orphan"), host_files.acting("next"):
        pass
    release.set()
    with host_files.acting("next", wait_seconds=10):
        pass
    orphan.join()
    assert host_files.actor_alive() is None


def test_an_intent_without_result_is_open_and_a_torn_line_is_left_out(tmp_path):
    host_files.write_journal("run", "FENCE", "intent")
    host_files.write_journal("run", "FENCE", "result", outcome="ok")
    host_files.write_journal("run", "DRAIN", "intent")
    with open(tmp_path / "relevo" / "journal.jsonl", "a", encoding="utf-8") as target:
        target.write('{"run_id": "run", "phase": "PROM')
    assert [entry["phase"] for entry in host_files.open_phases(host_files.read_journal())] == ["DRAIN"]


@pytest.mark.parametrize("content", ["", "{", "null", "[]", '{"run_id": "first"}'])
def test_the_lock_of_an_unreadable_file_is_nobodys_but_held(tmp_path, content):
    (tmp_path / "relevo").mkdir()
    path = tmp_path / "relevo" / "lock.json"
    path.write_text(content)
    with pytest.raises(host_files.LockError, match=f"{path} on {platform.node()} .*cannot be read. Next: .*remove"):
        host_files.acquire_lock(lock("first"))
    with pytest.raises(host_files.LockError, match=r"cannot be read\. Next:"):
        host_files.extend_lock("first", 60)
    assert path.read_text() == content
    assert host_files.read_lock() is None
    facts = cluster_facts.host_facts()
    assert (facts["lock"], facts["lock_unreadable"]) == (None, True)
    path.unlink()
    assert cluster_facts.host_facts()["lock_unreadable"] is False
    host_files.acquire_lock(lock("first"))
    assert cluster_facts.host_facts()["lock_unreadable"] is False


def test_a_lock_of_a_later_version_is_read(tmp_path):
    host_files.acquire_lock(lock("first"))
    path = tmp_path / "relevo" / "lock.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "of_tomorrow": 1}))
    assert host_files.read_lock().run_id == "first"


def die_after(steps):
    """Take the lock in a process that is killed after that many lines of this file's code; whether it came so far."""
    pid = os.fork()
    if not pid:
        left = steps

        def trace(frame, event, _argument):
            nonlocal left
            if frame.f_code.co_filename == host_files.__file__ and event == "line":
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        wanted = lock("killed")
        sys.settrace(trace)
        host_files.acquire_lock(wanted)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == signal.SIGKILL


def test_a_crash_at_any_line_leaves_a_whole_lock_or_none():
    steps = 0
    while die_after(steps):
        held = host_files.read_lock()
        assert not host_files.lock_unreadable(), f"after {steps} lines"
        if held is not None:
            assert held.run_id == "killed"
            assert host_files.remove_lock("killed")
        steps += 1
    assert steps > 10
    assert host_files.read_lock().run_id == "killed"
