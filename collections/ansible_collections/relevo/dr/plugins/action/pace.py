# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Set the pace of ledger and observers on a host, where it answers: an observer that is away makes the record poorer and ends nothing.

``ignore_unreachable`` is no way to that: a host that was lost in one play is missing from the later ones.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction


class ActionModule(RunAction):
    """Arguments: those of the module ledger_pace."""

    def act(self) -> dict[str, Any]:
        for kind in ("witness", "observer"):
            entry = "%s/%s" % (kind, self.host)
            if self.control.exists(entry) and not self.control.read(entry)["reachable"]:
                return {"msg": "%s did not answer in preflight and is left alone" % self.host}
        answer = self.ask("relevo.dr.ledger_pace", dict(self._task.args))
        if answer.get("unreachable"):
            return {"msg": str(answer.get("msg"))}
        return answer
