"""What a planned run demands beyond a failover."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
from ansible_collections.relevo.dr.plugins.module_utils.gates import Limits, blocking, evaluate
from ansible_collections.relevo.dr.plugins.module_utils.handover_gates import demanded
from ansible_collections.relevo.dr.plugins.module_utils.inputs import Inputs
from ansible_collections.relevo.dr.plugins.module_utils.plan import make_plan

from .conftest import database, silent
from .test_gates import CONTROLLER, bent

LOCK = {"run_id": "20261124T121530Z-switchover-1f3a", "owner": "ana", "controller": "ops1", "since": "2026-11-24T03:00:00Z"}


def stops(landscape, **wish):
    plan = make_plan(landscape, "b", "site", planned=True)
    inputs = Inputs(mode="planned", scope="site", target_site="b", **wish)
    found = evaluate(plan, landscape, inputs, Limits(), CONTROLLER)
    return {(gate.id, gate.host): gate for gate in blocking(demanded(found, plan, landscape, Limits()))}


def test_a_healthy_landscape_passes(landscape):
    assert stops(landscape) == {}


PRIMARY = ("database", "a-db1", "facts", "cluster", "primary")


@pytest.mark.parametrize(
    ("name", "value", "said"), [("prepared_transactions", 2, "2 prepared"), ("longest_transaction_seconds", 90.4, "90 s")]
)
def test_what_a_stop_would_cut_off_is_shown_by_number(landscape, name, value, said):
    assert said in stops(bent(landscape, (*PRIMARY, name), value))[("G25", "a-db1")].observed


def test_what_nobody_saw_is_not_accepted_by_name(landscape):
    unseen = bent(landscape, (*PRIMARY, "prepared_transactions"), None)
    assert ("G25", "a-db1") in stops(unseen, accept_unknown=("G25",))
    blind = bent(landscape, ("database", "b-db1", "facts", "host", "data_free_bytes"), None)
    assert ("G12", "b-db1") in stops(blind, accept_unknown=("G12",))


def test_a_dead_primary_is_no_planned_change(landscape):
    dead = replace(landscape, database={**landscape.database, "a-db1": silent()})
    found = stops(dead)
    assert ("REACH", "a-db1") in found
    assert "failover" in found[("G24", "b-db1")].next_action


def test_a_silent_application_host_or_repository_stops_it(landscape):
    assert ("REACH", "a-app1") in stops(bent(landscape, ("application", "a-app1", "reachable"), False))
    gone = {"host": "a-store1", "error": "takes no connection"}
    assert ("G23", "b-db1") in stops(bent(landscape, ("database", "b-db1", "facts", "repository", "repositories", "2"), gone))


def test_a_repository_that_only_the_old_primary_does_not_reach_stops_it(landscape):
    """Or the application would stand still until its last segment was given up."""
    seen = ("database", "a-db1", "facts", "repository", "repositories")
    found = stops(bent(landscape, (*seen, "1"), {"host": "b-store1", "error": "takes no connection"}))
    assert list(found) == [("G23", "a-db1")]
    assert found[("G23", "a-db1")].observed == "repository 1: takes no connection"
    assert list(stops(bent(landscape, seen, {}))) == [("G23", "a-db1")]


def killed(landscape, run_id):
    locked = bent(landscape, ("database", "b-db1", "facts", "host", "lock"), {**LOCK, "run_id": run_id})
    return bent(locked, ("database", "b-db1", "lock_owner_dead"), True)


def test_the_run_of_another_runbook_is_finished_by_that_one(landscape):
    assert stops(killed(landscape, LOCK["run_id"])) == {}
    found = stops(killed(landscape, "20261124T121530Z-failover-1f3a"))
    assert list(found) == [("G10", "b-db1")]


def test_what_a_dead_run_stopped_is_gone_on_with(landscape):
    stopped = killed(landscape, LOCK["run_id"])
    stopped.database["a-db1"]["facts"]["cluster"].update(state="stopped", role="none")
    del stopped.database["a-db1"]["facts"]["cluster"]["primary"]
    assert stops(stopped) == {}


def turned(landscape):
    """b serves, a follows."""
    there = copy.deepcopy(landscape)
    there.database.update({"a-db1": database("standby"), "b-db1": database("primary")})
    return there


def test_a_finished_switchover_is_done_and_a_fenced_old_primary_is_not(landscape):
    there = turned(landscape)
    plan = make_plan(there, "b", "site", planned=True)
    assert (plan.done, plan.fence, plan.follow) == (True, (), ("a-db1",))
    assert stops(there) == {}
    fenced = bent(there, ("database", "a-db1", "facts", "host", "fence"), {"run_id": "x"})
    assert not make_plan(fenced, "b", "site", planned=True).done
    assert "failback" in stops(fenced)[("G24", "b-db1")].next_action
    masked = bent(there, ("database", "a-db1", "facts", "host", "unit"), {"UnitFileState": "masked"})
    assert not make_plan(masked, "b", "site", planned=True).done


def test_an_application_that_was_never_taken_there_is_taken_by_a_failover(landscape):
    idle = bent(turned(landscape), ("application", "b-app1", "facts", "application", "active"), False)
    found = stops(idle)[("G24", "b-db1")]
    assert "the application on b-app1 does not use it" in found.observed
    assert "failover" in found.next_action


def test_a_follower_is_not_stopped_again_by_the_run_that_goes_on(landscape):
    there = bent(turned(landscape), ("database", "b-db1", "facts", "host", "lock"), LOCK)
    plan = make_plan(there, "b", "site", planned=True)
    assert (plan.done, plan.resume, plan.fence, plan.follow) == (False, True, (), ("a-db1",))
    # A failover trusts no such thing.
    assert make_plan(there, "b", "site").fence == ("a-db1",)
