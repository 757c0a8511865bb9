"""A plan that was shown and agreed to is the one that is carried out: a check for a run tells its digest, and the run compares."""

from __future__ import annotations

from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
from ansible_collections.relevo.dr.plugins.action import preflight
from ansible_collections.relevo.dr.plugins.module_utils.gates import PASS, Gate, Limits
from ansible_collections.relevo.dr.plugins.module_utils.inputs import check_extra_variables, confirmation
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control

from .conftest import silent
from .test_app_components import SHOP
from .test_gates import CONTROLLER

FAILOVER = {
    "dr_mode": "disaster",
    "dr_scope": "site",
    "dr_target_site": "b",
    "dr_accept_loss_seconds": "5",
    "dr_confirm": confirmation("disaster", "minimarket", "b"),
}
SWITCHOVER = {"dr_scope": "site", "dr_target_site": "b", "dr_confirm": confirmation("planned", "minimarket", "b", "switchover")}


@pytest.fixture
def judged(landscape, tmp_path, monkeypatch):
    """What the judgement of a runbook tells, with these words of its operator."""

    for entry in landscape.application.values():
        entry["settings"] = {"components": [SHOP]}

    def judged(runbook, seen=landscape, **given):
        control = Control(f"20261128T080000Z-{runbook}-1f3a", str(tmp_path))
        began = {"at": "2026-11-28T08:00:00.000000Z", "boottime": 1.0}
        known = {"runbook": runbook, "cluster": "minimarket", "given": check_extra_variables(given), "began": began}
        control.write("landscape", known)
        control.write("dependencies", {"looked": [], "unread": []})
        monkeypatch.setattr(preflight, "read_landscape", lambda _control: seen)
        monkeypatch.setattr(preflight, "check_that_all_were_asked", lambda _control: None)
        monkeypatch.setattr(preflight, "what_was_proven", lambda _known: None)
        monkeypatch.setattr(preflight, "_controller", lambda: CONTROLLER)
        monkeypatch.setattr(preflight.contacts, "seen", lambda _control: Gate("CONTACTS", "", "controller", "", "", PASS))
        approval = {"kind": "single", "approvers": [], "directory": "", "limit_seconds": 3600}
        action = preflight.ActionModule.__new__(preflight.ActionModule)
        action.control = control
        arguments = {"limits": asdict(Limits()), "enforce": runbook != "check", "approval": approval}
        action._task = SimpleNamespace(args={**arguments, "certificate_min_days": 14, "inventory": []})
        action.variables = {}
        return action.act()["ansible_stats"]["data"]

    return judged


def gate(told, name="PLAN"):
    return next((one for one in told["relevo"]["gates"] if one["id"] == name), None)


@pytest.mark.parametrize(("runbook", "wish"), [("failover", FAILOVER), ("switchover", SWITCHOVER)])
def test_the_run_goes_on_with_the_plan_that_a_check_showed(judged, runbook, wish):
    shown = judged("check", dr_check_for=runbook, **wish)
    digest = shown[f"dr_approved_{runbook}"]
    assert shown["relevo"]["approval"]["digest"] == digest
    assert shown["relevo"]["approval"]["subject"]["runbook"] == runbook
    assert gate(judged(runbook, **wish, **{f"dr_approved_{runbook}": digest}))["verdict"] == PASS


@pytest.mark.parametrize("changed", [{"dr_accept_loss_seconds": "60"}, {"dr_accept_unknown": "G08", "dr_reason": "no time"}])
def test_a_run_that_would_accept_more_is_refused(judged, changed):
    digest = judged("check", dr_check_for="failover", **FAILOVER)["dr_approved_failover"]
    found = gate(judged("failover", **{**FAILOVER, **changed}, dr_approved_failover=digest))
    assert found["verdict"] == "fail"
    assert "start the workflow again" in found["next_action"]


def test_a_run_that_would_promote_another_host_is_refused(judged, landscape):
    digest = judged("check", dr_check_for="failover", **FAILOVER)["dr_approved_failover"]
    groups = {**landscape.groups, "dr_application": [*landscape.groups["dr_application"], "b-app2"]}
    sites = {**landscape.sites, "b-app2": "b"}
    application = {**landscape.application, "b-app2": landscape.application["b-app1"]}
    grown = replace(landscape, groups=groups, sites=sites, application=application)
    assert gate(judged("failover", seen=grown, **FAILOVER, dr_approved_failover=digest))["verdict"] == "fail"


def test_a_primary_that_dies_while_a_person_reads_makes_no_other_plan(judged, landscape):
    digest = judged("check", dr_check_for="failover", **FAILOVER)["dr_approved_failover"]
    dead = replace(landscape, database={**landscape.database, "a-db1": silent()})
    assert gate(judged("failover", seen=dead, **FAILOVER, dr_approved_failover=digest))["verdict"] == PASS


def test_what_was_agreed_to_for_another_runbook_says_nothing(judged):
    """A drill comes home in the same workflow, whose artifacts reach every later job."""
    told = judged("switchover", **SWITCHOVER, dr_approved_failover="0" * 64)
    assert gate(told) is None


def test_a_check_for_nobody_shows_no_plan_to_agree_to(judged):
    told = judged("check")
    assert set(told) == {"relevo"}
    assert "approval" not in told["relevo"]


def test_a_plan_whose_gates_do_not_pass_is_not_to_be_agreed_to(judged, landscape):
    both_dead = replace(landscape, database={name: silent() for name in landscape.database})
    assert "dr_approved_failover" not in judged("check", seen=both_dead, dr_check_for="failover", **FAILOVER)


def test_a_check_judges_as_the_run_will(judged, landscape):
    """A dead primary fails a drill; a disaster is what it is for."""
    dead = replace(landscape, database={**landscape.database, "a-db1": silent()})
    drill = {**FAILOVER, "dr_mode": "drill", "dr_confirm": confirmation("drill", "minimarket", "b")}
    assert "dr_approved_failover" not in judged("check", seen=dead, dr_check_for="failover", **drill)
