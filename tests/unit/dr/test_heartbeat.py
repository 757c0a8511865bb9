"""What the witness keeps of a nightly check, and whether a timer really runs anything."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import timer
from ansible_collections.relevo.dr.plugins.module_utils.clock import parse_utc, utc
from ansible_collections.relevo.dr.plugins.module_utils.heartbeat import Heard, next_beat
from hypothesis import given
from hypothesis import strategies as st

NOON = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)


def moment(minutes):
    return utc(NOON + timedelta(minutes=minutes))


def heard(minutes):
    return Heard(moment(minutes), 1000.0 + minutes * 60, "boot-1")


def said(run, minutes, verdict="passed", passed=None, runbook="verify_backup"):
    passed_at = moment(minutes) if verdict == "passed" else moment(passed) if passed is not None else ""
    about = {"cluster": "minimarket", "runbook": runbook, "controller": "c1", "passed_at": passed_at}
    return {**about, "run_id": run, "verdict": verdict, "at": moment(minutes), "path": "/nowhere"}


def test_the_first_beat_is_kept_with_the_moment_of_hearing():
    beat = next_beat(said("r1", 0), {}, heard(2))
    assert (beat["run_id"], beat["at"], beat["heard_at"], beat["passed_at"]) == ("r1", moment(0), moment(2), moment(0))
    assert beat["heard_boot_id"] == "boot-1"
    assert "path" not in beat


def test_the_same_run_told_again_is_no_news():
    beat = next_beat(said("r1", 0), {}, heard(1))
    assert next_beat(said("r1", 0), beat, heard(600)) == beat


def test_an_older_run_of_another_controller_is_no_news_but_its_pass_counts():
    beat = next_beat(said("r2", 60, "failed"), {}, heard(61))
    later = next_beat(said("r1", 0), beat, heard(62))
    assert later == {**beat, "passed_at": moment(0)}


def test_what_ended_in_the_future_keeps_no_later_news_out():
    beat = next_beat(said("r1", 600), {}, heard(0))
    later = next_beat(said("r2", 30, "failed"), beat, heard(31))
    assert (later["run_id"], later["heard_at"], later["passed_at"]) == ("r2", moment(31), None)


def test_another_runbook_is_news_even_when_older():
    beat = next_beat(said("r1", 60), {}, heard(61))
    assert next_beat(said("r0", 0, runbook="check"), beat, heard(62))["run_id"] == "r0"


@pytest.mark.parametrize(
    "kept", [{"run_id": "r1"}, {"at": 5, "passed_at": "noon"}, {"run_id": "r0", "at": "noon", "runbook": "verify_backup"}]
)
def test_what_is_kept_and_cannot_be_read_is_replaced(kept):
    assert next_beat(said("r1", 0), kept, heard(1))["heard_at"] == moment(1)


@given(st.lists(st.tuples(st.integers(0, 5000), st.sampled_from(["passed", "failed", "partial"])), min_size=1, max_size=12))
def test_the_newest_run_is_kept_and_the_last_pass_never_forgotten(runs):
    beat = {}
    now = max(minutes for minutes, _ in runs)
    for number, (minutes, verdict) in enumerate(runs):
        beat = next_beat(said(f"r{number}", minutes, verdict), beat, heard(now + number))
    assert parse_utc(beat["at"]) == parse_utc(moment(now))
    passed = [minutes for minutes, verdict in runs if verdict == "passed"]
    assert beat["passed_at"] == (moment(max(passed)) if passed else None)


TIMER = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "UnitFileState": "enabled",
    "NextElapseUSecRealtime": "Wed 2026-11-25 03:00:00 UTC",
    "NextElapseUSecMonotonic": "infinity",
    "NeedDaemonReload": "no",
}
SERVICE = {
    "LoadState": "loaded",
    "ActiveState": "inactive",
    "Result": "success",
    "ExecMainStatus": "0",
    "ExecMainExitTimestamp": "",
}


@pytest.mark.parametrize(
    ("of_timer", "of_service", "succeeds", "expected", "words"),
    [
        ({}, {}, True, "pass", "last ended: never"),
        ({"NextElapseUSecRealtime": "", "NextElapseUSecMonotonic": "3min"}, {}, True, "pass", "waits"),
        ({"NextElapseUSecRealtime": ""}, {"ActiveState": "activating"}, True, "pass", "waits"),
        ({"LoadState": "not-found"}, {}, True, "fail", "not installed"),
        ({}, {"LoadState": "masked"}, True, "fail", "not installed"),
        ({"ActiveState": "inactive"}, {}, True, "fail", "it is inactive"),
        ({"UnitFileState": "disabled"}, {}, True, "fail", "a boot does not bring it back"),
        ({"NeedDaemonReload": "yes"}, {}, True, "fail", "has not read it"),
        ({"NextElapseUSecRealtime": "", "NextElapseUSecMonotonic": "infinity"}, {}, True, "fail", "no next time"),
        ({}, {"Result": "exit-code", "ExecMainStatus": "1"}, True, "fail", "ended as exit-code (1)"),
        ({}, {"Result": "exit-code", "ExecMainStatus": "1"}, False, "pass", "waits"),
        ({}, {"Result": "exit-code", "ExecMainStatus": "203"}, False, "fail", "exit-code (203)"),
        ({}, {"Result": "timeout", "ExecMainStatus": "2"}, False, "fail", "timeout"),
    ],
)
def test_a_timer_is_judged_by_whether_it_will_run(of_timer, of_service, succeeds, expected, words):
    verdict, observed = timer.judge({**TIMER, **of_timer}, {**SERVICE, **of_service}, succeeds)
    assert verdict == expected
    assert words in observed


@pytest.mark.parametrize(
    ("of_timer", "expected"), [({"LoadState": "not-found"}, "not_applicable"), ({"ActiveState": "inactive"}, "fail"), ({}, "pass")]
)
def test_what_nobody_installed_spoils_nothing_where_it_need_not_be_and_what_is_installed_must_run(of_timer, expected):
    assert timer.judge({**TIMER, **of_timer}, SERVICE, True, installed=False)[0] == expected


def test_a_systemd_that_does_not_answer_is_unknown():
    assert timer.judge({}, SERVICE, True)[0] == timer.judge({}, SERVICE, True, installed=False)[0] == "unknown"
