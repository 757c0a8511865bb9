# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Judge what was seen of the application from outside, against the hand-over that this run made."""

from __future__ import annotations

from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils import application_proof
from ansible_collections.relevo.dr.plugins.module_utils.gates import FAIL, Gate, verdict
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction


class ActionModule(RunAction):
    """Arguments: present (of ledger_present, empty where it was not asked), p95_max_seconds. Runs on the controller."""

    _requires_connection = False

    def act(self) -> dict[str, Any]:
        plan, promotion = self.control.read("plan"), self.control.read("handover/promoted")
        unseen: dict[str, Any] = {"error": "the witness did not use it", "identities": {}}
        after = self.control.read("proof/after") if self.control.exists("proof/after") else unseen
        before = self.control.read("proof/before").get("window") if self.control.exists("proof/before") else None
        present = self._task.args.get("present") or None
        found = None if present is None else present["present"] == [[1, 1]] and not present["in_recovery"]
        expected = {"promote": plan["promote"], "system_identifier": plan["system_identifier"], "timeline": promotion["timeline"]}
        gates = application_proof.judge(expected, before, after, found, float(self._task.args["p95_max_seconds"]))
        gates += [_resolved(record, seen) for record, seen in (after.get("names") or {}).items()]
        measures = application_proof.measures(before, after, found)
        if after.get("names"):
            measures["names"] = after["names"]
        wrong = [gate for gate in gates if gate.required and gate.verdict == FAIL]
        said = "; ".join("%s: %s. Next: %s" % (gate.title, gate.observed, gate.next_action) for gate in wrong)
        material = told(
            gates=[gate.as_dict() for gate in gates],
            measures={"application": measures},
            versions={"application": after.get("version")},
        )
        return {
            "failed": bool(wrong),
            "msg": said or after.get("error") or "the application serves from %s" % plan["promote"],
            **material,
        }


def _resolved(record: str, seen: dict[str, Any]) -> Gate:
    title = "%s stands for the new side as the witness sees it" % record
    observed = "%s, after %s s" % (", ".join(seen["seen"]) or "nothing", seen["waited_seconds"])
    fix = "a resolver keeps the old answer beyond its TTL: restart it, or wait; nothing old can be written to meanwhile"
    wanted, ok = "the new addresses", seen["found"]
    return Gate("RESOLVED", title, "witness", observed, wanted, verdict(ok), "" if ok else fix, "CUTOVER")
