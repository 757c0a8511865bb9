"""The event source of ansible-rulebook: a watcher's decisions, one event each."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.relevo.dr.extensions.eda.plugins.event_source import cluster

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
