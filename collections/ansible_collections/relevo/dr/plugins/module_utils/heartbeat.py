# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the witness keeps of a nightly check: the newest finished run, and when it heard of it by its own clocks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.clock import parse_utc

# A controller whose clock was ahead must not keep the true news of later nights out.
LEEWAY_SECONDS = 300.0
_KEYS = ("cluster", "runbook", "run_id", "verdict", "at", "controller")


@dataclass(frozen=True)
class Heard:
    """The moment of hearing, by the clock that can be set and the one that cannot."""

    at: str
    boottime: float
    boot_id: str


def next_beat(said: Mapping[str, Any], kept: Mapping[str, Any], heard: Heard) -> dict[str, Any]:
    """The beat to keep. The same run told again is no news, and neither is an older one; the last passed one is never forgotten."""
    passed = [text for text in (said.get("passed_at"), kept.get("passed_at")) if text and _past(text, heard)]
    passed_at = max(passed, key=parse_utc) if passed else said.get("passed_at") or None
    known = {key: kept.get(key) for key in (*_KEYS, "heard_at", "heard_boottime", "heard_boot_id")}
    if None not in known.values() and _no_news(said, kept, heard):
        return {**known, "passed_at": passed_at}
    new = {key: said[key] for key in _KEYS}
    return {**new, "passed_at": passed_at, "heard_at": heard.at, "heard_boottime": heard.boottime, "heard_boot_id": heard.boot_id}


def _no_news(said: Mapping[str, Any], kept: Mapping[str, Any], heard: Heard) -> bool:
    if said["run_id"] == kept["run_id"]:
        return True
    return said["runbook"] == kept["runbook"] and _past(kept["at"], heard) and parse_utc(kept["at"]) > parse_utc(said["at"])


def _past(text: Any, heard: Heard) -> bool:
    try:
        return (parse_utc(str(text)) - parse_utc(heard.at)).total_seconds() <= LEEWAY_SECONDS
    except ValueError:
        return False
