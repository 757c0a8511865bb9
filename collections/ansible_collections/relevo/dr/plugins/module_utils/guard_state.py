# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The boot guard as a gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional


def gate(host: str, armed: bool, guard: Mapping[str, Any], fence: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    """GUARD: systemd asks the guard before PostgreSQL starts, the guard can decide, and an armed self-fence is alive.

    A fenced host's unit is masked and asks nobody.
    """
    result = {
        "id": "GUARD",
        "title": "Boot guard armed",
        "phase": "PREFLIGHT",
        "host": host,
        "expected": "systemd asks relevo-guard before PostgreSQL starts",
        "next_action": "",
    }
    if fence is not None:
        return {
            **result,
            "observed": "fenced by %s" % (fence.get("run_id") or fence.get("by") or "an unknown hand"),
            "verdict": "not_applicable",
        }
    if not armed:
        return {**result, "observed": "not armed", "verdict": "fail", "next_action": "run playbooks/protect.yml"}
    if not guard:
        return {
            **result,
            "observed": "armed, and cannot be asked",
            "verdict": "fail",
            "next_action": "run relevo-guard check on this host",
        }
    decision, watch = guard["decision"], guard.get("watch") or {}
    observed = "armed; next start: %s (%s)" % (decision["action"], decision["reason"])
    seconds = watch.get("self_fence_seconds") or 0
    if seconds and not watch.get("alive"):
        return {
            **result,
            "observed": "%s; the self-fence of %d s is wanted, and its watch is dead" % (observed, seconds),
            "expected": "the watch of the self-fence alive",
            "verdict": "fail",
            "next_action": "systemctl status relevo-guard on this host, and start it: until then this host would not stop itself",
        }
    watched = "self-fence after %d s, alive" % seconds if seconds else "no self-fence"
    return {**result, "observed": "%s; %s" % (observed, watched), "verdict": "pass"}
