# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A host that was left becomes a standby of the host that serves now; until then there is no way out of the next disaster."""

from __future__ import annotations

from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.clock import parse_utc
from ansible_collections.relevo.dr.plugins.module_utils.gates import PASS, Gate
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone, told
from ansible_collections.relevo.dr.plugins.module_utils.plan import read_plan
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction, went_wrong

_TAKEN = (
    "run_id",
    "system_identifier",
    "host_name",
    "cluster_version",
    "cluster_name",
    "data_directory",
    "config_directory",
    "bin_directory",
    "unit",
    "port",
    "primary",
    "catchup_timeout",
)


class ActionModule(RunAction):
    """Arguments: those of standby_build. Acts on the hosts that the plan lets follow."""

    def act(self) -> dict[str, Any]:
        plan = read_plan(self.control.read("plan"))
        if self.host not in plan.follow or plan.done or self._task.check_mode:
            return {"msg": "has no part in it"}
        promotion = self.control.read("handover/promoted")
        lineage = {name: promotion[name] for name in ("timeline", "history", "births") if name in promotion}
        arguments = {name: self._task.args[name] for name in _TAKEN}
        started = Milestone("FOLLOW", self.host)
        answer = self.ask("relevo.dr.standby_follow", {**arguments, **lineage, "run_id": self.control.run_id})
        wrong = went_wrong(answer)
        if wrong:
            said = "%s. %s serves, but is NOT protected by a standby. Next: mend that, then start the same runbook again" % (
                wrong,
                plan.promote,
            )
            return {"failed": True, "msg": said, **told(phases=[answer.get("phase") or started.ended("failed", said)])}
        proof = answer["proof"]
        gate = Gate(
            "G20",
            "protected again: a standby streams from the new primary",
            self.host,
            "streams on timeline %d, replayed to %s" % (proof["timeline"], proof["replay_lsn"]),
            "streams on timeline %d, caught up" % promotion["timeline"],
            PASS,
            "",
            "FOLLOW",
        )
        measures = {"time_to_reprotect_seconds": self._seconds_to_reprotect(promotion, proof), "reprotected_at": proof["at"]}
        return {
            "changed": bool(answer["changed"]),
            "msg": gate.observed,
            **told(phases=[answer["phase"]], gates=[gate.as_dict()], measures=measures),
        }

    def _seconds_to_reprotect(self, promotion: dict[str, Any], proof: dict[str, Any]) -> Optional[float]:
        """From the promotion to the standby that has caught up, both by the new primary's clock; None when nobody saw the promotion."""
        plan = read_plan(self.control.read("plan"))
        known = self.control.read("database/%s" % plan.promote)["facts"]["host"].get("promoted_at")
        began = known if promotion["already"] else promotion["promoted_at"]
        return round((parse_utc(proof["at"]) - parse_utc(began)).total_seconds(), 3) if began else None
