# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Look at what a change of site needs beside its hosts, from this controller, and keep it for the judgement."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.relevo.dr.plugins.module_utils import dependencies
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.plugin_utils.dependency_look import look
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction


class ActionModule(RunAction):
    """Arguments: secrets_directory, declared (see ``derive``), timeout_seconds. What else the inventory says is read as the controller sees it.

    Only for a check and where a whole site is to be left. Runs on the controller, changes nothing, and never fails: the witness, on whose turn it is, has
    more to do in the run. Nobody waits longer than timeout_seconds for all of it.
    """

    _requires_connection = False

    def act(self) -> dict[str, Any]:
        self.remember("%s/dependencies" % self.host)
        opened = self.control.read("landscape")
        if opened["runbook"] != "check" and opened["given"].get("dr_scope") != "site":
            return {"skipped": True, "msg": "no site is to be left"}
        try:
            needs = self._needs()
        except (Refusal, AnsibleError) as error:
            self.control.write("dependencies", {"unread": str(error)})
            return {"msg": "nobody looked: %s" % error}
        asked = dependencies.to_ask(needs, self._left(opened))
        seen = look(asked, float(self._task.args["timeout_seconds"]))
        unasked = dependencies.Seen(None, "not asked: in the site being left")
        kept = [{"need": asdict(need), "seen": asdict(seen.get(need, unasked))} for need in needs]
        self.control.write("dependencies", {"looked": kept})
        return {"msg": "%d of %d answer" % (sum(bool(one.answers) for one in seen.values()), len(asked))}

    def _needs(self) -> list[dependencies.Need]:
        """Everything there is to look at. Refusal for a declaration that cannot be meant, AnsibleError for a variable that cannot be rendered."""
        here = self.variables["hostvars"]["localhost"]
        known = {
            "hosts": self._hosts(),
            "repositories": here.get("dr_pgbackrest_repositories") or [],
            "key_paths": here.get("dr_keys_paths") or [],
            "ca_file": here.get("dr_cluster_tls_ca_file"),
            "secrets_directory": self._task.args["secrets_directory"],
            "declared": self._task.args["declared"],
        }
        names = dependencies.secret_names([*known["repositories"], *known["key_paths"]])
        return dependencies.derive({**known, "secret_names": names})

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
