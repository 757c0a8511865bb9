"""The way home after a run: which runs, with which words; none from a disaster."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from relevo import drill, request
from relevo.errors import InputRefusedError

HOME = drill.After(drill.RETURN)


def record(runbook: str, scope: str = "site", source_site: str | None = "a", cluster: str | None = "shop") -> Any:
    run = {"source_site": source_site, "target_site": "b"}
    return SimpleNamespace(runbook=runbook, run_id="20261127T030000Z-x-1f3a", run=run, scope=scope, cluster=cluster)


def test_what_comes_after_is_no_input_of_a_playbook() -> None:
    assert drill.split("failover", ["dr_scope=site", "dr_after=return"]) == (HOME, ["dr_scope=site"])
    assert drill.split("failover", ["dr_scope=site"]) == (drill.After(), ["dr_scope=site"])
    # It is the switchover's, which the failback does not take.
    assert drill.split("failback", ["dr_scope=site", "dr_after=return"]) == (drill.After(drill.RETURN, "site"), [])
    assert drill.split("failback", ["dr_scope=site"]) == (drill.After(), ["dr_scope=site"])


def test_a_failover_comes_home_by_failback_and_switchover() -> None:
    steps = drill.way_home(record("failover", "database"), HOME)
    assert [step.runbook for step in steps] == ["failback", "switchover"]
    assert steps[0].inputs["dr_confirm"] == "failback shop to a"
    assert steps[1].inputs["dr_confirm"] == "drill production shop to a"
    assert steps[1].inputs["dr_scope"] == "database"
    for step in steps:
        # What the runbooks themselves demand and take.
        request.require(step.runbook, request.judge(step.inputs))
        assert "20261127T030000Z-x-1f3a" in step.inputs["dr_reason"]


def test_the_way_home_is_of_the_same_occasion() -> None:
    left = record("failover")
    left.run.update(ticket="CHG-4711", participants=["Ana", "Bo"], bia=None)
    for step in drill.way_home(left, HOME):
        assert (step.inputs["dr_ticket"], step.inputs["dr_participants"]) == ("CHG-4711", "Ana, Bo")
        assert "dr_bia" not in step.inputs
        request.judge(step.inputs)


def test_a_switchover_comes_home_by_a_switchover() -> None:
    assert [step.runbook for step in drill.way_home(record("switchover"), HOME)] == ["switchover"]


def test_a_failback_that_returns_is_followed_by_the_switchover_to_its_own_site() -> None:
    """From a disaster, that is: nothing is drilled there."""
    [step] = drill.way_home(record("failback", scope="None", source_site="a"), drill.After(drill.RETURN, "database"))
    assert step.runbook == "switchover"
    assert step.inputs["dr_confirm"] == "switchover shop to b"
    assert (step.inputs["dr_target_site"], step.inputs["dr_scope"]) == ("b", "database")
    assert "dr_mode" not in step.inputs
    request.require("switchover", request.judge(step.inputs))


def test_a_failback_that_returns_says_first_with_which_application() -> None:
    with pytest.raises(InputRefusedError, match="dr_scope"):
        drill.check("failback", HOME, {"dr_target_site": "a"})
    drill.check("failback", drill.After(drill.RETURN, "site"), {"dr_target_site": "a"})
    drill.check("failback", drill.After(), {"dr_target_site": "a"})


def test_nobody_comes_home_who_never_left() -> None:
    assert drill.way_home(record("rehearse"), HOME) == []
    assert drill.way_home(record("failover", source_site=None), HOME) == []
    assert drill.way_home(record("failover", cluster=None), HOME) == []


@pytest.mark.parametrize(
    ("runbook", "after", "inputs", "words"),
    [
        ("failover", "return", {"dr_mode": "disaster"}, "is for a drill"),
        ("rehearse", "return", {}, "has no meaning for rehearse"),
        ("failover", "home", {"dr_mode": "drill"}, "expected stay or return"),
    ],
)
def test_a_way_home_that_is_none_is_refused(runbook: str, after: str, inputs: dict[str, str], words: str) -> None:
    with pytest.raises(InputRefusedError, match=words):
        drill.check(runbook, drill.After(after), inputs)


def test_every_other_combination_is_fine() -> None:
    drill.check("failover", HOME, {"dr_mode": "drill"})
    drill.check("switchover", HOME, {})
    drill.check("failover", drill.After(), {"dr_mode": "disaster"})
