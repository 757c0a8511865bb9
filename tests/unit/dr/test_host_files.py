"""Lock, journal and flock on a host."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import clock, host_files


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


def test_the_lock_of_an_unreadable_file_is_nobodys_but_held(tmp_path):
    (tmp_path / "relevo").mkdir()
    (tmp_path / "relevo" / "lock.json").write_text("{")
    with pytest.raises(host_files.LockError, match="cannot be read"):
        host_files.acquire_lock(lock("first"))
    assert replace(lock("x"), run_id="y").run_id == "y"
