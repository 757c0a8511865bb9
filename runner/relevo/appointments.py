"""The calendar of tests as iCalendar, for the calendars of people."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from icalendar import Calendar, Event

from relevo.clock import parse_utc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from relevo.due import Entry


def write(entries: Sequence[Entry], now: datetime) -> bytes:
    """One whole day for each test: the date by which it must be passed, today where it is late or was never passed."""
    calendar = Calendar()
    calendar.add("prodid", "-//Relevo//calendar of tests//EN")
    calendar.add("version", "2.0")
    for entry in entries:
        day = max(now, parse_utc(entry.due_at)).date() if entry.due_at else now.date()
        event = Event()
        event.add("uid", f"{entry.cluster}-{entry.test}@relevo")
        event.add("dtstamp", now)
        event.add("dtstart", day)
        event.add("dtend", day + timedelta(days=1))
        event.add("summary", f"{entry.title}: {entry.cluster} ({entry.state.value})")
        event.add("description", "\n".join((f"Every {entry.every}.", *entry.reasons)))
        event.add("transp", "TRANSPARENT")
        calendar.add_component(event)
    return bytes(calendar.to_ical())
