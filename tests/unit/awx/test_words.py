"""What a person reads in AWX: the plan in an approval, and what state things are in where a workflow has stopped."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.relevo.dr.plugins.module_utils import approval
from ansible_collections.relevo.dr.plugins.module_utils.inputs import Inputs

from relevo.prediction import Estimate, Way
from tests.house.tree import ROOT
from tests.unit.dr.test_reopening import PLAN

WISH = Inputs(mode="disaster", scope="site", target_site="b", accept_loss_seconds=5.0)
NOTHING = asdict(Way("promote", 0, {}, Estimate(), Estimate(), Estimate()))
NINE = asdict(Way("promote", 12, {}, Estimate(), Estimate(41.25, 63.5, 71.0, 12), Estimate()))


def rendered(playbook: str, template: str, **known: Any) -> str:
    """A template of awx/, as Ansible renders it for that playbook."""
    loader = DataLoader()
    (play,) = loader.load_from_file(str(ROOT / "awx" / playbook), trusted_as_template=True)
    text = trust_as_template((ROOT / "awx/templates" / template).read_text())
    return str(Templar(loader=loader, variables={**play["vars"], **known}).template(text))


def plan(wish: Inputs = WISH, way: dict[str, Any] = NOTHING, runbook: str = "failover") -> str:
    subject = approval.subject(runbook, "minimarket", PLAN, wish)
    told = {"approval": {"subject": subject, "digest": approval.digest(subject)}}
    predicted = {"ways": [way], "limit_seconds": 14400.0}
    text = rendered("plan.yml", "plan.txt.j2", relevo=told, plan_predicted=predicted)
    assert approval.digest(subject)[:12] in text
    return text


def test_the_plan_says_who_is_stopped_who_serves_and_what_may_be_lost() -> None:
    text = plan()
    assert text.startswith("REAL OUTAGE: failover of minimarket from site a to site b.")
    for name in (*PLAN.fence, PLAN.promote, *PLAN.cutover):
        assert name in text
    assert "May be lost: 5.0 s of confirmed work." in text
    assert "Limit (RTO): 14400 s." in text


def test_an_exercise_says_that_it_moves_production_and_a_planned_change_that_nothing_is_lost() -> None:
    assert plan(Inputs(mode="drill", scope="site", target_site="b")).startswith("EXERCISE, which really moves production")
    planned = plan(Inputs(mode="planned", scope="site", target_site="b"), runbook="switchover")
    assert planned.startswith("PLANNED CHANGE: switchover of minimarket")
    assert "May be lost: nothing." in planned


def test_everything_that_is_accepted_by_name_is_in_the_plan() -> None:
    wish = Inputs(
        mode="disaster",
        scope="site",
        target_site="b",
        accept_unknown=("G09",),
        accept_fence=("lease_expired",),
        attest_dead=("a-db1",),
        attested_by="Ana",
    )
    assert "Accepted by name: G09, lease_expired; declared dead by Ana: a-db1." in plan(wish)
    assert "Accepted by name" not in plan()


def test_how_long_it_will_take_is_said_with_what_it_rests_on() -> None:
    assert "half of the runs within 41.2 s, nine of ten within 63.5 s; it rests on 12 run(s), the longest took 71.0 s." in plan(
        way=NINE
    )
    assert "not known, no run here has come through yet" in plan()


def stopped(**status: Any) -> str:
    told = {"relevo": {"status": status}} if status else {}
    return rendered("stopped.yml", "stopped.txt.j2", **told)


def test_where_nothing_was_seen_nothing_was_changed() -> None:
    assert "nothing was changed by it" in stopped()


def test_it_says_who_serves_who_holds_the_hosts_and_what_is_next() -> None:
    lock = {"owner": "ana", "run_id": "20261128T080000Z-failover-1f3a", "since": "x", "expires_at": "2026-11-28T08:02:00Z"}
    text = stopped(
        primary="b-db1", primaries=["b-db1"], protected=False, lock=lock, next="run failback", unsafe=["a-db1 is not fenced"]
    )
    for part in (
        "Serves now: b-db1.",
        lock["run_id"],
        "the primary is NOT protected",
        "Unsafe: a-db1 is not fenced",
        "Next: run failback",
    ):
        assert part in text
    assert "nobody answers as primary" in stopped(primary=None, protected=None)
    assert "not observed" in stopped(primary=None, protected=None)


def test_two_primaries_come_first() -> None:
    assert (
        stopped(primary="a-db1", primaries=["a-db1", "b-db1"])
        .splitlines()[1]
        .startswith("DANGER: more than one host takes writes: a-db1, b-db1.")
    )


@pytest.mark.parametrize("said", ["{{ lookup('pipe', 'id') }}"])
def test_what_a_host_said_is_never_a_template(said: str) -> None:
    assert said in stopped(primary="b-db1", next=said)
