"""Values in words: units, times with their zone, and a plain word for what nobody observed. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from relevo.clock import parse_utc

if TYPE_CHECKING:
    from relevo.record import Record

UNOBSERVED = "not observed"
_HUNDREDTH, _MINUTE, _HOUR, _DAY = 0.01, 60, 3600, 86400
_MANY = 12
# Also surrogates, which no file can hold.
_UNSEEN = re.compile(r"[^\t\n\r\x20-\x7e\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
NAMES = {"rto_seconds": "Recovery time (RTO)", "rpo_seconds": "Data loss window (RPO)"}


def seconds(value: Any) -> str:
    """A duration for people: 3 ms, 0.35 s, 14.2 s, 3 min 05 s, 4 h 00 min."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return UNOBSERVED
    size = abs(float(value))
    sign = "-" if value < 0 else ""
    if size < 1:
        # Two digits of less than a hundredth would be a zero that nobody measured.
        return "0 s" if not size else f"{sign}{size * 1000:.2g} ms" if size < _HUNDREDTH else f"{sign}{size:.2f} s"
    if round(size, 1) < _MINUTE:
        return f"{sign}{size:.1f} s"
    whole = round(size)
    if whole < _HOUR:
        return f"{sign}{whole // _MINUTE} min {whole % _MINUTE:02d} s"
    if whole < _DAY:
        return f"{sign}{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"
    return f"{sign}{whole // _DAY} d {whole % _DAY // _HOUR} h"


def moment(value: Any) -> str:
    """A UTC time for people, to the second: 2026-11-24 12:15:30 UTC."""
    try:
        return f"{parse_utc(str(value)):%Y-%m-%d %H:%M:%S} UTC"
    except ValueError:
        return UNOBSERVED


def time_of_day(value: Any) -> str:
    """The time of day of a UTC time, to the millisecond."""
    try:
        return f"{parse_utc(str(value)):%H:%M:%S.%f}"[:-3]
    except ValueError:
        return UNOBSERVED


def count(value: Any, noun: str, nouns: str | None = None) -> str:
    """A number of things: `1 transaction`, `0 transactions`, `not observed`. nouns: the plural, when it is no mere s."""
    if isinstance(value, bool) or not isinstance(value, int):
        return UNOBSERVED
    return f"{value:,}".replace(",", " ") + f" {noun if value == 1 else nouns or noun + 's'}"


def number(value: Any) -> str:
    """A number that people read, in groups of three: 1 284."""
    return f"{value:,}".replace(",", " ") if isinstance(value, int) and not isinstance(value, bool) else UNOBSERVED


def with_moments(text: str) -> str:
    """A text whose times people read: 2026-11-24T12:15:30.123456Z as 2026-11-24 12:15:30 UTC."""
    return _MOMENT.sub(lambda found: moment(found[0]), text)


def plain(value: Any) -> str:
    """Any JSON value as text: text as it is, a tree as JSON, nothing as not observed."""
    if value is None or value == "":
        return UNOBSERVED
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def visible(text: str) -> str:
    """A text without what nobody sees: control characters, which XML cannot hold, and those that turn its direction round."""
    return _UNSEEN.sub("", text)


def size(value: Any) -> str:
    """Bytes for people: 312 B, 16.0 MiB."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return UNOBSERVED
    number = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(number) < 1024:  # noqa: PLR2004 - the definition of the units
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def headline(record: Record) -> str:
    """What was run, on what, in which mode."""
    parts = [record.runbook]
    if record.mode:
        parts.append(f"({record.mode})")
    if record.cluster:
        parts.append(f"of {record.cluster}")
    target = record.run.get("target_site")
    if target:
        parts.append(f"to site {target}")
    return " ".join(parts)


def facts(record: Record) -> list[tuple[str, str]]:
    """The measured facts of a run in the order in which people ask for them."""
    measures = record.measures
    found = [(NAMES.get(item.name, item.name), judged(item)) for item in record.objectives]
    parts = measures.get("rto_breakdown") or []
    if parts:
        found.append(("RTO by part", ", ".join(f"{part['name'].lower()} {seconds(part['seconds'])}" for part in parts)))
    if record.objectives:
        found.append(("Outage as a client saw it", seconds(measures.get("outage_seconds"))))
        found.append(("Two writable primaries", seconds(measures.get("writable_overlap_seconds"))))
        found.append(("Ledger", ledger(measures.get("ledger") or {})))
        found.append(("Fence", str(record.fence.get("class") or UNOBSERVED)))
    found.append(("Began", f"{moment(record.opened_at)}, took {seconds(record.duration_seconds)}"))
    found.append(("Operator", f"{record.operator} on {record.controller}"))
    if record.approver:
        found.append(("Approver", record.approver))
    # Where nothing was started there was nothing to observe.
    return [fact for fact in found if record.verdict != "refused" or not fact[1].startswith(UNOBSERVED)]


def judged(objective: Any) -> str:
    """A measure beside its target: `12.3 s, target 4 h 00 min: met`."""
    return f"{seconds(objective.measured)}, target {seconds(objective.target)}: {objective.verdict}"


def ledger(sums: dict[str, Any]) -> str:
    """What became of the acknowledged transactions."""
    if sums.get("acknowledged") is None:
        return UNOBSERVED
    lost = count(sums.get("lost"), "lost transaction")
    return f"{count(sums['acknowledged'], 'acknowledged transaction')}, {lost}, {sums.get('indeterminate')} indeterminate"


def numbers(values: Any) -> str:
    """A list of transaction numbers, shortened in the middle: 3, 4, 5 ... 99 (97 in all)."""
    if not isinstance(values, list) or not values:
        return "none"
    if len(values) <= _MANY:
        return ", ".join(str(value) for value in values)
    return f"{', '.join(str(value) for value in values[:_MANY])} … {values[-1]} ({len(values)} in all)"
