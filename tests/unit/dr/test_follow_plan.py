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
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

CONTROL = {
    "Database system identifier": "77",
    "Database cluster state": "shut down",
    "Latest checkpoint location": "0/5000028",
    "Latest checkpoint's TimeLineID": "1",
    "Minimum recovery ending location": "0/0",
    "Min recovery ending loc's timeline": "0",
}
LINEAGE = Lineage("77", 2, 1, "0/50000A0")
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


def test_what_followed_the_new_timeline_before_may_go_on():
    state = {**CONTROL, "Database cluster state": "shut down in recovery", "Minimum recovery ending location": "0/6000000"}
    assert diverged({**state, "Min recovery ending loc's timeline": "2"}, LINEAGE) is None
    assert "behind the fork" in (diverged({**state, "Min recovery ending loc's timeline": "1"}, LINEAGE) or "")


def test_an_older_lineage_is_not_followed_from():
    assert "left timeline 2" in (diverged(CONTROL, Lineage("77", 3, 2, "0/7000000")) or "")
    assert diverged(CONTROL, Lineage("77", 1, None, None)) is not None
