# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""See how one database host can be fenced: keep the providers' settings, and ask the power command for the state only."""

from __future__ import annotations

from typing import Any

from ansible_collections.relevo.dr.plugins.plugin_utils.fencing import NotFenced, power
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction


class ActionModule(RunAction):
    """Arguments: settings {providers, command_off, command_status, command_timeout_seconds}. Runs on the controller."""

    _requires_connection = False

    def act(self) -> dict[str, Any]:
        settings = self._task.args["settings"]
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
