# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell the witness how the newest finished run of a runbook ended. A fact of the store, so it may be told again at any time."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.relevo.dr.plugins.module_utils.refusal import sentence

try:
    from ansible_collections.relevo.dr.plugins.plugin_utils.history import finished

    from relevo.errors import RelevoError
except ImportError as error:
    MISSING = str(error)
else:
    MISSING = ""


class ActionModule(ActionBase):
    """Runs the module ``beat``."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        cluster, runbook = str(arguments["cluster"]), str(arguments["runbook"])
        if MISSING:
            said = sentence(
                "BEAT", "controller", MISSING, "the Python package relevo", "install it for the Python of ansible-playbook"
            )
            return {**result, "failed": True, "msg": said}
        try:
            runs = finished(cluster, runbook)
        except RelevoError as error:
            said = sentence(
                "BEAT", "controller", str(error), "a store that answers", "look at RELEVO_STORE; the witness stays silent"
            )
            return {**result, "failed": True, "msg": said}
        if not runs:
            said = sentence(
                "BEAT",
                "controller",
                "no finished run of %s of %s" % (runbook, cluster),
                "at least one in the store of results",
                "relevo run %s, in the store of the nightly check (RELEVO_STORE)" % runbook,
            )
            return {**result, "failed": True, "msg": said}
        passed = next((run for run in runs if run["verdict"] == "passed"), {})
        arguments.update(
            run_id=runs[0]["run_id"],
            verdict=runs[0]["verdict"],
            at=runs[0]["closed_at"],
            passed_at=passed.get("closed_at", ""),
            controller=runs[0]["controller"],
        )
        told: dict[str, Any] = self._execute_module(module_name="relevo.dr.beat", module_args=arguments, task_vars=task_vars)
        return told
