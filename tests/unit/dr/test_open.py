"""The opening task: what a run says of itself before anything is asked of a host."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.relevo.dr.plugins.action import open as opening
from ansible_collections.relevo.dr.plugins.module_utils.inputs import CONTEXT, confirmation
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.plugin_utils import controller
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control

HOSTS = {"a-db1": "a", "b-db1": "b", "a-app1": "a", "b-app1": "b", "wit1": "w"}
GROUPS = {
    "all": list(HOSTS),
    "dr_database": ["a-db1", "b-db1"],
    "dr_application": ["a-app1", "b-app1"],
    "dr_witness": ["wit1"],
    "dr_observer": ["wit1", "b-app1"],
}
OCCASION = {
    "dr_ticket": "CHG-4711",
    "dr_scenario": "site-loss",
    "dr_bia": "BIA-7",
    "dr_requester": "Mira Paz",
    "dr_participants": "Ana, Bo",
    "dr_observers": "Eva",
    "dr_third_parties": "Colo Ltd",
    "dr_exercise": "E-1f3a9c",
}
KEPT = {
    "ticket": "CHG-4711",
    "scenario": "site-loss",
    "bia": "BIA-7",
    "requester": "Mira Paz",
    "participants": ["Ana", "Bo"],
    "observers": ["Eva"],
    "third_parties": ["Colo Ltd"],
    "exercise": "E-1f3a9c",
}


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """The opening task of a runbook, with these words of its operator."""

    def opened(runbook, **given):
        monkeypatch.setattr(controller, "extra_variables", lambda _loader: given)
        monkeypatch.setattr(controller, "command_line_hides_hosts_or_tasks", lambda: None)
        action = opening.ActionModule.__new__(opening.ActionModule)
        action._task, action._loader = SimpleNamespace(args={}, check_mode=False), None
        hostvars = SimpleNamespace(raw_get=lambda host: {"dr_site": HOSTS[host]})
        return action._open(Control("run", str(tmp_path)), runbook, "minimarket", {"hostvars": hostvars, "groups": GROUPS})

    return opened


def test_any_runbook_says_its_occasion(opened):
    said = opened("restore_test", **OCCASION)
    assert {name: said[name] for name in CONTEXT} == KEPT


def test_a_run_that_changes_production_says_what_was_accepted_and_by_whom(opened):
    said = opened(
        "failover",
        **OCCASION,
        dr_mode="disaster",
        dr_scope="site",
        dr_target_site="b",
        dr_confirm=confirmation("disaster", "minimarket", "b"),
        dr_accept_loss_seconds="5",
        dr_attest_dead="a-db1",
        dr_attested_by="Ana, who stood before it",
    )
    assert {name: said[name] for name in CONTEXT} == KEPT
    assert (said["accepted"]["loss_seconds"], said["accepted"]["attested_by"]) == (5.0, "Ana, who stood before it")


WISH = {"dr_mode": "drill", "dr_scope": "site", "dr_target_site": "b"}


def test_a_check_for_a_failover_asks_nobody_about_one_that_would_be_refused_for_a_word(opened):
    said = opened("check", dr_check_for="failover", **WISH, dr_confirm=confirmation("drill", "minimarket", "b"))
    assert said["target_site"] == "b"
    assert "mode" not in said
    with pytest.raises(Refusal, match="CONFIRM"):
        opened("check", dr_check_for="failover", **WISH, dr_confirm="drill production minimarket to a")
    with pytest.raises(Refusal, match="dr_mode is missing"):
        opened("check", dr_check_for="failover", dr_scope="site", dr_target_site="b")


def test_nobody_said_why_is_null_and_no_refusal(opened):
    assert {opened("backup")[name] for name in CONTEXT} == {None}


def test_an_occasion_of_another_form_is_refused(opened):
    with pytest.raises(Refusal, match="dr_ticket"):
        opened("backup", dr_ticket="{{ 1 }}")
