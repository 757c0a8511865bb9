"""AWX as code, carried out: applied twice to a server that keeps what it is told, everything is made and then nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests import awx_configuration
from tests.awx_controller import Controller

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def applied() -> Iterator[tuple[Controller, list[tuple[str, str, bool]]]]:
    """A server with the whole configuration, and what the first application did."""
    controller = Controller(awx_configuration.playbooks())
    yield controller, awx_configuration.apply(controller.url)
    controller.shutdown()


def test_the_first_application_makes_everything(applied: Any) -> None:
    controller, done = applied
    # Only a step that nothing follows has nothing to bind.
    assert {name.partition(": ")[2].rpartition(": ")[2] for _, name, changed in done if not changed} <= {"stopped", "told", "beat"}
    wanted = awx_configuration.variables()
    for kind, variable in (
        ("projects", "controller_projects"),
        ("inventories", "controller_inventories"),
        ("inventory_sources", "controller_inventory_sources"),
        ("notification_templates", "controller_notifications"),
        ("job_templates", "controller_templates"),
        ("workflow_job_templates", "controller_workflows"),
        ("schedules", "controller_schedules"),
    ):
        assert {one["name"] for one in controller.objects[kind].values()} == {one["name"] for one in wanted[variable]}, kind


def test_workflows_surveys_and_approvals_are_what_the_data_says(applied: Any) -> None:
    controller, _ = applied
    for wanted in awx_configuration.variables()["controller_workflows"]:
        workflow = controller.named("workflow_job_templates", wanted["name"])
        assert controller.surveys.get(("workflow_job_templates", workflow["id"])) == wanted.get("survey_spec")
        nodes = {
            node["identifier"]: node
            for node in controller.objects["workflow_job_template_nodes"].values()
            if node["workflow_job_template"] == workflow["id"]
        }
        assert set(nodes) == {node["identifier"] for node in wanted["simplified_workflow_nodes"]}
        for step in wanted["simplified_workflow_nodes"]:
            node = nodes[step["identifier"]]
            for bond in ("success_nodes", "failure_nodes", "always_nodes"):
                assert controller.linked("workflow_job_template_nodes", node["id"], bond) == step.get(bond, []), step
            approval = controller.objects["workflow_approval_templates"].get(node["unified_job_template"])
            assert (approval or {}).get("timeout") == step.get("approval_node", {}).get("timeout"), step
            assert node["extra_data"] == step.get("extra_data", {})


def test_the_second_application_changes_nothing(applied: Any) -> None:
    controller, _ = applied
    before = controller.state()
    again = awx_configuration.apply(controller.url)
    assert [(module, name) for module, name, changed in again if changed] == []
    assert controller.state() == before


def test_what_somebody_changed_by_hand_is_brought_back(applied: Any) -> None:
    controller, _ = applied
    template = controller.named("job_templates", "Relevo: fail over")
    template["ask_limit_on_launch"] = True
    awx_configuration.apply(controller.url, only="awx.awx.job_template")
    assert template["ask_limit_on_launch"] is False
