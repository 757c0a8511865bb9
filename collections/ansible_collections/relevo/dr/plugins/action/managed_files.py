# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Hand the named secrets to the module without making them variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.relevo.dr.plugins.plugin_utils.secret_action import SecretAction


class ActionModule(SecretAction):
    """Runs the module ``managed_files``."""

    module = "managed_files"

    def names(self, arguments: Mapping[str, Any]) -> list[str]:
        return list(arguments.get("secret_names") or [])
