# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a run whose lease has ended on a host may be alive all the same: what its own controller and every other host show of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Optional


def sign_of_life(run_id: str, entries: Iterable[tuple[str, Mapping[str, Any]]]) -> Optional[str]:
    """What shows that a run is not dead, as a part of a sentence; None when nothing does. entries: by host what it said when it was asked."""
    for host, entry in entries:
        facts: Mapping[str, Any] = entry.get("facts", {}).get("host") or {}
        lock = facts.get("lock") or {}
        if lock.get("run_id") == run_id and entry.get("lock_owner_alive"):
            return "its process %s lives on this controller" % lock.get("controller_pid", "?")
        if lock.get("run_id") == run_id and not facts.get("lock_expired"):
            return "its lease on %s has not ended" % host
        if facts.get("actor") == run_id:
            return "a task of it is at work on %s" % host
    return None
