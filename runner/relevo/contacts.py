"""Contacts of the policy and their own word that they are still the ones; and who could lead a run. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from relevo.clock import parse_utc, utc
from relevo.errors import UsageError
from relevo.record import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from relevo.entries import Entry
    from relevo.history import History
    from relevo.policy import Contact, Policy

KIND = "contact"
ACKNOWLEDGED = "acknowledged"


class State(StrEnum):
    """How a contact stands."""

    NEVER = "never acknowledged"
    CHANGED = "changed since"
    OVERDUE = "overdue"
    CURRENT = "acknowledged"


@dataclass(frozen=True)
class Standing:
    """A contact and the last acknowledgement of it. due_at: when the next one is due, None when there was none of these data."""

    id: str
    name: str
    role: str
    mail: str | None
    phone: str | None
    state: State
    acknowledged_at: str | None
    acknowledged_by: str | None
    due_at: str | None

    def document(self) -> dict[str, Any]:
        """As a JSON tree."""
        return asdict(self)


def digest(contact: Contact) -> str:
    """What exactly was acknowledged: SHA-256 of the contact as the policy has it."""
    return hashlib.sha256(canonical(contact.model_dump(mode="json"))).hexdigest()


def acknowledgement(policy: Policy, wanted: str, note: str | None) -> dict[str, Any]:
    """What the entry says. UsageError for a contact that the policy does not have."""
    if wanted not in policy.contacts:
        message = f"The policy has no contact {wanted!r}. Contacts: {', '.join(sorted(policy.contacts)) or 'none'}."
        raise UsageError(message)
    return {"digest": digest(policy.contacts[wanted]), "note": note}


def standings(policy: Policy, entries: Iterable[Entry], now: datetime) -> list[Standing]:
    """Each contact of the policy, in its order."""
    last = {entry.subject: entry for entry in entries if entry.event == ACKNOWLEDGED and parse_utc(entry.at) <= now}
    return [_standing(policy, name, contact, last.get(name), now) for name, contact in policy.contacts.items()]


def _standing(policy: Policy, name: str, contact: Contact, entry: Entry | None, now: datetime) -> Standing:
    about = (name, contact.name, contact.role, contact.mail, contact.phone)
    if entry is None:
        return Standing(*about, State.NEVER, None, None, None)
    if entry.said.get("digest") != digest(contact):
        return Standing(*about, State.CHANGED, entry.at, entry.by, None)
    due = policy.contacts_acknowledge_every.after(parse_utc(entry.at))
    return Standing(*about, State.OVERDUE if due < now else State.CURRENT, entry.at, entry.by, utc(due))


@dataclass(frozen=True)
class Operator:
    """A person who led passed tests, the newest one named."""

    name: str
    runs: int
    last_run_id: str
    last_at: str


@dataclass(frozen=True)
class Team:
    """Distinct operators since a time, and whether they are enough."""

    since: str
    operators: tuple[Operator, ...]
    operators_min: int

    @property
    def ready(self) -> bool:
        """Whether so many persons could lead a run as the policy wants."""
        return len(self.operators) >= self.operators_min

    def document(self) -> dict[str, Any]:
        """As a JSON tree."""
        operators = [asdict(operator) for operator in self.operators]
        return {"since": self.since, "operators": operators, "operators_min": self.operators_min, "ready": self.ready}


def team(policy: Policy, history: History, clusters: Sequence[str], now: datetime) -> Team:
    """Who led a passed run of any test of the matrix within the policy's time, on these clusters; a timer's account is nobody."""
    since = policy.team.within.before(now)
    kinds = [kind for test in policy.tests.values() for kind in test.counts]
    led = history.leaders(clusters, kinds, (since, now), policy.team.machines)
    operators = tuple(Operator(one.newest.operator, one.runs, one.newest.run_id, one.newest.closed_at) for one in led)
    return Team(utc(since), operators, policy.team.operators_min)
