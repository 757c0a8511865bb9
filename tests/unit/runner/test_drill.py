"""The way home after a drill: which runs, with which words; none from a disaster."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from relevo import drill, request
from relevo.errors import InputRefusedError


def record(runbook: str, scope: str = "site", source_site: str | None = "a", cluster: str | None = "shop") -> Any:
    return SimpleNamespace(
        runbook=runbook, run_id="20261127T030000Z-x-1f3a", run={"source_site": source_site}, scope=scope, cluster=cluster
    )


def test_what_comes_after_is_no_input_of_a_playbook() -> None:
    assert drill.split(["dr_scope=site", "dr_after=return"]) == (drill.RETURN, ["dr_scope=site"])
    assert drill.split(["dr_scope=site"]) == (drill.STAY, ["dr_scope=site"])


def test_a_failover_comes_home_by_failback_and_switchover() -> None:
    steps = drill.way_home(record("failover", "database"))
    assert [step.runbook for step in steps] == ["failback", "switchover"]
    assert steps[0].inputs["dr_confirm"] == "failback shop to a"
    assert steps[1].inputs["dr_confirm"] == "drill production shop to a"
    assert steps[1].inputs["dr_scope"] == "database"
    for step in steps:
        # What the runbooks themselves demand and take.
        request.require(step.runbook, request.judge(step.inputs))
        assert "20261127T030000Z-x-1f3a" in step.inputs["dr_reason"]


def test_a_switchover_comes_home_by_a_switchover() -> None:
    assert [step.runbook for step in drill.way_home(record("switchover"))] == ["switchover"]


def test_nobody_comes_home_who_never_left() -> None:
    assert drill.way_home(record("rehearse")) == []
    assert drill.way_home(record("failover", source_site=None)) == []
    assert drill.way_home(record("failover", cluster=None)) == []


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
        drill.check(runbook, after, inputs)


def test_every_other_combination_is_fine() -> None:
    drill.check("failover", drill.RETURN, {"dr_mode": "drill"})
    drill.check("switchover", drill.RETURN, {})
    drill.check("failover", drill.STAY, {"dr_mode": "disaster"})
