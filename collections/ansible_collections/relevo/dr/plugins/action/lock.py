# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take, or give back, this host's part of the run's lock."""

from __future__ import annotations

from typing import Any, Optional

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone, told
from ansible_collections.relevo.dr.plugins.module_utils.plan import read_plan
from ansible_collections.relevo.dr.plugins.plugin_utils import controller
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control, ControlError


class ActionModule(ActionBase):
    """Arguments: state (held, free), lease_seconds, orphan_wait_seconds.

    The promoting host decides: every other host takes its part only after that one did, so that two operators never hold half each.
    """

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        host = variables["inventory_hostname"]
        control = Control.of_this_run()
        plan = read_plan(control.read("plan"))
        known = _entry(control, host)
        if host not in plan.hosts() or host in plan.witness or not known.get("reachable"):
            return {**result, "changed": False, "msg": "has no part in the lock"}
        if self._task.args["state"] == "free":
            return {**result, **self._free(control, variables)}
        return {**result, **self._hold(control, host, host == plan.promote, plan.promote, known, variables)}

    def _hold(
        self, control: Control, host: str, decides: bool, first: str, known: dict[str, Any], variables: dict[str, Any]
    ) -> dict[str, Any]:
        phase = Milestone("LOCK", host)
        if not decides:
            control.wait(["lock/%s" % first], float(self._task.args.get("orphan_wait_seconds", 30)) + 30)
            if not control.read("lock/%s" % first)["held"]:
                return {"changed": False, "msg": "%s did not give the lock" % first}
        lock = known.get("facts", {}).get("host", {}).get("lock") or {}
        settings = known.get("settings", {})
        arguments = {
            "state": "held",
            "run_id": control.run_id,
            "dead_run_id": lock.get("run_id", "") if controller.owner_dead(lock) else "",
            "lease_seconds": self._task.args.get("lease_seconds", 120),
            "orphan_wait_seconds": self._task.args.get("orphan_wait_seconds", 30),
            "checkpoint": "bin_directory" in settings,
            **{name: settings[name] for name in ("bin_directory", "port") if "bin_directory" in settings},
            **controller.identity(),
        }
        try:
            answer = self._execute_module(module_name="relevo.dr.run_lock", module_args=arguments, task_vars=variables)
        except AnsibleConnectionFailure as error:
            answer = {"failed": True, "msg": "did not answer: %s" % error}
        held = not answer.get("failed") and not answer.get("unreachable")
        control.write("lock/%s" % host, {"held": held})
        if held:
            detail = "taken over from %s" % answer["taken_over"] if answer.get("taken_over") else "held"
            return {"changed": False, "msg": detail, **told(phases=[phase.ended(detail=detail)])}
        said = "G10 on %s: %s" % (host, answer.get("msg"))
        return {"failed": True, "msg": said, **told(refused=True, phases=[phase.ended("failed", said)])}

    def _free(self, control: Control, variables: dict[str, Any]) -> dict[str, Any]:
        answer = self._execute_module(
            module_name="relevo.dr.run_lock", module_args={"state": "free", "run_id": control.run_id}, task_vars=variables
        )
        return {"changed": False, "failed": bool(answer.get("failed")), "msg": answer.get("msg", "free")}


def _entry(control: Control, host: str) -> dict[str, Any]:
    for kind in ("database", "application"):
        try:
            value: dict[str, Any] = control.read("%s/%s" % (kind, host))
            return value
        except ControlError:
            continue
    return {}
