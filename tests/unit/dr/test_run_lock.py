"""A lock changes hands when its run is dead or its lease is over, and only then."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import clock, host_files, letter
from ansible_collections.relevo.dr.plugins.modules import run_lock


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setattr(host_files, "STATE_DIRECTORY", str(tmp_path / "relevo"))
    monkeypatch.setattr(letter, "BOX", str(tmp_path / "letters"))


def take(run_id, *, dead_run_id="", lease_seconds=60.0):
    words = {"owner": "ana", "controller": "ops1", "controller_boot_id": "boot", "controller_pid": 1, "controller_pid_started": "1"}
    words |= {"controller_pid_namespace": "pid:[1]", "orphan_wait_seconds": 0.0, "checkpoint": False}
    module = SimpleNamespace(params={"run_id": run_id, "dead_run_id": dead_run_id, "lease_seconds": lease_seconds, **words})
    return run_lock.hold(module)


@pytest.mark.parametrize("dead_run_id", ["", "another"])
def test_the_lock_of_a_living_owner_is_not_taken_over(dead_run_id):
    take("first")
    held = host_files.read_lock()
    with pytest.raises(host_files.LockError, match=r"run first of ana on ops1 .* lease ends in .* Next: wait"):
        take("second", dead_run_id=dead_run_id)
    assert host_files.read_lock() == held


def test_the_lock_of_a_dead_owner_is_taken_over_with_the_outage_it_began():
    take("first")
    began = host_files.read_lock().since
    assert take("second", dead_run_id="first")["taken_over"] == "first"
    held = host_files.read_lock()
    assert (held.run_id, held.began_at, held.controller_pid_namespace) == ("second", began, "pid:[1]")
    assert take("third", dead_run_id="second")["taken_over"] == "second"
    assert host_files.read_lock().began_at == began


def test_a_lock_whose_lease_is_over_is_taken_over():
    take("first", lease_seconds=-1.0)
    assert take("second")["taken_over"] == "first"


def test_a_run_takes_its_own_lock_again():
    take("first")
    assert take("first", lease_seconds=600.0)["taken_over"] is None
    assert host_files.read_lock().lease_until_boottime > clock.boottime_seconds() + 500


def test_a_lock_that_cannot_be_read_is_taken_over_by_nobody(tmp_path):
    (tmp_path / "relevo").mkdir()
    (tmp_path / "relevo/lock.json").touch()
    with pytest.raises(host_files.LockError, match=r"cannot be read\. Next:"):
        take("first", dead_run_id="another")


def test_modules_that_wait_for_another_run_are_sent_away_by_who_takes_the_lock(tmp_path):
    waiting = tmp_path / "letters/first/promote.json.ready"
    waiting.parent.mkdir(parents=True)
    waiting.touch()
    take("second")
    assert not waiting.exists()
