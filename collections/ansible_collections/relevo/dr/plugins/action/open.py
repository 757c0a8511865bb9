# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Open a run: the record exists, the operator's words are of the known shape, and nothing hides a host or a task."""

from __future__ import annotations

from typing import Any, Optional

from ansible.plugins.action import ActionBase
from ansible_collections.relevo.dr.plugins.module_utils.inputs import (
    armed,
    check_confirmation,
    check_extra_variables,
    context,
    meant,
    read_inputs,
    wish,
)
from ansible_collections.relevo.dr.plugins.module_utils.milestone import beginning, told
from ansible_collections.relevo.dr.plugins.module_utils.plan import check_groups
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal, sentence
from ansible_collections.relevo.dr.plugins.module_utils.way_out import RESTORE
from ansible_collections.relevo.dr.plugins.plugin_utils import controller
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control, ControlError

GROUPS = ("dr_database", "dr_application", "dr_witness", "dr_observer")
# Of the operator's words only: a name from the inventory would be nobody's decision of tonight.
CHANGES_PRODUCTION = ("failover", "switchover", "failback")


class ActionModule(ActionBase):
    """Runs on the controller only; refuses before anything is asked or changed."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        runbook, cluster = self._task.args["runbook"], self._task.args["cluster"]
        about = {"runbook": runbook, "cluster": cluster, "operator": controller.identity()["owner"]}
        targets = {name: float(value) for name, value in (self._task.args.get("objectives") or {}).items() if value is not None}
        if targets:
            about["objectives"] = targets
        try:
            control = Control.of_this_run()
        except ControlError as error:
            said = sentence(
                "G22",
                "controller",
                str(error),
                "a journal of this run before the first task",
                "install the package relevo, keep callbacks_enabled = relevo.dr.recorder in ansible.cfg, and free space for its state",
            )
            return {**result, "failed": True, "msg": said, **told(refused=True, run=about)}
        try:
            about.update(self._open(control, runbook, cluster, variables))
        except Refusal as refusal:
            return {**result, "failed": True, "msg": str(refusal), **told(refused=True, run=about, gates=[refusal.gate])}
        return {**result, "changed": False, "msg": "run %s is open" % control.run_id, **told(run=about)}

    def _open(self, control: Control, runbook: str, cluster: str, variables: dict[str, Any]) -> dict[str, Any]:
        if runbook in CHANGES_PRODUCTION and self._task.check_mode:
            raise Refusal(
                "INPUT",
                "controller",
                "--check",
                "a real run: what a %s would meet is what the runbook check shows" % runbook,
                "run playbooks/check.yml",
            )
        hidden = controller.command_line_hides_hosts_or_tasks()
        if hidden:
            raise Refusal(
                "G18",
                "controller",
                hidden,
                "the whole runbook on all its hosts",
                "start again without it: a hidden host is a host that is not fenced",
            )
        given = check_extra_variables(controller.extra_variables(self._loader))
        if armed(given):
            _check_armed(runbook, given)
        hostvars = variables["hostvars"]
        groups = {name: list(variables["groups"].get(name, [])) for name in GROUPS}
        # Of every host: a store that a repository is on has a site too. Read unrendered: a site is a word, and a template in it would be code.
        sites = {host: str(hostvars.raw_get(host).get("dr_site", "")) for host in variables["groups"]["all"]}
        control.write(
            "landscape",
            {
                "runbook": runbook,
                "cluster": cluster,
                "groups": groups,
                "sites": sites,
                "given": given,
                "began": beginning(),
                "controller": controller.identity(),
            },
        )
        control.write("contacts", {"file": str(self._task.args.get("contacts") or "")})
        changes = meant(runbook, given)
        if changes not in CHANGES_PRODUCTION:
            return {"target_site": given.get("dr_target_site"), **context(given)}
        # Of a check for such a run too: nobody is to be asked about one that would then be refused for a word.
        inputs = read_inputs(given, changes)
        check_groups(groups, sites, inputs.target_site)
        if not armed(given):
            check_confirmation(inputs, cluster, changes)
        if runbook == "check":
            return {"target_site": inputs.target_site, **context(given)}
        return {
            **context(given),
            "mode": inputs.mode,
            "scope": inputs.scope or None,
            "target_site": inputs.target_site,
            "approver": inputs.approver or None,
            "reason": inputs.reason or None,
            "failed_at": inputs.failed_at,
            "accepted": {
                "loss_seconds": inputs.accept_loss_seconds,
                "loss_transactions": inputs.accept_loss_transactions,
                "unknown": list(inputs.accept_unknown),
                "fence": list(inputs.accept_fence),
                "attested_dead": list(inputs.attest_dead),
                "attested_by": inputs.attested_by or None,
            },
        }


def _check_armed(runbook: str, given: dict[str, str]) -> None:
    """Raises Refusal for what cannot wait for a word. The confirmation comes with that word, and is looked at then."""
    if runbook != "failover":
        raise Refusal("INPUT", "controller", "dr_armed for %s" % runbook, "an armed failover", "start it without dr_armed")
    wished = wish(given)
    if wished.path == RESTORE or wished.words:
        raise Refusal(
            "INPUT",
            "controller",
            "dr_armed with a restore",
            "an armed promotion of a standby",
            "start it without dr_armed: what a restore takes makes no difference to it",
        )
