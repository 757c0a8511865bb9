# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Hand the secrets that the application's login needs to the module without making them variables."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.relevo.dr.plugins.plugin_utils.secret_files import read_secrets


class ActionModule(ActionBase):
    """Runs the module ``restore_prove``."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        names = list((arguments.get("application") or {}).get("secret_names") or [])
        arguments["secrets"] = read_secrets(arguments.get("secrets_directory") or "", names, self._task.check_mode)
        result: dict[str, Any] = self._execute_module(
            module_name="relevo.dr.restore_prove", module_args=arguments, task_vars=task_vars
        )
        return result
