# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Milestones of a run: what a module did, on which host, from when to when, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import clock


class Milestone:
    """One phase on one host. The wall clock gives the times, the monotonic clock the duration."""

    def __init__(self, name: str, host: str, began: Optional[Mapping[str, Any]] = None) -> None:
        """Begins now, or where an earlier process of the same boot said it began (see :func:`beginning`)."""
        self._name, self._host = name, host
        known = began or beginning()
        self._started_at, self._started = str(known["at"]), float(known["boottime"])

    def ended(self, outcome: str = "ok", detail: str = "") -> dict[str, Any]:
        """The phase as the record keeps it. outcome: ok | failed | skipped."""
        return {
            "name": self._name,
            "host": self._host,
            "started_at": self._started_at,
            "ended_at": clock.utc_now(),
            "duration_seconds": round(clock.boottime_seconds() - self._started, 6),
            "outcome": outcome,
            "detail": detail,
        }


def beginning() -> dict[str, Any]:
    """A moment that a later process can measure from."""
    return {"at": clock.utc_now(), "boottime": clock.boottime_seconds()}


def told(**relevo: Any) -> dict[str, Any]:
    """The keys of a task result that carry the record's material, for the recorder and for AWX's artifacts."""
    return {"ansible_stats": {"data": {"relevo": relevo}, "per_host": False, "aggregate": True}}
