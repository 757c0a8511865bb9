"""Who comes back behind whom, and what keeps them from it."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
from ansible_collections.relevo.dr.plugins.module_utils.failback_plan import evaluate, make_failback_plan
from ansible_collections.relevo.dr.plugins.module_utils.gates import Limits, blocking
from ansible_collections.relevo.dr.plugins.module_utils.inputs import Inputs
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

from .conftest import database, silent
from .test_gates import CONTROLLER, bent


@pytest.fixture
def left(landscape):
    """b serves on timeline 2; a was left, stopped and fenced."""
    there = copy.deepcopy(landscape)
    there.database.update({"a-db1": database("standby"), "b-db1": database("primary")})
    there.database["b-db1"]["facts"]["cluster"]["timeline"] = 2
    there.database["a-db1"]["facts"]["cluster"].update(state="stopped", role="none", standby=None)
    there.database["a-db1"]["facts"]["host"]["fence"] = {"run_id": "x"}
    return there


def stops(landscape):
    plan = make_failback_plan(landscape, "a")
    inputs = Inputs(mode="planned", scope="", target_site="a")
    return {gate.id for gate in blocking(evaluate(plan, landscape, inputs, Limits(), CONTROLLER))}


def test_the_primary_stays_and_the_other_comes_back(left):
    plan = make_failback_plan(left, "a")
    assert (plan.promote, plan.primary, plan.fence, plan.follow) == ("b-db1", "b-db1", ("a-db1",), ("a-db1",))
    assert (plan.quiesce, plan.cutover, plan.done) == ((), (), False)
    assert stops(left) == set()


def test_one_that_follows_is_done(left):
    left.database["a-db1"] = database("standby")
    assert make_failback_plan(left, "a").done
    left.database["a-db1"]["facts"]["cluster"]["standby"]["receiver"]["status"] = "waiting"
    assert not make_failback_plan(left, "a").done


@pytest.mark.parametrize("path", [("database", "b-db1"), ("application", "b-app1")], ids=["the primary", "an application host"])
def test_a_dead_run_of_another_runbook_is_finished_first(left, path):
    """It would free that run's locks, and nobody would know that the application was never moved."""
    lock = {
        "run_id": "20261124T121530Z-failover-1f3a",
        "owner": "anna",
        "controller": "c",
        "since": "2026-11-24T12:15:30.000000Z",
    }
    # The application hosts of this landscape are one entry.
    left.application.update({host: copy.deepcopy(entry) for host, entry in left.application.items()})
    dead = bent(bent(left, (*path, "facts", "host", "lock"), lock), (*path, "lock_owner_dead"), True)
    plan = make_failback_plan(dead, "a")
    found = blocking(evaluate(plan, dead, Inputs(mode="planned", scope="", target_site="a"), Limits(), CONTROLLER))
    assert {(gate.id, gate.host) for gate in found} == {("G10", path[1])}
    assert "20261124T121530Z-failover-1f3a is unfinished" in found[0].observed
    assert "finish that one first" in found[0].next_action
    own = bent(dead, (*path, "facts", "host", "lock", "run_id"), "20261124T121530Z-failback-1f3a")
    assert stops(own) == set()


def test_needs_one_primary(left):
    with pytest.raises(Refusal, match="0 writable primaries"):
        make_failback_plan(replace(left, database={**left.database, "b-db1": silent()}), "a")
    with pytest.raises(Refusal, match="2 writable primaries"):
        make_failback_plan(replace(left, database={**left.database, "a-db1": database("primary")}), "a")


def test_a_primary_that_its_guard_holds_needs_a_word_and_no_failover(left):
    """Its host was power-cycled, and the only other one is fenced: nobody can tell it that it may go on."""
    held = {**left.database, "b-db1": database("standby")}
    held["b-db1"]["facts"]["guard"] = {"held": {"reason": "nobody answers"}}
    with pytest.raises(Refusal, match=r"the guard of b-db1 holds it read-only: .*relevo-guard start") as refused:
        make_failback_plan(replace(left, database=held), "a")
    assert "playbooks/failover.yml" not in str(refused.value)
    with pytest.raises(Refusal, match=r"playbooks/failover\.yml"):
        make_failback_plan(replace(left, database={**left.database, "b-db1": database("standby")}), "a")


def test_refuses_the_site_that_serves(left):
    with pytest.raises(Refusal, match="no other database host"):
        make_failback_plan(left, "b")


def test_a_host_that_does_not_answer_another_cluster_or_a_newer_timeline_does_not_come_back(left):
    assert "REACH" in stops(replace(left, database={**left.database, "a-db1": silent()}))
    assert stops(bent(left, ("database", "a-db1", "facts", "cluster", "system_identifier"), "9")) == {"G01"}
    assert stops(bent(left, ("database", "a-db1", "facts", "cluster", "timeline"), 3)) == {"G09"}
    assert stops(bent(left, ("database", "a-db1", "facts", "host", "data_free_bytes"), 1)) == {"G12"}
    assert stops(bent(left, ("database", "a-db1", "facts", "cluster", "state"), "unresponsive")) == {"G07"}
