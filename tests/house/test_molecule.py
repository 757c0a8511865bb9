"""Scenarios of Molecule: one for each runbook, each from a known state, and each shown to fail without its runbook."""

from __future__ import annotations

import pytest

from tests.house.tree import PLAYBOOKS, ROOT, files, load, text
from tests.molecule.test_without_the_runbook import MISSED

TOP = ROOT / "tests/molecule"
SCENARIOS = sorted(path.parent for path in files(".yml") if path.name == "molecule.yml" and path.parent.parent == TOP)
TESTED = [scenario for scenario in SCENARIOS if scenario.name != "default"]
REFUSALS = [scenario for scenario in TESTED if scenario.name.startswith("refuses_")]
EVERY_SCENARIO = pytest.mark.parametrize("scenario", TESTED, ids=lambda path: path.name)


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: path.stem)
def test_each_runbook_has_a_scenario_that_runs_it(playbook):
    [play] = load(TOP / playbook.stem / "converge.yml")
    assert play["ansible.builtin.import_playbook"] == f"../../../playbooks/{playbook.name}"


@EVERY_SCENARIO
def test_a_scenario_begins_from_the_kept_laboratory_and_ends_with_what_it_claims(scenario):
    sequence = load(scenario / "molecule.yml")["scenario"]["test_sequence"]
    faults = ["side_effect"] if (scenario / "side_effect.yml").is_file() else []
    assert [step for step in sequence if step != "idempotence"] == ["cleanup", *faults, "converge", "verify"]
    # Molecule takes a step whose playbook is not there for one that has passed.
    assert (scenario / "verify.yml").is_file()
    assert text(scenario / "molecule.yml").startswith("---\n# "), "it does not say in a sentence what it shows"


@EVERY_SCENARIO
def test_only_what_is_shared_names_the_project_its_settings_and_its_laboratory(scenario):
    assert "ansible.cfg" not in text(scenario / "molecule.yml")
    assert not set(load(scenario / "molecule.yml")) & {"driver", "platforms", "shared_state", "verifier", "prerun"}


@pytest.mark.parametrize("scenario", REFUSALS, ids=lambda path: path.name)
def test_a_refusal_is_judged_by_its_record_and_by_hosts_that_are_as_they_were(scenario):
    verify = text(scenario / "verify.yml")
    assert "../shared/tasks/refused.yml" in verify
    assert "../shared/untouched.yml" in verify
    assert "refused: true" in text(scenario / "converge.yml")


def test_it_is_known_of_each_scenario_what_is_missed_without_its_runbook():
    assert len(REFUSALS) >= 5
    assert sorted(MISSED) == [scenario.name for scenario in TESTED]
