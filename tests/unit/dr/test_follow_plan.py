"""A fenced host follows only from data that are an earlier state of the new primary's, and its fence goes only after the proof."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.relevo.dr.plugins.module_utils.follow_plan import (
    LIFT,
    PROVE,
    START,
    START_ASIDE,
    STOP,
    UNMASK,
    Follower,
    Lineage,
    diverged,
    plan,
)
from ansible_collections.relevo.dr.plugins.module_utils.parting import line
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

CONTROL = {
    "Database system identifier": "77",
    "Database cluster state": "shut down",
    "Latest checkpoint location": "0/5000028",
    "Latest checkpoint's TimeLineID": "1",
    "Minimum recovery ending location": "0/0",
    "Min recovery ending loc's timeline": "0",
}
LINE = line(2, [{"timeline": 1, "lsn": "0/50000A0"}])
LINEAGE = Lineage("77", LINE)
FENCED = Follower(
    running=False,
    in_recovery=None,
    streaming=False,
    signal=True,
    fence={"run_id": "run"},
    masked=True,
    unit_leads=False,
    rebuilt=False,
    half=False,
    control=CONTROL,
    line=line(1, []),
)
FOLLOWS = replace(FENCED, running=True, in_recovery=True, streaming=True, fence=None, masked=False, unit_leads=True)


def test_the_fence_is_lifted_after_the_proof_and_not_before():
    steps = plan(FENCED, LINEAGE, "a-db1")
    assert steps == (START_ASIDE, PROVE, STOP, LIFT, UNMASK, START, PROVE)
    assert steps.index(PROVE) < steps.index(LIFT)


def test_a_follower_is_left_alone():
    assert plan(FOLLOWS, LINEAGE, "a-db1") == ()


@pytest.mark.parametrize(
    ("found", "left"),
    [
        (replace(FENCED, running=True, in_recovery=True), (PROVE, STOP, LIFT, UNMASK, START, PROVE)),
        (replace(FENCED, fence=None), (UNMASK, START, PROVE)),
        (replace(FOLLOWS, unit_leads=False, masked=True), (UNMASK, STOP, START, PROVE)),
        (replace(FOLLOWS, streaming=False), (PROVE,)),
    ],
    ids=["on probation", "lifted", "never by its unit", "not caught up"],
)
def test_a_killed_run_is_gone_on_with(found, left):
    assert plan(found, LINEAGE, "a-db1") == left


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (replace(FENCED, running=True, in_recovery=False), "writable primary"),
        (replace(FENCED, running=True), "does not answer"),
        (replace(FENCED, control={**CONTROL, "Database system identifier": "78"}), "system 78"),
        (replace(FENCED, signal=False), "no standby.signal"),
        (replace(FENCED, half=True), "did not end"),
        (replace(FENCED, control={**CONTROL, "Latest checkpoint location": "0/5000100"}), "behind the fork"),
        (replace(FENCED, control={**CONTROL, "Database cluster state": "in production"}), "not shut down cleanly"),
    ],
    ids=["writable", "mute", "another cluster", "would start writable", "half rewound", "diverged", "crashed"],
)
def test_refuses(found, said):
    with pytest.raises(Refusal, match=said):
        plan(found, LINEAGE, "a-db1")


def test_data_that_were_taken_from_the_new_lineage_may_follow():
    crashed = replace(FENCED, control={**CONTROL, "Database cluster state": "in archive recovery"})
    assert plan(replace(crashed, rebuilt=True), LINEAGE, "a-db1")[0] == START_ASIDE


def test_a_checkpoint_that_begins_where_the_primary_left_is_one_that_it_never_had():
    assert diverged({**CONTROL, "Latest checkpoint location": "0/5000090"}, line(1, []), LINE) is None
    assert "behind the fork" in (diverged({**CONTROL, "Latest checkpoint location": "0/50000A0"}, line(1, []), LINE) or "")


def test_what_followed_the_new_timeline_before_may_go_on():
    state = {**CONTROL, "Database cluster state": "shut down in recovery", "Minimum recovery ending location": "0/6000000"}
    assert diverged({**state, "Min recovery ending loc's timeline": "2"}, LINE, LINE) is None
    assert "behind the fork" in (diverged({**state, "Min recovery ending loc's timeline": "1"}, line(1, []), LINE) or "")


def test_a_timeline_of_the_same_number_that_was_begun_here_is_not_followed_from():
    state = {**CONTROL, "Database cluster state": "shut down in recovery", "Latest checkpoint's TimeLineID": "2"}
    own = line(2, [{"timeline": 1, "lsn": "0/7000000"}])
    assert "its own timeline 2, which left timeline 1 at 0/50000A0" in (diverged(state, own, LINE) or "")
    # At the same position, too: it is another record with which it began.
    twin = line(2, [{"timeline": 1, "lsn": "0/50000A0"}], {"2": "aa"})
    assert "its own timeline 2" in (diverged(state, twin, line(2, [{"timeline": 1, "lsn": "0/50000A0"}], {"2": "bb"})) or "")
    # And who wrote on it cannot have followed it.
    wrote = {**state, "Database cluster state": "shut down"}
    assert "wrote on timeline 2 itself" in (diverged(wrote, LINE, LINE) or "")


def test_a_line_that_is_not_known_is_not_followed_from():
    assert "nothing leads to timeline 2" in (diverged(CONTROL, None, LINE) or "")
    assert diverged(CONTROL, line(1, []), line(1, [])) is not None


def test_who_was_away_for_two_changes_of_primary_may_follow_from_before_the_first():
    twice = line(3, [{"timeline": 1, "lsn": "0/50000A0"}, {"timeline": 2, "lsn": "0/7000000"}])
    assert diverged(CONTROL, line(1, []), twice) is None
    assert "behind the fork at 0/50000A0" in (
        diverged({**CONTROL, "Latest checkpoint location": "0/6000000"}, line(1, []), twice) or ""
    )
