"""Planned maintenance: for a stated time a watcher is silent. Said by a person, kept as a statement, and over by itself. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from relevo.clock import parse_utc, utc
from relevo.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from relevo.entries import Entry

KIND = "maintenance"
STARTED, STOPPED = "started", "stopped"
# Longer work is several maintenances: nobody should forget one.
LONGEST = timedelta(days=3)
_FORM = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class Maintenance:
    """One time of silence. entry_id: of the statement; until: by the wall clock; seconds: as it was asked for."""

    entry_id: str
    cluster: str
    by: str
    reason: str
    at: str
    until: str
    seconds: float

    def left_seconds(self, now: datetime) -> float:
        """Of it, by the wall clock; never more than was asked for, however that clock is set."""
        return min(self.seconds, (parse_utc(self.until) - now).total_seconds())

    def sentence(self) -> str:
        """For a person."""
        return f"planned maintenance until {self.until[:19].replace('T', ' ')} UTC, said by {self.by}: {self.reason}"


def span(text: str) -> timedelta:
    """A time such as 30m or 2h. UsageError for anything else, and for more than anybody should forget."""
    found = _FORM.fullmatch(text.strip())
    length = timedelta(**{_UNITS[found.group(2)]: int(found.group(1))}) if found else timedelta()
    if not timedelta() < length <= LONGEST:
        message = (
            f"--for {text!r} is no time that a maintenance takes; expected such as 45s, 30m, 2h or 1d, at most {LONGEST.days}d."
        )
        raise UsageError(message)
    return length


def begin(reason: str, length: timedelta, at: datetime) -> dict[str, Any]:
    """What the statement says. UsageError without a reason."""
    if not reason.strip():
        message = "A maintenance needs its reason (--reason): whoever finds the watcher silent has to know why."
        raise UsageError(message)
    return {"reason": reason.strip(), "seconds": length.total_seconds(), "until": utc(at + length)}


def latest(entries: Iterable[Entry], cluster: str) -> Maintenance | None:
    """The newest that was said of a cluster and not ended by a person; it may be over by itself."""
    found: Maintenance | None = None
    for entry in entries:
        if entry.subject != cluster or entry.kind != KIND:
            continue
        if entry.event == STARTED:
            said = entry.said
            found = Maintenance(
                entry.entry_id, cluster, entry.by, str(said["reason"]), entry.at, str(said["until"]), float(said["seconds"])
            )
        elif entry.event == STOPPED:
            found = None
    return found
