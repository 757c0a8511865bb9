# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Hand the secrets of a host's repositories to the module without making them variables."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.relevo.dr.plugins.module_utils.file_repositories import secret_names
from ansible_collections.relevo.dr.plugins.plugin_utils.secret_files import read_secrets


class ActionModule(ActionBase):
    """Runs the module ``restic_restore``."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        names = secret_names(arguments.get("repositories") or [])
        arguments["secrets"] = read_secrets(arguments.get("secrets_directory") or "", names, self._task.check_mode)
        result: dict[str, Any] = self._execute_module(
            module_name="relevo.dr.restic_restore", module_args=arguments, task_vars=task_vars
        )
        return result
