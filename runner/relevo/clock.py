"""Time in the two forms the record uses: UTC for people, CLOCK_BOOTTIME for durations."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def utc(moment: datetime) -> str:
    """An aware datetime as ISO 8601 UTC with microseconds and the suffix Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def utc_now() -> str:
    """The wall clock now, in the form of :func:`utc`."""
    return utc(datetime.now(UTC))


def parse_utc(text: str) -> datetime:
    """An ISO 8601 time with an offset as an aware datetime in UTC. ValueError without a zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        message = f"the time {text!r} has no zone"
        raise ValueError(message)
    return moment.astimezone(UTC)


def seconds_between(earlier: str, later: str) -> float:
    """Seconds from one UTC text to another, to the microsecond; negative when they are the other way round."""
    return round((parse_utc(later) - parse_utc(earlier)).total_seconds(), 6)


def boottime_seconds() -> float:
    """Seconds since this machine's boot, suspend included: no clock that anybody can set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
