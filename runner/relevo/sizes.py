"""How large a cluster is now, as its newest records say: what past durations are scaled to. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relevo.clock import seconds_between

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from relevo.record import Record

DATABASE, LAG, WAL = "database_bytes", "lag_bytes", "wal_since_backup_bytes"
# A rate of WAL over less than that is the noise of a moment.
_RATE_SECONDS = 3600.0


@dataclass(frozen=True)
class Size:
    """bytes: how much; run_id: which record says so; at: when that run began."""

    bytes: float
    run_id: str
    at: str


def known(records: Sequence[Record], now: str) -> dict[str, Size]:
    """What is known of one cluster: of the data, of WAL that its standby has not replayed, and of WAL behind the newest backup.

    records: its runs of any runbook, newest first. What no record says is left out.
    """
    found = {DATABASE: _newest(records, _database), LAG: _newest(records, _lag), WAL: _behind_the_backup(records, now)}
    return {name: size for name, size in found.items() if size is not None}


def number(value: Any) -> float | None:
    """A measured number; None for anything else."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _newest(records: Iterable[Record], look: Callable[[Record], float | None]) -> Size | None:
    seen = ((record, look(record)) for record in records)
    return next((Size(found, record.run_id, record.opened_at) for record, found in seen if found is not None), None)


def _database(record: Record) -> float | None:
    """Of the live cluster where the run asked it, else of its newest backup, else of what was restored."""
    hosts = sorted(_hosts(record), key=lambda host: host.get("role") != "primary")
    backups = (record.measures.get("backups") or {}).values()
    tests = record.measures.get("restore_tests") or []
    candidates = (
        *(host.get("size_bytes") for host in hosts),
        *(backup.get("size_bytes") for backup in backups),
        *(test.get("live_bytes") for test in tests),
        (record.measures.get("restore") or {}).get("bytes"),
    )
    return next((size for size in map(number, candidates) if size), None)


def _lag(record: Record) -> float | None:
    """What the standby that is nearest to the one primary had still to replay."""
    primaries = [place for host in _hosts(record) if host.get("role") == "primary" and (place := _position(host)) is not None]
    standbys = [place for host in _hosts(record) if host.get("role") == "standby" and (place := _position(host)) is not None]
    return max(0.0, float(primaries[0] - max(standbys))) if len(primaries) == 1 and standbys else None


def _behind_the_backup(records: Sequence[Record], now: str) -> Size | None:
    """The pace at which the primary wrote WAL over the time that the records span, times the age of the newest backup."""
    backup = next((record for record in records if record.measures.get("backups") and not record.check_mode), None)
    seen = [
        (record, place, host.get("system_identifier"))
        for record in records
        for host in _hosts(record)
        if host.get("role") == "primary" and (place := _position(host)) is not None
    ]
    if backup is None or not seen:
        return None
    newest, last, system = seen[0]
    oldest, first, _ = next(entry for entry in reversed(seen) if entry[2] == system)
    span = seconds_between(oldest.opened_at, newest.opened_at)
    if span < _RATE_SECONDS or last < first:
        return None
    return Size((last - first) / span * max(0.0, seconds_between(backup.closed_at, now)), newest.run_id, newest.opened_at)


def _hosts(record: Record) -> list[Mapping[str, Any]]:
    hosts = record.status.get("hosts")
    return [host for host in hosts.values() if isinstance(host, dict)] if isinstance(hosts, dict) else []


def _position(host: Mapping[str, Any]) -> int | None:
    """An LSN such as 0/F00BE30 as a number of bytes."""
    high, _, low = str(host.get("lsn") or "").partition("/")
    try:
        return (int(high, 16) << 32) + int(low, 16)
    except ValueError:
        return None
