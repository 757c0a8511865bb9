# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Start a backup on the host, and show how far it is until it is over."""

from __future__ import annotations

import os
import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.relevo.dr.plugins.module_utils.backup_outcome import progress_line
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone, told

MODULE = "relevo.dr.pgbackrest_backup"
# A backup outlives a connection: this long the host may stay silent.
SILENCE_SECONDS = 300.0


class ActionModule(ActionBase):
    """Runs the module ``pgbackrest_backup``, again and again."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = {**self._task.args, "run": os.environ.get("RELEVO_RUN_ID") or "by-hand-%d" % time.time_ns()}
        began = self._execute_module(module_name=MODULE, module_args={**arguments, "step": "start"}, task_vars=task_vars)
        if began.get("failed") or not began.get("wanted"):
            return {**result, **began}
        host = str(arguments["host_name"])
        phase = Milestone("BACKUP", host)
        seen = self._watch({**arguments, "step": "look", "only": began["wanted"]}, task_vars)
        relevo = seen.get("ansible_stats", {}).get("data", {}).get("relevo", {})
        wrong = seen.get("msg") if seen.get("failed") else None
        labels = ", ".join(backup["label"] for backup in seen.get("backups", []))
        ended = phase.ended("failed", str(wrong)) if wrong else phase.ended(detail=labels)
        return {**result, **seen, "changed": True, "changes": began["changes"], **told(**relevo, phases=[ended])}

    def _watch(self, arguments: dict[str, Any], variables: Any) -> dict[str, Any]:
        """Until it is over, the host is silent for too long, or the time is up."""
        host, kind = str(arguments["host_name"]), str(arguments.get("type", "full"))
        limit = float(arguments.get("timeout", 86400)) * len(arguments["only"]) + 300
        started = heard = time.monotonic()
        wait = 1.0
        while True:
            time.sleep(wait)
            wait = float(arguments.get("poll_seconds", 3))
            now = time.monotonic()
            try:
                seen: dict[str, Any] = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=variables)
            except AnsibleConnectionFailure as error:
                seen = {"unreachable": True, "msg": str(error)[:200]}
            if not seen.get("unreachable"):
                heard = now
                if seen.get("finished") or seen.get("failed"):
                    return seen
                self._display.display("%s: %s" % (host, progress_line(seen["progress"], kind, now - started)))
            elif now - heard > SILENCE_SECONDS:
                said = "%s has not answered for %d s (%s); the backup may be at work there" % (host, now - heard, seen.get("msg"))
                return {"failed": True, "msg": "%s. Next: see /var/lib/relevo/backups.jsonl on it" % said}
            if now - started > limit:
                return {
                    "failed": True,
                    "msg": "%s: the backup is at work for more than %d s. Next: see what it waits for" % (host, limit),
                }
