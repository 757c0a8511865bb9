# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find the primary among what the database hosts said of themselves; runs on the controller and changes nothing."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.plugin_utils import seen_primary


class ActionModule(ActionBase):
    """Arguments: seen, by host the result of ``cluster_info``, which may be that of an unreachable host; every_host: refuse when one was not seen."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        seen = dict(self._task.args["seen"])
        try:
            host = seen_primary.find(seen, every_host=bool(self._task.args.get("every_host", True)))
        except Refusal as refusal:
            return {**result, "failed": True, "msg": str(refusal), **told(refused=True, gates=[refusal.gate])}
        cluster = seen[host]["cluster"]
        return {
            **result,
            "changed": False,
            "host": host,
            "system_identifier": cluster["system_identifier"],
            "settings": cluster["settings"],
            "msg": "%s is the primary of system %s on timeline %s" % (host, cluster["system_identifier"], cluster["timeline"]),
        }
