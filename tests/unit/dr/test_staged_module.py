"""A module started ahead of time: told to go on, told to stop, and replaced by an ordinary start when the staging went wrong."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import letter
from ansible_collections.relevo.dr.plugins.plugin_utils.staged_module import StagedModule


class Action:
    """Stands for a host: a module is a function here, a short command really runs."""

    def __init__(self, log):
        self.log, self.deaf, self.broken = log, False, False

    def execute(self, module, arguments):
        if self.broken:
            return {"unreachable": True, "msg": "gone"}
        try:
            completed = letter.complete(arguments, "run", ["token"])
        except letter.NoLetter as error:
            self.note(f"left: {error}")
            return {"failed": True, "msg": str(error)}
        while arguments.get("patient") and not letter.withdrawn(arguments, "run"):
            time.sleep(0.01)
        self.note("acted")
        return {"changed": True, "module": module, "token": completed["token"]}

    def ask(self, module, arguments):
        self.note("asked")
        return {"changed": True, "module": module, "token": arguments["token"]}

    def say(self, command, text):
        if self.deaf:
            return False
        return subprocess.run(["sh", "-c", command], input=text, text=True, check=False).returncode == 0

    def note(self, word):
        with self.log.open("a") as target:
            target.write(f"{word} in {os.getpid()}\n")

    def noted(self):
        return [line.rpartition(" in ")[0] for line in self.log.read_text().splitlines()] if self.log.exists() else []


@pytest.fixture
def action(tmp_path, monkeypatch):
    monkeypatch.setattr(letter, "BOX", str(tmp_path / "letters"))
    return Action(tmp_path / "log")


def staged(action, **more):
    return StagedModule(action, "run", "promote", "relevo.dr.standby_promote", {"token": "", **more}, 20)


def test_it_waits_and_goes_on_with_what_the_letter_brings(action):
    module = staged(action)
    assert module.ready(5)
    assert action.noted() == []
    assert module.go({"token": "signed"}) == {"changed": True, "module": "relevo.dr.standby_promote", "token": "signed"}
    assert action.noted() == ["acted"]
    assert str(os.getpid()) not in action.log.read_text()
    module.give_up("over")
    assert action.noted() == ["acted"]


@pytest.mark.parametrize("arrives", [True, False])
def test_a_quick_letter_of_which_nobody_said_that_it_arrived_starts_nothing_twice(action, arrives):
    """Its host was slow to answer: a promotion that was told twice met its own flock, and the run failed beside a promotion that went through."""

    def put(place, content):
        if arrives:
            Path(place + ".new").write_text(json.dumps(content))
            os.replace(place + ".new", place)
            while os.path.exists(place + ".ready"):
                time.sleep(0.005)

    module = StagedModule(action, "run", "promote", "relevo.dr.standby_promote", {"token": ""}, 20, 0.0, put)
    assert module.ready(5)
    assert module.go({"token": "signed"})["token"] == "signed"
    assert action.noted() == ["acted"]


def test_told_that_its_part_is_over_it_leaves_without_acting(action):
    module = staged(action)
    assert module.ready(5)
    module.give_up("the fence has no proof")
    limit = time.monotonic() + 5
    while not action.noted() and time.monotonic() < limit:
        time.sleep(0.01)
    assert "acted" not in action.noted()


def test_one_that_went_on_and_waits_for_another_hosts_part_hears_that_it_failed(action):
    module = staged(action, patient=True)
    asked = []
    answer = module.go({"token": "signed"}, lambda: asked.append(1) or ("b-db1: nothing was promoted" if len(asked) > 1 else None))
    assert answer["changed"]
    assert len(asked) == 2


@pytest.mark.parametrize("wrong", ["broken", "deaf"])
def test_what_cannot_be_staged_is_started_when_its_time_comes(action, wrong):
    setattr(action, wrong, True)
    module = staged(action)
    time.sleep(0.2)
    action.broken = False
    assert module.go({"token": "signed"})["token"] == "signed"
    assert action.noted() == ["asked"]
