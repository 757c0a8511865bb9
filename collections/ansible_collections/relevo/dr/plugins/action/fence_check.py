# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""See how one database host can be fenced: keep the providers' settings, and ask the power command for the state only."""

from __future__ import annotations

from typing import Any, Optional

from ansible.plugins.action import ActionBase
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control
from ansible_collections.relevo.dr.plugins.plugin_utils.fencing import NotFenced, power


class ActionModule(ActionBase):
    """Arguments: settings {providers, command_off, command_status, command_timeout_seconds}. Runs on the controller."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        settings = self._task.args["settings"]
        entry: dict[str, Any] = {"settings": settings, "power": None, "error": None}
        if "command" in settings["providers"] and settings["command_status"]:
            try:
                entry["power"] = power(settings["command_status"], settings)
            except NotFenced as error:
                entry["error"] = str(error)
        Control.of_this_run().write("fence/%s" % (task_vars or {})["inventory_hostname"], entry)
        return {
            **result,
            "changed": False,
            "msg": "power is %s" % entry["power"] if entry["power"] else entry["error"] or "no power command",
        }
