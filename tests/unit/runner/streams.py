"""Recorded event streams, and the records that they make."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from relevo import feed, journal, record
from relevo.evidence import collect
from relevo.feed import Event
from relevo.verdict import Ending

STREAMS = Path(__file__).parents[2] / "fixtures" / "streams"
SIGNER = {"principal": "relevo-controller", "namespace": "dr-test", "algorithm": "ssh-ed25519", "key": "SHA256:x"}


def read(name: str) -> tuple[journal.Opening, list[Event]]:
    """The opening and the events of a stream."""
    opening, lines = journal.parse((STREAMS / f"{name}.jsonl").read_text(encoding="utf-8"))
    return opening, [feed.from_line(line) for line in lines if line.get("event") in feed.KEPT]


def build(opening: journal.Opening, events: list[Event], ending: Ending | None = None) -> record.Record:
    """The record of some events, closed 20.7 s after the opening."""
    return record.build(
        opening,
        collect(events),
        ending or Ending(),
        record.Closing("2026-11-24T12:15:50.700000Z", opening.boottime + 20.7, "0" * 64, SIGNER),
    )


def record_of(name: str, **changes: Any) -> record.Record:
    """The record of a stream; `changes` replace fields of its opening."""
    opening, events = read(name)
    return build(replace(opening, **changes), events)


def said(**relevo: Any) -> Event:
    """A task's result that says something."""
    return Event("runner_on_ok", "2026-11-24T12:00:00.000000Z", host="b-db1", task="Say", said=(relevo,))


def failed(message: str = "no", host: str = "b-db1", **fields: Any) -> Event:
    """A task's failure."""
    return Event("runner_on_failed", "2026-11-24T12:00:01.000000Z", host=host, task="Do", play="Play", message=message, **fields)


def stats(failures: tuple[str, ...] = (), dark: tuple[str, ...] = ()) -> Event:
    """The closing statistics."""
    counts = {"ok": {"b-db1": 3}, "failures": dict.fromkeys(failures, 1), "dark": dict.fromkeys(dark, 1)}
    return Event("playbook_on_stats", "2026-11-24T12:00:09.000000Z", counts=counts)
