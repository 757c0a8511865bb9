# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Look at what a change of site needs beside its hosts, from this controller, and keep it for the judgement."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils import dependencies
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.plugin_utils.dependency_look import look
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction


class ActionModule(RunAction):
    """Arguments: repositories, key_paths, secrets_directory, ca_file, declared (see ``derive``), timeout_seconds.

    Only for a check and where a whole site is to be left. Runs on the controller, and changes nothing. Nobody waits longer than timeout_seconds for all of it.
    """

    _requires_connection = False

    def act(self) -> dict[str, Any]:
        opened = self.control.read("landscape")
        if opened["runbook"] != "check" and opened["given"].get("dr_scope") != "site":
            return {"skipped": True, "msg": "no site is to be left"}
        known = dict(self._task.args)
        seconds = float(known.pop("timeout_seconds"))
        known["hosts"] = self._hosts()
        known["secret_names"] = dependencies.secret_names([*known["repositories"], *known["key_paths"]])
        try:
            needs = dependencies.derive(known)
        except Refusal as refusal:
            return {"failed": True, "msg": str(refusal)}
        asked = dependencies.to_ask(needs, self._left(opened))
        seen = look(asked, seconds)
        unasked = dependencies.Seen(None, "not asked: in the site being left")
        self.control.write("dependencies", [{"need": asdict(need), "seen": asdict(seen.get(need, unasked))} for need in needs])
        return {"msg": "%d of %d answer" % (sum(bool(one.answers) for one in seen.values()), len(asked))}

    def _left(self, opened: dict[str, Any]) -> set[str]:
        """The sites that a run leaves; a check leaves none, and looks everywhere."""
        if opened["runbook"] == "check":
            return set()
        return {opened["sites"][host] for host in opened["groups"]["dr_database"]} - {opened["given"].get("dr_target_site", "")}

    def _hosts(self) -> list[dict[str, Any]]:
        groups, hostvars = self.variables["groups"], self.variables["hostvars"]
        return [
            {
                "name": host,
                "address": str(hostvars[host].get("ansible_host") or host),
                "clients": str(hostvars[host].get("dr_address") or host),
                "site": str(hostvars[host].get("dr_site") or ""),
                "database_port": hostvars[host].get("dr_cluster_port") if host in groups["dr_database"] else None,
            }
            for host in groups["all"]
            if hostvars[host].get("ansible_connection") != "local"
        ]
