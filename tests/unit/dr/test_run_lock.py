"""A lock changes hands when its run is dead or its lease is over, and only then."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from types import SimpleNamespace

import pytest
from ansible_collections.relevo.dr.plugins.action import lock as lock_action
from ansible_collections.relevo.dr.plugins.action import primary
from ansible_collections.relevo.dr.plugins.module_utils import clock, host_files, letter
from ansible_collections.relevo.dr.plugins.module_utils.stale_lock import sign_of_life
from ansible_collections.relevo.dr.plugins.modules import run_lock


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setattr(host_files, "STATE_DIRECTORY", str(tmp_path / "relevo"))
    monkeypatch.setattr(letter, "BOX", str(tmp_path / "letters"))


def take(run_id, *, dead_run_id="", lease_seconds=60.0, living_run_id="", orphan_wait_seconds=0.0):
    words = {"owner": "ana", "controller": "ops1", "controller_boot_id": "boot", "controller_pid": 1, "controller_pid_started": "1"}
    words |= {"controller_pid_namespace": "pid:[1]", "orphan_wait_seconds": orphan_wait_seconds, "checkpoint": False}
    words |= {"living_run_id": living_run_id, "sign_of_life": "its process 1 lives on this controller"}
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


def test_a_lock_whose_lease_is_over_is_not_taken_from_an_owner_that_lives():
    take("first", lease_seconds=-1.0)
    with pytest.raises(host_files.LockError, match=r"its lease has ended here, but its process 1 lives .* Next: wait"):
        take("second", living_run_id="first")
    assert host_files.read_lock().run_id == "first"
    # Of another run than the one that holds it by now nothing was said.
    assert take("second", living_run_id="another")["taken_over"] == "first"


@pytest.mark.parametrize("dead_run_id", ["", "first"], ids=["its lease is over", "its process is dead"])
def test_a_lock_is_not_taken_over_while_a_task_of_its_run_is_at_work(dead_run_id):
    take("first", lease_seconds=-1.0)
    with open(os.path.join(host_files.STATE_DIRECTORY, "actor.lock"), "a+", encoding="utf-8") as task:
        task.truncate(0)
        task.write("first")
        task.flush()
        fcntl.flock(task, fcntl.LOCK_EX)
        with pytest.raises(host_files.LockError, match="a task of run first is still at work on this host"):
            take("second", dead_run_id=dead_run_id)
    assert host_files.read_lock().run_id == "first"
    assert take("second", dead_run_id=dead_run_id)["taken_over"] == "first"


def said(run_id="first", *, expired=True, alive=False, actor=None):
    facts = {"lock": {"run_id": run_id, "controller_pid": 7}, "lock_expired": expired, "actor": actor}
    return {"facts": {"host": facts}, "lock_owner_alive": alive}


@pytest.mark.parametrize(
    ("elsewhere", "says"),
    [
        ({}, None),
        ({"facts": {}}, None),
        (said(), None),
        (said(alive=True), "its process 7 lives on this controller"),
        (said(expired=False), "its lease on a-db1 has not ended"),
        (said(actor="first"), "a task of it is at work on a-db1"),
        (said("another", expired=False, alive=True, actor="another"), None),
    ],
    ids=["a host that is silent", "no lock there", "over there too", "its process", "a lease", "a task", "another run"],
)
def test_every_host_is_asked_for_a_sign_of_life_of_a_run_whose_lease_is_over(elsewhere, says):
    assert sign_of_life("first", {"b-db1": said(), "a-db1": elsewhere}.items()) == says


@pytest.mark.parametrize(
    ("alive", "over_elsewhere", "living_run_id"), [(False, True, ""), (True, True, "first"), (False, False, "first")]
)
def test_who_takes_the_lock_has_looked_for_its_owner_and_asked_the_other_hosts(monkeypatch, alive, over_elsewhere, living_run_id):
    kept = {"database": {"b-db1": said(expired=False), "a-db1": said(expired=over_elsewhere)}, "application": {}}
    asked = []

    def ask(_module, arguments):
        asked.append(arguments)
        return {"failed": True, "msg": "no"}

    control = SimpleNamespace(
        run_id="second", read_all=kept.__getitem__, read=lambda _: {"controller": {"owner": "ben"}}, write=lambda *_: None
    )
    action = SimpleNamespace(
        host="b-db1", control=control, ask=ask, _task=SimpleNamespace(args={"orphan_wait_seconds": 0, "lease_seconds": 60})
    )
    action._sign_of_life = lambda lock: lock_action.ActionModule._sign_of_life(action, lock)
    monkeypatch.setattr(lock_action.controller, "owner_alive", lambda lock: alive and bool(lock))
    monkeypatch.setattr(lock_action.controller, "owner_dead", lambda _: False)
    monkeypatch.setattr(lock_action, "went_wrong", lambda answer: answer["msg"])
    lock_action.ActionModule._hold(action, "b-db1", kept["database"]["b-db1"])
    assert (asked[0]["dead_run_id"], asked[0]["living_run_id"]) == ("", living_run_id)
    assert bool(asked[0]["sign_of_life"]) == bool(living_run_id)


@pytest.mark.parametrize(("alive", "refused"), [(True, True), (False, False)])
def test_hosts_are_not_protected_beside_a_living_run_whose_lease_has_ended(monkeypatch, alive, refused):
    monkeypatch.setattr(primary.ActionBase, "run", lambda *_: {})
    monkeypatch.setattr(primary.seen_primary.controller, "owner_alive", lambda lock: alive and bool(lock))
    cluster = {"state": "running", "role": "primary", "system_identifier": "77", "settings": {}, "timeline": 1}
    action = primary.ActionModule.__new__(primary.ActionModule)
    action._task = SimpleNamespace(args={"seen": {"a-db1": {"cluster": cluster, **said(alive=alive)["facts"]}}})
    found = action.run()
    assert bool(found.get("failed")) == refused
    assert ("run first" in found["msg"]) == refused


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


def test_a_task_that_waits_for_the_word_of_a_dead_run_is_not_waited_for():
    """A cutover of a killed run waited two minutes for a promotion that never came, and every next run was refused (G10) after half a minute."""
    take("first")
    os.makedirs(letter.box("first"))
    begun, reasons = threading.Event(), []

    def cut_over():
        with host_files.acting("first"):
            begun.set()
            limit = time.monotonic() + 20
            while not reasons and time.monotonic() < limit:
                reasons.extend(filter(None, [letter.withdrawn({"letter": "cutover"}, "first")]))
                time.sleep(0.01)

    task = threading.Thread(target=cut_over)
    task.start()
    assert begun.wait(5)
    assert take("second", dead_run_id="first", orphan_wait_seconds=5.0)["taken_over"] == "first"
    task.join()
    assert reasons == ["another run has taken over"]


def test_a_task_of_a_run_that_may_live_is_not_sent_away():
    take("first")
    os.makedirs(letter.box("first"))
    with pytest.raises(host_files.LockError, match="lease ends in"):
        take("second")
    assert letter.withdrawn({"letter": "cutover"}, "first") is None
