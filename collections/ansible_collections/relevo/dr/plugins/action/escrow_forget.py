# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Forget what the hosts read, whatever came of it; in check mode too, and also where nothing is left."""

from __future__ import annotations

from typing import Any

from ansible_collections.relevo.dr.plugins.plugin_utils.escrow_action import EscrowAction


class ActionModule(EscrowAction):
    """Arguments: memory_directory."""

    _requires_connection = False

    def keep(self) -> dict[str, Any]:
        self.memory().remove()
        return {"msg": "what was read is forgotten"}
