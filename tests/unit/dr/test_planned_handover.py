"""The hand-over of a planned run, every host's part at once: it ends on the new side, or with the old side open, or closed where nobody can know."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible.errors import AnsibleError
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control
from ansible_collections.relevo.dr.plugins.plugin_utils.lineage import promoted_at

from .handover_stage import COMPONENTS, HANDOVER, RESTORED, Stage, failed, playing, said
from .test_reopening import PLAN


@pytest.fixture
def plan():
    return PLAN


@pytest.fixture
def components():
    return COMPONENTS


@pytest.fixture
def run(tmp_path, monkeypatch, plan, components):
    return playing(tmp_path, monkeypatch, plan, components)


OPENED = {("a-db1", "server_reopen", ""), ("a-app1", "app_component", "revert")}
UNLOCKED = {(host, "run_lock", "free") for host in ("a-db1", "b-db1", "a-app1", "b-app1")}


def assert_opened(stage, results):
    assert set(stage.asked) >= OPENED | UNLOCKED
    assert ("b-db1", "standby_promote", "withdraw") in stage.asked
    order = [entry for entry in stage.asked if entry in OPENED or entry[2] == "withdraw"]
    assert [entry[0] for entry in order] == ["b-db1", "a-db1", "a-app1"]
    for host in ("a-db1", "b-db1", "a-app1", "b-app1"):
        assert "the old side serves again" in results[host]["msg"]
    told = [phase["name"] for host in ("a-db1", "a-app1") for phase in said(results[host])["phases"]]
    assert {"server_reopen", "app_component"} <= set(told)


def test_it_ends_on_the_new_side(run):
    stage = Stage()
    results = run(stage)
    assert failed(results) == set(), {host: results[host]["msg"] for host in failed(results)}
    assert not OPENED & set(stage.asked)
    assert said(results["b-db1"])["measures"]["handover"] == HANDOVER
    assert [gate["verdict"] for gate in said(results["b-db1"])["gates"]] == ["pass"]


@pytest.mark.parametrize(
    "broken",
    [
        {("a-db1", "server_fence", ""): {"failed": True, "msg": "no message could be written"}},
        {("b-db1", "standby_promote", "drain"): {"position": {"replay_lsn": "0/2", "target_replayed": False}}},
        {("b-db1", "standby_promote", "drain"): {"failed": True, "msg": "paused"}},
        {("b-db1", "standby_promote", "promote"): {"failed": True, "msg": "the token is stale", "begun": False}},
        {("a-app1", "app_component", "quiesce"): {"failed": True, "msg": "it does not stop"}},
        {("b-db1", "standby_promote", "drain"): AnsibleError("the password for sudo is wrong")},
        {("a-db1", "server_fence", ""): OSError("no space left")},
    ],
    ids=["no message", "not replayed", "paused", "refused", "not quiesced", "nobody foresaw it there", "nobody foresaw it here"],
)
def test_what_fails_before_the_promotion_opens_the_old_side_again(run, broken):
    stage = Stage(broken)
    results = run(stage)
    assert_opened(stage, results)
    assert not [asked for asked in stage.asked if asked[1] == "app_component" and asked[2] == "cutover" and asked[0] == "a-app1"]


def test_what_failed_is_said_once_by_the_host_that_failed(run):
    results = run(Stage({("a-db1", "server_fence", ""): {"failed": True, "msg": "no message could be written"}}))
    assert {host for host, result in results.items() if "no message could be written" in result["msg"]} == {"a-db1"}
    assert results["b-db1"]["msg"].startswith("not gone on with: the part of a-db1 failed. ")


@pytest.mark.parametrize(
    ("proof", "words"),
    [
        ({"handover": None}, "no message"),
        ({"handover": {**HANDOVER, "shutdown_lsn": None}}, "not shut down cleanly"),
        ({"unarchived": ["000000010000000000000003"]}, "in no archive"),
    ],
    ids=["no message", "not clean", "unarchived"],
)
def test_a_hand_over_that_is_not_whole_is_none(run, proof, words):
    whole = Stage()._server_fence("a-db1", "")["proof"]
    stage = Stage({("a-db1", "server_fence", ""): {"proof": {**whole, **proof}}})
    results = run(stage)
    assert words.replace("not shut down", "did not shut down") in results["b-db1"]["msg"]
    assert ("b-db1", "standby_promote", "promote") not in stage.asked
    assert_opened(stage, results)


def test_a_promotion_that_fell_silent_opens_nothing(run):
    stage = Stage({("b-db1", "standby_promote", "promote"): {"unreachable": True, "msg": "gone"}})
    results = run(stage)
    assert not (OPENED | UNLOCKED) & set(stage.asked)
    assert "NOT open" in results["a-db1"]["msg"]


def test_a_promotion_that_ended_in_an_error_nobody_foresaw_opens_nothing(run):
    stage = Stage({("b-db1", "standby_promote", "promote"): OSError("no space left")})
    results = run(stage)
    assert not (OPENED | UNLOCKED) & set(stage.asked)
    assert "HANDOVER on b-db1: OSError: no space left. Next:" in results["b-db1"]["msg"]
    assert "NOT open" in results["a-db1"]["msg"]


def test_a_way_back_that_ends_in_an_error_nobody_foresaw_is_told_at_once(run):
    stage = Stage(
        {
            ("b-db1", "standby_promote", "drain"): {"failed": True, "msg": "paused"},
            ("a-db1", "server_reopen", ""): AnsibleError("the password for sudo is wrong"),
        }
    )
    results = run(stage)
    assert ("a-app1", "app_component", "revert") not in stage.asked
    for host in ("a-db1", "a-app1"):
        assert "NOT open" in results[host]["msg"]
        assert "the password for sudo is wrong" in results[host]["msg"]


def test_after_the_promotion_there_is_no_way_back(run):
    stage = Stage({("b-app1", "app_component", "cutover"): {"failed": True, "msg": "not healthy"}})
    results = run(stage)
    assert failed(results) == {"b-app1"}
    assert not (OPENED | UNLOCKED) & set(stage.asked)


def test_a_server_that_stays_closed_keeps_its_application_down_and_the_locks(run):
    stage = Stage(
        {
            ("b-db1", "standby_promote", "drain"): {"failed": True, "msg": "paused"},
            ("a-db1", "server_reopen", ""): {"failed": True, "msg": "the lock is gone"},
        }
    )
    results = run(stage)
    assert ("a-app1", "app_component", "revert") not in stage.asked
    assert not UNLOCKED & set(stage.asked)
    assert "the lock is gone" in results["a-app1"]["msg"]


def test_a_run_answers_for_what_its_old_primary_had(tmp_path):
    """What an earlier failover has lost is missing for ever, and no loss of this run."""
    control = Control("run", str(tmp_path))
    for host, at in (("a-db1", "2026-11-24T03:12:00.000000Z"), ("b-db1", "2026-11-24T05:00:00.000000Z"), ("c-db1", None)):
        control.write(f"database/{host}", {"facts": {"host": {"promoted_at": at}}})
    control.write("database/d-db1", {"reachable": False})
    assert promoted_at(control, ["a-db1", "c-db1", "d-db1"]) == "2026-11-24T03:12:00.000000Z"
    assert promoted_at(control, ["a-db1", "b-db1"]) == "2026-11-24T05:00:00.000000Z"
    assert promoted_at(control, ["c-db1", "d-db1"]) == ""


GOAL = {"label": "20261124-000000F", "kind": "end", "target": "the end of the archive"}
RESTORING = pytest.mark.parametrize("plan", [replace(PLAN, planned=False, follow=(), path="restore", restore=GOAL)])


@RESTORING
def test_a_restore_is_made_behind_the_fence_and_the_fence_is_proven_once_more_after_it(run, plan):
    stage = Stage()
    results = run(stage)
    assert failed(results) == set(), {host: results[host]["msg"] for host in failed(results)}
    order = [(name, step) for host, name, step in stage.asked if name in ("server_fence", "standby_restore", "standby_promote")]
    assert order == [
        ("server_fence", ""),
        ("standby_restore", ""),
        ("server_fence", ""),
        ("standby_promote", "drain"),
        ("standby_promote", "promote"),
    ]
    told = said(results["b-db1"])
    assert told["measures"]["path"] == plan.path
    assert told["measures"]["drain"] == {"replayed_bytes": 16384}
    assert (told["measures"]["restore"], told["measures"]["repositories"]) == (RESTORED, {"left_out": [2]})
    assert [phase["name"] for phase in said(results["a-db1"])["phases"]] == ["FENCE", "FENCE 2"]


@RESTORING
@pytest.mark.parametrize(
    "broken",
    [
        {("b-db1", "standby_restore", ""): {"failed": True, "msg": "half restored"}},
        {("b-db1", "standby_promote", "drain"): {"failed": True, "msg": "not at its goal"}},
    ],
    ids=["not restored", "not at its goal"],
)
def test_what_is_not_restored_is_not_promoted(run, plan, broken):
    stage = Stage(broken)
    results = run(stage)
    assert plan.promote in failed(results)
    assert ("b-db1", "standby_promote", "promote") not in stage.asked
