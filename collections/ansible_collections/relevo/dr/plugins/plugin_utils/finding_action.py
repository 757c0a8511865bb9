# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Gates of one host among many: whatever it answers the run goes on, and what fails is kept for the task that speaks at the end."""

from __future__ import annotations

from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.gates import FAIL, UNKNOWN, Gate
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.refusal import sentence
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction, went_wrong

# Below it in the run's directory is what :mod:`refuse` speaks.
FINDINGS = "findings"


class FindingAction(RunAction):
    """Runs the module of its name, which judges; a host that cannot be asked is a gate too, and neither ends the run."""

    module = ""
    phase = "VERIFY"

    def act(self) -> dict[str, Any]:
        answer = self.ask("relevo.dr.%s" % self.module, dict(self._task.args))
        spoken = answer.get("ansible_stats") or told(gates=[self._unanswered(answer)])["ansible_stats"]
        gates = spoken["data"]["relevo"]["gates"]
        sentences = [
            sentence(gate["id"], gate["host"], gate["observed"], gate["expected"], gate["next_action"])
            for gate in gates
            if gate["verdict"] == FAIL
        ]
        if sentences:
            self.control.write("%s/%s.%s" % (FINDINGS, self.gate(), self.host), {"sentences": sentences})
        return {"msg": "judged", "gates": gates, "sentences": sentences, "ansible_stats": spoken}

    def gate(self) -> str:
        """The gate that says that this host could not be asked."""
        raise NotImplementedError

    def _unanswered(self, answer: dict[str, Any]) -> dict[str, Any]:
        verdict = UNKNOWN if answer.get("unreachable") else FAIL
        fix = "try: ansible -i INVENTORY %s -b -m ping" % self.host
        said = went_wrong(answer) or "no gate"
        return Gate(self.gate(), "%s can be asked" % self.host, self.host, said, "an answer", verdict, fix, self.phase).as_dict()
