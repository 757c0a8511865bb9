# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""See how one database host can be fenced: keep the providers' settings, ask the power command for the state only, and judge the lease by what was observed."""

from __future__ import annotations

from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.action.discover import ANSWER_SECONDS
from ansible_collections.relevo.dr.plugins.module_utils import lease
from ansible_collections.relevo.dr.plugins.plugin_utils.fencing import NotFenced, power
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction

_GIVERS = {"observer": "dr_observer", "database": "dr_database"}


class ActionModule(RunAction):
    """Arguments: settings {providers, command_off, command_status, command_timeout_seconds}. Runs on the controller."""

    _requires_connection = False

    def act(self) -> dict[str, Any]:
        self.remember("%s/fence" % self.host)
        # No variable says that a lease has ended: what an inventory puts there is overwritten.
        settings = {**self._task.args["settings"], "lease": self._lease()}
        entry: dict[str, Any] = {"settings": settings, "power": None, "error": None}
        if "command" in settings["providers"] and settings["command_status"]:
            try:
                entry["power"] = power(settings["command_status"], settings)
            except NotFenced as error:
                entry["error"] = str(error)
        self.control.write("fence/%s" % self.host, entry)
        return {
            "msg": "power is %s" % entry["power"] if entry["power"] else entry["error"] or "no power command",
        }

    def _lease(self) -> Optional[dict[str, Any]]:
        """Of a host that does not answer. An answer that was observed before cannot be undone: a host whose lease has ended stays down until it is lifted."""
        if "lease" not in self._task.args["settings"]["providers"] or self.control.read("database/%s" % self.host)["reachable"]:
            return None
        known = self.control.read("landscape")
        seen: dict[str, Any] = {}
        for name in lease.givers(self.host, known["groups"], known["sites"]):
            kinds = [kind for kind, group in _GIVERS.items() if name in known["groups"][group]]
            # The hosts are asked side by side.
            self.control.came(["%s/%s" % (kind, name) for kind in kinds], ANSWER_SECONDS)
            facts = [self.control.read("%s/%s" % (kind, name)).get("facts", {}).get("leases", {}).get(self.host) for kind in kinds]
            # A host that is both gives twice, under one name; each way has to be known.
            seen[name] = None if not facts or None in facts else min(facts, key=lambda one: one["sent_age_seconds"] or 0.0)
        accepted = "lease_expired" in known["given"].get("dr_accept_fence", "").split(",")
        return {**lease.judge(self.host, seen).as_dict(), "accepted": accepted}
