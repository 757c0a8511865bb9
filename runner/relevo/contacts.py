"""Contacts of the policy and their own word that they are still the ones; and who could lead a run. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from relevo import criteria
from relevo.clock import parse_utc, utc
from relevo.errors import UsageError
from relevo.record import canonical
from relevo.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from relevo.entries import Entry
    from relevo.history import Summary
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


def team(policy: Policy, runs: Sequence[Summary], now: datetime) -> Team:
    """Who led a passed run of any test of the matrix within the policy's time. runs: newest first; a timer's account is nobody."""
    since = policy.team.within.before(now)
    day = utc(since)[:10]
    # Most of a long history is older: that is seen by the day, and the dear questions are asked last.
    young = [
        run for run in runs if run.closed_at >= day and run.verdict == Verdict.PASSED and run.operator not in policy.team.machines
    ]
    led: dict[str, list[Summary]] = {}
    for run in young:
        inside = since <= parse_utc(run.closed_at) <= now
        if inside and any(criteria.counts(test, run) for test in policy.tests.values()):
            led.setdefault(run.operator, []).append(run)
    operators = tuple(Operator(name, len(own), own[0].run_id, own[0].closed_at) for name, own in sorted(led.items()))
    return Team(utc(since), operators, policy.team.operators_min)
