"""What a watcher makes of what it sees: one event, its evidence, and whether anything is to be done. Pure; the laws of an automatic failover stand here.

It starts a run and replaces no gate of it: whether the old primary is fenced is proven by the run, or the run is refused.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from relevo.sight import READ_ONLY, Seen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from relevo.sight import Feed, View

# Fewer is one word; so are any number of places that are lost together.
LEAST_VANTAGE_POINTS = 2
LEAST_SITES = 2
# A primary that came back so often within this time is a matter for a person.
FLAPS_SECONDS = 600.0
MOST_FLAPS = 2


class Event(StrEnum):
    """What is the matter."""

    HEALTHY = "healthy"
    WATCHING = "watching"
    OUTAGE = "outage"
    SUSPECTED = "suspected"
    PARTITION = "partition"
    RETURNED = "primary_returned"
    MOVED = "primary_moved"
    TWO_PRIMARIES = "two_primaries"
    ARCHIVE_STALLED = "archive_stalled"
    RPO_AT_RISK = "rpo_at_risk"
    BACKUP_MISSING = "backup_missing"
    CHECK_MISSING = "check_missing"


class Action(StrEnum):
    """What is done about it."""

    NONE = "none"
    PROPOSE = "propose"
    ACT = "act"


class Automatic(StrEnum):
    """The policy: dr_automatic."""

    OFF = "off"
    PROPOSE = "propose"
    ACT = "act"


@dataclass(frozen=True)
class Policy:
    """What a watcher may do. members: site by address of each database host.

    window_seconds: how long every try must have failed, on each vantage point; restart_seconds: the same where the host still refuses, since it
    is there and may be starting.
    """

    automatic: Automatic
    target_site: str
    members: Mapping[str, str]
    window_seconds: float = 3.0
    restart_seconds: float = 60.0


@dataclass(frozen=True)
class Sight:
    """What is seen at one moment. observers: the vantage points; databases: for the lock that they hold; now: the watcher's boot clock."""

    observers: Sequence[Feed]
    databases: Sequence[Feed]
    now: float


@dataclass(frozen=True)
class Past:
    """What the watcher remembers.

    event, primary: of the last one it raised; returns: when a primary came back, by its own clock. acted, maintenance, run, blind: sentences, None when there
    is nothing: why it may not act again; planned work; a run that is at work on this controller; why it does not know one of these.
    """

    event: Event = Event.WATCHING
    primary: str | None = None
    acted: str | None = None
    returns: tuple[float, ...] = ()
    maintenance: str | None = None
    run: str | None = None
    blind: str | None = None


@dataclass(frozen=True)
class Decision:
    """event: what is the matter; action: what is done; because: why that and no more, for a person; evidence: what each vantage point saw."""

    event: Event
    action: Action
    because: str
    evidence: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        """As a JSON tree."""
        return asdict(self)


@dataclass(frozen=True)
class _Word:
    """What one vantage point says of the primary. doubt: why it does not count."""

    feed: Feed
    view: View
    doubt: str | None
    due_seconds: float

    @property
    def passed(self) -> bool:
        return (
            self.doubt is None and not self.view.accepts and self.view.tries > 1 and self.view.failing_seconds >= self.due_seconds
        )

    def document(self) -> dict[str, Any]:
        newest = self.view.newest
        return {
            "vantage_point": self.feed.name,
            "site": self.feed.site,
            "counts": self.doubt is None,
            "doubt": self.doubt,
            "outcome": newest.outcome if newest else None,
            "failing_seconds": round(self.view.failing_seconds, 3),
            "tries": self.view.tries,
            "window_seconds": self.due_seconds,
            "first_failed_at": self.view.first_failed_at,
        }


def decide(sight: Sight, policy: Policy, past: Past) -> Decision:
    """The one thing that is the matter, and what is done about it."""
    primary = find_primary(sight.observers, policy)
    if primary is None:
        return Decision(Event.WATCHING, Action.NONE, "No vantage point has seen a primary yet.", {"vantage_points": []})
    words = [_word(feed, primary, policy, sight.now) for feed in sight.observers]
    evidence: dict[str, Any] = {
        "primary": primary,
        "site": policy.members[primary],
        "target_site": policy.target_site,
        "vantage_points": [word.document() for word in words],
    }
    accepting = [word for word in words if word.feed.doubt(sight.now) is None and word.view.accepts]
    failing = [word for word in words if word.passed]
    others = sorted(address for address in policy.members if address != primary and _accepted(sight, address))
    if accepting and others:
        text = f"{', '.join([primary, *others])} take writes at once. Fence one now: relevo status says which."
        return Decision(Event.TWO_PRIMARIES, Action.NONE, text, evidence)
    if not failing:
        return _quiet(accepting, words, past, evidence)
    if accepting:
        text = f"{_names(failing)} cannot write to {primary}, and {_names(accepting)} can: it is the way from there that is cut."
        return Decision(Event.PARTITION, Action.NONE, text, evidence)
    alone = _not_agreed(words, policy.members[primary])
    return Decision(Event.SUSPECTED, Action.NONE, alone, evidence) if alone else _outage(sight, policy, past, failing, evidence)


def _outage(sight: Sight, policy: Policy, past: Past, failing: Sequence[_Word], evidence: Mapping[str, Any]) -> Decision:
    shortest = min(word.view.failing_seconds for word in failing)
    seen = f"{_names(failing)} have written to {evidence['primary']} in vain for {shortest:.1f} s and more"
    hindered = next(_hindrances(sight, policy, past, evidence["site"]), None)
    if hindered:
        return Decision(Event.OUTAGE, Action.NONE, f"{seen}; nothing is started: {hindered}.", evidence)
    returns = [at for at in past.returns if sight.now - at <= FLAPS_SECONDS]
    if policy.automatic is Automatic.ACT and len(returns) > MOST_FLAPS:
        text = f"{seen}; it came back {len(returns)} times in {FLAPS_SECONDS / 60:.0f} min, so a person decides."
        return Decision(Event.OUTAGE, Action.PROPOSE, text, evidence)
    return Decision(Event.OUTAGE, Action(policy.automatic.value), f"{seen}.", evidence)


def find_primary(observers: Sequence[Feed], policy: Policy) -> str | None:
    """The address that took the newest write, on the newest timeline: nobody's inventory says it."""
    accepted = [seen for feed in observers for address, seen in feed.last_accepted.items() if address in policy.members]
    return max(accepted, key=_newness).address if accepted else None


def _newness(seen: Seen) -> tuple[int, str]:
    return seen.timeline, seen.at


def _accepted(sight: Sight, address: str) -> bool:
    return any(feed.doubt(sight.now) is None and feed.view(address, sight.now).accepts for feed in sight.observers)


def _word(feed: Feed, primary: str, policy: Policy, now: float) -> _Word:
    view = feed.view(primary, now)
    # Whoever still refuses is there: it restarts, or somebody stopped it.
    due = policy.restart_seconds if view.refusals else policy.window_seconds
    return _Word(feed, view, _doubt(feed, view, primary, policy, now), due)


def _doubt(feed: Feed, view: View, primary: str, policy: Policy, now: float) -> str | None:
    """Why this vantage point's word about an outage does not count."""
    if (doubt := feed.doubt(now)) is not None:
        return doubt
    if view.newest is None:
        return "it has not tried to write lately"
    if feed.site == policy.members[primary]:
        return "it stands in the site of the primary"
    reached = [address for address in policy.members if address != primary and feed.view(address, now).answers]
    return None if reached else "it reaches no database host at all: it may be cut off itself"


def _quiet(accepting: Sequence[_Word], words: Sequence[_Word], past: Past, evidence: Mapping[str, Any]) -> Decision:
    if accepting and all(word.view.accepts for word in words if word.doubt is None):
        moved = past.primary not in {None, evidence["primary"]}
        if moved:
            text = f"{evidence['primary']} is the primary now, and {past.primary} no longer."
            return Decision(Event.MOVED, Action.NONE, text, evidence)
        came_back = past.event in {Event.OUTAGE, Event.SUSPECTED}
        text = f"{evidence['primary']} takes writes again." if came_back else f"{evidence['primary']} takes writes."
        return Decision(Event.RETURNED if came_back else Event.HEALTHY, Action.NONE, text, evidence)
    text = "; ".join(f"{word.feed.name}: {word.doubt}" for word in words if word.doubt) or "no try has failed for long enough"
    return Decision(Event.WATCHING, Action.NONE, f"Nothing is decided: {text}.", evidence)


def _not_agreed(words: Sequence[_Word], primary_site: str) -> str | None:
    """Why what some see is nobody's agreement; None when enough of them, and all whose word counts, have seen the whole window."""
    counting = [word for word in words if word.doubt is None]
    waiting = [word for word in counting if not word.passed]
    if waiting:
        return f"{_names(waiting)} has not seen {waiting[0].due_seconds:g} s of failure yet."
    sites = {word.feed.site for word in counting} - {primary_site}
    if len(counting) < LEAST_VANTAGE_POINTS or len(sites) < LEAST_SITES:
        unheard = "; ".join(f"{word.feed.name}: {word.doubt}" for word in words if word.doubt) or "no other is declared"
        return f"Only {_names(counting)} says so, and one word is never enough. Not counted: {unheard}."
    return None


def _hindrances(sight: Sight, policy: Policy, past: Past, primary_site: str) -> Iterator[str]:
    """Why nothing may be started or proposed although the primary is lost."""
    if policy.automatic is Automatic.OFF:
        yield "dr_automatic is off"
    if past.maintenance:
        yield past.maintenance
    if primary_site == policy.target_site:
        yield f"the primary is at site {policy.target_site} already; the way back is a person's"
    if past.acted:
        yield past.acted
    if past.run:
        yield f"the run {past.run} is at work"
    if past.blind:
        yield past.blind
    yield from (f"{feed.name} is locked by {feed.lock.holder}" for feed in sight.databases if feed.lock.holder)
    targets = [feed for feed in sight.databases if feed.site == policy.target_site]
    unknown = [feed.name for feed in targets if feed.doubt(sight.now) or not feed.lock.known]
    if unknown or not targets:
        yield f"whether a run is at work is not known: {' and '.join(unknown) or 'no database host of the target site'} does not say"
    if not _standby(sight, policy):
        yield f"no vantage point sees a standby at site {policy.target_site}"


def _standby(sight: Sight, policy: Policy) -> bool:
    there = [address for address, site in policy.members.items() if site == policy.target_site]
    views = [feed.view(address, sight.now) for feed in sight.observers if feed.doubt(sight.now) is None for address in there]
    return any(view.newest is not None and view.newest.outcome == READ_ONLY for view in views)


def _names(words: Sequence[_Word]) -> str:
    return " and ".join(word.feed.name for word in words) or "nobody"
