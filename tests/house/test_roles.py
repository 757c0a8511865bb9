"""Every role is called, described and documented in the same way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.tree import PLAYBOOKS, ROLES, ROOT, load, tasks, text

EVERY_ROLE = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def parts(role):
    """Task files that other task files of the role include."""
    included = [task.get("ansible.builtin.include_tasks", {}) for task in role_tasks(role)]
    return {Path(value["file"] if isinstance(value, dict) else value).stem for value in included if value}


def role_tasks(role):
    return [task for path in (role / "tasks").glob("*.yml") for task in tasks(load(path))]


def specs(role):
    return load(role / "meta/argument_specs.yml")["argument_specs"]


def options(role):
    return {name: option for entry in specs(role).values() for name, option in (entry.get("options") or {}).items()}


def defaults(role):
    path = role / "defaults/main.yml"
    return load(path) if path.exists() else {}


@EVERY_ROLE
def test_each_entry_point_has_an_argument_spec_and_each_spec_an_entry_point(role):
    files = {path.stem for path in (role / "tasks").glob("*.yml")}
    assert files - parts(role) - {"main"} <= set(specs(role)) <= files


@EVERY_ROLE
def test_a_role_never_acts_without_an_entry_point(role):
    main = load(role / "tasks/main.yml")
    assert [set(task) - {"name"} for task in main] == [{"ansible.builtin.fail"}]


@EVERY_ROLE
def test_each_default_is_described_and_begins_with_the_name_of_the_role(role):
    undescribed = set(defaults(role)) - set(options(role))
    assert not undescribed, "in defaults/main.yml, but no entry point's argument spec names them"
    assert {name for name in defaults(role) if not name.startswith(f"{role.name}_")} == set()


@EVERY_ROLE
def test_a_default_that_the_spec_promises_is_the_one_that_holds(role):
    promised = {name: option["default"] for name, option in options(role).items() if "default" in option}
    held = {name: value for name, value in defaults(role).items() if not (isinstance(value, str) and "{{" in value)}
    assert {name: value for name, value in promised.items() if name not in defaults(role)} == {}
    assert {name: value for name, value in promised.items() if name in held} == {
        name: held[name] for name in promised if name in held
    }


@EVERY_ROLE
def test_each_input_that_the_role_reads_is_described(role):
    sources = [
        path
        for part in ("tasks", "vars", "templates", "handlers", "defaults")
        for path in (role / part).glob("**/*")
        if path.is_file()
    ]
    lines = [line for path in sources for line in text(path).splitlines() if not line.lstrip().startswith("#")]
    read = set(re.findall(rf"(?<![\w.$/])({role.name}_\w+)", "\n".join(lines)))
    told = {fact for task in role_tasks(role) for fact in (*task.get("ansible.builtin.set_fact", {}), task.get("register"))}
    assert read - set(options(role)) - told == set()


@EVERY_ROLE
def test_each_entry_point_has_a_row_in_the_readme(role):
    readme = role / "README.md"
    assert readme.is_file(), "the role has no README.md"
    rows = set(re.findall(r"^\| `(\w+)` \|", text(readme), re.MULTILINE))
    assert set(specs(role)) - {"main"} - rows == set()


def test_the_example_inventory_says_all_that_the_roles_require():
    required = {
        name for role in ROLES if role.name.startswith("dr_") for name, option in options(role).items() if option.get("required")
    }
    said = {name for path in (ROOT / "inventories/example/group_vars").glob("*.yml") for name in load(path)}
    given = {
        name
        for path in (*PLAYBOOKS, *(ROOT / "playbooks/tasks").glob("*.yml"))
        for name in re.findall(r"^\s+(dr_\w+):", text(path), re.MULTILINE)
    }
    assert required - said - given == set()


def test_the_example_inventory_says_nothing_that_nobody_reads():
    known = {name for role in ROLES for name in options(role)} | {"dr_site", "dr_address", "dr_secrets_directory"}
    # What no role but the command reads.
    known |= set(re.findall(r'"(dr_pack_\w+)"', text(ROOT / "runner/relevo/cli_pack.py")))
    said = {name for path in (ROOT / "inventories/example/group_vars").glob("*.yml") for name in load(path)}
    assert {name for name in said if name.startswith("dr_")} - known == set()
