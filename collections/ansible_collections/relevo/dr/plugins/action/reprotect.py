# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""On the new primary: prove that WAL reaches the archive, and start the first backup of the new timeline."""

from __future__ import annotations

from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone, told
from ansible_collections.relevo.dr.plugins.module_utils.plan import read_plan
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction, went_wrong


class ActionModule(RunAction):
    """Arguments: config, repositories, archive_seconds. Acts on the promoted host alone; a timeline that is protected already is left alone."""

    def act(self) -> dict[str, Any]:
        host, control = self.host, self.control
        plan = read_plan(control.read("plan"))
        if host != plan.promote or plan.done or self._task.check_mode:
            return {"msg": "has no part in it"}
        settings = control.read("database/%s" % host)["settings"]
        phase = Milestone("PROTECT", host)
        gates: list[dict[str, Any]] = []
        answer: dict[str, Any] = {}
        left_out: dict[str, Any] = {}
        measures: dict[str, Any] = {}
        for module, arguments in self._steps(control.run_id, host, settings):
            answer = self.ask(module, arguments)
            said_more = answer.get("ansible_stats", {}).get("data", {}).get("relevo", {})
            gates += said_more.get("gates", [])
            measures.update(said_more.get("measures", {}))
            wrong = went_wrong(answer)
            if wrong:
                said = "PROTECT on %s: %s. The new primary serves, but is NOT protected. Next: run playbooks/protect.yml" % (
                    host,
                    wrong,
                )
                return {"failed": True, "msg": said, **told(phases=[phase.ended("failed", said)], gates=gates)}
            if answer.get("started_before"):
                break
            left_out = answer.get("left_out", left_out)
        for gate in gates:
            if gate["id"] == "G03":
                gate.update(id="G20", phase="PROTECT", title="protected again: WAL written now is in the archive")
        changed = bool(answer.get("changed"))
        detail = "archive proven, backup in %s" % answer["unit"]
        if left_out:
            detail += "; repository %s is left out" % ", ".join(sorted(left_out))
        return {"changed": changed, "msg": detail, **told(phases=[phase.ended(detail=detail)], gates=gates, measures=measures)}

    def _steps(self, run_id: str, host: str, settings: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        common = {"run_id": run_id, "data_directory": settings["data_directory"]}
        probe = {
            "config": self._task.args["config"],
            "stanza": settings["stanza"],
            "repositories": self._task.args.get("repositories") or [],
            "bin_directory": settings["bin_directory"],
            "port": settings["port"],
            "host_name": host,
            "timeout": self._task.args.get("archive_seconds", 60),
        }
        settle = {"config": self._task.args["config"], "stanza": settings["stanza"], "run_id": run_id, "host_name": host}
        return [
            ("relevo.dr.backup_start", {**common, "step": "begin"}),
            ("relevo.dr.repositories_in_use", settle),
            ("relevo.dr.archive_probe", probe),
            ("relevo.dr.backup_start", {**common, "step": "finish"}),
        ]
