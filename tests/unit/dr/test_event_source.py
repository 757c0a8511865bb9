"""The event source of ansible-rulebook: a watcher's decisions, one event each."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.relevo.dr.extensions.eda.plugins.event_source import cluster
from jinja2 import Environment

from relevo import automatic, request
from relevo.automatic import Cluster
from relevo.decision import Automatic, Policy
from tests import awx_configuration

RULEBOOKS = Path(cluster.__file__).parents[2] / "rulebooks"


def watcher(directory: Path, *lines: str, end: str = "exit 1") -> str:
    program = directory / "relevo"
    said = "\n".join(f"echo '{line}'" for line in lines)
    program.write_text(f"#!/bin/sh\necho \"$@\" > {directory}/called\n{said}\necho 'No inventory describes it.' >&2\n{end}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def test_each_decision_is_an_event_and_the_end_of_the_watcher_an_error(tmp_path: Path) -> None:
    program = watcher(tmp_path, '{"event": "outage", "action": "propose"}', "no decision", "[1]")

    async def listen() -> list[dict[str, Any]]:
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        arguments = {"cluster": "minimarket", "command": program, "inventory": "hosts.yml", "hand_over": True}
        with pytest.raises(RuntimeError, match="relevo watch ended with 1: No inventory describes it"):
            await cluster.main(queue, arguments)
        return [queue.get_nowait() for _ in range(queue.qsize())]

    assert asyncio.run(listen()) == [{"relevo": {"event": "outage", "action": "propose"}}]
    assert (tmp_path / "called").read_text().split() == ["watch", "minimarket", "--json", "-i", "hosts.yml", "--hand-over"]


def test_the_watcher_ends_with_the_rulebook(tmp_path: Path) -> None:
    program = watcher(tmp_path, '{"event": "healthy"}', end="exec sleep 600")

    async def listen() -> None:
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        task = asyncio.ensure_future(cluster.main(queue, {"cluster": "minimarket", "command": program}))
        await asyncio.wait_for(queue.get(), 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 60)

    asyncio.run(listen())


def test_without_a_cluster_it_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match="needs the name of a cluster"):
        cluster.words({})


@pytest.mark.parametrize("rulebook", sorted(RULEBOOKS.glob("*.yml")), ids=lambda path: path.stem)
def test_only_where_the_watcher_hands_over_does_a_rule_start_the_run(rulebook: Path) -> None:
    """Never both, and never neither: the run would be started twice, or not at all."""
    for ruleset in yaml.safe_load(rulebook.read_text()):
        hands_over = [source["relevo.dr.cluster"].get("hand_over", False) for source in ruleset["sources"]]
        starts = [
            rule for rule in ruleset["rules"] if {"run_job_template", "run_workflow_template", "run_playbook"} & set(rule["action"])
        ]
        assert hands_over == [bool(starts)]
        assert all(rule["condition"] == 'event.relevo.action == "act"' for rule in starts)


def started() -> list[dict[str, Any]]:
    """What any rulebook starts at AWX, with the names that hold where nobody says others."""
    rules = [
        rule
        for path in sorted(RULEBOOKS.glob("*.yml"))
        for ruleset in yaml.safe_load(path.read_text())
        for rule in ruleset["rules"]
    ]
    actions = [rule["action"]["run_job_template"] for rule in rules if "run_job_template" in rule["action"]]
    return [
        {**action, **{name: Environment(autoescape=True).from_string(action[name]).render() for name in ("name", "organization")}}
        for action in actions
    ]


def test_what_a_rule_starts_by_default_is_a_template_of_awx_whose_survey_takes_all_that_the_watcher_says() -> None:
    policy = Policy(Automatic.ACT, "b", {"a-db1": "a", "b-db1": "b"})
    accepted = {
        "dr_accept_loss_seconds": "5.5",
        "dr_accept_loss_transactions": "100",
        "dr_accept_fence": "lease_expired",
        "dr_accept_unknown": "G09,LOSS",
    }
    assert set(accepted) == automatic.INPUTS
    configured = awx_configuration.variables()
    (action,) = started()
    assert action["job_args"] == {"extra_vars": "{{ event.relevo.variables }}"}
    assert action["organization"] == configured["relevo_awx_organization"]
    (template,) = [one for one in configured["controller_templates"] if one["name"] == action["name"]]
    assert (template["playbook"], template["survey_enabled"]) == ("playbooks/failover.yml", True)
    # ansible-rulebook also sends ansible_eda and a limit: AWX leaves out what it does not ask for, and a run would refuse it.
    assert not template["ask_variables_on_launch"] and not template["ask_limit_on_launch"]
    asked = {question["variable"]: question for question in template["survey_spec"]["spec"]}
    for scope in ("site", "database"):
        inputs = request.judge({"dr_mode": "disaster", "dr_scope": scope, "dr_target_site": "b", **accepted}).values
        cluster_ = Cluster("minimarket", policy, inputs, (), None, 300.0)
        said = cluster_.variables("automatic: a-db1 is lost", "2026-11-28T08:00:00.000000Z")
        assert {name for name, question in asked.items() if question["required"]} <= set(said) <= set(asked)
        for name, value in said.items():
            assert value in asked[name].get("choices", [value])
            assert len(value) <= asked[name].get("max", len(value))
