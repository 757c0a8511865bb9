# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Compute the verifiers of the roles' passwords on the controller: no password goes to the host."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.relevo.dr.plugins.module_utils.scram import salt_of, verifier
from ansible_collections.relevo.dr.plugins.plugin_utils.secret_files import read_secrets


class ActionModule(ActionBase):
    """Runs the module ``database_access``."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        roles = [dict(role) for role in arguments.get("roles") or []]
        names = [str(role["secret"]) for role in roles]
        secrets = read_secrets(arguments.get("secrets_directory") or "", names, self._task.check_mode)
        for role in roles:
            password = secrets[role["secret"]]
            role["verifier"] = verifier(password, salt_of(role["name"], password))
        arguments["roles"] = roles
        result: dict[str, Any] = self._execute_module(
            module_name="relevo.dr.database_access", module_args=arguments, task_vars=task_vars
        )
        return result
