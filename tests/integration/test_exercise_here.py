"""`relevo drill NAME` as an operator starts, stops and kills it: real processes and real Ansible, on hosts that are this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

BIN = Path(sys.executable).parent
PROJECT = Path(__file__).parents[1] / "fixtures" / "project"
POLICY = """
schema: relevo-policy/1
exercises:
  small:
    title: Small exercise
    goal: Nothing moves
    steps: [{runbook: check}, {runbook: toy_slow}, {runbook: toy_nightly}]
  bad:
    title: Bad exercise
    goal: It stops
    steps: [{runbook: check}, {runbook: toy_nightly, inputs: {dr_reason: bad}}]
"""
PEOPLE = ["-e", "dr_participants=Ana, Bo", "-e", "dr_observers=Eva"]


@dataclass(frozen=True)
class Controller:
    """One controller with its store and its policy."""

    place: Path

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RELEVO_", "ANSIBLE_", "TOY_"))}
        named = {"RELEVO_STORE": str(self.place / "state"), "RELEVO_PROJECT": str(PROJECT), "RELEVO_INVENTORY": "inventory"}
        return kept | {"PATH": f"{BIN}:{kept['PATH']}", "RELEVO_POLICY": str(self.place / "policy.yml")} | named | more

    def start(self, *words: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(BIN / "relevo"), *words],
            cwd=PROJECT,
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def relevo(self, *words: str, code: int = 0) -> Any:
        process = self.start(*words)
        printed, said = process.communicate(timeout=120)
        assert process.returncode == code, said + printed
        assert "Traceback" not in said
        return json.loads(printed) if "--json" in words else printed + said

    def wait_for_the_slow_run(self) -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            if any('"Wait | Wait"' in path.read_text() for path in (self.place / "state/runs").glob("*toy_slow*/journal.jsonl")):
                return
            time.sleep(0.05)
        pytest.fail("the slow toy did not start")


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    (tmp_path / "policy.yml").write_text(POLICY)
    return Controller(tmp_path)


def test_an_exercise_is_run_kept_shown_and_verified(controller: Controller) -> None:
    ended = controller.relevo("drill", "small", *PEOPLE, "--json")
    assert (ended["verdict"], ended["reasons"], ended["cluster"]) == ("passed", [], "toy")
    assert [one["runbook"] for one in ended["ran"]] == ["check", "toy_slow", "toy_nightly"]
    records = controller.relevo("results", "list", "--json")
    assert {record["run"]["exercise"] for record in records} == {ended["id"]}
    assert {tuple(record["run"]["observers"]) for record in records} == {("Eva",)}
    assert controller.relevo("exercises", "show", "--json") == ended
    assert ended["id"] in controller.relevo("exercises", "list")
    # The exercise is in the chain as its runs are.
    controller.relevo("results", "verify")
    bundle = controller.place / "bundle"
    controller.relevo("results", "export", records[0]["run_id"], "--out", str(bundle))
    assert len(list((bundle / "statements").glob("*-exercise-*.json"))) == 5
    assert subprocess.run(["sh", "verify.sh"], cwd=bundle, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(("number", "verdict"), [(signal.SIGKILL, "interrupted"), (signal.SIGINT, "interrupted")])
def test_one_that_is_killed_or_stopped_is_gone_on_with(controller: Controller, number: signal.Signals, verdict: str) -> None:
    process = controller.start("drill", "small", *PEOPLE, TOY_WAIT="60")
    controller.wait_for_the_slow_run()
    assert "Another command leads" in controller.relevo("drill", "small", *PEOPLE, code=4)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert process.returncode == 3
        assert "Next: relevo status toy" in said
    ended = controller.relevo("drill", "small", "--json", code=5)
    assert [(one["runbook"], one["verdict"]) for one in ended["ran"]] == [
        ("check", "passed"),
        ("toy_slow", verdict),
        ("toy_slow", "passed"),
        ("toy_nightly", "passed"),
    ]
    assert ended["verdict"] == "partial"


def test_one_that_stops_says_what_to_do_and_another_is_begun_only_anew(controller: Controller) -> None:
    said = controller.relevo("drill", "bad", *PEOPLE, code=1)
    assert "stops. The run" in said
    assert "Production now: toy-a" in said
    assert "docs/runbooks/toy_nightly.md" in said
    refused = controller.relevo("drill", "small", *PEOPLE, code=4)
    assert "go on with relevo drill bad" in refused
    controller.relevo("drill", "small", "--anew", *PEOPLE)
    newest, older = controller.relevo("exercises", "list", "--json")
    assert (newest["verdict"], older["verdict"]) == ("passed", "failed")


def test_an_exercise_that_moves_production_is_confirmed_by_the_clusters_name(controller: Controller) -> None:
    for words in ((), ("--moves-production", "minimarket")):
        said = controller.relevo("drill", "full", *PEOPLE, "-e", "dr_target_site=b", *words, code=4)
        assert "The exercise full moves production of toy" in said
        assert "--moves-production toy" in said
    assert controller.relevo("results", "list", "--json") == []
    assert "no exercise 'fully'" in controller.relevo("drill", "fully", code=4)
    assert "are for an exercise" in controller.relevo("drill", "--anew", code=4)
    assert "confirmed by --moves-production" in controller.relevo("drill", "full", "--production", code=4)
