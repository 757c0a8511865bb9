# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Hand a module the secrets it needs, from the controller's files, without making them variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.relevo.dr.plugins.plugin_utils.secret_files import read_secrets


class SecretAction(ActionBase):
    """Runs the module of its name with ``secrets``; a subclass says which module, and which secrets its arguments name."""

    module = ""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        names = self.names(arguments)
        arguments["secrets"] = read_secrets(arguments.get("secrets_directory") or "", names, self._task.check_mode)
        result: dict[str, Any] = self._execute_module(
            module_name="relevo.dr.%s" % self.module, module_args=arguments, task_vars=task_vars
        )
        return result

    def names(self, arguments: Mapping[str, Any]) -> list[str]:
        """The names of the files in ``secrets_directory``."""
        raise NotImplementedError
