"""The hosts are looked at side by side: who needs another's answer waits for it, and nobody is judged who was not asked."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
from ansible_collections.relevo.dr.plugins.action import discover, fence_check, preflight
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control

GROUPS = {"dr_database": ["a-db1", "b-db1"], "dr_application": ["b-app1"], "dr_witness": ["wit1"], "dr_observer": ["wit1"]}
SILENT = {"reachable": False, "settings": {"name": "a-db1.example.org", "port": 5432}}
ANSWERS = {"reachable": True, "settings": {"name": "b-db1.example.org", "port": 5432}}


@pytest.fixture
def control(tmp_path):
    control = Control("run", str(tmp_path))
    control.write("landscape", {"groups": GROUPS, "sites": {"a-db1": "a", "b-db1": "b", "wit1": "w"}, "given": {}})
    return control


def everything(control, but=()):
    for kind, group in preflight.KINDS.items():
        for host in GROUPS[group]:
            if (kind, host) not in but:
                control.write(f"{kind}/{host}", SILENT if host == "a-db1" else ANSWERS)


def test_everybody_was_asked(control):
    everything(control)
    preflight.check_that_all_were_asked(control)


@pytest.mark.parametrize(
    ("kind", "host"), [("database", "a-db1"), ("observer", "wit1"), ("fence", "b-db1"), ("application", "b-app1")]
)
def test_a_host_that_was_not_asked_is_no_silent_host(control, kind, host):
    everything(control, but=[(kind, host)])
    with pytest.raises(Refusal, match=f"REACH on {host}: observed it was not asked as {kind}"):
        preflight.check_that_all_were_asked(control)


def later(write):
    thread = threading.Thread(target=lambda: (time.sleep(0.2), write()))
    thread.start()
    return thread


def test_an_application_host_waits_for_the_answers_of_the_database_hosts(control, monkeypatch):
    control.write("database/a-db1", SILENT)
    asked = []
    monkeypatch.setattr(discover.ActionModule, "_silent", lambda _self: None)
    monkeypatch.setattr(discover.ActionModule, "make_ready", lambda _self, _module: None)
    monkeypatch.setattr(
        discover.ActionModule, "_answer", lambda _self, arguments, _silent: asked.append(arguments) or {"reachable": True}
    )
    action = discover.ActionModule.__new__(discover.ActionModule)
    action.host, action.control = "b-app1", control
    action._task = SimpleNamespace(args={"kinds": ["application"], "module": "m", "arguments": {}, "ask_databases": "reachable"})
    thread = later(lambda: control.write("database/b-db1", ANSWERS))
    action.act()
    thread.join()
    assert asked == [{"databases": [{"host": "b-db1", "reachable": True, "name": "b-db1.example.org", "port": 5432}]}]


def test_a_lease_is_judged_when_its_givers_have_answered(control):
    everything(control, but=[("observer", "wit1")])
    facts = {"sent_age_seconds": 100.0, "accepted_age_seconds": 100.0, "self_fence_seconds": 0, "heard_by": ""}
    control.write("database/b-db1", {**ANSWERS, "facts": {"leases": {"a-db1": facts}}})
    action = fence_check.ActionModule.__new__(fence_check.ActionModule)
    action.host, action.control = "a-db1", control
    action._task = SimpleNamespace(args={"settings": {"providers": ["lease"], "command_status": []}})
    thread = later(lambda: control.write("observer/wit1", {**ANSWERS, "facts": {"leases": {"a-db1": facts}}}))
    action.act()
    thread.join()
    assert "no self-fence was armed" in control.read("fence/a-db1")["settings"]["lease"]["said"]


@pytest.mark.parametrize(
    ("runbook", "given", "standby", "asked"),
    [
        ("failover", {}, True, None),
        ("failover", {}, False, {}),
        ("failover", {"dr_path": "promote"}, False, None),
        ("failover", {"dr_path": "restore"}, True, {}),
        ("failover", {"dr_restore_target_lsn": "0/3000000"}, True, {"lsn": "0/3000000"}),
        ("check", {"dr_path": "restore"}, False, None),
        ("failover", {"dr_target_site": "a"}, False, None),
    ],
)
def test_the_repositories_are_asked_where_a_restore_may_be_the_way(control, monkeypatch, runbook, given, standby, asked):
    said = []
    control.write("landscape", {**control.read("landscape"), "runbook": runbook, "given": {"dr_target_site": "b", **given}})
    cluster = {"role": "standby", "state": "running"} if standby else {"role": "none", "state": "absent"}
    monkeypatch.setattr(discover.ActionModule, "_silent", lambda _self: None)
    answer = {"reachable": True, "facts": {"cluster": cluster, "host": {}}}
    monkeypatch.setattr(discover.ActionModule, "_answer", lambda _self, _arguments, _silent: answer)
    action = discover.ActionModule.__new__(discover.ActionModule)
    action.host, action.control = "b-db1", control
    action.ask = lambda _module, arguments: said.append(arguments["words"]) or {"restore": {"choice": None}}
    action._task = SimpleNamespace(args={"kinds": ["database"], "module": "m", "arguments": {}, "restore": {"stanza": "shop"}})
    action.act()
    assert said == ([] if asked is None else [asked])
    assert control.read_all("restore") == ({} if asked is None else {"b-db1": {"choice": None}})
