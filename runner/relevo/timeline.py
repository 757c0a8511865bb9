"""Phases in order, and where the time between the outage and the first write went. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from relevo.clock import parse_utc, utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FIRST = "PREFLIGHT"
DECIDE = "DETECT AND DECIDE"
BETWEEN = "BETWEEN PHASES"


@dataclass(frozen=True)
class Part:
    """A share of the recovery time. kind: decision (people) | phase | gap (machine, between phases); started_at: UTC, at first."""

    name: str
    kind: str
    started_at: str
    seconds: float


def sort_phases(phases: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Phases by the first time each name began, then by host, so that hosts that raced each other keep one order."""
    known = [dict(phase) for phase in phases]
    first: dict[str, str] = {}
    for phase in known:
        name, started = str(phase.get("name")), str(phase.get("started_at") or "~")
        first[name] = min(first.get(name, "~"), started)
    return sorted(known, key=lambda phase: (first[str(phase.get("name"))], str(phase.get("name")), str(phase.get("host"))))


def span(phase: Mapping[str, Any]) -> tuple[datetime, datetime] | None:
    """When a phase began and ended on the controller's clock; None when a time is missing or senseless.

    clock_offset_seconds is the host's clock minus the controller's.
    """
    try:
        offset = timedelta(seconds=float(phase.get("clock_offset_seconds") or 0.0))
        began, ended = parse_utc(str(phase["started_at"])) - offset, parse_utc(str(phase["ended_at"])) - offset
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return (began, ended) if began <= ended else None


def spans(phases: Sequence[Mapping[str, Any]], command_at: str) -> list[tuple[Mapping[str, Any], datetime, datetime]]:
    """The phases that have times, with their begin and end on the controller's clock.

    The first phase begins with the command: asking the hosts is its work, though only its judgement is a milestone.
    """
    found = [(phase, *times) for phase in phases if (times := span(phase))]
    command = parse_utc(command_at)
    return [
        (phase, min(began, command) if phase.get("name") == FIRST and ended >= command else began, ended)
        for phase, began, ended in found
    ]


def break_down(phases: Sequence[Mapping[str, Any]], t0_at: str | None, first_write_at: str | None, command_at: str) -> list[Part]:
    """Share out the time from T0 to the first write: each name once, no overlap, and the seconds add up to the whole.

    Where phases overlap the one that began last counts. Empty when T0 or the first write was not observed.
    """
    if not t0_at or not first_write_at:
        return []
    begin, end, command = parse_utc(t0_at), parse_utc(first_write_at), parse_utc(command_at)
    timed = [(began, ended, str(phase.get("name"))) for phase, began, ended in spans(phases, command_at)]
    cuts = {begin, end, *(moment for times in timed for moment in times[:2]), command}
    moments = sorted(moment for moment in cuts if begin <= moment <= end)
    parts: dict[str, Part] = {}
    for start, stop in pairwise(moments):
        running = [entry for entry in timed if entry[0] <= start and entry[1] >= stop]
        if stop <= command:
            name, kind = DECIDE, "decision"
        elif running:
            name, kind = max(running)[2], "phase"
        else:
            name, kind = BETWEEN, "gap"
        known = parts.get(name, Part(name, kind, utc(start), 0.0))
        parts[name] = replace(known, seconds=round(known.seconds + (stop - start).total_seconds(), 6))
    return sorted(parts.values(), key=lambda part: (part.kind == "gap", part.started_at))
