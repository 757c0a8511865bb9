"""AWX as code, as data: what it says is what AWX's modules take, what the runbooks accept, what the policy wants, and what a person understands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.relevo.dr.plugins.module_utils import gates, inputs
from dateutil import rrule

from relevo import policy_file
from tests import awx_configuration
from tests.awx_controller import RefusedError
from tests.awx_job import inject
from tests.house.test_playbooks import found_by_awx
from tests.house.tree import PLAYBOOKS, ROOT, files, text
from tests.unit.dr.test_reopening import PLAN

NEVER_A_DEFAULT = {"dr_mode", "dr_scope", "dr_confirm", "dr_target_site"}
# Words of ours that nobody who answers a question should have to know.
OUR_WORDS = re.compile(r"\b(dr_|gate|fence|fencing|verdict|ledger|scope|mode|quiesce|cutover|token|stanza|runbook)", re.IGNORECASE)


@pytest.fixture(scope="module")
def said() -> dict[str, Any]:
    return awx_configuration.variables()


@pytest.fixture(scope="module")
def documented() -> dict[str, Any]:
    """What each module of AWX's collection takes, by ansible-doc."""
    modules = sorted(modules_used())
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-doc"), "-j", *modules], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert sorted(found) == modules
    return found


def tasks(path: Path) -> list[dict[str, Any]]:
    (play,) = yaml.safe_load(path.read_text())
    return list(play["tasks"])


def modules_used() -> dict[str, list[dict[str, Any]]]:
    """The arguments of each task of awx/, by module."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((ROOT / "awx").glob("*.yml")):
        for task in tasks(path) if found_by_awx(path) else []:
            for word, arguments in task.items():
                if word.startswith("awx.awx."):
                    found.setdefault(word, []).append(arguments)
    return found


def test_every_argument_is_one_that_the_module_documents(documented: dict[str, Any]) -> None:
    for module, uses in modules_used().items():
        options = documented[module]["doc"]["options"]
        names = {*options, *(alias for option in options.values() for alias in option.get("aliases", []))}
        for arguments in uses:
            assert set(arguments) - names == set(), module


def test_no_key_of_the_data_is_passed_over(said: dict[str, Any]) -> None:
    """A key that apply.yml does not hand on would look as if it were configured."""
    every = tasks(ROOT / "awx/apply.yml")
    for variable in {found for task in every for found in re.findall(r"controller_[a-z_]+", task["loop"])}:
        of_it = json.dumps([task for task in every if variable in task["loop"]])
        handed = set(re.findall(r"item(?:\[[01]\])?\['([a-z_]+)'\]", of_it))
        for item in said[variable]:
            assert set(item) - handed - {"simplified_workflow_nodes"} == set(), f"{variable}: {item['name']}"
            for node in item.get("simplified_workflow_nodes", []):
                assert set(node) - handed == set(), node


def test_each_runbook_has_a_template_and_awx_finds_its_playbook(said: dict[str, Any]) -> None:
    templates = {one["playbook"]: one for one in said["controller_templates"]}
    runbooks = {f"playbooks/{path.name}" for path in PLAYBOOKS} - {"playbooks/lab.yml"}
    assert runbooks <= set(templates)
    assert {path for path in templates if not path.startswith("playbooks/")} == {
        f"awx/{name}.yml" for name in ("plan", "stopped", "result", "readiness")
    }
    assert set(templates) <= set(awx_configuration.playbooks())


def test_forks_are_as_many_as_the_gate_wants_for_any_inventory_of_ours(said: dict[str, Any]) -> None:
    for one in said["controller_templates"]:
        verdict = gates._forks(PLAN, gates.Controller(forks=one["forks"], public_key="", free_bytes=1)).verdict
        assert verdict == gates.PASS, one["name"]
        for inventory in ("example", "lab"):
            hosts = set(re.findall(r"^        ([a-z0-9-]+):", text(ROOT / f"inventories/{inventory}/hosts.yml"), re.MULTILINE))
            assert one["forks"] >= len(hosts) > 0


def test_nothing_of_a_run_can_be_left_out(said: dict[str, Any]) -> None:
    """A limit, tags or variables of the moment are refused by the run; so nobody is asked for them."""
    for one in [*said["controller_templates"], *said["controller_workflows"]]:
        asked = {name: value for name, value in one.items() if name.startswith("ask_")}
        assert asked, one["name"]
        assert not any(asked.values()), one["name"]
        assert one["allow_simultaneous"] is False


def surveys(said: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    both = [*said["controller_templates"], *said["controller_workflows"]]
    return [(one, question) for one in both if one.get("survey_enabled") for question in one["survey_spec"]["spec"]]


def test_confirmation_kind_and_extent_have_no_default(said: dict[str, Any]) -> None:
    asked = surveys(said)
    assert {question["variable"] for _, question in asked} >= NEVER_A_DEFAULT
    for one, question in asked:
        assert question["variable"] not in NEVER_A_DEFAULT or "default" not in question, one["name"]


def test_answers_are_what_the_runbooks_take(said: dict[str, Any]) -> None:
    for one, question in surveys(said):
        form = inputs.SCHEMA[question["variable"]]
        for answer in question.get("choices", [question["default"]] if "default" in question else []):
            assert form.fullmatch(answer), (one["name"], question["variable"], answer)


def test_what_a_runbook_cannot_start_without_must_be_answered(said: dict[str, Any]) -> None:
    required = {**inputs.REQUIRED, "restore_files": ("dr_files_host", "dr_files_set", "dr_files_target")}
    for one in said["controller_templates"]:
        must = {question["variable"] for question in one.get("survey_spec", {"spec": []})["spec"] if question["required"]}
        runbook = Path(one["playbook"]).stem
        confirmed = {"dr_confirm"} if runbook in inputs.REQUIRED else set()
        assert must == set(required.get(runbook, ())) | confirmed, one["name"]


COMPLETE = {"dr_mode": "drill", "dr_scope": "site", "dr_target_site": "b", "dr_confirm": "drill production minimarket to b"}


def test_answers_of_a_survey_are_taken_as_awx_takes_them() -> None:
    started = awx_configuration.answered("Relevo: fail over", {**COMPLETE, "dr_accept_loss_seconds": "5"})
    assert started == {**COMPLETE, "dr_accept_loss_seconds": "5", "dr_path": "auto"}
    assert awx_configuration.answered("Relevo: fail over", {**COMPLETE, "dr_path": "promote"})["dr_path"] == "promote"
    with_approval = awx_configuration.answered("Relevo: fail over, with approval", COMPLETE)
    assert with_approval == {**COMPLETE, "dr_path": "auto", "dr_check_for": "failover"}
    assert awx_configuration.answered("Relevo: set up nightly checks", {}) == {}


@pytest.mark.parametrize(
    ("template", "changed", "why"),
    [
        ("Relevo: fail over", {"dr_mode": None}, "'dr_mode' value missing"),
        ("Relevo: fail over", {"dr_mode": "Drill"}, "expected to be one of"),
        ("Relevo: fail over", {"dr_check_for": "failover"}, "dr_check_for are not allowed on launch"),
        ("Relevo: fail over", {"dr_accept_loss_seconds": 5}, "expected to be of type text"),
        ("Relevo: fail over", {"dr_target_site": "b" * 64}, "too small or too large"),
        ("Relevo: switch over", {"dr_path": "auto"}, "dr_path are not allowed on launch"),
        ("Relevo: set up nightly checks", {}, "are not allowed on launch"),
    ],
)
def test_answers_that_awx_does_not_take_are_refused(template: str, changed: dict[str, Any], why: str) -> None:
    answers = {name: value for name, value in {**COMPLETE, **changed}.items() if value is not None}
    with pytest.raises(RefusedError, match=why):
        awx_configuration.answered(template, answers)


def test_questions_are_in_plain_words(said: dict[str, Any]) -> None:
    for one, question in surveys(said):
        for words in (question["question_name"], question["question_description"], one["description"]):
            assert not OUR_WORDS.search(words), words
        assert question["question_description"]


def test_secrets_reach_a_job_as_files_and_never_as_variables(said: dict[str, Any]) -> None:
    for one in said["controller_credential_types"]:
        assert set(one["injectors"]) == {"file", "env"}, one["name"]
        secret = [field["id"] for field in one["inputs"]["fields"] if field.get("secret")]
        for name in secret:
            inside = re.compile(rf"\{{\{{\s*{name}\b")
            assert any(inside.search(template) for template in one["injectors"]["file"].values()), name
            assert not any(inside.search(template) for template in one["injectors"]["env"].values()), name


def test_every_secret_that_the_example_inventory_names_has_a_field(said: dict[str, Any]) -> None:
    named = set()
    for path in files(".yml"):
        if path.is_relative_to(ROOT / "inventories/example"):
            named |= set(
                re.findall(r"(?:key_id_secret|key_secret|token_secret|contacts_secret|password_secret): ([a-z0-9_]+)", text(path))
            )
            named |= set(re.findall(r"dr_secrets_directory \+ '/([a-z_]+)'", text(path)))
    variables = [name for one in said["controller_credential_types"] for name in one["injectors"]["env"]]
    given = {name.removeprefix("RELEVO_SECRET_") for name in variables}
    assert len(named) > 8
    assert named - given == set()


def test_each_secret_of_a_type_is_found_with_its_field(said: dict[str, Any]) -> None:
    (kind,) = [one for one in said["controller_credential_types"] if one["name"] == "Relevo database and hosts"]
    of_it = awx_configuration.secrets_of(kind)
    assert of_it["become_password"] == "become_password"
    assert of_it["files_a-db1_password"] == "files_a_db1_password"
    assert set(of_it.values()) == {field["id"] for field in kind["inputs"]["fields"]}


def test_a_type_with_another_secret_has_field_file_and_name(said: dict[str, Any], tmp_path: Path) -> None:
    (kind,) = [one for one in said["controller_credential_types"] if one["name"] == "Relevo object stores"]
    changed = awx_configuration.with_secrets(kind, "of_the-shop")
    assert awx_configuration.secrets_of(changed) == {**awx_configuration.secrets_of(kind), "of_the-shop": "of_the_shop"}
    environment = inject(changed, {"of_the_shop": "word"}, tmp_path)
    name, _, path = environment["RELEVO_SECRET_of_the_shop"].partition("=")
    assert (name, Path(path).read_text()) == ("of_the-shop", "word")
    assert {field["id"] for field in changed["inputs"]["fields"]} - {field["id"] for field in kind["inputs"]["fields"]} == {
        "of_the_shop"
    }


def test_the_inventory_for_awx_is_as_the_documentation_has_it() -> None:
    wanted = awx_configuration.variables_of_the_inventory()
    assert set(wanted) == {"dr_secrets_directory", "ansible_host_key_checking", "ansible_ssh_common_args", "dr_nightly_scheduler"}
    assert "lookup('relevo.dr.secrets'" in wanted["dr_secrets_directory"]


def steps(workflow: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {node["identifier"]: node for node in workflow["simplified_workflow_nodes"]}


def test_wherever_a_workflow_fails_it_says_what_state_things_are_in(said: dict[str, Any]) -> None:
    for workflow in said["controller_workflows"]:
        known = steps(workflow)

        def ends(name: str, known: dict[str, dict[str, Any]] = known) -> set[str]:
            following = known[name].get("failure_nodes", []) + known[name].get("always_nodes", [])
            return {name} if not following else set().union(*(ends(each) for each in following))

        for name, node in known.items():
            if name not in {"stopped", "told", "beat"}:
                assert ends(name) == {"stopped"}, (workflow["name"], name)
            assert set(node.get("success_nodes", [])) <= set(known)


def test_nothing_moves_before_somebody_has_agreed_to_its_plan(said: dict[str, Any]) -> None:
    moving = {"Relevo: fail over", "Relevo: switch over"}
    for workflow in said["controller_workflows"]:
        known = steps(workflow)
        movers = [name for name, node in known.items() if node.get("unified_job_template") in moving]
        if not movers:
            continue
        before = {name: {each for each, node in known.items() if name in node.get("success_nodes", [])} for name in known}
        assert before["move"] == {"approve"}, workflow["name"]
        assert before["approve"] == {"show"}
        assert before["show"] == {"look"}
        assert known["approve"]["approval_node"]["timeout"] > 0
        wish = known["look"].get("extra_data") or workflow["extra_vars"]
        assert (
            inputs.meant("check", wish)
            == {"Relevo: fail over": "failover", "Relevo: switch over": "switchover"}[known["move"]["unified_job_template"]]
        )


def test_an_exercise_comes_home_and_says_what_the_runbooks_want_to_hear(said: dict[str, Any]) -> None:
    exercises = [workflow for workflow in said["controller_workflows"] if "exercise" in workflow["name"]]
    assert {steps(one)["move"]["extra_data"]["dr_scope"] for one in exercises} == {"database", "site"}
    for workflow in exercises:
        known = steps(workflow)
        assert (known["move"]["success_nodes"], known["come-back"]["success_nodes"]) == (["come-back"], ["go-home"])
        for name, runbook in (("look", "failover"), ("move", "failover"), ("come-back", "failback"), ("go-home", "switchover")):
            wish = inputs.read_inputs(inputs.check_extra_variables(known[name]["extra_data"]), runbook)
            inputs.check_confirmation(wish, said["relevo_awx_cluster"], runbook)
        there, home = (known[name]["extra_data"]["dr_target_site"] for name in ("move", "go-home"))
        assert (there, home, known["come-back"]["extra_data"]["dr_target_site"]) == ("b", "a", "a")


def starts(rule: str, years: int = 3) -> list[datetime]:
    text = re.sub(r"DTSTART;TZID=[^:]+:", "DTSTART:", rule).replace(" ", "\n")
    begin = datetime(2026, 6, 1)  # noqa: DTZ001 - on the clock of the schedule
    return list(rrule.rrulestr(text).between(begin, begin + timedelta(days=366 * years)))


def runs(said: dict[str, Any], name: str) -> set[tuple[str, str | None]]:
    """Runbook and scope of what a schedule starts."""
    playbook = {one["name"]: Path(one["playbook"]).stem for one in said["controller_templates"]}
    if name in playbook:
        return {(playbook[name], None)}
    (workflow,) = [one for one in said["controller_workflows"] if one["name"] == name]
    return {
        (playbook[node["unified_job_template"]], node.get("extra_data", {}).get("dr_scope"))
        for node in workflow["simplified_workflow_nodes"]
        if "unified_job_template" in node
    }


def test_each_test_of_the_policy_has_a_schedule_that_is_not_slower(said: dict[str, Any]) -> None:
    tests = policy_file.parse(None, "the policy of the package").tests
    assert set(tests) == {"backup_restoration", "partial_failover", "full_site", "encryption_keys"}
    for name, test in tests.items():
        wanted = {(one.runbook, one.scope) for one in test.counts}
        fitting = [one for one in said["controller_schedules"] if runs(said, one["unified_job_template"]) & wanted]
        assert fitting, name
        gaps = [max(later - test.every.after(earlier) for earlier, later in pairwise(starts(one["rrule"]))) for one in fitting]
        assert min(gaps) <= timedelta(), name


@pytest.mark.parametrize(
    ("name", "longest"),
    [
        ("Relevo: hourly backup", timedelta(hours=1)),
        ("Relevo: nightly verification", timedelta(days=1)),
        ("Relevo: weekly readiness", timedelta(days=7)),
        ("Relevo: weekly check", timedelta(days=7)),
    ],
)
def test_what_the_checklist_wants_between_tests(said: dict[str, Any], name: str, longest: timedelta) -> None:
    (one,) = [each for each in said["controller_schedules"] if each["name"] == name]
    times = starts(one["rrule"], years=1)
    assert max(later - earlier for earlier, later in pairwise(times)) <= longest


def test_what_would_move_production_is_off_until_somebody_wants_it(said: dict[str, Any]) -> None:
    moving = {"failover", "switchover", "failback"}
    for one in said["controller_schedules"]:
        if {runbook for runbook, _ in runs(said, one["unified_job_template"])} & moving:
            assert one["enabled"] is False, one["name"]
