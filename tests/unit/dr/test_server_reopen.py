"""A fence is taken away only by the run that made it, or by the one that goes on for it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import clock, host_files, server_start
from ansible_collections.relevo.dr.plugins.module_utils.server_start import StartError
from ansible_collections.relevo.dr.plugins.module_utils.server_stop import Server
from ansible_collections.relevo.dr.plugins.modules import server_reopen
from ansible_collections.relevo.dr.plugins.modules.server_reopen import check_fence


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setattr(host_files, "STATE_DIRECTORY", str(tmp_path / "relevo"))


def test_a_host_without_a_fence_was_never_stopped():
    assert check_fence("run") is False


def test_the_own_fence_goes_and_one_of_the_dead_run_before_it():
    host_files.write_fence({"run_id": "dead"})
    host_files.write_journal("run", "LOCK", "result", outcome="ok", taken_over="dead")
    assert check_fence("run") is True
    assert check_fence("dead") is True


@pytest.mark.parametrize("mark", [{"run_id": "another"}, {"by": "relevo-guard"}], ids=["another run", "the guard"])
def test_no_other_fence_is_touched(mark):
    host_files.write_fence(mark)
    with pytest.raises(StartError, match="not of this run"):
        check_fence("run")


def test_the_guard_is_told_which_run_starts_a_held_host(tmp_path, monkeypatch):
    """It lets nobody start by hand while a run holds the lock; the run itself is not nobody."""
    said = []
    for name, answer in (("postmaster_pid", None), ("cluster_processes", []), ("was_standby", False), ("masked", False)):
        monkeypatch.setattr(server_start, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(server_start, "_wait_until_writable", lambda *_: None)
    monkeypatch.setattr(server_start, "_run", lambda words, _seconds: said.append(words))
    host_files.write_atomically(str(tmp_path / "relevo" / server_start.HOLD), "{}")
    server_start.reopen(Server("u.service", str(tmp_path), "/nowhere", 5432), "run-1", 5.0)
    assert said[-1][:4] == [server_start.GUARD, "start", "--run-id", "run-1"]


class AnsweredError(Exception):
    """Stands for the exit of a module."""


@pytest.mark.parametrize(("required", "failed"), [(False, False), (True, True)], ids=["a standby", "who served"])
def test_a_host_that_was_fenced_before_stays_so_and_keeps_only_a_side_closed_that_needs_it(monkeypatch, required, failed):
    host_files.write_fence({"run_id": "another"})
    lease = clock.boottime_seconds() + 60
    host_files.acquire_lock(host_files.Lock("run", "ana", "c", "b", 1, "1", clock.utc_now(), lease, clock.boot_id()))
    params = {"run_id": "run", "host": "a-db2", "unit": "u", "data_directory": "/nowhere", "bin_directory": "/b", "port": 1}
    answers = []

    def leave(**words):
        answers.append(words)
        raise AnsweredError

    module = SimpleNamespace(
        params={**params, "timeout_seconds": 1.0, "required": required},
        exit_json=leave,
        fail_json=lambda **words: leave(failed=True, **words),
    )
    monkeypatch.setattr(server_reopen, "AnsibleModule", lambda **_: module)
    with pytest.raises(AnsweredError):
        server_reopen.main()
    assert bool(answers[0].get("failed")) is failed
    assert answers[0]["phase"]["outcome"] == ("failed" if failed else "skipped")
    assert host_files.read_fence() == {"run_id": "another"}


def test_a_lifted_fence_is_gone():
    host_files.write_fence({"run_id": "run"})
    host_files.lift_fence()
    host_files.lift_fence()
    assert host_files.read_fence() is None


def test_the_last_promotion_is_the_one_that_was_one():
    intent = {"phase": "PROMOTE", "kind": "intent", "at": "1"}
    done = {"phase": "PROMOTE", "kind": "result", "promotion": {"already": False, "promoted_at": "2"}}
    again = {"phase": "PROMOTE", "kind": "result", "promotion": {"already": True, "promoted_at": "9"}}
    assert host_files.last_promotion([intent, done, again]) == "2"
    assert host_files.last_promotion([intent, again]) == "1"
    assert host_files.last_promotion([again]) is None


FENCED = {"phase": "FENCE", "kind": "result", "outcome": "ok", "at": "1"}
FOLLOWS = [{"phase": "FOLLOW", "kind": "intent", "at": "2"}, {"decision": "fence-lifted"}, {"phase": "FOLLOW", "kind": "result"}]


@pytest.mark.parametrize(
    ("entries", "stopped_at"),
    [
        ([], None),
        ([FENCED, {**FENCED, "at": "5"}], "1"),
        ([FENCED, *FOLLOWS], "1"),
        # A run that died while it let the host follow.
        ([FENCED, *FOLLOWS[:2]], "1"),
        ([{**FENCED, "outcome": "failed"}], None),
        ([FENCED, {"phase": "REOPEN", "kind": "intent"}], None),
        ([FENCED, {"decision": "start-permitted"}], None),
        ([FENCED, {"decision": "fence-lifted"}], None),
        ([FENCED, *FOLLOWS, {"decision": "fence-lifted"}], None),
        ([FENCED, {"phase": "PROMOTE", "kind": "intent", "at": "7"}, {**FENCED, "at": "9"}], "9"),
    ],
)
def test_who_was_fenced_is_not_writable_until_something_could_make_it_so(entries, stopped_at):
    assert host_files.last_turn(entries)["stopped_at"] == stopped_at


def test_who_was_promoted_was_in_recovery_until_the_intent():
    intent = {"phase": "PROMOTE", "kind": "intent", "at": "7"}
    again = {"phase": "PROMOTE", "kind": "result", "at": "9", "promotion": {"already": True}}
    assert host_files.last_turn([intent, again])["promotion_began_at"] == "7"
    assert host_files.last_turn([again])["promotion_began_at"] is None
