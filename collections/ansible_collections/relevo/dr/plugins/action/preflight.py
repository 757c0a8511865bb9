# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Judge what was discovered: make the plan, evaluate every gate, and refuse when one does not pass."""

from __future__ import annotations

import os
import shutil
from typing import Any, Optional

from ansible.plugins.action import ActionBase
from ansible_collections.relevo.dr.plugins.module_utils import gates as gate_rules
from ansible_collections.relevo.dr.plugins.module_utils.inputs import Inputs, read_inputs
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone, told
from ansible_collections.relevo.dr.plugins.module_utils.plan import Landscape, Plan, make_plan
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.module_utils.status import status
from ansible_collections.relevo.dr.plugins.plugin_utils import controller
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control


class ActionModule(ActionBase):
    """Arguments: limits (see Limits), enforce (false only shows). Runs on the controller; changes nothing anywhere."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        phase = Milestone("PREFLIGHT", "controller")
        control = Control.of_this_run()
        known = control.read("landscape")
        landscape = read_landscape(control)
        enforce = bool(self._task.args.get("enforce", True))
        try:
            inputs = read_inputs(known["given"]) if enforce else _inputs_of_a_check(known["given"], landscape)
            plan = make_plan(landscape, inputs.target_site, inputs.scope)
        except Refusal as refusal:
            told_so = told(
                refused=True, gates=[refusal.gate], status=status(landscape), phases=[phase.ended("failed", str(refusal))]
            )
            return {**result, "failed": True, "msg": str(refusal), **told_so}
        limits = gate_rules.Limits(**(self._task.args.get("limits") or {}))
        gates = gate_rules.evaluate(plan, landscape, inputs, limits, _controller())
        control.write("plan", plan.as_dict())
        control.write(
            "inputs",
            {
                "accept_loss_seconds": inputs.accept_loss_seconds,
                "accept_loss_transactions": inputs.accept_loss_transactions,
                "accept_unknown": list(inputs.accept_unknown),
                "attest_dead": list(inputs.attest_dead),
                "attested_by": inputs.attested_by,
            },
        )
        blocking = gate_rules.blocking(gates)
        material: dict[str, Any] = {
            "gates": [gate.as_dict() for gate in gates],
            "run": {
                "source_site": plan.source_site,
                "target_site": plan.target_site,
                "parent_run_id": plan.parent_run_id,
                "done": plan.done,
                "resume": plan.resume,
            },
            "plan": plan.as_dict(),
            "status": status(landscape),
            "phases": [phase.ended("failed" if blocking else "ok", "%d gates, %d do not pass" % (len(gates), len(blocking)))],
        }
        if not blocking:
            return {**result, "changed": False, "msg": _summary(plan, gates), **told(**material)}
        lines = [
            "%s on %s: %s. Observed: %s; expected: %s. Next: %s"
            % (gate.id, gate.host, gate.title, gate.observed, gate.expected, gate.next_action)
            for gate in blocking
        ]
        if enforce:
            material["refused"] = True
        return {
            **result,
            "failed": True,
            "msg": "Not ready: %d of %d gates do not pass.\n%s" % (len(blocking), len(gates), "\n".join(lines)),
            **told(**material),
        }


def read_landscape(control: Control) -> Landscape:
    """What the discover tasks kept, as one value."""
    known = control.read("landscape")
    kinds = {kind: control.read_all(kind) for kind in ("database", "application", "witness", "observer", "fence")}
    return Landscape(groups=known["groups"], sites=known["sites"], **kinds)


def _inputs_of_a_check(given: dict[str, str], landscape: Landscape) -> Inputs:
    """A check asks for the site that has no primary, unless one was named."""
    primaries = landscape.primaries()
    others = [host for host in landscape.groups["dr_database"] if host not in primaries]
    other = landscape.sites.get(others[0], "") if others else ""
    return Inputs(mode="drill", scope="site", target_site=given.get("dr_target_site") or other)


def _controller() -> gate_rules.Controller:
    key = os.environ["RELEVO_SIGNING_KEY"] + ".pub"
    with open(key, encoding="utf-8") as source:
        public_key = " ".join(source.read().split()[:2])
    return gate_rules.Controller(
        forks=controller.forks(), public_key=public_key, free_bytes=shutil.disk_usage(os.path.dirname(key)).free
    )


def _summary(plan: Plan, gates: list[gate_rules.Gate]) -> str:
    if plan.done:
        return "%s is the primary already and no run is unfinished: nothing to do" % plan.promote
    passed = sum(gate.verdict == gate_rules.PASS for gate in gates)
    return "%d gates pass. Fence %s, promote %s, serve from %s" % (
        passed,
        ", ".join(plan.fence),
        plan.promote,
        ", ".join(plan.cutover),
    )
