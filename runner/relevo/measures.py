"""The measures of a record: every promised key is there, and what nobody observed is null. Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from relevo.clock import seconds_between
from relevo.timeline import DECIDE, break_down

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROMISED = (
    "t0_at",
    "t0_source",
    "first_write_at",
    "rto_seconds",
    "rpo_seconds",
    "outage_seconds",
    "writable_overlap_seconds",
    "loss_bytes",
)
LEDGER = ("acknowledged", "present", "lost", "indeterminate", "failed", "lost_numbers", "first_number", "last_number")


def complete(said: Mapping[str, Any], phases: Sequence[Mapping[str, Any]], command_at: str) -> dict[str, Any]:
    """The observed measures with nulls for the rest, and the recovery time broken down by phase.

    detect_and_decide_seconds: from T0 to the start of the command; machine_seconds: the rest of the recovery time.
    """
    measures: dict[str, Any] = dict.fromkeys(PROMISED) | dict(said)
    ledger = measures.get("ledger")
    measures["ledger"] = dict.fromkeys(LEDGER) | (ledger if isinstance(ledger, dict) else {})
    parts = _parts(measures, phases, command_at)
    measures["rto_breakdown"] = [asdict(part) for part in parts] or None
    measures["detect_and_decide_seconds"] = sum(part.seconds for part in parts if part.name == DECIDE) if parts else None
    measures["machine_seconds"] = round(sum(part.seconds for part in parts if part.name != DECIDE), 6) if parts else None
    return measures


def _parts(measures: Mapping[str, Any], phases: Sequence[Mapping[str, Any]], command_at: str) -> Any:
    try:
        return break_down(phases, measures["t0_at"], measures["first_write_at"], command_at)
    except (TypeError, ValueError):  # a time that a module wrote in another form: not observed, and no reason to lose the record
        return []


def run_seconds(opened_at: str, closed_at: str, boottime: float, boottime_now: float | None) -> float:
    """How long a run took: by the monotonic clock when it is still the same boot, else by the wall clock."""
    if boottime_now is not None and boottime_now >= boottime:
        return round(boottime_now - boottime, 6)
    return seconds_between(opened_at, closed_at)
