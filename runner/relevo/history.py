"""A cluster's past in short: of each run what lists, trends, calendars and predictions are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relevo.record import Record


@dataclass(frozen=True)
class Summary:
    """One run. Times as in its record; seconds and counts are None where nobody measured them."""

    run_id: str
    runbook: str
    cluster: str | None
    mode: str | None
    scope: str | None
    verdict: str
    objectives_met: bool | None
    check_mode: bool
    opened_at: str
    closed_at: str
    duration_seconds: float
    operator: str
    rto_seconds: float | None
    rpo_seconds: float | None
    acknowledged: int | None
    lost: int | None


def summarize(record: Record) -> Summary:
    """The same record, in short."""
    measures, ledger = record.measures, record.measures.get("ledger") or {}
    return Summary(
        record.run_id,
        record.runbook,
        record.cluster,
        record.mode,
        record.scope,
        record.verdict.value,
        record.objectives_met,
        record.check_mode,
        record.opened_at,
        record.closed_at,
        record.duration_seconds,
        record.operator,
        _number(measures.get("rto_seconds")),
        _number(measures.get("rpo_seconds")),
        ledger.get("acknowledged"),
        ledger.get("lost"),
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
