"""Groups of components in a hand-over: in order over all hosts, backwards when they stop, and what is counted is judged."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.relevo.dr.plugins.action import handover
from ansible_collections.relevo.dr.plugins.module_utils.app_components import Component
from ansible_collections.relevo.dr.plugins.module_utils.app_provider import ApplicationError, Done

from .handover_stage import APPS, SHOP, Stage, failed, playing, said
from .test_reopening import PLAN


def component(name, provider, after=(), settings=SHOP, hosts=APPS):
    return Component(name, provider, hosts, after, dict.fromkeys(hosts or ("",), settings))


POOL = component("pool", "pgbouncer", settings={"databases": ["shop"]})
SERVICES = component("shop", "systemd", ("pool",))
WORKER = component("worker", "systemd", ("shop",), {"unit": "worker.service"})
DNS = component("dns", "route53", ("shop",), {"values": {}}, hosts=())


@pytest.fixture
def plan():
    return PLAN


@pytest.fixture
def components():
    return (POOL, SERVICES, WORKER)


@pytest.fixture
def run(tmp_path, monkeypatch, plan, components):
    return playing(tmp_path, monkeypatch, plan, components, limit_seconds=20)


def order(stage, step, host):
    return [name for what, name, where in stage.played if (what, where) == (step, host)]


def test_what_stands_in_front_stops_first_and_starts_last(run):
    stage = Stage()
    results = run(stage)
    assert failed(results) == set(), results
    assert order(stage, "quiesce", "a-app1") == ["worker", "shop", "pool"]
    assert order(stage, "cutover", "b-app1") == ["pool", "shop", "worker"]
    phases = [phase["name"] for phase in said(results["b-app1"])["phases"]]
    assert phases == ["CUTOVER", "CUTOVER 2", "CUTOVER 3"]
    assert [phase["name"] for phase in said(results["a-app1"])["phases"]] == ["QUIESCE", "QUIESCE 2", "QUIESCE 3"]


def test_the_way_back_starts_what_ran_in_order(run):
    stage = Stage({("b-db1", "standby_promote", "drain"): {"failed": True, "msg": "paused"}})
    results = run(stage)
    assert "the old side serves again" in results["a-app1"]["msg"]
    assert order(stage, "revert", "a-app1") == ["pool", "shop", "worker"]
    assert order(stage, "cutover", "b-app1") == []


def test_a_pooler_is_not_pointed_at_a_standby(run):
    """It cannot see who takes writes: it is let go when the promotion is known, the shop's own wait begins before."""
    stage = Stage({("b-db1", "standby_promote", "promote"): {"failed": True, "msg": "the token is stale", "begun": False}})
    run(stage)
    assert ("cutover", "pool", "b-app1") not in stage.played


def test_background_units_and_sessions_are_judged(run):
    busy = {"background": {"declared": 2, "running": ["w.timer"]}, "sessions_on_old": 3}
    stage = Stage({("b-app1", "app_component", "cutover"): {"application": {"components": {"shop": busy}}}})
    gates = {gate["id"]: gate for gate in said(run(stage)["b-app1"])["gates"]}
    assert (gates["G14"]["observed"], gates["G14"]["verdict"]) == ("1 of 2 run", "fail")
    assert (gates["SESSIONS"]["observed"], gates["SESSIONS"]["verdict"]) == ("3 connections", "fail")


def test_a_worker_that_does_not_stop_fails_a_planned_run_by_name(run):
    left = {"application": {"components": {"worker": {"background": {"declared": 1, "running": ["w.timer"]}}}}}
    gates = said(run(Stage({("a-app1", "app_component", "quiesce"): left}))["a-app1"])["gates"]
    assert next((gate["phase"], gate["observed"], gate["verdict"]) for gate in gates) == ("QUIESCE", "1 of 1 run (w.timer)", "fail")


class Names:
    """A provider of the controller."""

    def __init__(self, wrong=None):
        self.wrong, self.sites = wrong, []

    def cutover(self, site, _seconds):
        self.sites.append(site)
        if self.wrong:
            raise ApplicationError(self.wrong)
        return Done(True, "changed", {"ttl_seconds": 60})


@pytest.mark.parametrize(("wrong", "verdict"), [(None, "pass"), ("Route 53 says Throttling", "fail")])
class TestNames:
    @pytest.fixture
    def components(self):
        return (POOL, SERVICES, DNS)

    def test_a_name_is_changed_by_the_controller_in_its_turn_and_never_costs_the_protection(self, run, monkeypatch, wrong, verdict):
        names, stage = Names(wrong), Stage()
        monkeypatch.setattr(handover, "controller_component", lambda *_: names)
        results = run(stage)
        assert failed(results) == set(), "the new primary must still be protected"
        assert names.sites == ["b"]
        [gate] = [gate for gate in said(results["b-db1"])["gates"] if gate["id"] == "DNS"]
        assert gate["verdict"] == verdict


class TestOneOfThree:
    @pytest.fixture
    def plan(self):
        return replace(PLAN, planned=False, scope="database", quiesce=("a-app1",), cutover=("b-app1",))

    def test_a_host_whose_cutover_fails_is_named(self, run):
        stage = Stage({("b-app1", "app_component", "cutover"): {"failed": True, "msg": "CUTOVER on b-app1: stopped answering"}})
        results = run(stage)
        assert "b-app1" in failed(results)
        assert results["b-app1"]["msg"].startswith("CUTOVER on b-app1: stopped answering")


class TestASilentHost:
    @pytest.fixture
    def plan(self):
        return replace(PLAN, planned=False)

    def test_an_application_host_that_is_silent_keeps_nobody_waiting(self, tmp_path, monkeypatch, plan, components):
        stage = Stage()
        results = playing(tmp_path, monkeypatch, plan, components, silent=("a-app1",), limit_seconds=20)(stage)
        assert failed(results) == set(), results
        assert order(stage, "cutover", "b-app1") == ["pool", "shop", "worker"]
        assert order(stage, "quiesce", "a-app1") == []
        [phase] = said(results["a-app1"])["phases"]
        assert (phase["name"], phase["outcome"], phase["required"]) == ("QUIESCE", "skipped", False)
