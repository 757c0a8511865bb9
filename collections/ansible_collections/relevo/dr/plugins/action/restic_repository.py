# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Hand the secrets of a host's repositories to the module without making them variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.file_repositories import secret_names
from ansible_collections.relevo.dr.plugins.plugin_utils.secret_action import SecretAction


class ActionModule(SecretAction):
    """Runs the module ``restic_repository``."""

    module = "restic_repository"

    def names(self, arguments: Mapping[str, Any]) -> list[str]:
        return secret_names(arguments.get("repositories") or [])
