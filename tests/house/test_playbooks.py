"""Runbooks: what a person reads in them, what AWX finds, and what never stands in them."""

from __future__ import annotations

import re

import pytest

from tests.house.tree import PLAYBOOKS, ROOT, files, load, name, task_files, tasks, text

EVERY_PLAYBOOK = pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: path.stem)
EVERY_TASK_FILE = pytest.mark.parametrize("path", task_files(), ids=name)
# AWX's own rule (awx/main/utils/ansible.py), so that a runbook can be chosen there.
AWX_PLAYBOOK = re.compile(r"^\s*?-?\s*?(?:hosts|(ansible\.builtin\.)?import_playbook|(ansible\.builtin\.)?include):\s*?.*?$")
AWX_PASSES_OVER = {"roles", "tasks", "group_vars", "host_vars"}


def found_by_awx(path):
    parts = path.relative_to(ROOT).parts
    if AWX_PASSES_OVER & set(parts) or any(part.startswith(".") for part in parts):
        return False
    return any(AWX_PLAYBOOK.match(line) for line in text(path).splitlines())


def test_awx_offers_the_runbooks_and_nothing_else_that_could_be_started():
    offered = {path for path in files(".yml", ".yaml") if found_by_awx(path)}
    # Inventories and tests have the word "hosts:" too; they stand apart, where nobody takes them for a runbook.
    apart = {path for path in offered if path.relative_to(ROOT).parts[0] in {"inventories", "tests"}}
    # What AWX itself is configured with, and the steps of its workflows that touch no host.
    of_awx = {ROOT / f"awx/{step}.yml" for step in ("apply", "plan", "stopped", "result", "readiness")}
    assert offered - apart == {*PLAYBOOKS, *of_awx}


@EVERY_PLAYBOOK
def test_plays_are_numbered_headings_of_their_runbook(playbook):
    title = playbook.stem.replace("_", " ").capitalize()
    names = [play["name"] for play in load(playbook)]
    numbers = [re.fullmatch(rf"{title} (\d+)/(\d+): [A-Z].*", play_name) for play_name in names]
    assert all(numbers), names
    assert [tuple(map(int, match.groups())) for match in numbers] == [(place, len(names)) for place in range(1, len(names) + 1)]


@EVERY_PLAYBOOK
def test_a_play_says_whether_it_gathers_facts_and_has_no_tags(playbook):
    for play in load(playbook):
        assert play["gather_facts"] is False, play["name"]
        assert not {"tags", "vars_prompt", "serial"} & set(play), play["name"]


@EVERY_PLAYBOOK
def test_hosts_go_on_by_themselves_only_where_they_are_looked_at(playbook):
    """There a failed host does not end the play, and nothing may run once: the judgement after it misses who was not asked."""
    plays = load(playbook)
    for play, following in zip(plays, [*plays[1:], {"name": ""}], strict=True):
        if "strategy" in play:
            assert play["name"].endswith(": Look"), play["name"]
            assert following["name"].endswith(": Judge"), following["name"]
            assert "run_once" not in text(ROOT / "playbooks/tasks/look.yml")


@EVERY_TASK_FILE
def test_no_task_hides_a_failure_asks_a_person_or_uses_a_shell(path):
    content = load(path)
    for task in tasks(content):
        words = set(task)
        assert not words & {"ignore_errors", "shell", "pause"}, task
        # Only the opening of a run has a tag: it must speak whatever --tags leaves out.
        assert task.get("tags", ["always"]) == ["always"], task
        assert not words & {"ansible.builtin.shell", "ansible.builtin.pause", "ansible.builtin.raw", "ansible.builtin.script"}, task


@EVERY_TASK_FILE
def test_nothing_of_a_runbook_waits_for_a_handler(path):
    """A handler that was notified before a failure is lost, and the run after it is green."""
    if "lab_" not in str(path):
        assert not [task for task in tasks(load(path)) if "notify" in task]


@EVERY_TASK_FILE
def test_an_entry_point_is_called_without_extension_so_that_its_argument_spec_is_checked(path):
    for task in tasks(load(path)):
        for module in ("ansible.builtin.include_role", "ansible.builtin.import_role"):
            if module in task:
                assert not str(task[module].get("tasks_from", "")).endswith((".yml", ".yaml")), task


@EVERY_TASK_FILE
def test_a_command_says_why_no_module_does_it_and_when_it_changes(path):
    lines = text(path).splitlines()
    for number, line in enumerate(lines):
        if re.match(r"\s*ansible\.builtin\.command:", line):
            before = lines[max(0, number - 2) : number]
            assert any(above.lstrip().startswith("#") for above in before), f"line {number + 1}: no reason"
    for task in tasks(load(path)):
        command = task.get("ansible.builtin.command")
        if command:
            guarded = isinstance(command, dict) and {"creates", "removes"} & set(command)
            assert "changed_when" in task or guarded, task["name"]


@EVERY_TASK_FILE
def test_a_probe_that_bears_a_silent_host_is_the_only_exception_to_failing(path):
    for task in tasks(load(path)):
        assert task.get("ignore_unreachable", False) is False or "register" in task, task["name"]


@EVERY_PLAYBOOK
def test_a_play_that_bears_a_silent_host_does_not_end_with_it(playbook):
    """With any_errors_fatal an unreachable host ends the playbook although the task bears it: without a word, and no play after it runs."""
    for play in load(playbook):
        bears = [task["name"] for task in tasks([play]) if task.get("ignore_unreachable")]
        assert not (bears and play.get("any_errors_fatal")), bears


def test_no_rule_of_the_linter_is_left_out():
    rules = load(ROOT / ".ansible-lint")
    assert rules["profile"] == "production"
    assert rules["strict"] is True
    assert (rules["skip_list"], rules["warn_list"]) == ([], [])
    assert not (ROOT / ".ansible-lint-ignore").exists()
    assert [name(path) for path in task_files() if re.search(r"#\s*noqa", text(path))] == []


@pytest.mark.parametrize("runbook", ["failover", "switchover"])
def test_one_task_is_on_the_outage_clock(runbook):
    """Each further task there costs a round trip to every host; see docs/performance.md."""
    plays = load(ROOT / f"playbooks/{runbook}.yml")
    clock = next(play for play in plays if play["name"].endswith("Hand over"))
    assert [task["ansible.builtin.import_role"]["tasks_from"] for task in clock["tasks"]] == ["promote"]
    assert len(load(ROOT / "roles/dr_standby/tasks/promote.yml")) == 1
