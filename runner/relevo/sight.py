"""What the vantage points say of a cluster: their lines as they arrived, and whose word counts. Pure.

A vantage point's own times are its boot clock's, and are compared with nobody else's. When its lines arrived is told by the watcher's boot clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

ACCEPTED, READ_ONLY, REFUSED = "accepted", "read_only", "refused"
# Whoever says one of these is there, and so is the way to it.
ANSWERS = frozenset({ACCEPTED, READ_ONLY, REFUSED})
# What a vantage point is judged by; older lines say nothing of now.
KEPT_SECONDS = 120.0
# Ticks come twice a second; a word that is older, or was longer under way than usual, is not of now.
SILENT_SECONDS = 2.0
LAG_SECONDS = 2.0
# A boot clock that is not the watcher's equal in pace.
CLOCK_SECONDS = 2.0
# One try of a write has its own limits of a second each; whoever took longer was asleep itself.
LONGEST_TRY_SECONDS = 5.0
# Between two tries, and since the newest.
GAP_SECONDS = 4.0


@dataclass(frozen=True)
class Seen:
    """One try of a write. began, ended: the vantage point's boot clock; at: its wall clock, for people."""

    address: str
    outcome: str
    at: str
    began: float
    ended: float
    timeline: int = 0


@dataclass(frozen=True)
class Pulse:
    """That a line came: when by the watcher's clock, and what the sender's clock said when it was sent."""

    arrived: float
    sent: float

    @property
    def offset(self) -> float:
        """Of the two clocks, and what the line was under way."""
        return self.arrived - self.sent


@dataclass(frozen=True)
class Lock:
    """The run lock as a database host has it. known: whether that host has told of it at all."""

    known: bool = False
    holder: str | None = None


@dataclass(frozen=True)
class Feed:
    """All that one host has told lately, oldest first, of its present boot.

    last_accepted: by address, however long ago; alarms: jobs of the night of which its dead-man's switch speaks.
    """

    name: str
    site: str
    boot_id: str = ""
    pulses: tuple[Pulse, ...] = ()
    seen: tuple[Seen, ...] = ()
    last_accepted: Mapping[str, Seen] = field(default_factory=dict)
    lock: Lock = Lock()
    alarms: tuple[str, ...] = ()

    def take(self, line: Mapping[str, Any], arrived: float) -> Feed:
        """The same with one more line of the stream; KeyError, TypeError or ValueError when it is none."""
        sent, boot_id = float(line["now"]), str(line["boot_id"])
        fresh = self if boot_id == self.boot_id else replace(self, boot_id=boot_id, pulses=(), seen=(), lock=Lock())
        pulses = (*_lately(fresh.pulses, arrived), Pulse(arrived, sent))
        if line["kind"] == "tick":
            held, alarms = line.get("lock"), tuple(map(str, line.get("alarms") or ()))
            return replace(fresh, pulses=pulses, lock=Lock(known=True, holder=held), alarms=alarms)
        said = line["seen"]
        one = Seen(
            str(said["address"]),
            str(said["outcome"]),
            str(said["at"]),
            float(said["mono"]),
            float(said["end_mono"]),
            int(said.get("timeline") or 0),
        )
        before = fresh.last_accepted.get(one.address)
        if one.outcome == ACCEPTED and not one.timeline and before:
            # It died, or was cut off, before it could say that.
            one = replace(one, timeline=before.timeline)
        accepted = {**fresh.last_accepted, one.address: one} if one.outcome == ACCEPTED else fresh.last_accepted
        if said.get("boot_id") != boot_id:
            return replace(fresh, pulses=pulses, last_accepted=accepted)
        first = next((place for place, old in enumerate(fresh.seen) if old.ended > sent - KEPT_SECONDS), len(fresh.seen))
        return replace(fresh, pulses=pulses, seen=(*fresh.seen[first:], one), last_accepted=accepted)

    def doubt(self, now: float) -> str | None:
        """Why nothing that this host says counts at this moment; None when it does."""
        if not self.pulses:
            return "it has said nothing yet"
        newest = self.pulses[-1]
        if now - newest.arrived > SILENT_SECONDS:
            return f"it has said nothing for {now - newest.arrived:.1f} s"
        if (lag := newest.offset - self._offset) > LAG_SECONDS:
            return f"its word comes {lag:.1f} s late, or its clock lost that"
        if (jump := self._jump()) > CLOCK_SECONDS:
            return f"its clock went ahead by {jump:.1f} s"
        return None

    @property
    def _offset(self) -> float:
        """Of the two clocks, when a line is hardly under way."""
        return min(pulse.offset for pulse in self.pulses)

    def _jump(self) -> float:
        lowest, most = self.pulses[0].offset, 0.0
        for pulse in self.pulses:
            most = max(most, lowest - pulse.offset)
            lowest = min(lowest, pulse.offset)
        return most

    def clock(self, now: float) -> float:
        """This host's boot clock at a moment of the watcher's."""
        return now - self._offset

    def view(self, address: str, now: float) -> View:
        """What it sees of one address."""
        own = [seen for seen in self.seen if seen.address == address]
        if not (self.pulses and own) or self.clock(now) - own[-1].ended > GAP_SECONDS:
            return View(None)
        streak = _streak(own)
        silent = [seen for seen in streak if seen.outcome not in ANSWERS]
        return View(
            newest=own[-1],
            failing_seconds=streak[-1].ended - streak[0].began if streak else 0.0,
            refusals=len(streak) - len(silent),
            tries=len(streak),
            first_failed_at=streak[0].at if streak else None,
        )


@dataclass(frozen=True)
class View:
    """One address from one vantage point. newest: None when it has not looked lately.

    failing_seconds: over how long every try failed, up to the newest; refusals: how many of them were answered with a refusal.
    """

    newest: Seen | None
    failing_seconds: float = 0.0
    refusals: int = 0
    tries: int = 0
    first_failed_at: str | None = None

    @property
    def answers(self) -> bool:
        """Whether something is there that speaks."""
        return self.newest is not None and self.newest.outcome in ANSWERS

    @property
    def accepts(self) -> bool:
        """Whether it took the newest write."""
        return self.newest is not None and self.newest.outcome == ACCEPTED


def _lately(pulses: tuple[Pulse, ...], arrived: float) -> tuple[Pulse, ...]:
    first = next((place for place, pulse in enumerate(pulses) if pulse.arrived > arrived - KEPT_SECONDS), len(pulses))
    return pulses[first:]


def _streak(own: list[Seen]) -> list[Seen]:
    """The newest tries that all failed, without a hole in which nobody looked."""
    found: list[Seen] = []
    for seen in reversed(own):
        hole = bool(found) and found[-1].began - seen.ended > GAP_SECONDS
        if seen.outcome in {ACCEPTED, READ_ONLY} or hole or seen.ended - seen.began > LONGEST_TRY_SECONDS:
            break
        found.append(seen)
    return found[::-1]
