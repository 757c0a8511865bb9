"""A restored server is drained and promoted like a standby, and only from where it was to be; what a killed run left is gone on with."""

from __future__ import annotations

import os
import pwd
from collections import defaultdict
from pathlib import Path

import pytest
from ansible_collections.relevo.dr.plugins.action import handover
from ansible_collections.relevo.dr.plugins.module_utils import clock, host_files, restored_standby, restored_steps, standby
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.module_utils.restored_standby import NotReached, check_place, reached, settings
from ansible_collections.relevo.dr.plugins.module_utils.restored_steps import Breath, Restoration, RestoreError, oldest
from ansible_collections.relevo.dr.plugins.module_utils.standby_build import RESTORE, START, WAIT, Site, without_recovery_parameters
from ansible_collections.relevo.dr.plugins.module_utils.standby_build import plan as build_plan
from ansible_collections.relevo.dr.plugins.module_utils.way_out import PROMOTED, REACHED, REPLAYING, RESTORING
from ansible_collections.relevo.dr.plugins.modules import standby_promote

from .test_way_out import CHOICE, SYSTEM, TO_A_TIME

GOAL = {**CHOICE, "asked": {}}
TIMED = {**TO_A_TIME, "asked": {"time": "2026-11-24T03:12:00Z"}}
STOPPED_AT_THE_TIME = "LOG:  recovery stopping before commit of transaction 745, time 2026-11-24 03:12:01.5+00"
MARK = {
    "run_id": "dead",
    "state": REACHED,
    "asked": {},
    "goal": GOAL,
    "settings_file": "/nowhere/99-relevo-restore.conf",
    "data_directory": "/nowhere",
    "log": {"path": "/nowhere/log", "offset": 0},
}


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setattr(host_files, "STATE_DIRECTORY", str(tmp_path / "relevo"))
    return tmp_path


def position(**changed):
    at = {"in_recovery": True, "replay_lsn": "0/4000000", "pause": "not paused", "receivers": 0, "upstream": ""}
    at |= {"last_replayed_at": "2026-11-24T03:11:00.000000Z", "segment_bytes": 16 << 20, "log_file": None}
    return {**at, **changed}


# -- is it where it was to be --


def test_the_end_is_reached_when_no_repository_has_more():
    assert "replayed to 0/4000000" in reached(GOAL, position(), "", more_archived=False)


def test_a_point_is_reached_when_the_log_says_so_and_replay_is_paused_there():
    assert "the first one left out of" in reached(TIMED, position(pause="paused"), STOPPED_AT_THE_TIME, None)


@pytest.mark.parametrize(
    ("goal", "found", "log", "more", "says"),
    [
        (GOAL, {}, "", True, "the archive holds more"),
        (GOAL, {}, "", None, "no repository says"),
        (GOAL, {"replay_lsn": "0/3FFFFFF"}, "", False, "before the archive's end"),
        (GOAL, {"in_recovery": False}, "", False, "not in recovery"),
        (GOAL, {"receivers": 1}, "", False, "streams"),
        (GOAL, {"upstream": "host=a-db1"}, "", False, "streams"),
        (TIMED, {}, STOPPED_AT_THE_TIME, None, "still on the way"),
        (TIMED, {"pause": "pause requested"}, STOPPED_AT_THE_TIME, None, "still on the way"),
        (TIMED, {"pause": "paused"}, "", None, "does not say that recovery stopped"),
        (
            TIMED,
            {"pause": "paused", "last_replayed_at": "2026-11-24T03:12:01.000000Z"},
            STOPPED_AT_THE_TIME,
            None,
            "after the target",
        ),
    ],
)
def test_anywhere_else_it_is_not_there(goal, found, log, more, says):
    with pytest.raises(NotReached, match=says):
        reached(goal, position(**found), log, more)


# -- its parameters --


def test_nothing_streams_in_and_nothing_is_archived_and_it_pauses_where_it_is_wanted():
    text = settings(TIMED)
    for line in (
        "primary_conninfo = ''",
        "primary_slot_name = ''",
        "archive_command = ''",
        "recovery_target_timeline = 'current'",
        "recovery_target_time = '2026-11-24 03:12:00.000000+00'",
        "recovery_target_action = 'pause'",
    ):
        assert line in text.splitlines()
    assert "recovery_target_inclusive = 'off'" in settings({**GOAL, "kind": "lsn", "value": "0/3000000"})
    assert "recovery_target_action" not in settings(GOAL)


def test_what_a_backup_brings_along_hides_none_of_them():
    brought = "recovery_target_time = 'x'\nrecovery_target_action = 'promote'\nwork_mem = '8MB'\n"
    assert without_recovery_parameters(brought) == "work_mem = '8MB'\n"


def test_after_the_promotion_they_are_gone_and_once_more_is_nothing(state):
    path = state / "conf" / "99-relevo-restore.conf"
    path.parent.mkdir()
    path.write_text(settings(TIMED))
    host_files.write_restore({**MARK, "settings_file": str(path)})
    told = []
    session = type("Session", (), {"execute": lambda _self, sql: told.append(sql)})()
    assert restored_standby.settle(session, "run")["state"] == PROMOTED
    assert not path.exists()
    assert told == ["select pg_reload_conf()"]
    assert restored_standby.settle(session, "run") is None, "another run's restore is not this run's"
    host_files.write_journal("run", "LOCK", "result", taken_over="dead")
    assert restored_standby.settle(session, "run")["state"] == PROMOTED
    assert restored_standby.unfinished() is None


# -- where it may be made --

EMPTY = Site(configuration=True, data="absent", running=False)
STANDBY = Site(configuration=True, data="cluster", running=True, in_recovery=True, system_identifier=SYSTEM, standby_signal=True)


@pytest.mark.parametrize(
    ("site", "mark"),
    [
        (EMPTY, None),
        (STANDBY, None),
        (Site(configuration=True, data="cluster", running=False, system_identifier=SYSTEM, standby_signal=True), None),
        (Site(configuration=True, data="partial", running=False), MARK),
        (Site(configuration=True, data="cluster", running=True, system_identifier="88"), MARK),
    ],
)
def test_a_place_where_nothing_is_lost(site, mark):
    check_place(site, held=False, mark=mark, goal=GOAL, host="b-db1")


@pytest.mark.parametrize(
    ("changed", "held", "mark", "says"),
    [
        ({"fence": {"run_id": "r7"}}, False, None, "fence"),
        ({}, True, None, "guard"),
        ({"configuration": False}, False, None, "no postgresql.conf"),
        ({"in_recovery": False}, False, MARK, "accepts writes"),
        ({"in_recovery": None}, False, None, "does not answer"),
        ({"system_identifier": "88"}, False, None, "system 88"),
        ({"running": False, "standby_signal": False}, False, None, "stopped primary"),
        ({"running": False, "data": "partial"}, False, None, "of no cluster"),
    ],
)
def test_any_other_place_is_left_as_it_is(changed, held, mark, says):
    with pytest.raises(Refusal, match=says):
        check_place(Site(**{**vars(STANDBY), **changed}), held=held, mark=mark, goal=GOAL, host="b-db1")


def test_protect_takes_no_half_restored_server_for_a_standby():
    with pytest.raises(Refusal, match="not promoted runs here"):
        build_plan(Site(**{**vars(STANDBY), "restore": MARK}), SYSTEM, "b-db1", "/d")
    stopped = Site(**{**vars(STANDBY), "running": False, "restore": MARK})
    assert build_plan(stopped, SYSTEM, "b-db1", "/d").steps == ("continue", START, WAIT)
    assert RESTORE not in build_plan(stopped, SYSTEM, "b-db1", "/d").steps


# -- the steps --


@pytest.fixture
def restoration(state, monkeypatch):
    """A host where a restore can be made; taken: what was done there."""
    owner = pwd.getpwuid(os.getuid()).pw_name
    (state / "conf" / "conf.d").mkdir(parents=True)
    taken = []
    monkeypatch.setattr(host_files, "extend_lock", lambda *_: taken.append("lease"))
    monkeypatch.setattr(restored_steps, "abandoned", lambda: False)
    monkeypatch.setattr(restored_steps.repositories, "leave_out", lambda *_: [1])
    monkeypatch.setattr(restored_steps, "postmaster_pid", lambda _: None)
    monkeypatch.setattr(restored_steps.server_start, "log_file", lambda _: str(state / "log"))
    monkeypatch.setattr(restored_steps.Steps, "observe", lambda _: EMPTY)
    for name in ("_stop", "_make_standby"):
        monkeypatch.setattr(Restoration, name, lambda _self, name=name: taken.append(name.strip("_")))
    monkeypatch.setattr(Restoration, "_restore", lambda _self: taken.append("restore"))
    monkeypatch.setattr(Restoration, "_run", lambda _self, words, _seconds: taken.append(words[1]))
    monkeypatch.setattr(Restoration, "_wait", lambda *_: "seen there")

    def make(goal=GOAL):
        place = {"data_directory": str(state / "data"), "config_directory": str(state / "conf"), "owner": owner}
        words = {"goal": goal, "run_id": "run", "host_name": "b-db1", "leave_out": [1], "restore_timeout": 1.0, **place}
        return Restoration(defaultdict(str, words)), taken

    return make


def test_a_record_holds_what_a_later_prediction_needs():
    mark = {
        **MARK,
        "goal": {**GOAL, "replay_bytes": 48 << 20},
        "restore_seconds": 2.0,
        "restored_bytes": 100,
        "replay_seconds": 1.5,
    }
    told = restored_standby.shown(mark)
    assert [told[name] for name in ("bytes", "seconds", "replay_bytes", "replay_seconds")] == [100, 2.0, 48 << 20, 1.5]
    # What a run of an earlier version left.
    assert restored_standby.shown(MARK)["replay_bytes"] is None


def test_a_restore_from_nothing(restoration):
    one, taken = restoration()
    mark = one.carry_out()
    assert [step for step in taken if step != "lease"] == ["stop", "restore", "make_standby", "start"]
    assert (mark["state"], mark["evidence"]) == (REACHED, "seen there")
    assert host_files.read_restore() == mark
    assert "primary_conninfo = ''" in Path(mark["settings_file"]).read_text()
    assert one.left_out == [1]


@pytest.mark.parametrize(
    ("mark", "steps"),
    [
        ({"state": RESTORING}, ["stop", "restore", "make_standby", "start"]),
        ({"state": REPLAYING}, ["start"]),
        ({"state": REACHED}, ["start"]),
        ({"state": REACHED, "goal": TIMED}, ["stop", "restore", "make_standby", "start"]),
    ],
    ids=["half restored", "replaying", "at its goal", "another goal"],
)
def test_what_a_killed_run_left_is_gone_on_with(restoration, mark, steps):
    host_files.write_restore({**MARK, **mark})
    one, taken = restoration()
    assert one.carry_out()["state"] == REACHED
    assert [step for step in taken if step != "lease"] == steps


def test_until_it_is_seen_at_its_goal_the_mark_does_not_say_so(restoration, monkeypatch):
    def dies(*_):
        message = "killed"
        raise RestoreError(message)

    monkeypatch.setattr(Restoration, "_wait", dies)
    with pytest.raises(RestoreError):
        restoration()[0].carry_out()
    assert host_files.read_restore()["state"] == REPLAYING
    monkeypatch.setattr(Restoration, "_restore", dies)
    host_files.drop_restore()
    with pytest.raises(RestoreError):
        restoration()[0].carry_out()
    assert host_files.read_restore()["state"] == RESTORING


def test_what_a_standby_received_and_no_archive_has_is_sealed_before_it_is_replaced(restoration, monkeypatch):
    kept = []
    monkeypatch.setattr(restored_steps.Steps, "observe", lambda _: Site(**{**vars(STANDBY), "running": False}))
    monkeypatch.setattr(restored_steps, "controldata", lambda *_: {"Latest checkpoint's TimeLineID": "1"})
    monkeypatch.setattr(restored_steps.salvage_keep, "newest_timeline", lambda _, known: known)
    monkeypatch.setattr(restored_steps.salvage_keep, "earlier", lambda *_: None)
    sealed = {"directory": "/s", "digest": "d", "committed": 3, "end_lsn": "0/4100000", "files": []}
    monkeypatch.setattr(restored_steps.salvage_keep, "keep", lambda _, found: kept.append(found) or sealed)
    one, taken = restoration()
    mark = one.carry_out()
    assert [(found.timeline, found.fork_lsn) for found in kept] == [(1, "0/4000000")]
    assert mark["salvage"] == {name: value for name, value in sealed.items() if name != "files"}
    assert taken.index("stop") < taken.index("restore")


def test_a_module_whose_answer_nobody_waits_for_ends(monkeypatch):
    monkeypatch.setattr(host_files, "extend_lock", lambda *_: None)
    monkeypatch.setattr(restored_steps, "abandoned", lambda: True)
    with pytest.raises(RestoreError, match="the controller is gone"):
        Breath("run").draw()


def test_where_the_wal_of_a_timeline_begins():
    names = [
        "000000010000000000000007",
        "000000010000000000000005",
        "000000020000000000000003",
        "00000002.history",
        "archive_status",
    ]
    assert oldest(names, 1, 16 << 20) == 0x5000000
    assert oldest([], 1, 16 << 20) == 0


# -- drained and promoted --


class Server:
    """The restored server. present: ledger references in it."""

    def __init__(self, at, present=()):
        self.at, self.present = at, present

    def row(self, sql):
        server = {"in_recovery": True, "system_identifier": SYSTEM, "timeline": 1, "segment_bytes": 16 << 20}
        return self.at if "primary_conninfo" in sql else server

    def query(self, _sql):
        return [{"reference": reference} for reference in self.present]

    def execute(self, _sql):
        return ""


def drain(at, monkeypatch, *, archived=False, **more):
    monkeypatch.setattr(host_files, "write_challenge", lambda _: None)
    monkeypatch.setattr(standby_promote.repositories, "leave_out", lambda *_: [])
    replayed = {"replay_lsn": at["replay_lsn"], "target_replayed": None, "archive_replayed": True if archived is False else None}
    monkeypatch.setattr(standby, "drain", lambda *_: replayed)
    p = {"stanza": "shop", "pgbackrest_config": "/c", "run_id": "run", "timeout_seconds": 1.0, "leave_out": [], "old_hosts": []}
    return standby_promote.drain(defaultdict(str, {**p, **more}), Server(at))["position"]


@pytest.mark.parametrize("left", [RESTORING, REPLAYING])
def test_a_half_restored_server_is_not_drained_and_not_promoted(monkeypatch, left):
    """The trap: it is in recovery, its receiver is quiet, and its archive may be silent."""
    host_files.write_restore({**MARK, "state": left})
    with pytest.raises(NotReached, match="has not reached the end of the archive"):
        drain(position(), monkeypatch)
    with pytest.raises(NotReached, match="has not reached"):
        promote(Server(position()), monkeypatch)


def test_a_restore_that_is_not_there_is_not_promoted(monkeypatch):
    with pytest.raises(standby_promote.Stop, match="nothing was restored"):
        drain(position(), monkeypatch, restored=True)


def test_at_the_end_of_the_archive_it_is_drained(monkeypatch):
    host_files.write_restore(MARK)
    found = drain(position(), monkeypatch, restored=True)
    assert handover.archive_gate("b-db1", found, []).verdict == "pass"


def test_an_archive_that_is_silent_at_the_drain_is_no_end(monkeypatch):
    host_files.write_restore(MARK)
    with pytest.raises(NotReached, match="no repository says"):
        drain(position(), monkeypatch, archived=None)


def test_paused_at_its_target_it_is_drained(monkeypatch, tmp_path):
    log = tmp_path / "log"
    log.write_text(f"an older word\n{STOPPED_AT_THE_TIME}\n")
    host_files.write_restore({**MARK, "goal": TIMED, "log": {"path": str(log), "offset": 14}})
    found = drain(position(pause="paused"), monkeypatch)
    gate = handover.archive_gate("b-db1", found, [])
    assert (gate.verdict, gate.title) == ("pass", "the restored server is at the point that was asked for")


def promote(server, monkeypatch, **changes):
    asked = []
    monkeypatch.setattr(standby_promote, "check_token", lambda *_: None)
    monkeypatch.setattr(standby_promote, "probe", lambda *_: {"result": "silent", "address": "a"})
    monkeypatch.setattr(standby_promote.standby, "promote", lambda *_: asked.append(1))
    monkeypatch.setattr(standby_promote.standby, "fork", lambda _: {"timeline": 2, "fork_lsn": "0/3000000"})
    words = {
        "run_id": "run",
        "old_hosts": [{"host": "a-db1", "address": "198.51.100.71", "port": 5432}],
        "ledger_tail": [{"n": n, "reference": f"relevo-{n}", "at": clock.utc_now()} for n in range(3)],
        "ledger_present_sql": "select reference from shop.ledger_entries",
        "data_directory": "/nowhere",
        "timeout_seconds": 1.0,
    }
    return standby_promote.promote(defaultdict(lambda: None, {**words, **changes}), server), asked


def test_a_loss_of_a_restored_server_needs_its_bound_or_its_name(monkeypatch):
    host_files.write_restore({**MARK, "goal": TIMED})
    some = Server(position(), ["relevo-0"])
    with pytest.raises(standby_promote.Stop, match="2 acknowledged ledger transactions"):
        promote(some, monkeypatch)
    assert restored_standby.unfinished() is not None
    done, asked = promote(some, monkeypatch, accept_loss_transactions=2)
    assert asked == [1]
    assert (done["loss"]["transactions"], done["restore"]["set"]) == (2, TIMED["label"])
    assert restored_standby.unfinished() is None


def test_a_tail_that_does_not_reach_back_is_no_measure(monkeypatch):
    host_files.write_restore(MARK)
    with pytest.raises(standby_promote.Stop, match="more may be missing"):
        promote(Server(position()), monkeypatch, accept_loss_seconds=3600.0, accept_loss_transactions=9)
    done, asked = promote(Server(position()), monkeypatch, accept_any_loss=True)
    assert (asked, done["loss"]["transactions"]) == ([1], 3)


def test_the_log_is_read_from_where_this_start_began(tmp_path):
    log = tmp_path / "log"
    log.write_text("before\nafter\n")
    mark = {"log": {"path": str(log), "offset": 7}, "data_directory": str(tmp_path)}
    assert restored_standby.server_log(mark, {}) == "after\n"
    log.write_text("new\n")
    assert restored_standby.server_log(mark, {}) == "new\n"
    (tmp_path / "collected").write_text("collected\n")
    assert restored_standby.server_log(mark, {"log_file": "collected"}) == "collected\n"
    assert restored_standby.server_log({**mark, "log": {"path": "/nowhere", "offset": 0}}, {}) == ""
