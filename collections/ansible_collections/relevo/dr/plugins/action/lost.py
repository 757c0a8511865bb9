# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep what the ledger misses on the new primary, for the salvage and for its judgement."""

from __future__ import annotations

from typing import Any

from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction


class ActionModule(RunAction):
    """Arguments: prefix (of ledger_info), lost, acknowledged (of ledger_lost). Runs on the controller."""

    _requires_connection = False

    def act(self) -> dict[str, Any]:
        entry = {name: self._task.args.get(name) for name in ("prefix", "lost", "acknowledged")}
        self.control.write("lost/%s" % self.host, entry)
        return {"msg": "%d of %d acknowledged transactions are missing" % (len(entry["lost"] or []), entry["acknowledged"] or 0)}
