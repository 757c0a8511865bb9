"""A past of a cluster, made of recorded runs with shifted dates."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from relevo import due
from relevo.clock import parse_utc, utc
from relevo.history import summarize
from relevo.record import Record
from tests.unit.runner.plain_history import PlainHistory
from tests.unit.runner.streams import record_of

# What the customer's tests ask of the application; a run measures it where the inventory says what users do.
MEASURED = {"application": {"login": "pass", "p95_seconds": 0.2}}


def run(run_id: str, closed_at: str, stream: str = "failover_drill", **changes: Any) -> Record:
    """A recorded run at another time; measures, versions and digests are laid over its own."""
    record = record_of(stream)
    for name in ("measures", "versions", "digests"):
        changes[name] = {**getattr(record, name), **(MEASURED if name == "measures" else {}), **changes.get(name, {})}
    end = parse_utc(closed_at)
    times = {"opened_at": utc(end - timedelta(seconds=record.duration_seconds)), "closed_at": utc(end)}
    return Record.model_validate({**record.model_dump(), "run_id": run_id, **times, **changes})


class Past(PlainHistory):
    """Runs as the store tells of them: in short, and whole documents; asked: those that were read."""

    def __init__(self, *records: Record) -> None:
        self._records = {record.run_id: record for record in records}
        self.asked: list[str] = []
        super().__init__([summarize(record) for record in self._records.values()])

    @property
    def past(self) -> due.Past:
        return due.Past(self, self.documents)

    def documents(self, run_ids: Sequence[str], /) -> list[dict[str, Any]]:
        self.asked += run_ids
        return [self._records[run_id].document() for run_id in run_ids]


def at(text: str) -> datetime:
    """A day as a time in UTC."""
    return parse_utc(f"{text}T12:00:00Z")
