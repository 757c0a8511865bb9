# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Speak a judgement that was kept, and what single hosts found: go on, or say for each gate that does not pass what to do."""

from __future__ import annotations

from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.plugin_utils.finding_action import FINDINGS
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction


class ActionModule(RunAction):
    """No arguments. Runs on the controller."""

    _requires_connection = False

    def act(self) -> dict[str, Any]:
        judgement = self.control.read("judgement")
        kept = self.control.read_all(FINDINGS)
        sentences = [*judgement["sentences"], *(said for name in sorted(kept) for said in kept[name]["sentences"])]
        if not sentences:
            # Ansible shows no message of a task that went well, but this is what an operator waits for.
            self._display.display(judgement["summary"])
            return {"msg": judgement["summary"]}
        # A check that finds something has failed; only a run that was to change something is refused.
        spoken = told(refused=True) if judgement["enforce"] else {}
        return {"failed": True, "msg": "\n".join([judgement.get("heading", "Not ready."), *sentences]), **spoken}
